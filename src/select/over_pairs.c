/* The file's pairs as candidates: their similarities, and the choice by them or over clusters. */
#include <math.h>
#include <string.h>

#include "mpi/watchdog.h"
#include "select/balanced.h"
#include "select/kmeans.h"
#include "select/selection_internal.h"
#include "util/mem.h"

/* Memory that grows. */
struct tokens {
    int32_t *data;
    int64_t capacity;
};

static enum status pair_similarities(struct selection *s, int64_t first, int64_t n, float *vectors) {
    int64_t width = sidecar_width(s->embeddings);
    int64_t ids[2 * SELECTION_BLOCK] = {0};
    for (int64_t i = 0; i < n; i++) {
        ids[2 * i] = s->candidates[first + i].chosen;
        ids[2 * i + 1] = s->candidates[first + i].rejected;
    }
    TRY(candidates_vectors(s, ids, 2 * n, vectors));
#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < n; i++) {
        const float *x = vectors + 2 * i * width;
        s->candidates[first + i].similarity = similarity_cosine(x, x + width, width);
    }
    return OK;
}

/* Whether two responses have the same tokens, for which `tokens` is memory that grows. */
static enum status are_equal(struct dataset *d, const int64_t ids[2], struct tokens *t, bool *out) {
    struct response r[2];
    TRY(dataset_response(d, ids[0], &r[0]));
    TRY(dataset_response(d, ids[1], &r[1]));
    *out = false;
    if (r[0].count != r[1].count) {
        return OK;
    }
    int64_t n = r[0].count;
    TRY(GROW_ARRAY(t->data, t->capacity, 2 * n));
    TRY(dataset_response_tokens(d, r[0].first, n, t->data));
    TRY(dataset_response_tokens(d, r[1].first, n, t->data + n));
    *out = n == 0 || memcmp(t->data, t->data + n, (size_t)n * sizeof *t->data) == 0;
    return OK;
}

static enum status label_pair(struct selection *s, struct tokens *scratch, struct candidate *c) {
    const int64_t ids[2] = {c->chosen, c->rejected};
    bool equal;
    TRY(are_equal(s->data, ids, scratch, &equal));
    if (asked_has(&s->asked, ids[0], ids[1])) {
        candidate_drop(c, DROP_ASKED);
    } else if (equal) {
        candidate_drop(c, DROP_EQUAL_RESPONSES);
    } else if (!c->label) {
        TRY(candidate_label_by_score(s, c));
    }
    return OK;
}

enum status over_pairs_read(struct selection *s, struct range part) {
    struct pair pairs[SELECTION_BLOCK];
    struct tokens scratch = {0};
    float *vectors = NULL;
    enum status st = OK;
    if (s->embeddings) {
        TRY(NEW_ARRAY(vectors, 2 * SELECTION_BLOCK * sidecar_width(s->embeddings)));
    }
    for (int64_t first = part.first; first < part.last; first += SELECTION_BLOCK) {
        struct range rows = range_block(part, first, SELECTION_BLOCK);
        int64_t n = rows.last - rows.first;
        int64_t at = s->n;
        TRY_TO(done, dataset_pairs(s->data, rows, pairs));
        for (int64_t i = 0; i < n; i++) {
            struct candidate c = {.chosen = pairs[i].chosen,
                                  .rejected = pairs[i].rejected,
                                  .source = pairs[i].source,
                                  .margin = pairs[i].margin,
                                  .cluster = -1,
                                  .label = pairs[i].label};
            TRY_TO(done, label_pair(s, &scratch, &c));
            TRY_TO(done, candidates_add(s, &c));
        }
        TRY_TO(done, vectors ? pair_similarities(s, at, n, vectors) : OK);
    }
done:
    mem_free(vectors);
    mem_free(scratch.data);
    return st;
}

/* The candidates that are not dropped, side by side, for pairs_select. */
enum status over_pairs_choose(struct selection *s) {
    struct comm *c = s->comm;
    const struct pair_selection how = {.mix = s->mix,
                                       .fraction = s->options->fraction,
                                       .count = s->options->count,
                                       .seed = (uint64_t)s->options->seed};
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
    float *vectors; /* 2 x SELECTION_BLOCK rows */
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
    int64_t ids[2 * SELECTION_BLOCK] = {0};
    for (int64_t at = 0; at < count; at += SELECTION_BLOCK) {
        int64_t n = count - at < SELECTION_BLOCK ? count - at : SELECTION_BLOCK;
        const struct candidate *c = r->s->candidates + (first - r->first + at);
        for (int64_t i = 0; i < n; i++) {
            ids[2 * i] = c[i].chosen;
            ids[2 * i + 1] = c[i].rejected;
        }
        TRY(candidates_vectors(r->s, ids, 2 * n, r->vectors));
#pragma omp parallel for schedule(static)
        for (int64_t i = 0; i < n; i++) {
            mean_direction(r->vectors + 2 * i * width, width, out + (at + i) * width);
        }
    }
    return OK;
}

static enum status take_balanced(struct selection *s, const struct kmeans_result *k) {
    struct comm *c = s->comm;
    bool *skip = NULL;
    bool *taken = NULL;
    int64_t wanted;
    enum status st = NEW_ARRAY(skip, s->n);
    st = st == OK ? NEW_ARRAY(taken, s->n) : st;
    st = st == OK ? NEW_ARRAY(s->quota, s->clusters) : st;
    TRY_TO(done, comm_agree(c, st));
    TRY_TO(done, candidates_wanted(s, s->options->fraction, &wanted));
    for (int64_t i = 0; i < s->n; i++) {
        skip[i] = s->candidates[i].is_dropped;
    }
    const struct clustered rows = {
        .n = s->n, .clusters = s->clusters, .cluster = k->assignment, .distance = k->distance, .skip = skip};
    TRY_TO(done, balanced_select(c, &rows, wanted, taken, s->quota));
    for (int64_t i = 0; i < s->n; i++) {
        s->candidates[i].is_taken = taken[i];
        s->candidates[i].cluster = k->assignment[i];
    }
    s->iterations = k->iterations;
    s->objective = k->objective[k->iterations - 1];
done:
    mem_free(skip);
    mem_free(taken);
    return st;
}

enum status over_pairs_choose_balanced(struct selection *s, struct range part) {
    struct pair_reader reader = {.s = s, .first = part.first};
    struct vectors rows = {.n = dataset_size(s->data).pairs,
                           .width = sidecar_width(s->embeddings),
                           .range = part,
                           .read = read_directions,
                           .context = &reader};
    int64_t automatic = (int64_t)sqrt((double)rows.n / 2);
    automatic = automatic > 0 ? automatic : 1;
    s->clusters = s->options->clusters > 0 ? s->options->clusters : automatic;
    const struct kmeans_options options = {
        .clusters = s->clusters, .seeding = s->options->seeding, .seed = (uint64_t)s->options->seed};
    struct kmeans_result result = {0};
    enum status st = comm_agree(s->comm, NEW_ARRAY(reader.vectors, 2 * SELECTION_BLOCK * rows.width));
    watchdog_phase(s->comm->watchdog, "clustering");
    st = st == OK ? kmeans_run(s->comm, s->options->backend, &rows, &options, &result) : st;
    st = st == OK ? take_balanced(s, &result) : st;
    kmeans_free(&result);
    mem_free(reader.vectors);
    return st;
}
