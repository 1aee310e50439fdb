#include "select/selection.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "backend/backend.h"
#include "command/session.h"
#include "mpi/watchdog.h"
#include "select/balanced.h"
#include "select/kmeans.h"
#include "util/log.h"
#include "util/mem.h"
#include "util/rng.h"

enum { BLOCK = 1024 };

enum status selection_needs_embeddings(const char *strategy, bool *out) {
    struct pair_mix mix;
    TRY(pair_mix_parse(strategy, &mix));
    *out = mix.n > 1 || mix.parts[0].strategy != PAIRS_RANDOM;
    return OK;
}

/* Vectors of n responses, in one read where they lie close together. */
static enum status read_vectors(struct selection *s, const int64_t *ids, int64_t n, float *out) {
    int64_t width = sidecar_width(s->embeddings);
    for (int64_t i = 0, run; i < n; i += run) {
        for (run = 1; i + run < n && ids[i + run] == ids[i] + run; run++) {
        }
        TRY(sidecar_read_values(s->embeddings, ids[i], run, out + i * width));
    }
    return OK;
}

static enum status add_candidate(struct selection *s, const struct candidate *c) {
    TRY(GROW_ARRAY(s->candidates, s->capacity, s->n + 1));
    s->candidates[s->n++] = *c;
    s->dropped[DROP_EQUAL_SCORES] += c->is_dropped;
    return OK;
}

/* Gives an unlabeled candidate the order of its responses' scores; equal ones drop it, missing ones leave it.
 */
static enum status label_by_score(struct selection *s, struct candidate *c) {
    const int64_t ids[2] = {c->chosen, c->rejected};
    struct response r[2];
    TRY(dataset_responses(s->data, ids, 2, r));
    if (isnan(r[0].score) || isnan(r[1].score)) {
        return OK;
    }
    bool swapped = r[1].score > r[0].score;
    c->is_dropped = r[1].score == r[0].score;
    c->label = 1;
    c->margin = fabsf(r[0].score - r[1].score);
    c->chosen = ids[swapped];
    c->rejected = ids[!swapped];
    return OK;
}

/* Over pairs. */

static enum status pair_similarities(struct selection *s, int64_t first, int64_t n, float *vectors) {
    int64_t width = sidecar_width(s->embeddings);
    int64_t ids[2 * BLOCK] = {0};
    for (int64_t i = 0; i < n; i++) {
        ids[2 * i] = s->candidates[first + i].chosen;
        ids[2 * i + 1] = s->candidates[first + i].rejected;
    }
    TRY(read_vectors(s, ids, 2 * n, vectors));
#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < n; i++) {
        const float *x = vectors + 2 * i * width;
        s->candidates[first + i].similarity = similarity_cosine(x, x + width, width);
    }
    return OK;
}

static enum status read_pairs(struct selection *s, struct range part) {
    struct pair pairs[BLOCK];
    int64_t rows[BLOCK];
    float *vectors = NULL;
    enum status st = OK;
    if (s->embeddings) {
        TRY(NEW_ARRAY(vectors, 2 * BLOCK * sidecar_width(s->embeddings)));
    }
    for (int64_t first = part.first; first < part.last; first += BLOCK) {
        int64_t n = part.last - first < BLOCK ? part.last - first : BLOCK;
        int64_t at = s->n;
        for (int64_t i = 0; i < n; i++) {
            rows[i] = first + i;
        }
        TRY_TO(done, dataset_pairs(s->data, rows, n, pairs));
        for (int64_t i = 0; i < n; i++) {
            struct candidate c = {.chosen = pairs[i].chosen,
                                  .rejected = pairs[i].rejected,
                                  .source = pairs[i].source,
                                  .margin = pairs[i].margin,
                                  .label = pairs[i].label};
            TRY_TO(done, c.label ? OK : label_by_score(s, &c));
            TRY_TO(done, add_candidate(s, &c));
        }
        TRY_TO(done, vectors ? pair_similarities(s, at, n, vectors) : OK);
    }
done:
    mem_free(vectors);
    return st;
}

