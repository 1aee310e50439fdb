/* Rewards of responses and of samples, from the files that have them. Highest values are kept, so that the
 * order in which ranks read does not matter. */
#include <math.h>
#include <string.h>

#include "io/h5.h"
#include "io/jsonl.h"
#include "select/rewarded_internal.h"
#include "util/log.h"
#include "util/mem.h"

void rewards_free(struct rewards *r) {
    mem_free(r->of);
    mem_free(r->best);
}

static void fill(double *values, int64_t n) {
    for (int64_t i = 0; i < n; i++) {
        values[i] = -INFINITY;
    }
}

/* Lines with `key`, a place in values (n), and "reward". */
struct lines {
    const char *path, *key, *option;
    struct dataset *scored; /* whose responses the places are; NULL: they are prompts */
    double *values;
    int64_t n, shorter; /* lines of fewer tokens than their response has */
};

/* Whether a line of `score` can be of the data's response. */
static enum status check_tokens(struct lines *l, const json_t *line, int64_t place, const char *where) {
    struct response r;
    TRY(dataset_response(l->scored, place, &r));
    int64_t tokens = r.count;
    TRY(json_take_int(line, "tokens", where, &tokens));
    l->shorter += tokens < r.count;
    return tokens <= r.count
               ? OK
               : fail(ERR_DATA, "%s: %lld tokens, the data's response %lld has %lld; %s is of other data",
                      where, (long long)tokens, (long long)place, (long long)r.count, l->option);
}

static enum status add_line(struct lines *l, const json_t *line, const char *where) {
    int64_t place = -1;
    double reward = NAN;
    if (!l->scored && json_object_get(line, "response")) {
        return fail(ERR_DATA, "%s: a line of score; %s needs those of generate", where, l->option);
    }
    TRY(json_take_int(line, l->key, where, &place));
    TRY(json_take_number(line, "reward", where, &reward));
    if (place < 0 || place >= l->n) {
        return fail(ERR_DATA, "%s: \"%s\" is missing, or none of the data's %lld; %s is of other data", where,
                    l->key, (long long)l->n, l->option);
    }
    if (!isfinite(reward)) {
        return fail(ERR_DATA, "%s: \"reward\" is missing; %s needs lines with rewards of a reward model",
                    where, l->option);
    }
    l->values[place] = fmax(l->values[place], reward);
    return l->scored ? check_tokens(l, line, place, where) : OK;
}

/* Collective. */
static enum status read_lines(struct comm *c, struct lines *l) {
    char *files[] = {mem_strdup(l->path)};
    struct records_input *in = NULL;
    enum status st = comm_agree(c, mem_ok(files[0]));
    st = st == OK ? records_open(c, files, 1, &in) : st;
    mem_free(files[0]);
    TRY(st);
    for (int64_t i = 0; i < records_count(in) && st == OK; i++) {
        char where[RECORDS_WHERE];
        json_t *line;
        st = records_parse(in, i, where, &line);
        st = st == OK ? add_line(l, line, where) : st;
        json_decref(line);
    }
    records_close(in);
    TRY(comm_agree(c, st));
    TRY(comm_sum_i64(c, &l->shorter, 1));
    if (l->shorter > 0) {
        log_root(LOG_WARN,
                 "%s: %lld rewards are of fewer tokens than the data's responses have: cut, or of other data",
                 l->path, (long long)l->shorter);
    }
    return comm_max_f64(c, l->values, l->n);
}

/* Local. The data's own scores of this rank's part. */
static enum status take_scores(struct dataset *d, struct range part, double *values) {
    for (int64_t i = part.first; i < part.last; i++) {
        struct response r;
        TRY(dataset_response(d, i, &r));
        values[i] = isfinite(r.score) ? r.score : -INFINITY;
    }
    return OK;
}

/* Local. Prompt p of the samples is prompt p of the data; best gets its highest score. */
static enum status take_sample(struct dataset *d, struct dataset *samples, int64_t p, double *best) {
    int32_t *ids[2] = {NULL, NULL};
    int64_t counts[2], first, n;
    enum status st = dataset_prompt_ids(d, p, &ids[0], &counts[0]);
    st = st == OK ? dataset_prompt_ids(samples, p, &ids[1], &counts[1]) : st;
    if (st == OK &&
        (counts[0] != counts[1] || memcmp(ids[0], ids[1], (size_t)counts[0] * sizeof *ids[0]) != 0)) {
        st = fail(ERR_DATA, "select.samples: prompt %lld of %s is not that of %s", (long long)p,
                  dataset_path(samples), dataset_path(d));
    }
    mem_free(ids[0]);
    mem_free(ids[1]);
    TRY(st);
    TRY(dataset_prompt_responses(samples, p, &first, &n));
    for (int64_t i = first; i < first + n; i++) {
        struct response r;
        TRY(dataset_response(samples, i, &r));
        if (!isfinite(r.score)) {
            return fail(ERR_DATA,
                        "select.samples: %s has a response without a score; generate.save keeps rewards "
                        "where reward_model is set",
                        dataset_path(samples));
        }
        *best = fmax(*best, r.score);
    }
    return OK;
}

/* Collective. A file of generate.save. */
static enum status read_saved(const struct rewarded_options *o, struct dataset *d, double *best) {
    struct comm *c = o->comm;
    struct dataset *samples;
    int64_t prompts = dataset_size(d).prompts;
    TRY(dataset_open(c, o->samples, &samples));
    int64_t n = dataset_size(samples).prompts;
    enum status st = n <= prompts ? OK
                                  : fail(ERR_DATA, "select.samples: %s has %lld prompts, %s has %lld",
                                         o->samples, (long long)n, o->data, (long long)prompts);
    struct range part = range_part(n, c->rank, c->size);
    for (int64_t p = part.first; p < part.last && st == OK; p++) {
        st = take_sample(d, samples, p, &best[p]);
    }
    dataset_close(samples);
    TRY(comm_agree(c, st));
    return comm_max_f64(c, best, prompts);
}

/* Collective. */
static enum status read_samples(const struct rewarded_options *o, struct dataset *d, double *best) {
    struct lines lines = {.path = o->samples,
                          .key = "row",
                          .option = "select.samples",
                          .values = best,
                          .n = dataset_size(d).prompts};
    char *content = NULL;
    int64_t is_saved = 0;
    if (o->comm->rank == 0) {
        is_saved = h5_content(o->samples, &content) == OK;
        status_clear();
        mem_free(content);
    }
    TRY(comm_max_i64(o->comm, &is_saved, 1));
    return is_saved ? read_saved(o, d, best) : read_lines(o->comm, &lines);
}

enum status rewards_read(const struct rewarded_options *o, struct dataset *d, struct rewards *out) {
    struct dataset_size size = dataset_size(d);
    *out = (struct rewards){0};
    enum status st = NEW_ARRAY(out->of, size.responses);
    st = st == OK ? NEW_ARRAY(out->best, size.prompts) : st;
    TRY(comm_agree(o->comm, st));
    fill(out->of, size.responses);
    fill(out->best, size.prompts);
    if (*o->rewards) {
        struct lines lines = {.path = o->rewards,
                              .scored = d,
                              .key = "response",
                              .option = "select.rewards",
                              .values = out->of,
                              .n = size.responses};
        TRY(read_lines(o->comm, &lines));
    } else {
        struct range part = range_part(size.responses, o->comm->rank, o->comm->size);
        TRY(comm_agree(o->comm, take_scores(d, part, out->of)));
        TRY(comm_max_f64(o->comm, out->of, size.responses));
    }
    return *o->samples ? read_samples(o, d, out->best) : OK;
}
