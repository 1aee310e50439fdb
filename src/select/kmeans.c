#include "select/kmeans_filter.h"

#include <math.h>
#include <string.h>

#include "util/clock.h"
#include "util/mem.h"

struct range vectors_range(int64_t n, int rank, int size) {
    int64_t blocks = (n + KMEANS_BLOCK - 1) / KMEANS_BLOCK;
    struct range part = range_part(blocks, rank, size);
    int64_t first = part.first * KMEANS_BLOCK;
    int64_t last = part.last * KMEANS_BLOCK;
    return (struct range){first < n ? first : n, last < n ? last : n};
}

static enum status host_memory(struct backend *b, int64_t elements, void **memory, float **host) {
    TRY(backend_alloc(b, elements * (int64_t)sizeof(float), memory));
    *host = backend_host_address(b, *memory);
    if (!*host) {
        return fail(ERR_USAGE, "k-means runs where host and device share memory: use device=cpu");
    }
    return OK;
}

int64_t lloyd_weight(const struct lloyd *l, float distance) {
    return llrint((double)distance * l->distance_scale);
}

enum status lloyd_fetch(struct lloyd *l, int64_t row, float *out) {
    int64_t owner = row >= l->rows->range.first && row < l->rows->range.last ? l->comm->rank : -1;
    enum status st = OK;
    if (owner >= 0) {
        st = l->rows->read(l->rows->context, row, 1, out);
    }
    TRY(comm_agree(l->comm, st));
    TRY(comm_max_i64(l->comm, &owner, 1));
    return comm_broadcast(l->comm, (int)owner, out, l->width * (int64_t)sizeof *out);
}

/* First pass: everything finite, the largest |value|, |x|^2 of every row and each block's sum of them, and
 * the cache filled. */
static enum status survey(struct lloyd *l, double *largest) {
    *largest = 0;
    for (int64_t first = 0; first < l->local; first += KMEANS_BLOCK) {
        int64_t rows = l->local - first < KMEANS_BLOCK ? l->local - first : KMEANS_BLOCK;
        float *to = l->cached ? l->cache + first * l->width : l->block;
        TRY(l->rows->read(l->rows->context, l->rows->range.first + first, rows, to));
        double most = *largest;
        double norms[KMEANS_BLOCK];
        int64_t bad = INT64_MAX;
#pragma omp parallel for schedule(static) reduction(max : most) reduction(min : bad)
        for (int64_t i = 0; i < rows; i++) {
            float top = 0;
            norms[i] = 0;
            for (int64_t d = 0; d < l->width; d++) {
                float v = fabsf(to[i * l->width + d]);
                norms[i] += (double)v * v;
                top = v > top ? v : top;
            }
            l->row_norms[first + i] = (float)norms[i];
            most = top > most ? top : most;
            bad = !isfinite(norms[i]) && i < bad ? i : bad;
        }
        *largest = most;
        for (int64_t i = 0; i < rows; i++) {
            l->block_norms[first / KMEANS_BLOCK] += norms[i];
        }
        if (bad != INT64_MAX) {
            return fail(ERR_DATA, "row %lld has a value that is not finite; embed it again",
                        (long long)(l->rows->range.first + first + bad));
        }
    }
    return OK;
}

/* The largest power of two by which n values of at most `largest` can be scaled and summed in 62 bits. */
static double fixed_point_scale(double largest, int64_t n) {
    int exponent;
    frexp(largest > 0 ? largest : 1, &exponent);
    int bits = 1;
    while (bits < 62 && (int64_t)1 << bits < n) {
        bits++;
    }
    return ldexp(1, 61 - bits - exponent);
}

struct moves {
    struct lloyd *l;
    int32_t *assignment;
    int64_t *sums, *counts; /* changes by this rank in this pass */
    int64_t moved;
};

/* Moves the rows that change their cluster; threads share the columns, so sums need no lock. */
static void move_rows(struct moves *m, const int32_t *old, const int32_t *index, int64_t count,
                      const float *x) {
    int64_t width = m->l->width;
    double scale = m->l->value_scale;
#pragma omp parallel for schedule(static)
    for (int64_t part = 0; part < 8; part++) {
        struct range columns = range_part(width, part, 8);
        for (int64_t i = 0; i < count; i++) {
            if (old[i] == index[i]) {
                continue;
            }
            int64_t *to = m->sums + index[i] * width;
            for (int64_t d = columns.first; d < columns.last; d++) {
                to[d] += llrint((double)x[i * width + d] * scale);
            }
            if (old[i] < 0) {
                continue;
            }
            int64_t *from = m->sums + old[i] * width;
            for (int64_t d = columns.first; d < columns.last; d++) {
                from[d] -= llrint((double)x[i * width + d] * scale);
            }
        }
    }
}

static void visit_assign(void *context, int64_t first, int64_t count, const float *x, const float *distance,
                         const int32_t *index) {
    (void)distance;
    struct moves *m = context;
    int32_t *assignment = m->assignment + first;
    move_rows(m, assignment, index, count, x);
    for (int64_t i = 0; i < count; i++) {
        if (assignment[i] != index[i]) {
            m->moved++;
            m->counts[index[i]]++;
            if (assignment[i] >= 0) {
                m->counts[assignment[i]]--;
            }
            assignment[i] = index[i];
        }
    }
}

