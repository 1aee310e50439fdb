/* collimate inspect: what is in a file or folder of ours, on standard output. */
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "command/command.h"
#include "command/deliver.h"
#include "command/inspect/inspect.h"
#include "data/comparisons.h"
#include "data/dataset.h"
#include "data/lengths.h"
#include "data/show_row.h"
#include "io/h5.h"
#include "io/jsonl.h"
#include "util/hash.h"
#include "util/json.h"
#include "util/log.h"
#include "util/mem.h"
#include "util/regular.h"

enum { READ_ROWS = 4096 };

static enum status put_facts(const struct dataset *d, struct text *out) {
    const struct dataset_facts *f = dataset_facts(d);
    char hash[17];
    hash_text(dataset_hash(d), hash);
    TRY(text_printf(out, "contents      hash %s\n", hash));
    hash_text(f->tokenizer_hash, hash);
    TRY(text_printf(out, "tokenizer     %s, vocabulary %d, hash %s\n", f->tokenizer, f->vocabulary, hash));
    TRY(f->begin_id >= 0 ? text_printf(out, "begin         id %d before each prompt\n", f->begin_id)
                         : text_puts(out, "begin         no token before prompts\n"));
    TRY(f->end_id >= 0 ? text_printf(out, "end           id %d after each response\n", f->end_id)
                       : text_puts(out, "end           no token after responses\n"));
    if (f->template_hash != 0) {
        hash_text(f->template_hash, hash);
        TRY(text_printf(out, "chat template hash %s, for the day %s\n", hash, f->template_date));
    }
    hash_text(f->source_hash, hash);
    TRY(text_printf(out, "source        %s (%s), hash %s\n", f->source, f->format, hash));
    TRY(text_printf(out, "made by       %s: %s\n", f->program ? f->program : "", f->command));
    for (int i = 0; i < f->n_subsets; i++) {
        TRY(text_printf(out, "%s%s%s", i ? ", " : "subsets       ", f->subsets[i],
                        i + 1 < f->n_subsets ? "" : "\n"));
    }
    for (int i = 0; i < f->n_dropped; i++) {
        TRY(text_printf(out, "dropped       %lld: %s\n", (long long)f->dropped[i].count,
                        f->dropped[i].reason));
    }
    return OK;
}

static enum status put_splits(struct dataset *d, struct text *out) {
    int64_t counts[SPLITS] = {0};
    for (int64_t row = 0; row < dataset_size(d).pairs; row++) {
        struct pair pair;
        TRY(dataset_pair(d, row, &pair));
        counts[pair.split]++;
    }
    TRY(text_puts(out, "splits        "));
    for (int split = SPLIT_TRAIN; split < SPLITS; split++) {
        TRY(text_printf(out, "%s%s %lld", split > SPLIT_TRAIN ? ", " : "", data_split_name(split),
                        (long long)counts[split]));
    }
    return text_puts(out, "\n");
}

/* Named scores, whose of them a view's pairs are of, and the splits. */
static enum status put_objectives(struct dataset *d, struct text *out) {
    const struct dataset_facts *f = dataset_facts(d);
    for (int i = 0; i < f->n_objectives; i++) {
        TRY(text_printf(out, "%s%s%s", i == 0 ? "objectives    " : ", ", f->objectives[i],
                        i == dataset_objective(d) ? " (the pairs are its)" : ""));
    }
    TRY(f->n_objectives > 0 ? text_puts(out, "\n") : OK);
    return dataset_size(d).has_splits ? put_splits(d, out) : OK;
}

static enum status put_sizes(struct dataset *d, struct text *out) {
    struct dataset_size n = dataset_size(d);
    int64_t labeled;
    TRY(labeled_count(d, &labeled));
    bool is_view = strcmp(dataset_path(d), dataset_base_path(d)) != 0;
    TRY(text_printf(out, "%s: preference file%s%s\n", dataset_path(d), is_view ? ", a view of " : "",
                    is_view ? dataset_base_path(d) : ""));
    TRY(text_printf(out,
                    "prompts       %lld, %lld tokens\n"
                    "responses     %lld, %lld tokens%s%s%s\n"
                    "pairs         %lld",
                    (long long)n.prompts, (long long)n.prompt_tokens, (long long)n.responses,
                    (long long)n.response_tokens, n.has_token_chars ? ", with characters per token" : "",
                    n.has_trained ? ", some of them not trained" : "",
                    n.has_desirable ? ", labelled: desirable or not" : "", (long long)n.pairs));
    TRY(labeled < n.pairs ? text_printf(out, ", %lld of them with a label\n", (long long)labeled)
                          : text_puts(out, "\n"));
    return put_objectives(d, out);
}