/* The candidates that are not dropped, side by side, for pairs_select. */
static enum status choose_pairs(struct selection *s) {
    const struct settings *settings = s->run->settings;
    struct comm *c = s->run->comm;
    const struct pair_selection how = {.mix = s->mix,
                                       .fraction = settings->select.fraction,
                                       .count = settings->select.count,
                                       .seed = (uint64_t)settings->seed};
    double *similarity = NULL;
    bool *taken = NULL;
    int64_t n = 0;
    int64_t first = 0;
    int64_t total;
    enum status st = NEW_ARRAY(similarity, s->n);
    st = st == OK ? NEW_ARRAY(taken, s->n) : st;
    for (int64_t i = 0; i < s->n && st == OK; i++) {
        if (!s->candidates[i].is_dropped) {
            similarity[n++] = s->candidates[i].similarity;
        }
    }
    TRY_TO(done, comm_agree(c, st));
    TRY_TO(done, comm_scan_i64(c, n, &first, &total));
    TRY_TO(done, pairs_select(c, &how, similarity, n, first, taken));
    for (int64_t i = 0, k = 0; i < s->n; i++) {
        if (!s->candidates[i].is_dropped) {
            s->candidates[i].is_taken = taken[k++];
        }
    }
done:
    mem_free(similarity);
    mem_free(taken);
    return st;
}

/* Balanced: a pair's vector is the mean of its two responses' directions. */

struct pair_reader {
    struct selection *s;
    int64_t first;  /* candidate of the range's first row */
    float *vectors; /* 2 x BLOCK rows */
};

static void mean_direction(const float *x, int64_t width, float *out) {
    double norms[2] = {0, 0};
    for (int64_t d = 0; d < width; d++) {
        norms[0] += (double)x[d] * x[d];
        norms[1] += (double)x[width + d] * x[width + d];
    }
    double a = 0.5 / fmax(sqrt(norms[0]), 1e-8);
    double b = 0.5 / fmax(sqrt(norms[1]), 1e-8);
    for (int64_t d = 0; d < width; d++) {
        out[d] = (float)(a * x[d] + b * x[width + d]);
    }
}

static enum status read_directions(void *context, int64_t first, int64_t count, float *out) {
    struct pair_reader *r = context;
    int64_t width = sidecar_width(r->s->embeddings);
    int64_t ids[2 * BLOCK] = {0};
    for (int64_t at = 0; at < count; at += BLOCK) {
        int64_t n = count - at < BLOCK ? count - at : BLOCK;
        const struct candidate *c = r->s->candidates + (first - r->first + at);
        for (int64_t i = 0; i < n; i++) {
            ids[2 * i] = c[i].chosen;
            ids[2 * i + 1] = c[i].rejected;
        }
        TRY(read_vectors(r->s, ids, 2 * n, r->vectors));
#pragma omp parallel for schedule(static)
        for (int64_t i = 0; i < n; i++) {
            mean_direction(r->vectors + 2 * i * width, width, out + (at + i) * width);
        }
    }
    return OK;
}

/* How many of the candidates that are left, over all ranks. */
static enum status wanted_rows(const struct selection *s, double fraction, int64_t *out) {
    int64_t left = 0;
    for (int64_t i = 0; i < s->n; i++) {
        left += !s->candidates[i].is_dropped;
    }
    TRY(comm_sum_i64(s->run->comm, &left, 1));
    int64_t count = s->run->settings->select.count;
    *out = count > 0 ? count : (int64_t)floor(fraction * (double)left);
    if (*out > left) {
        return fail(ERR_USAGE, "select.count: %lld pairs of %lld", (long long)count, (long long)left);
    }
    return OK;
}

