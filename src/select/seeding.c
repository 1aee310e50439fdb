/* First centers: distinct random rows, k-means++, or k-means||. Every choice is made from exact integer
 * weights, so it is the same for any rank count. */
#include <math.h>
#include <string.h>

#include "select/kmeans_internal.h"
#include "util/mem.h"
#include "util/rng.h"

/* Rounds and oversampling of Bahmani et al. 2012, section 5: five rounds of 2k candidates. */
enum { ROUNDS = 5, OVERSAMPLING = 2 };

struct seeding {
    struct lloyd *l;
    float *distance; /* of each local row to its nearest candidate */
    int32_t *nearest;
    float *candidates; /* equal on all ranks */
    int64_t count, capacity;
    int64_t base; /* candidate that the first of lloyd.centers is, in a pass */
};

static void visit_least(void *context, int64_t first, int64_t count, const float *x, const float *distance,
                        const int32_t *index) {
    (void)x;
    struct seeding *s = context;
    for (int64_t i = 0; i < count; i++) {
        if (distance[i] < s->distance[first + i]) {
            s->distance[first + i] = distance[i];
            s->nearest[first + i] = (int32_t)(s->base + index[i]);
        }
    }
}

/* Appends n candidates and renews every row's distance to the nearest. */
static enum status add_candidates(struct seeding *s, const float *vectors, int64_t n) {
    struct lloyd *l = s->l;
    TRY(GROW_ARRAY(s->candidates, s->capacity, (s->count + n) * l->width));
    memcpy(s->candidates + s->count * l->width, vectors, (size_t)(n * l->width) * sizeof *vectors);
    for (int64_t first = 0; first < n; first += l->center_capacity) {
        int64_t batch = n - first < l->center_capacity ? n - first : l->center_capacity;
        memcpy(l->centers, vectors + first * l->width, (size_t)(batch * l->width) * sizeof *vectors);
        s->base = s->count + first;
        TRY(lloyd_nearest(l, batch, visit_least, s));
    }
    s->count += n;
    return OK;
}

static int64_t local_weight(const struct seeding *s) {
    int64_t sum = 0;
    for (int64_t i = 0; i < s->l->local; i++) {
        sum += lloyd_weight(s->l, s->distance[i]);
    }
    return sum;
}

static enum status add_row(struct seeding *s, int64_t row) {
    float *vector;
    TRY(NEW_ARRAY(vector, s->l->width));
    enum status st = lloyd_fetch(s->l, row, vector);
    if (st == OK) {
        st = comm_agree(s->l->comm, add_candidates(s, vector, 1));
    }
    mem_free(vector);
    return st;
}

static enum status random_rows(struct seeding *s, int64_t wanted) {
    int64_t n = s->l->rows->n;
    for (int64_t i = 0; s->count < wanted; i++) {
        TRY(add_row(s, rng_permute(s->l->options->seed, 0, n, i % n)));
    }
    return OK;
}

/* A row drawn by squared distance from its nearest candidate. */
static enum status weighted_row(struct seeding *s, int64_t round, int64_t *row) {
    struct lloyd *l = s->l;
    int64_t mine = local_weight(s);
    int64_t before;
    int64_t total;
    TRY(comm_scan_i64(l->comm, mine, &before, &total));
    struct rng draws = rng_stream(l->options->seed, RNG_SELECT, -1, round);
    if (total == 0) { /* every row is a candidate already */
        *row = rng_below(&draws, l->rows->n);
        return OK;
    }
    int64_t target = rng_below(&draws, total) - before;
    *row = -1;
    for (int64_t i = 0; target >= 0 && target < mine && i < l->local; i++) {
        target -= lloyd_weight(l, s->distance[i]);
        if (target < 0) {
            *row = l->rows->range.first + i;
        }
    }
    return comm_max_i64(l->comm, row, 1);
}

static enum status plus_plus(struct seeding *s) {
    while (s->count < s->l->clusters) {
        int64_t row;
        TRY(weighted_row(s, s->count, &row));
        TRY(add_row(s, row));
    }
    return OK;
}

