/* collimate prepare: JSON Lines to a tokenized preference file.
 *
 * Every rank parses and tokenizes its contiguous share of the records (prepare_records.h) and writes its rows
 * at the place that a scan over ranks gives them, so the data sets are the same for any rank count. Nothing
 * is silent: what was dropped, what will train without an end token, and where tokens would have crossed the
 * boundary of prompt and response are counted and reported.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "command/line.h"
#include "data/lengths.h"
#include "data/prepare_records.h"
#include "generated/version.h"
#include "mpi/threads.h"
#include "mpi/watchdog.h"
#include "util/clock.h"
#include "util/log.h"
#include "util/mem.h"

enum { CHECKED_RECORDS = 1000 }; /* for token boundaries, at most */

struct prepare {
    struct run *run;
    char **files;
    int n_files;
    struct tokenizer *tokenizer;
    struct records_input *input;
    struct prepare_job job;
    int64_t all_records; /* over ranks, within the limit */
    struct record_groups groups;
    struct prepared prepared;
    double start_s;
};

static enum status split_files(const char *list, struct prepare *p) {
    int64_t capacity = 0;
    for (const char *at = list; *at;) {
        size_t n = strcspn(at, ",");
        if (n > 0) {
            TRY(GROW_ARRAY(p->files, capacity, p->n_files + 1));
            p->files[p->n_files] = mem_strndup(at, n);
            TRY(mem_ok(p->files[p->n_files]));
            p->n_files++;
        }
        at += n + (at[n] == ',');
    }
    return p->n_files > 0 ? OK : fail(ERR_USAGE, "input is not set; give input=FILE.jsonl[.gz][,…]");
}

/* What the special-token settings mean with this tokenizer. */
static enum status choose_specials(struct prepare *p) {
    const struct settings *s = p->run->settings;
    const char *begin = s->tokenize.begin;
    int32_t begin_id = tokenizer_begin(p->tokenizer);
    int32_t end_id = tokenizer_end(p->tokenizer);
    bool automatic = strcmp(begin, "auto") == 0;
    bool wanted =
        automatic ? tokenizer_adds_begin(p->tokenizer) && begin_id >= 0 : strcmp(begin, "true") == 0;
    if (!automatic && !wanted && strcmp(begin, "false") != 0) {
        return fail(ERR_USAGE, "tokenize.begin: \"%s\" is not one of auto, true, false", begin);
    }
    if (wanted && begin_id < 0) {
        return fail(ERR_USAGE, "tokenize.begin is true, but %s names no beginning token", s->tokenizer);
    }
    if (s->tokenize.end && end_id < 0) {
        return fail(ERR_USAGE, "%s names no end token; set tokenize.end=false to prepare without",
                    s->tokenizer);
    }
    p->job.begin_id = wanted ? begin_id : -1;
    p->job.end_id = s->tokenize.end ? end_id : -1;
    return OK;
}

/* Local. Everything that needs no input. */
static enum status prepare_open(struct prepare *p) {
    const struct settings *s = p->run->settings;
    TRY(split_files(s->input, p));
    if (*s->output == '\0' && !p->run->dry_run) {
        return fail(ERR_USAGE, "output is not set; give output=FILE.h5");
    }
    if (*s->tokenizer == '\0') {
        return fail(ERR_USAGE, "tokenizer is not set; give tokenizer=FOLDER, or tokenizer=bytes");
    }
    TRY(tokenizer_open(s->tokenizer, &p->tokenizer));
    p->job.tokenizer = p->tokenizer;
    p->job.token_chars = s->prepare.token_chars;
    p->job.threads = threads_of_rank(p->run->comm, p->run->settings->threads);
    return choose_specials(p);
}

static void prepare_close(struct prepare *p) {
    prepared_free(&p->prepared);
    record_groups_free(&p->groups);
    records_close(p->input);
    tokenizer_close(p->tokenizer);
    for (int i = 0; i < p->n_files; i++) {
        mem_free(p->files[i]);
    }
    mem_free(p->files);
}

/* The format of record 0, which is on the first rank that has any. */
static enum status detect_here(const struct prepare *p, int64_t *format) {
    if (records_count(p->input) == 0 || records_at(p->input, 0).index != 0) {
        return OK;
    }
    struct record r = records_at(p->input, 0);
    char where[512];
    snprintf(where, sizeof where, "%s, line %lld", records_file(p->input, r.file), (long long)r.line);
    json_t *json;
    enum record_format found;
    TRY(json_parse(r.data, r.len, where, &json));
    enum status st = json_is_object(json) ? record_format_detect(json, where, &found)
                                          : fail(ERR_DATA, "%s: expected a JSON object", where);
    json_decref(json);
    TRY(st);
    *format = found;
    return OK;
}