static enum status take_balanced(struct selection *s, const struct kmeans_result *k) {
    struct comm *c = s->run->comm;
    bool *skip = NULL;
    bool *taken = NULL;
    int64_t wanted;
    enum status st = NEW_ARRAY(skip, s->n);
    st = st == OK ? NEW_ARRAY(taken, s->n) : st;
    st = st == OK ? NEW_ARRAY(s->quota, s->clusters) : st;
    TRY_TO(done, comm_agree(c, st));
    TRY_TO(done, wanted_rows(s, s->run->settings->select.fraction, &wanted));
    for (int64_t i = 0; i < s->n; i++) {
        skip[i] = s->candidates[i].is_dropped;
    }
    const struct clustered rows = {
        .n = s->n, .clusters = s->clusters, .cluster = k->assignment, .distance = k->distance, .skip = skip};
    TRY_TO(done, balanced_select(c, &rows, wanted, taken, s->quota));
    for (int64_t i = 0; i < s->n; i++) {
        s->candidates[i].is_taken = taken[i];
    }
    s->iterations = k->iterations;
    s->objective = k->objective[k->iterations - 1];
done:
    mem_free(skip);
    mem_free(taken);
    return st;
}

static enum status choose_balanced(struct selection *s, struct range part) {
    const struct settings *settings = s->run->settings;
    struct session session;
    struct pair_reader reader = {.s = s, .first = part.first};
    struct vectors rows = {.n = dataset_size(s->data).pairs,
                           .width = sidecar_width(s->embeddings),
                           .range = part,
                           .read = read_directions,
                           .context = &reader};
    int64_t automatic = (int64_t)sqrt((double)rows.n / 2);
    automatic = automatic > 0 ? automatic : 1;
    s->clusters = settings->select.clusters > 0 ? settings->select.clusters : automatic;
    const struct kmeans_options options = {.clusters = s->clusters,
                                           .seeding = (enum kmeans_seeding)settings->select.seeding,
                                           .seed = (uint64_t)settings->seed};
    struct kmeans_result result = {0};
    session_open(s->run, &session);
    enum status st = comm_agree(s->run->comm, NEW_ARRAY(reader.vectors, 2 * BLOCK * rows.width));
    st = st == OK ? session_open_backend(&session, "cpu", true) : st;
    watchdog_phase(s->run->comm->watchdog, "clustering");
    st = st == OK ? kmeans_run(s->run->comm, session.backend, &rows, &options, &result) : st;
    st = st == OK ? take_balanced(s, &result) : st;
    kmeans_free(&result);
    mem_free(reader.vectors);
    session_close(&session);
    return st;
}

/* Over prompts. */

/* The file's labeled pairs whose responses are this rank's, sorted by response. */
struct known_pair {
    int64_t low, high;
    struct pair pair;
};
struct known_pairs {
    struct known_pair *data;
    int64_t n, capacity;
};

static int by_responses(const void *a, const void *b) {
    const struct known_pair *x = a;
    const struct known_pair *y = b;
    if (x->low != y->low) {
        return x->low < y->low ? -1 : 1;
    }
    return x->high < y->high ? -1 : x->high > y->high;
}

static struct known_pair known_key(int64_t a, int64_t b) {
    return (struct known_pair){.low = a < b ? a : b, .high = a < b ? b : a};
}

static enum status read_known(struct selection *s, struct range responses, struct known_pairs *out) {
    int64_t total = dataset_size(s->data).pairs;
    struct pair pairs[BLOCK];
    int64_t rows[BLOCK];
    for (int64_t first = 0; first < total; first += BLOCK) {
        int64_t n = total - first < BLOCK ? total - first : BLOCK;
        for (int64_t i = 0; i < n; i++) {
            rows[i] = first + i;
        }
        TRY(dataset_pairs(s->data, rows, n, pairs));
        for (int64_t i = 0; i < n; i++) {
            bool here = pairs[i].chosen >= responses.first && pairs[i].chosen < responses.last;
            if (!here || !pairs[i].label) {
                continue;
            }
            struct known_pair known = known_key(pairs[i].chosen, pairs[i].rejected);
            known.pair = pairs[i];
            TRY(GROW_ARRAY(out->data, out->capacity, out->n + 1));
            out->data[out->n++] = known;
        }
    }
    if (out->n > 0) {
        qsort(out->data, (size_t)out->n, sizeof *out->data, by_responses);
    }
    return OK;
}