/* The rows that a round of k-means|| takes, as vectors in row order on every rank. */
static enum status oversample(struct seeding *s, int64_t round, float **vectors, int64_t *count) {
    struct lloyd *l = s->l;
    float *mine = NULL;
    int64_t capacity = 0;
    int64_t taken = 0;
    int64_t total = local_weight(s);
    enum status st;
    TRY_TO(done, comm_sum_i64(l->comm, &total, 1));
    double share = total > 0 ? OVERSAMPLING * (double)l->clusters / (double)total : 0;
    st = OK;
    for (int64_t i = 0; i < l->local && st == OK; i++) {
        int64_t row = l->rows->range.first + i;
        struct rng draws = rng_stream(l->options->seed, RNG_SELECT, row, round);
        if (rng_uniform(&draws) < share * (double)lloyd_weight(l, s->distance[i])) {
            st = GROW_ARRAY(mine, capacity, (taken + 1) * l->width);
            if (st == OK) {
                st = l->rows->read(l->rows->context, row, 1, mine + taken * l->width);
                taken++;
            }
        }
    }
    TRY_TO(done, comm_agree(l->comm, st));
    size_t bytes = (size_t)l->width * sizeof(float);
    st = comm_gather_all(l->comm, mine, taken, bytes, vectors, count);
done:
    mem_free(mine);
    return st;
}

static double squared(const float *a, const float *b, int64_t width) {
    double sum = 0;
    for (int64_t d = 0; d < width; d++) {
        double difference = (double)a[d] - b[d];
        sum += difference * difference;
    }
    return sum;
}

/* Weighted k-means++ on the candidates: the same on every rank. Chosen vectors go to lloyd.centers. */
static enum status reduce_candidates(struct seeding *s, const int64_t *weights) {
    struct lloyd *l = s->l;
    double *distance;
    TRY(NEW_ARRAY(distance, s->count));
    for (int64_t i = 0; i < s->count; i++) {
        distance[i] = 1;
    }
    for (int64_t chosen = 0; chosen < l->clusters; chosen++) {
        struct rng draws = rng_stream(l->options->seed, RNG_SELECT, -2, chosen);
        double total = 0;
        for (int64_t i = 0; i < s->count; i++) {
            total += distance[i] * (double)weights[i];
        }
        double target = rng_uniform(&draws) * total;
        int64_t pick = chosen; /* where all weight is gone: candidates in order */
        for (int64_t i = 0; i < s->count && total > 0; i++) {
            target -= distance[i] * (double)weights[i];
            if (target < 0) {
                pick = i;
                break;
            }
        }
        const float *vector = s->candidates + pick * l->width;
        memcpy(l->centers + chosen * l->width, vector, (size_t)l->width * sizeof *vector);
#pragma omp parallel for schedule(static)
        for (int64_t i = 0; i < s->count; i++) {
            double d = squared(vector, s->candidates + i * l->width, l->width);
            distance[i] = chosen == 0 || d < distance[i] ? d : distance[i];
        }
    }
    mem_free(distance);
    return OK;
}

static enum status parallel(struct seeding *s) {
    struct lloyd *l = s->l;
    for (int64_t round = 0; round < ROUNDS; round++) {
        float *vectors = NULL;
        int64_t count = 0;
        enum status st = oversample(s, round, &vectors, &count);
        if (st == OK) {
            st = comm_agree(l->comm, add_candidates(s, vectors, count));
        }
        mem_free(vectors);
        TRY(st);
    }
    TRY(random_rows(s, l->clusters));
    int64_t *weights;
    TRY(comm_agree(l->comm, NEW_ARRAY(weights, s->count)));
    for (int64_t i = 0; i < l->local; i++) {
        weights[s->nearest[i]]++;
    }
    enum status st = comm_sum_i64(l->comm, weights, s->count);
    if (st == OK) {
        st = comm_agree(l->comm, reduce_candidates(s, weights));
    }
    mem_free(weights);
    return st;
}

enum status lloyd_seed(struct lloyd *l) {
    struct seeding s = {.l = l};
    enum status st = NEW_ARRAY(s.distance, l->local);
    if (st == OK) {
        st = NEW_ARRAY(s.nearest, l->local);
    }
    TRY_TO(done, comm_agree(l->comm, st));
    for (int64_t i = 0; i < l->local; i++) {
        s.distance[i] = INFINITY;
    }
    if (l->options->seeding == SEEDING_RANDOM) {
        st = random_rows(&s, l->clusters);
    } else {
        TRY_TO(done, random_rows(&s, 1));
        st = l->options->seeding == SEEDING_PARALLEL ? parallel(&s) : plus_plus(&s);
    }
    if (st == OK && s.candidates && l->options->seeding != SEEDING_PARALLEL) {
        memcpy(l->centers, s.candidates, (size_t)(l->clusters * l->width) * sizeof *s.candidates);
    }
done:
    mem_free(s.distance);
    mem_free(s.nearest);
    mem_free(s.candidates);
    return st;
}
