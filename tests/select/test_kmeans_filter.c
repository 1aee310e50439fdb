/* Pruned k-means against the plain pass: the same assignments, distances, counts and centers to the bit, for
 * rows of several kinds, widths and numbers of centers, with rows in memory and read again, on any rank count
 * and 1 or 2 threads; and the bound itself against distances in double.
 */
#include <math.h>
#include <omp.h>
#include <stdio.h>
#include <string.h>

#include "select/kmeans_filter.h"
#include "select/vector_lanes.h"
#include "tests/check.h"
#include "util/mem.h"
#include "util/rng.h"

enum kind { FALLING, NOISE, CLUSTERED, DUPLICATES, GRID, FAR, TINY, LOW_RANK, KINDS };
static const char *const kind_names[KINDS] = {"falling",      "noise",           "clustered", "duplicates",
                                              "grid of ties", "far from origin", "tiny",      "low rank"};

static double value(enum kind kind, int64_t row, int64_t column, double normal, double blob) {
    switch (kind) {
    case FALLING:
        return (blob + 0.7 * normal) / sqrt((double)column + 1);
    case CLUSTERED:
        return 4 * blob + 0.1 * normal;
    case DUPLICATES: /* most rows are alike, and so are centers that begin there */
        return row % 5 ? blob : blob + normal;
    case GRID: /* distances that are exactly equal in fp32 */
        return column % 8 == row % 8 ? rint(2 * blob) : 0;
    case FAR:
        return 100 + 0.01 * (blob + 0.5 * normal) / sqrt((double)column + 1);
    case TINY: /* squares that underflow */
        return (blob + 0.3 * normal) * (row % 3 ? 1e-22 : 1e-20);
    case LOW_RANK: /* nothing lies outside the directions */
        return column < 5 ? blob + 0.3 * normal : 0;
    default:
        return normal;
    }
}

static enum status read_rows(void *context, int64_t first, int64_t count, float *out) {
    const struct vectors *v = context;
    memcpy(out, (float *)v->context + first * v->width, (size_t)(count * v->width) * sizeof(float));
    return OK;
}

static float *make_rows(enum kind kind, int64_t n, int64_t width) {
    float *data;
    CHECK(NEW_ARRAY(data, n * width) == OK);
    for (int64_t i = 0; i < n; i++) {
        struct rng noise = rng_stream(1, RNG_CHECK, i, 0);
        struct rng center = rng_stream(2, RNG_CHECK, i * i % 37, 0);
        for (int64_t d = 0; d < width; d++) {
            double normal = rng_uniform(&noise) + rng_uniform(&noise) - 1;
            double blob = rng_uniform(&center) + rng_uniform(&center) - 1;
            data[i * width + d] = (float)value(kind, i, d, normal, blob);
        }
    }
    return data;
}

static bool same(const struct kmeans_result *a, const struct kmeans_result *b, int64_t rows, int64_t clusters,
                 int64_t width) {
    size_t n = (size_t)rows;
    return a->iterations == b->iterations &&
           memcmp(a->assignment, b->assignment, n * sizeof *a->assignment) == 0 &&
           memcmp(a->distance, b->distance, n * sizeof *a->distance) == 0 &&
           memcmp(a->counts, b->counts, (size_t)clusters * sizeof *a->counts) == 0 &&
           memcmp(a->objective, b->objective, (size_t)a->iterations * sizeof *a->objective) == 0 &&
           memcmp(a->centers, b->centers, (size_t)(clusters * width) * sizeof *a->centers) == 0;
}

enum { SHAPES = 3 };
struct shape {
    int64_t n, width, clusters, iterations;
};

/* Share of the distances that were computed with everything in memory. */
static double compare(struct comm *c, struct backend *b, enum kind kind, struct shape s) {
    float *data = make_rows(kind, s.n, s.width);
    struct vectors all = {.n = s.n, .width = s.width, .context = data};
    struct vectors rows = {.n = s.n,
                           .width = s.width,
                           .range = vectors_range(s.n, c->rank, c->size),
                           .read = read_rows,
                           .context = &all};
    int64_t local = rows.range.last - rows.range.first;
    struct kmeans_options o = {.clusters = s.clusters,
                               .iterations = s.iterations,
                               .seeding = SEEDING_RANDOM,
                               .seed = (uint64_t)kind,
                               .pruning = PRUNING_NONE};
    struct kmeans_result plain;
    struct kmeans_result pruned;
    CHECK(kmeans_run(c, b, &rows, &o, &plain) == OK);
    CHECK(plain.looked == 1);
    o.pruning = PRUNING_ALWAYS;
    double looked = 1;
    for (int64_t memory = 0; memory < 2; memory++) { /* 2 GiB; 1 byte */
        o.memory_bytes = memory;
        CHECK(kmeans_run(c, b, &rows, &o, &pruned) == OK);
        if (!same(&plain, &pruned, local, s.clusters, s.width)) {
            fprintf(stderr, "%s: %lld rows of %lld, %lld clusters, memory %lld: another result\n",
                    kind_names[kind], (long long)s.n, (long long)s.width, (long long)s.clusters,
                    (long long)memory);
            CHECK(false);
        }
        looked = memory == 0 ? pruned.looked : looked;
        kmeans_free(&pruned);
    }
    kmeans_free(&plain);
    mem_free(data);
    return looked;
}

static void test_equal(struct comm *c, struct backend *b, double looked[][KINDS], bool is_first) {
    static const struct shape shapes[SHAPES] = {{800, 24, 16, 4}, {1000, 130, 200, 4}, {1200, 64, 90, 5}};
    for (int i = 0; i < SHAPES; i++) {
        for (enum kind kind = 0; kind < KINDS; kind++) {
            double share = compare(c, b, kind, shapes[i]);
            CHECK(is_first || share == looked[i][kind]); /* whatever the number of threads */
            looked[i][kind] = share;
        }
    }
    CHECK(looked[1][FALLING] < 0.6 && looked[1][LOW_RANK] < 0.6);
}