static enum status label_pair(struct selection *s, const struct known_pairs *known, struct candidate *c) {
    struct known_pair key = known_key(c->chosen, c->rejected);
    const struct known_pair *found =
        known->n > 0 ? bsearch(&key, known->data, (size_t)known->n, sizeof *known->data, by_responses) : NULL;
    if (!found) {
        return label_by_score(s, c);
    }
    c->chosen = found->pair.chosen;
    c->rejected = found->pair.rejected;
    c->margin = found->pair.margin;
    c->source = found->pair.source;
    c->label = 1;
    return OK;
}

/* Every similarity within a prompt, for the report; NaN is refused here for all strategies. */
static enum status prompt_similarities(struct selection *s, int64_t prompt, const float *rows, int64_t n) {
    int64_t width = sidecar_width(s->embeddings);
    TRY(GROW_ARRAY(s->all, s->all_capacity, s->n_all + n * (n - 1) / 2));
    for (int64_t i = 0; i < n; i++) {
        for (int64_t j = i + 1; j < n; j++) {
            double cosine = similarity_cosine(rows + i * width, rows + j * width, width);
            if (isnan(cosine)) {
                return fail(ERR_DATA,
                            "the similarity of responses %lld and %lld of prompt %lld is not a number; embed "
                            "them again",
                            (long long)i, (long long)j, (long long)prompt);
            }
            s->all[s->n_all++] = cosine;
        }
    }
    return OK;
}

struct prompt_reader {
    struct known_pairs known;
    float *rows;
    int64_t capacity;
};

static enum status choose_in_prompt(struct selection *s, struct prompt_reader *r, int64_t prompt) {
    int64_t first;
    int64_t count;
    int a;
    int b;
    int n;
    uint64_t seed = (uint64_t)s->run->settings->seed;
    TRY(dataset_prompt_responses(s->data, prompt, &first, &count));
    if (count < 2) {
        s->dropped[DROP_FEW_RESPONSES]++;
        return OK;
    }
    TRY(to_int(count, "responses of a prompt", &n));
    int64_t width = s->embeddings ? sidecar_width(s->embeddings) : 0;
    if (s->embeddings) {
        TRY(GROW_ARRAY(r->rows, r->capacity, count * width));
        TRY(sidecar_read_values(s->embeddings, first, count, r->rows));
        TRY(prompt_similarities(s, prompt, r->rows, count));
    }
    enum pair_strategy strategy = pairs_part(&s->mix, seed, prompt);
    TRY(pairs_within(strategy, r->rows, n, width, seed, prompt, &a, &b));
    struct candidate c = {.chosen = first + a, .rejected = first + b, .source = -1, .margin = NAN};
    if (s->embeddings) {
        c.similarity = similarity_cosine(r->rows + a * width, r->rows + b * width, width);
    }
    TRY(label_pair(s, &r->known, &c));
    return add_candidate(s, &c);
}

static enum status read_prompts(struct selection *s) {
    const struct comm *c = s->run->comm;
    struct range part = range_part(dataset_size(s->data).prompts, c->rank, c->size);
    struct prompt_reader reader = {0};
    struct range responses = {0, 0};
    int64_t first;
    int64_t count;
    enum status st = OK;
    if (part.first < part.last) {
        TRY(dataset_prompt_responses(s->data, part.first, &responses.first, &count));
        TRY(dataset_prompt_responses(s->data, part.last - 1, &first, &count));
        responses.last = first + count;
        st = read_known(s, responses, &reader.known);
    }
    for (int64_t p = part.first; p < part.last && st == OK; p++) {
        st = choose_in_prompt(s, &reader, p);
    }
    mem_free(reader.known.data);
    mem_free(reader.rows);
    return st;
}