/* Collective. Format, limits and the boundary check's stride. */
static enum status plan(struct prepare *p) {
    const struct settings *s = p->run->settings;
    struct comm *c = p->run->comm;
    int64_t count = records_count(p->input);
    int64_t before;
    int64_t total;
    TRY(comm_scan_i64(c, count, &before, &total));
    if (total == 0) {
        return fail(ERR_DATA, "%s: no records", s->input);
    }
    int64_t limit = s->prepare.limit > 0 ? s->prepare.limit : total;
    int64_t left = limit > before ? limit - before : 0;
    p->job.records = left < count ? left : count;
    p->job.input = p->input;
    p->all_records = limit < total ? limit : total;
    p->job.check_stride = (p->all_records + CHECKED_RECORDS - 1) / CHECKED_RECORDS;
    int64_t format = s->prepare.format;
    enum status st = OK;
    if (format == FORMAT_AUTO) {
        st = detect_here(p, &format);
    }
    TRY(comm_agree(c, st));
    TRY(comm_max_i64(c, &format, 1)); /* FORMAT_AUTO is 0: the one rank that knows wins */
    p->job.format = (enum record_format)format;
    return OK;
}

/* Collective. SHP records by post; the keys that only they have are refused elsewhere. */
static enum status group_posts(struct prepare *p) {
    static const char *const keys[] = {"prepare.min_score_ratio", "prepare.max_length",
                                       "prepare.max_pairs_per_post"};
    const struct settings *s = p->run->settings;
    if (p->job.format != FORMAT_SHP) {
        for (int i = 0; i < COUNT_OF(keys); i++) {
            if (options_is_set(p->run->options, keys[i])) {
                return fail(
                    ERR_USAGE, "%s: key \"%s\" has no effect here; it needs SHP records, these are %s",
                    options_source(p->run->options, keys[i]), keys[i], record_format_name(p->job.format));
            }
        }
        return OK;
    }
    TRY(record_groups_make(p->run->comm, p->input, p->job.records, &p->groups));
    p->job.groups = &p->groups;
    p->job.records = p->groups.n;
    p->job.min_score_ratio = s->prepare.min_score_ratio;
    p->job.max_length = s->prepare.max_length;
    p->job.max_pairs = s->prepare.max_pairs_per_post;
    return OK;
}

static int64_t span(const int64_t *offsets, int64_t i) {
    return offsets[i + 1] - offsets[i];
}

enum { LENGTH_PROMPT, LENGTH_RESPONSE, LENGTH_BOTH, LENGTH_KINDS };

static void add_lengths(const struct dataset_part *part, int kind, struct lengths *l) {
    int64_t n = kind == LENGTH_PROMPT ? part->n_prompts : part->n_responses;
    for (int64_t i = 0; i < n; i++) {
        int64_t length = span(kind == LENGTH_PROMPT ? part->prompt_offsets : part->response_offsets, i);
        length += kind == LENGTH_BOTH ? span(part->prompt_offsets, part->response_prompt[i]) : 0;
        lengths_add(l, length);
    }
}

/* Collective. */
static enum status report_lengths(const struct prepare *p) {
    static const char *const names[] = {"prompt", "response", "prompt + response"};
    enum status st = OK;
    for (int kind = 0; kind < LENGTH_KINDS && st == OK; kind++) {
        struct lengths l;
        struct text line = {0};
        st = comm_agree(p->run->comm, lengths_open(&l, names[kind]));
        if (st == OK) {
            add_lengths(&p->prepared.part, kind, &l);
            st = lengths_reduce(p->run->comm, &l);
        }
        if (st == OK) {
            st = lengths_print(&l, &line);
        }
        if (st == OK && line.len > 0) {
            log_root(LOG_INFO, "%s", line.data);
        }
        text_free(&line);
        lengths_close(&l);
    }
    return st;
}

/* Where the longest prompt + response stands. */
struct place {
    int64_t length, line, file;
};