enum { LENGTH_PROMPT, LENGTH_RESPONSE, LENGTH_BOTH, LENGTH_KINDS };

/* Local. The responses of this rank's share. */
static enum status add_lengths(struct dataset *d, struct range share, struct lengths lengths[LENGTH_KINDS]) {
    struct response *rows = NULL;
    enum status st;
    TRY_TO(done, NEW_ARRAY(rows, READ_ROWS));
    int64_t prompt = -1;
    for (int64_t at = share.first; at < share.last; at += READ_ROWS) {
        struct range block = range_block(share, at, READ_ROWS);
        TRY_TO(done, dataset_responses(d, block, rows));
        for (int64_t i = 0; i < block.last - block.first; i++) {
            lengths_add(&lengths[LENGTH_RESPONSE], rows[i].count);
            lengths_add(&lengths[LENGTH_BOTH], rows[i].count + rows[i].prompt_count);
            if (rows[i].prompt !=
                prompt) { /* responses of a prompt are neighbors: each prompt counts once … */
                lengths_add(&lengths[LENGTH_PROMPT], rows[i].prompt_count);
                prompt = rows[i].prompt;
            }
        }
    }
done:
    mem_free(rows);
    return st;
}

/* Collective. Shares end at prompts, so that no prompt counts twice. */
static enum status share_of(struct comm *c, struct dataset *d, struct range *out) {
    struct range prompts = range_part(dataset_size(d).prompts, c->rank, c->size);
    int64_t first = 0;
    int64_t count = 0;
    *out = (struct range){0};
    enum status st = OK;
    if (prompts.first < prompts.last) {
        st = dataset_prompt_responses(d, prompts.first, &out->first, &count);
    }
    if (st == OK && prompts.first < prompts.last) {
        st = dataset_prompt_responses(d, prompts.last - 1, &first, &count);
        out->last = first + count;
    }
    return comm_agree(c, st);
}

/* Collective. */
static enum status put_lengths(struct comm *c, struct dataset *d, struct text *out) {
    static const char *const names[] = {"prompt", "response", "prompt + response"};
    struct lengths lengths[LENGTH_KINDS] = {0};
    struct range share;
    TRY(share_of(c, d, &share));
    enum status st = OK;
    for (int i = 0; i < LENGTH_KINDS && st == OK; i++) {
        st = lengths_open(&lengths[i], names[i]);
    }
    if (st == OK) {
        st = add_lengths(d, share, lengths);
    }
    st = comm_agree(c, st);
    for (int i = 0; i < LENGTH_KINDS && st == OK; i++) {
        st = lengths_reduce(c, &lengths[i]);
        if (st == OK && lengths[i].count > 0) {
            st = lengths_print(&lengths[i], out);
            st = st == OK ? text_puts(out, "\n") : st;
            st = st == OK ? lengths_histogram(&lengths[i], out) : st;
        }
    }
    for (int i = 0; i < LENGTH_KINDS; i++) {
        lengths_close(&lengths[i]);
    }
    return st;
}

/* Collective. */
static enum status inspect_preferences(struct comm *c, const char *path, struct text *out) {
    struct dataset *d;
    TRY(dataset_open(c, path, &d));
    enum status st = put_sizes(d, out);
    if (st == OK) {
        st = put_facts(d, out);
    }
    st = comm_agree(c, st);
    if (st == OK) {
        st = put_lengths(c, d, out);
    }
    dataset_close(d);
    return st;
}

/* Collective. */
static enum status inspect_h5(struct comm *c, const char *path, struct text *out) {
    char *content = NULL;
    TRY(comm_agree(c, h5_content(path, &content)));
    bool is_preferences = strcmp(content, "preferences") == 0 || strcmp(content, "selection") == 0;
    enum status st =
        is_preferences ? inspect_preferences(c, path, out) : inspect_other(c, path, content, out);
    mem_free(content);
    return st;
}

static enum status put_keys(const struct records_input *in, struct text *out) {
    if (records_count(in) == 0 || records_at(in, 0).index != 0) {
        return OK;
    }
    struct record r = records_at(in, 0);
    json_t *json;
    TRY(json_parse(r.data, r.len, "record 1", &json));
    enum status st = text_puts(out, "first record ");
    const char *name;
    json_t *value;
    json_object_foreach(json, name, value) {
        st = st == OK ? text_printf(out, " %s", name) : st;
    }
    json_decref(json);
    return st == OK ? text_puts(out, "\n") : st;
}