/* All prompts that gave a pair, or a random part of them. */
static enum status choose_prompts(struct selection *s) {
    const struct settings *settings = s->run->settings;
    struct comm *c = s->run->comm;
    bool has_fraction = options_is_set(s->run->options, "select.fraction");
    uint64_t *keys = NULL;
    bool *skip = NULL;
    bool *taken = NULL;
    int64_t wanted;
    enum status st = NEW_ARRAY(keys, s->n);
    st = st == OK ? NEW_ARRAY(skip, s->n) : st;
    st = st == OK ? NEW_ARRAY(taken, s->n) : st;
    TRY_TO(done, comm_agree(c, st));
    TRY_TO(done, wanted_rows(s, has_fraction ? settings->select.fraction : 1, &wanted));
    for (int64_t i = 0; i < s->n; i++) {
        struct rng draws = rng_stream((uint64_t)settings->seed, RNG_SELECT, s->before + i, 3);
        keys[i] = rng_u64(&draws);
        skip[i] = s->candidates[i].is_dropped;
    }
    TRY_TO(done, pairs_lowest(c, keys, skip, s->n, wanted, taken));
    for (int64_t i = 0; i < s->n; i++) {
        s->candidates[i].is_taken = taken[i];
    }
done:
    mem_free(keys);
    mem_free(skip);
    mem_free(taken);
    return st;
}

/* The whole. */

static enum status largest_prompt(struct selection *s, int64_t *out) {
    const struct comm *c = s->run->comm;
    struct range part = range_part(dataset_size(s->data).prompts, c->rank, c->size);
    *out = 0;
    for (int64_t p = part.first; p < part.last; p++) {
        int64_t first;
        int64_t count;
        TRY(dataset_prompt_responses(s->data, p, &first, &count));
        *out = count > *out ? count : *out;
    }
    return OK;
}

static enum status check_strategies(const struct selection *s) {
    for (int i = 0; i < s->mix.n; i++) {
        enum pair_strategy strategy = s->mix.parts[i].strategy;
        if (strategy == PAIRS_CENTROID && !s->over_prompts) {
            return fail(ERR_USAGE, "select.strategy: centroid chooses among a prompt's responses; set "
                                   "select.scope=prompts");
        }
        if (strategy == PAIRS_BALANCED && (s->over_prompts || s->mix.n > 1)) {
            return fail(ERR_USAGE, "select.strategy: balanced chooses among pairs, and alone; set "
                                   "select.scope=pairs");
        }
    }
    if (!s->over_prompts && dataset_size(s->data).pairs == 0) {
        return fail(ERR_DATA, "%s: no pairs to select from; set select.scope=prompts", dataset_path(s->data));
    }
    return OK;
}

static enum status open_all(struct selection *s) {
    struct run *run = s->run;
    bool needs;
    int64_t largest;
    TRY(pair_mix_parse(run->settings->select.strategy, &s->mix));
    TRY(selection_needs_embeddings(run->settings->select.strategy, &needs));
    if (needs && !*s->request->embeddings) {
        return fail(ERR_USAGE, "embeddings is not set; give embeddings=FILE from `collimate embed`");
    }
    TRY(dataset_open(run->comm, s->request->data, &s->data));
    if (*s->request->embeddings) {
        enum status st = sidecar_open_values(s->request->embeddings, dataset_hash(s->data),
                                             dataset_size(s->data).responses, &s->embeddings, &s->key);
        TRY(comm_agree(run->comm, st));
    }
    TRY(comm_agree(run->comm, largest_prompt(s, &largest)));
    TRY(comm_max_i64(run->comm, &largest, 1));
    s->over_prompts = run->settings->select.scope == 2 || (run->settings->select.scope == 0 && largest > 2);
    return check_strategies(s);
}