struct totals {
    int64_t *sums, *counts, *step; /* step: sums, counts and moved of a pass */
    double norms;                  /* sum of |x|^2 */
};

/* sum over rows of |x - c|^2 = sum |x|^2 + sum over clusters of n |c|^2 - 2 c . sum x: the sums are exact, so
 * no distance of a row is needed, and rows that pruning never looked at count like the others. */
static double objective_of(const struct lloyd *l, const struct totals *t) {
    double sum = t->norms;
    for (int64_t c = 0; c < l->clusters; c++) {
        const float *center = l->centers + c * l->width;
        double norm = 0;
        double product = 0;
        for (int64_t d = 0; d < l->width; d++) {
            norm += (double)center[d] * center[d];
            product += center[d] * ((double)t->sums[c * l->width + d] / l->value_scale);
        }
        sum += (double)t->counts[c] * norm - 2 * product;
    }
    return sum > 0 ? sum : 0;
}

/* New centers, and how far each has moved. */
static void set_centers(struct lloyd *l, const struct totals *t) {
    for (int64_t c = 0; c < l->clusters; c++) {
        double squared = 0;
        for (int64_t d = 0; d < l->width && t->counts[c] > 0; d++) {
            float *at = l->centers + c * l->width + d;
            double old = *at;
            double sum = (double)t->sums[c * l->width + d];
            *at = (float)(sum / l->value_scale / (double)t->counts[c]);
            squared += (*at - old) * (*at - old);
        }
        l->drift[c] =
            (float)sqrt(squared); /* 0 where empty: it keeps its center and the objective cannot rise */
    }
}

/* One pass: assignment, then sums over ranks, then new centers. */
static enum status iterate(struct lloyd *l, int32_t *assignment, struct totals *t, int64_t *moved,
                           double *objective) {
    int64_t values = l->clusters * l->width;
    int64_t n = values + l->clusters + 1;
    memset(t->step, 0, (size_t)n * sizeof *t->step);
    struct moves m = {.l = l, .assignment = assignment, .sums = t->step, .counts = t->step + values};
    enum status st = lloyd_assign(l, assignment, visit_assign, &m);
    TRY(comm_agree(l->comm, st));
    t->step[n - 1] = m.moved;
    TRY(comm_sum_i64(l->comm, t->step, n));
    for (int64_t i = 0; i < values; i++) {
        t->sums[i] += t->step[i];
    }
    for (int64_t c = 0; c < l->clusters; c++) {
        t->counts[c] += t->step[values + c];
    }
    *moved = t->step[n - 1];
    *objective = objective_of(l, t);
    set_centers(l, t);
    return OK;
}

struct last_pass {
    const struct lloyd *l;
    struct kmeans_result *result;
};

static void visit_last(void *context, int64_t first, int64_t count, const float *x, const float *distance,
                       const int32_t *index) {
    (void)distance;
    struct last_pass *p = context;
#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < count; i++) {
        p->result->distance[first + i] = lloyd_distance(p->l, x + i * p->l->width, index[i]);
    }
    memcpy(p->result->assignment + first, index, (size_t)count * sizeof *index);
}

/* Collective. The sum of |x|^2, from each block's: the same for any rank count. */
static enum status sum_norms(struct lloyd *l, double *out) {
    int64_t sum = 0;
    for (int64_t i = 0; i * KMEANS_BLOCK < l->local; i++) {
        sum += llrint(l->block_norms[i] * l->distance_scale);
    }
    TRY(comm_sum_i64(l->comm, &sum, 1));
    *out = (double)sum / l->distance_scale;
    return OK;
}

static enum status lloyd(struct lloyd *l, struct kmeans_result *out) {
    int64_t limit = l->options->iterations > 0 ? l->options->iterations : 25;
    int64_t values = l->clusters * l->width;
    struct totals t = {0};
    enum status st;
    TRY_TO(done, NEW_ARRAY(t.sums, values));
    TRY_TO(done, NEW_ARRAY(t.step, values + l->clusters + 1));
    TRY_TO(done, NEW_ARRAY(out->objective, limit));
    t.counts = out->counts;
    for (int64_t i = 0; i < l->local; i++) {
        out->assignment[i] = -1;
    }
    TRY_TO(done, sum_norms(l, &t.norms));
    for (int64_t moved = 1; moved > 0 && out->iterations < limit;) {
        double objective;
        TRY_TO(done, iterate(l, out->assignment, &t, &moved, &objective));
        out->objective[out->iterations++] = objective;
        if (out->iterations > 1 && l->options->tolerance > 0) {
            double before = out->objective[out->iterations - 2];
            if (before - objective <= l->options->tolerance * before) {
                break;
            }
        }
    }
    memcpy(out->centers, l->centers, (size_t)values * sizeof *out->centers);
    /* Assignments and distances that belong to the final centers. */
    struct last_pass last = {l, out};
    TRY_TO(done, comm_agree(l->comm, lloyd_assign(l, out->assignment, visit_last, &last)));
    memset(out->counts, 0, (size_t)l->clusters * sizeof *out->counts);
    for (int64_t i = 0; i < l->local; i++) {
        out->counts[out->assignment[i]]++;
    }
    TRY_TO(done, comm_sum_i64(l->comm, out->counts, l->clusters));
    st = comm_sum_i64(l->comm, &l->looked, 1);
    out->looked =
        (double)l->looked / ((double)l->rows->n * (double)l->clusters * (double)(out->iterations + 1));
done:
    mem_free(t.sums);
    mem_free(t.step);
    return st;
}