/* Collective. The first of the longest. */
static enum status find_longest(const struct prepare *p, struct place *out) {
    const struct dataset_part *part = &p->prepared.part;
    struct comm *c = p->run->comm;
    struct place mine = {.length = -1};
    for (int64_t i = 0; i < part->n_responses; i++) {
        int64_t prompt = part->response_prompt[i];
        int64_t length = span(part->response_offsets, i) + span(part->prompt_offsets, prompt);
        if (length > mine.length) {
            struct record r = prepare_record(&p->job, p->prepared.prompt_record[prompt]);
            mine = (struct place){.length = length, .line = r.line, .file = r.file};
        }
    }
    int64_t *lengths;
    TRY(comm_agree(c, NEW_ARRAY(lengths, c->size)));
    enum status st = comm_gather_i64(c, mine.length, lengths);
    int owner = 0;
    for (int r = 1; r < c->size; r++) {
        owner = lengths[r] > lengths[owner] ? r : owner;
    }
    mem_free(lengths);
    *out = mine;
    return st == OK ? comm_broadcast(c, owner, out, sizeof *out) : st;
}

/* Collective. The first record whose tokens reach over the boundary of prompt and response. */
static enum status find_moved(const struct prepare *p, struct place *out) {
    struct comm *c = p->run->comm;
    struct place mine = {0};
    int64_t first = p->prepared.first_moved;
    int64_t owner = -1;
    if (first > 0) {
        struct record r = prepare_record(&p->job, first - 1);
        mine = (struct place){.line = r.line, .file = r.file};
        owner = c->size - c->rank; /* the lowest rank wins */
    }
    TRY(comm_max_i64(c, &owner, 1));
    *out = mine;
    return owner < 0 ? OK : comm_broadcast(c, (int)(c->size - owner), out, sizeof *out);
}

static int by_reason(const void *a, const void *b) {
    return strcmp(a, b); /* the reason is the entry's first field */
}

/* Collective. Every rank gets the drops of all, by name, so that the file does not depend on the ranks. */
static enum status merge_drops(struct comm *c, struct prepare_drops *d) {
    struct prepare_drops *all = NULL;
    int64_t *bytes = NULL;
    enum status st = NEW_ARRAY(all, c->size);
    if (st == OK) {
        st = NEW_ARRAY(bytes, c->size);
    }
    for (int r = 0; r < c->size && st == OK; r++) {
        bytes[r] = sizeof *all;
    }
    st = comm_agree(c, st);
    if (st == OK) {
        st = comm_gather_bytes(c, d, sizeof *d, all, bytes);
    }
    if (st == OK) {
        *d = (struct prepare_drops){0};
        for (int r = 0; r < c->size; r++) {
            for (int i = 0; i < all[r].n; i++) {
                prepare_drop(d, all[r].list[i].reason, all[r].list[i].count);
            }
        }
        qsort(d->list, (size_t)d->n, sizeof d->list[0], by_reason);
    }
    mem_free(all);
    mem_free(bytes);
    return st;
}

static void warn_count(int64_t count, const char *text) {
    if (count > 0) {
        log_root(LOG_WARN, "%lld %s", (long long)count, text);
    }
}

static void report_counts(const struct prepare *p, const int64_t *counts, int64_t responses) {
    const char *end_text = p->job.end_id >= 0 ? "records whose text holds the end token already"
                                              : "records whose text holds the tokenizer's end token";
    warn_count(counts[COUNT_END_IN_TEXT], end_text);
    warn_count(counts[COUNT_BEGIN_IN_TEXT],
               "prompts that began with the beginning token already: it stands there once");
    warn_count(counts[COUNT_EMPTY_PROMPTS],
               "prompts without any token: the first token of their responses cannot be scored");
    log_root(LOG_INFO, "responses without end token: %lld of %lld", (long long)counts[COUNT_WITHOUT_END],
             (long long)responses);
}

static void report_boundaries(const struct prepare *p, const struct place *first, int64_t responses) {
    const int64_t *counts = p->prepared.counts;
    bool moved = counts[COUNT_BOUNDARY_MOVED] > 0;
    char sample[64] = "";
    char place[512] = "";
    if (counts[COUNT_CHECKED] < responses) {
        snprintf(sample, sizeof sample, " (a sample of %lld)", (long long)responses);
    }
    if (moved) {
        snprintf(place, sizeof place, "; the first: %s, line %lld", records_file(p->input, (int)first->file),
                 (long long)first->line);
    }
    log_root(moved ? LOG_WARN : LOG_INFO,
             "token boundary: %lld of %lld responses%s have other tokens in one piece with their prompt%s",
             (long long)counts[COUNT_BOUNDARY_MOVED], (long long)counts[COUNT_CHECKED], sample, place);
}

/* Collective. Makes drops and counts global and reports them; nothing here is written to the file but drops.
 */