static enum status choose(struct selection *s) {
    struct comm *c = s->run->comm;
    int64_t total;
    struct range part = vectors_range(dataset_size(s->data).pairs, c->rank, c->size);
    TRY(comm_agree(c, s->over_prompts ? read_prompts(s) : read_pairs(s, part)));
    TRY(comm_scan_i64(c, s->n, &s->before, &total));
    if (s->over_prompts) {
        return choose_prompts(s);
    }
    return s->mix.parts[0].strategy == PAIRS_BALANCED ? choose_balanced(s, part) : choose_pairs(s);
}

static enum status count_all(struct selection *s) {
    int64_t sums[3 + SELECTION_DROPS] = {0, s->n, 0};
    for (int64_t i = 0; i < s->n; i++) {
        sums[0] += s->candidates[i].is_taken;
        sums[2] += s->candidates[i].is_taken && !s->candidates[i].label;
    }
    memcpy(sums + 3, s->dropped, sizeof s->dropped);
    TRY(comm_sum_i64(s->run->comm, sums, COUNT_OF(sums)));
    s->taken = sums[0];
    s->total = sums[1];
    s->unlabeled = sums[2];
    memcpy(s->dropped, sums + 3, sizeof s->dropped);
    if (s->taken == 0) {
        return fail(ERR_DATA, "%s: no pair is left to select", s->request->data);
    }
    if (s->unlabeled > 0 && s->request->needs_labels) {
        return fail(ERR_DATA, "%s: %lld of the %lld selected pairs have no label and no scores to order them",
                    s->request->data, (long long)s->unlabeled, (long long)s->taken);
    }
    return OK;
}

static enum status write_view(struct selection *s) {
    struct view_pairs pairs = {0};
    struct text command = {0};
    int64_t *chosen = NULL;
    int64_t *rejected = NULL;
    int64_t *source = NULL;
    float *margin = NULL;
    int8_t *label = NULL;
    enum status st;
    TRY_TO(agreed, NEW_ARRAY(chosen, s->n));
    TRY_TO(agreed, NEW_ARRAY(rejected, s->n));
    TRY_TO(agreed, NEW_ARRAY(source, s->n));
    TRY_TO(agreed, NEW_ARRAY(margin, s->n));
    TRY_TO(agreed, NEW_ARRAY(label, s->n));
    TRY_TO(agreed, text_puts(&command, "collimate"));
    for (int i = 1; i < s->run->argc; i++) {
        TRY_TO(agreed, text_printf(&command, " %s", s->run->argv[i]));
    }
    for (int64_t i = 0; i < s->n; i++) {
        const struct candidate *c = &s->candidates[i];
        if (c->is_taken) {
            chosen[pairs.n] = c->chosen;
            rejected[pairs.n] = c->rejected;
            source[pairs.n] = c->source;
            margin[pairs.n] = c->margin;
            label[pairs.n++] = c->label;
        }
    }
    pairs.chosen = chosen;
    pairs.rejected = rejected;
    pairs.source = source;
    pairs.margin = margin;
    pairs.label = label;
agreed:
    st = comm_agree(s->run->comm, st);
    if (st == OK) {
        st = dataset_write_view(s->run->comm, s->request->output, s->request->data, &pairs, command.data);
    }
    mem_free(chosen);
    mem_free(rejected);
    mem_free(source);
    mem_free(margin);
    mem_free(label);
    text_free(&command);
    return st;
}

static void selection_close(struct selection *s) {
    if (s->embeddings && sidecar_close(s->embeddings) != OK) {
        log_any(LOG_WARN, "%s: cannot be closed", s->request->embeddings);
    }
    if (s->data) {
        dataset_close(s->data);
    }
    mem_free(s->candidates);
    mem_free(s->all);
    mem_free(s->quota);
}

enum status selection_run(struct run *run, const struct selection_request *request) {
    struct selection s = {.run = run, .request = request};
    enum status st = open_all(&s);
    st = st == OK ? choose(&s) : st;
    st = st == OK ? count_all(&s) : st;
    if (st == OK && *request->output) {
        st = write_view(&s);
    }
    if (st == OK) {
        st = selection_report(&s);
    }
    selection_close(&s);
    return st;
}