/* No center that a row drops is as near as its own, in double; of rows whose spectrum falls or ends less than
 * half are kept, and some rows are decided. */
enum { BOUND_ROWS = 200, BOUND_WIDTH = 96, BOUND_CLUSTERS = 80 };
struct bound_world {
    float *data; /* rows, then centers */
    float norms[BOUND_CLUSTERS], row_norms[BOUND_ROWS];
    int32_t place[BOUND_ROWS], own[BOUND_ROWS];
    double distance[BOUND_ROWS][BOUND_CLUSTERS];
};

static void find_norms(struct bound_world *w, struct lloyd *l) {
    for (int64_t i = 0; i < BOUND_ROWS + BOUND_CLUSTERS; i++) {
        double norm = 0;
        for (int64_t d = 0; d < BOUND_WIDTH; d++) {
            norm += (double)w->data[i * BOUND_WIDTH + d] * w->data[i * BOUND_WIDTH + d];
        }
        *(i < BOUND_ROWS ? &w->row_norms[i] : &w->norms[i - BOUND_ROWS]) = (float)norm;
        l->largest_norm = (float)norm > l->largest_norm ? (float)norm : l->largest_norm;
    }
}

static void find_distances(struct bound_world *w, const float *centers) {
    for (int64_t i = 0; i < BOUND_ROWS; i++) {
        w->place[i] = (int32_t)i;
        w->own[i] = 0;
        for (int64_t k = 0; k < BOUND_CLUSTERS; k++) {
            w->distance[i][k] = 0;
            for (int64_t d = 0; d < BOUND_WIDTH; d++) {
                double off = (double)w->data[i * BOUND_WIDTH + d] - centers[k * BOUND_WIDTH + d];
                w->distance[i][k] += off * off;
            }
            w->own[i] = w->distance[i][k] < w->distance[i][w->own[i]] ? (int32_t)k : w->own[i];
        }
        if (i % 2) { /* a center that is not the nearest any more */
            w->own[i] = (w->own[i] + 1) % BOUND_CLUSTERS;
        }
    }
}

/* Adds to *kept how many centers the row keeps. */
static void check_row(const struct bound_world *w, int64_t i, const struct filtered *out, const uint8_t *keep,
                      int64_t *kept) {
    const double *distance = w->distance[i];
    for (int64_t k = 0; k < BOUND_CLUSTERS; k++) {
        *kept += keep[k] != 0;
        CHECK(keep[k] || distance[k] > distance[w->own[i]]);
        CHECK(!out->is_decided || distance[k] >= distance[out->index]);
        CHECK(!out->is_decided || k == out->index || sqrt(distance[k]) >= out->lower * (1 - 1e-6));
    }
    CHECK(!out->is_decided || sqrt(distance[out->index]) <= out->upper * (1 + 1e-6));
}

static void test_bound(struct comm *c, struct backend *b, enum kind kind) {
    static struct bound_world w;
    struct filtered out[BOUND_ROWS];
    struct kmeans_options o = {.pruning = PRUNING_ALWAYS};
    w.data = make_rows(kind, BOUND_ROWS + BOUND_CLUSTERS, BOUND_WIDTH);
    struct lloyd l = {.comm = c,
                      .backend = b,
                      .options = &o,
                      .local = BOUND_ROWS,
                      .clusters = BOUND_CLUSTERS,
                      .width = BOUND_WIDTH,
                      .centers = w.data + (int64_t)BOUND_ROWS * BOUND_WIDTH,
                      .center_norms = w.norms,
                      .row_norms = w.row_norms,
                      .error = lloyd_error(BOUND_WIDTH)};
    find_norms(&w, &l);
    find_distances(&w, l.centers);
    CHECK(filter_open(&l, true) == OK && l.filter);
    CHECK(filter_renew(&l) == OK && filter_renew(&l) == OK);
    CHECK(filter_rows(&l, 0, w.data, w.place, BOUND_ROWS, w.own, out) == OK);
    int64_t stride = (BOUND_CLUSTERS + LANES - 1) / LANES * LANES, kept = 0, decided = 0;
    for (int64_t i = 0; i < BOUND_ROWS; i++) {
        decided += out[i].is_decided;
        check_row(&w, i, &out[i], l.filter->keep + i * stride, &kept);
    }
    if (kind == FALLING || kind == LOW_RANK) {
        CHECK(decided > 0 && kept < (int64_t)BOUND_ROWS * BOUND_CLUSTERS / 2);
    }
    filter_close(&l);
    mem_free(w.data);
}

int main(int argc, char **argv) {
    struct comm *c;
    if (comm_start(&argc, &argv, &c) != OK) {
        return 1;
    }
    double looked[SHAPES][KINDS];
    for (int threads = 1; threads <= (c->size == 1 ? 2 : 1); threads++) {
        struct backend *b;
        char why[256];
        struct backend_request request = {
            .device = "cpu", .compute = "fp32", .threads = threads, .deterministic = true};
        omp_set_num_threads(threads);
        CHECK(backend_open(&request, &b, why) == OK);
        test_equal(c, b, looked, threads == 1);
        for (enum kind kind = 0; kind < KINDS; kind++) {
            test_bound(c, b, kind);
        }
        backend_close(b);
    }
    int64_t all = failures;
    failures = comm_sum_i64(c, &all, 1) == OK ? (int)all : 1;
    comm_finish(c);
    return failures != 0;
}