static enum status report(struct prepare *p) {
    struct comm *c = p->run->comm;
    struct prepared *d = &p->prepared;
    int64_t sizes[] = {d->part.n_prompts, d->part.n_responses, d->part.n_pairs};
    struct place longest;
    struct place moved;
    TRY(comm_sum_i64(c, sizes, COUNT_OF(sizes)));
    TRY(comm_sum_i64(c, d->counts, PREPARE_COUNTS));
    TRY(merge_drops(c, &d->drops));
    TRY(find_longest(p, &longest));
    TRY(find_moved(p, &moved));
    log_root(LOG_INFO, "%lld records (%s): %lld prompts, %lld responses, %lld pairs",
             (long long)d->counts[COUNT_RECORDS], record_format_name(p->job.format), (long long)sizes[0],
             (long long)sizes[1], (long long)sizes[2]);
    TRY(report_lengths(p));
    if (longest.length >= 0) {
        log_root(LOG_INFO, "longest: %lld tokens, %s, line %lld", (long long)longest.length,
                 records_file(p->input, (int)longest.file), (long long)longest.line);
    }
    report_counts(p, d->counts, sizes[1]);
    report_boundaries(p, &moved, sizes[1]);
    for (int i = 0; i < d->drops.n; i++) {
        log_root(LOG_WARN, "dropped %lld: %s", (long long)d->drops.list[i].count, d->drops.list[i].reason);
    }
    if (sizes[0] == 0) {
        return fail(ERR_DATA, "%s: every record was dropped", p->run->settings->input);
    }
    return OK;
}

static enum status fill_facts(const struct prepare *p, struct dataset_facts *f) {
    const struct settings *s = p->run->settings;
    struct text command = {0};
    struct text program = {0};
    f->tokenizer = mem_strdup(s->tokenizer);
    f->source = mem_strdup(s->input);
    f->format = mem_strdup(record_format_name(p->job.format));
    if (!f->tokenizer || !f->source || !f->format) {
        return ERR_SYSTEM;
    }
    enum status st = line_text(p->run, &command);
    f->command = command.data;
    TRY(st);
    TRY(text_printf(&program, "collimate %s (%s)", COLLIMATE_VERSION, COLLIMATE_GIT));
    f->program = program.data;
    f->tokenizer_hash = tokenizer_hash(p->tokenizer);
    f->vocabulary = tokenizer_size(p->tokenizer);
    f->begin_id = p->job.begin_id;
    f->end_id = p->job.end_id;
    f->source_hash = records_hash(p->input);
    f->n_subsets = p->prepared.subsets.n;
    f->subsets = p->prepared.subsets.names;
    f->n_dropped = p->prepared.drops.n;
    for (int i = 0; i < f->n_dropped; i++) {
        snprintf(f->dropped[i].reason, sizeof f->dropped[i].reason, "%s", p->prepared.drops.list[i].reason);
        f->dropped[i].count = p->prepared.drops.list[i].count;
    }
    return OK;
}

/* Collective. */
static enum status write_file(struct prepare *p) {
    struct dataset_facts facts = {0};
    struct prepared *d = &p->prepared;
    TRY(subsets_join(p->run->comm, &d->subsets, d->part.prompt_subset, d->part.n_prompts));
    enum status st = comm_agree(p->run->comm, fill_facts(p, &facts));
    if (st == OK) {
        st = dataset_write(p->run->comm, p->run->settings->output, &p->prepared.part, &facts);
    }
    facts.n_subsets = 0; /* the names stay the prepared ones' */
    facts.subsets = NULL;
    dataset_facts_free(&facts);
    return st;
}

/* Collective. */
static enum status prepare_run(struct prepare *p) {
    struct comm *c = p->run->comm;
    TRY(comm_agree(c, prepare_open(p)));
    watchdog_phase(c->watchdog, "reading the records");
    TRY(records_open(c, p->files, p->n_files, &p->input));
    TRY(plan(p));
    TRY(group_posts(p));
    watchdog_phase(c->watchdog, "tokenizing");
    TRY(comm_agree(c, prepare_records(&p->job, &p->prepared)));
    double tokenized_s = clock_seconds() - p->start_s;
    TRY(report(p));
    if (p->run->dry_run) {
        log_root(LOG_INFO, "dry run: nothing is written");
        return OK;
    }
    watchdog_phase(c->watchdog, "writing %s", p->run->settings->output);
    TRY(write_file(p));
    double whole_s = clock_seconds() - p->start_s;
    log_root(LOG_INFO, "%s: written; %.2f s (%.2f s to read and tokenize), %.0f records/s",
             p->run->settings->output, whole_s, tokenized_s, (double)p->all_records / whole_s);
    return OK;
}

enum status command_prepare(struct run *run) {
    struct prepare p = {.run = run, .start_s = clock_seconds()};
    enum status st = prepare_run(&p);
    prepare_close(&p);
    return st;
}