/* Collective. */
static enum status inspect_records(struct comm *c, const char *path, struct text *out) {
    struct records_input *in = NULL;
    char *file = mem_strdup(path);
    enum status st = comm_agree(c, mem_ok(file));
    st = st == OK ? records_open(c, &file, 1, &in) : st;
    mem_free(file);
    TRY(st);
    int64_t before;
    int64_t total;
    char hash[17];
    st = comm_scan_i64(c, records_count(in), &before, &total);
    hash_text(records_hash(in), hash);
    if (st == OK) {
        st = text_printf(out, "%s: %lld JSON records, hash %s\n", path, (long long)total, hash);
    }
    if (st == OK) {
        st = put_keys(in, out);
    }
    records_close(in);
    return st;
}

static bool is_h5(const char *path) {
    static const char magic[] = "\x89HDF\r\n\x1a\n";
    char start[8] = {0};
    int descriptor;
    if (regular_open(path, &descriptor, NULL) != OK) {
        return false; /* whoever reads it says why */
    }
    ssize_t n = pread(descriptor, start, sizeof start, 0);
    close(descriptor);
    return n == sizeof start && memcmp(start, magic, sizeof start) == 0;
}

/* Collective. */
static enum status inspect_path(struct comm *c, const char *path, struct text *out) {
    struct stat facts;
    bool found = stat(path, &facts) == 0;
    TRY(comm_agree(c, found ? OK : fail(ERR_INPUT, "%s: no such file or folder", path)));
    if (!S_ISDIR(facts.st_mode)) {
        return is_h5(path) || text_ends(path, ".h5") ? inspect_h5(c, path, out)
                                                     : inspect_records(c, path, out);
    }
    if (inspect_exists(path, "config.json")) {
        return inspect_model(path, out);
    }
    if (inspect_exists(path, "config.yaml") || inspect_exists(path, "metrics.jsonl")) {
        return inspect_run(path, out);
    }
    return fail(ERR_DATA, "%s: neither a model folder (config.json) nor a run folder (config.yaml)", path);
}

/* Local. The first rows as text, by the tokenizer that is given or that the file names. */
static enum status put_rows(const struct settings *s, struct dataset *d, struct text *out) {
    struct dataset_size size = dataset_size(d);
    int64_t rows = size.pairs > 0 ? size.pairs : size.prompts;
    rows = s->inspect.rows < rows ? s->inspect.rows : rows;
    struct tokenizer *t;
    TRY(dataset_open_tokenizer(d, s->tokenizer, &t));
    enum status st = text_puts(out, "rows          " SHOW_LEGEND "\n");
    for (int64_t row = 0; row < rows && st == OK; row++) {
        st = show_row(d, t, row, out);
    }
    tokenizer_close(t);
    return st;
}

/* Collective. */
static enum status inspect_rows(struct comm *c, const struct settings *s, const char *path,
                                struct text *out) {
    struct dataset *d;
    TRY(dataset_open_split(c, path, (enum data_split)s->split, &d));
    enum status st = comm_agree(c, c->rank == 0 ? put_rows(s, d, out) : OK);
    dataset_close(d);
    return st;
}

/* Collective. One file or folder, its rows and its drift where that is asked for. */
static enum status inspect_one(struct comm *c, const struct settings *s, const char *path, struct text *out,
                               struct text *report) {
    TRY(comm_agree(c, inspect_path(c, path, out)));
    TRY(s->inspect.rows > 0 ? inspect_rows(c, s, path, out) : OK);
    return *s->inspect.against ? inspect_drift(c, path, s->inspect.against, out, report) : OK;
}

/* Collective. Each path on its own, so that what comes before a bad one is still said. */
static enum status inspect_list(struct comm *c, const struct settings *s) {
    struct text out = {0};
    struct text report = {0};
    struct names paths = {0};
    enum status st = comm_agree(c, names_split(&paths, s->input));
    for (int i = 0; i < paths.n && st == OK; i++) {
        text_clear(&out);
        st = inspect_one(c, s, paths.list[i], &out, &report);
        st = comm_agree(c, st == OK && c->rank == 0 ? deliver_text("", &out) : st);
    }
    names_free(&paths);
    if (st == OK && *s->inspect.report) {
        st = comm_agree(c, c->rank == 0 ? deliver_text(s->inspect.report, &report) : OK);
    }
    text_free(&out);
    text_free(&report);
    return st;
}

enum status command_inspect(struct run *run) {
    const struct settings *s = run->settings;
    return *s->input ? inspect_list(run->comm, s)
                     : fail(ERR_USAGE, "input is not set; give input=FILE or FOLDER");
}