static enum status open_lloyd(struct lloyd *l, struct kmeans_result *out) {
    const struct kmeans_options *o = l->options;
    int64_t budget = o->memory_bytes > 0 ? o->memory_bytes : (int64_t)2 << 30;
    l->center_capacity = o->clusters;
    l->cached = l->local * l->width * (int64_t)sizeof(float) <= budget;
    TRY(host_memory(l->backend, l->center_capacity * l->width, &l->center_memory, &l->centers));
    TRY(host_memory(l->backend, LLOYD_STRIDE * l->center_capacity, &l->product_memory, &l->products));
    if (l->cached) {
        TRY(host_memory(l->backend, (l->local > 0 ? l->local : 1) * l->width, &l->cache_memory, &l->cache));
    } else {
        TRY(host_memory(l->backend, KMEANS_BLOCK * l->width, &l->block_memory, &l->block));
    }
    TRY(host_memory(l->backend, KMEANS_BLOCK * l->width, &l->open_memory, &l->open));
    TRY(NEW_ARRAY(l->center_norms, l->center_capacity));
    TRY(NEW_ARRAY(l->drift, l->center_capacity));
    TRY(NEW_ARRAY(l->row_norms, l->local));
    TRY(NEW_ARRAY(l->block_norms, l->local / KMEANS_BLOCK + 1));
    TRY(NEW_ARRAY(l->left_alone, l->local / KMEANS_BLOCK + 1));
    TRY(NEW_ARRAY(l->unfiltered, l->local / KMEANS_BLOCK + 1));
    TRY(NEW_ARRAY(l->upper, l->local));
    TRY(NEW_ARRAY(l->lower, l->local));
    int64_t shadows = l->local * (l->width + l->width / 8 + 1) * (int64_t)sizeof(float);
    TRY(filter_open(l, l->cached && shadows <= budget));
    TRY(NEW_ARRAY(out->centers, o->clusters * l->width));
    TRY(NEW_ARRAY(out->assignment, l->local));
    TRY(NEW_ARRAY(out->distance, l->local));
    TRY(NEW_ARRAY(out->counts, o->clusters));
    return OK;
}

static void close_lloyd(struct lloyd *l) {
    backend_free(l->backend, l->block_memory);
    backend_free(l->backend, l->center_memory);
    backend_free(l->backend, l->product_memory);
    backend_free(l->backend, l->cache_memory);
    backend_free(l->backend, l->open_memory);
    mem_free(l->center_norms);
    mem_free(l->drift);
    mem_free(l->row_norms);
    mem_free(l->block_norms);
    mem_free(l->left_alone);
    mem_free(l->unfiltered);
    filter_close(l);
    mem_free(l->upper);
    mem_free(l->lower);
}

enum status kmeans_run(struct comm *c, struct backend *b, const struct vectors *rows,
                       const struct kmeans_options *o, struct kmeans_result *out) {
    *out = (struct kmeans_result){0};
    if (o->clusters < 1 || o->clusters > rows->n) {
        return fail(ERR_USAGE, "%lld clusters of %lld rows: choose 1 to the number of rows",
                    (long long)o->clusters, (long long)rows->n);
    }
    struct lloyd l = {.comm = c,
                      .backend = b,
                      .rows = rows,
                      .options = o,
                      .clusters = o->clusters,
                      .width = rows->width,
                      .error = lloyd_error(rows->width),
                      .local = rows->range.last - rows->range.first};
    double largest = 0;
    enum status st = open_lloyd(&l, out);
    if (st == OK) {
        st = survey(&l, &largest);
    }
    TRY_TO(done, comm_agree(c, st));
    TRY_TO(done, comm_max_f64(c, &largest, 1));
    l.value_scale = fixed_point_scale(largest, rows->n);
    l.distance_scale = fixed_point_scale(4 * largest * largest * (double)rows->width, rows->n);
    if (o->initial) {
        memcpy(l.centers, o->initial, (size_t)(o->clusters * l.width) * sizeof *l.centers);
    } else {
        TRY_TO(done, lloyd_seed(&l));
    }
    double start = clock_seconds();
    st = lloyd(&l, out);
    out->seconds = clock_seconds() - start;
done:
    close_lloyd(&l);
    if (st != OK) {
        kmeans_free(out);
    }
    return st;
}

void kmeans_free(struct kmeans_result *r) {
    mem_free(r->centers);
    mem_free(r->assignment);
    mem_free(r->distance);
    mem_free(r->counts);
    mem_free(r->objective);
    *r = (struct kmeans_result){0};
}
