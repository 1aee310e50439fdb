#include "select/kmeans_filter.h"

#include <float.h>
#include <math.h>
#include <string.h>

#include "select/vector_lanes.h"
#include "util/mem.h"

/* A row that keeps more than one center in so many is left to the products, which are several times as fast
 * for each distance. */
enum { MOST_KEPT = 8, AT_ONCE = 4 };

static int64_t padded(int64_t n) {
    return (n + LANES - 1) / LANES * LANES;
}

/* Products of shadows have rows so far apart: no power of two. */
static int64_t product_stride(const struct lloyd *l) {
    return padded(l->clusters) + LANES;
}

static enum status take(struct lloyd *l, int64_t elements, void **memory, float **host) {
    TRY(backend_alloc(l->backend, elements * (int64_t)sizeof(float), memory));
    *host = backend_host_address(l->backend, *memory);
    return *host ? OK : fail(ERR_INTERNAL, "k-means: memory that the host does not share");
}

enum status filter_open(struct lloyd *l, bool cached) {
    if (l->options->pruning == PRUNING_NONE || l->width < 16 || l->clusters < 16 ||
        (l->options->pruning == PRUNING_AUTO && (l->clusters < FILTER_CLUSTERS || l->width < FILTER_WIDTH))) {
        return OK;
    }
    struct filter *f;
    TRY(NEW_ARRAY(f, 1));
    l->filter = f;
    f->directions = l->width / 8 - 1 < MOST_DIRECTIONS ? l->width / 8 - 1 : MOST_DIRECTIONS;
    f->depth = f->directions + 1;
    f->stride = f->depth + 1;
    f->most = l->clusters / MOST_KEPT + 1;
    int64_t shifted = l->clusters > FILTER_ROWS ? l->clusters : FILTER_ROWS;
    int64_t products = f->directions * l->clusters;
    int64_t of_rows = FILTER_ROWS * product_stride(l);
    TRY(take(l, f->directions * l->width, &f->basis_memory, &f->basis));
    TRY(take(l, shifted * l->width, &f->shifted_memory, &f->shifted));
    TRY(take(l, products > of_rows ? products : of_rows, &f->product_memory, &f->products));
    TRY(take(l, l->clusters * f->stride, &f->center_memory, &f->center_shadows));
    TRY(take(l, FILTER_ROWS * f->stride, &f->row_memory, &f->shadows));
    if (cached) {
        TRY(take(l, l->local * f->stride, &f->cache_memory, &f->cache));
    }
    memset(f->products, 0, (size_t)(products > of_rows ? products : of_rows) * sizeof *f->products);
    TRY(NEW_ARRAY(f->version, l->local / KMEANS_BLOCK + 1));
    TRY(NEW_ARRAY(f->mean, l->width));
    TRY(NEW_ARRAY(f->norms, padded(l->clusters)));
    TRY(NEW_ARRAY(f->keep, FILTER_ROWS * padded(l->clusters)));
    return NEW_ARRAY(f->kept, FILTER_ROWS * f->most);
}

void filter_close(struct lloyd *l) {
    struct filter *f = l->filter;
    if (!f) {
        return;
    }
    backend_free(l->backend, f->basis_memory);
    backend_free(l->backend, f->shifted_memory);
    backend_free(l->backend, f->product_memory);
    backend_free(l->backend, f->center_memory);
    backend_free(l->backend, f->row_memory);
    backend_free(l->backend, f->cache_memory);
    mem_free(f->version);
    mem_free(f->mean);
    mem_free(f->norms);
    mem_free(f->keep);
    mem_free(f->kept);
    mem_free(f);
    l->filter = NULL;
}

enum status filter_renew(struct lloyd *l) {
    struct filter *f = l->filter;
    int64_t pass = f->pass++;
    if (pass == 0) { /* no row has a center yet */
        return OK;
    }
    if ((pass & (pass - 1)) == 0) {
        TRY(basis_renew(l));
    }
    TRY(basis_project(l, l->centers, NULL, l->clusters, f->center_memory, f->center_shadows));
    f->center_error = 0;
    f->largest_norm = 0;
    for (int64_t c = 0; c < padded(l->clusters); c++) {
        if (c >= l->clusters) {
            f->norms[c] = INFINITY;
            continue;
        }
        const float *shadow = f->center_shadows + c * f->stride;
        float error = shadow_error(f, shadow);
        f->norms[c] = shadow[f->depth];
        f->largest_norm = f->norms[c] > f->largest_norm ? f->norms[c] : f->largest_norm;
        f->center_error = error > f->center_error ? error : f->center_error;
    }
    return OK;
}

/* Marks the centers whose |c|^2 - 2 x.c is not above the threshold, a byte each, and gives the least of the
 * others. One of the last LANES may be marked that does not exist. */
BEST_LEVEL static float mark(const float *product, const float *norms, int64_t centers, float threshold,
                             uint8_t *keep) {
    vec rest;
    for (int i = 0; i < LANES; i++) {
        rest[i] = INFINITY;
    }
    for (int64_t c = 0; c < centers; c += LANES) {
        vec d;
        vec norm;
        memcpy(&d, product + c, sizeof d);
        memcpy(&norm, norms + c, sizeof norm);
        d = norm - 2 * d;
        mask away = d > threshold;
        vec others = WHERE(away, d, rest);
        rest = WHERE(others < rest, others, rest);
        bytes near = __builtin_convertvector(~away, bytes);
        memcpy(keep + c, &near, sizeof near);
    }
    float least = rest[0];
    for (int i = 1; i < LANES; i++) {
        least = rest[i] < least ? rest[i] : least;
    }
    return least;
}

/* The marked centers' numbers (a mark is a byte of ones); more than `most`: most + 1. */
static int64_t list_kept(const uint8_t *keep, int64_t centers, int64_t most, int32_t *kept) {
    int64_t n = 0;
    for (int64_t c = 0; c < centers; c += 8) {
        uint64_t eight;
        memcpy(&eight, keep + c, sizeof eight);
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
        eight = __builtin_bswap64(eight);
#endif
        while (eight != 0) {
            int64_t at = __builtin_ctzll(eight) / 8;
            eight &= ~(UINT64_C(0xff) << 8 * at);
            if (n == most) {
                return most + 1;
            }
            kept[n] = (int32_t)(c + at);
            n += c + at < centers;
        }
    }
    return n;
}

BEST_LEVEL static void dots(const float *x, const float *const c[AT_ONCE], int64_t width,
                            float out[AT_ONCE]) {
    const float *c0 = c[0];
    const float *c1 = c[1];
    const float *c2 = c[2];
    const float *c3 = c[3];
    float s0 = 0;
    float s1 = 0;
    float s2 = 0;
    float s3 = 0;
#pragma omp simd reduction(+ : s0, s1, s2, s3)
    for (int64_t d = 0; d < width; d++) {
        s0 += x[d] * c0[d];
        s1 += x[d] * c1[d];
        s2 += x[d] * c2[d];
        s3 += x[d] * c3[d];
    }
    out[0] = s0;
    out[1] = s1;
    out[2] = s2;
    out[3] = s3;
}

/* Least and second least of |c|^2 - 2 x.c over the kept centers. */
struct best {
    float least, second;
    int32_t index;
};

static struct best best_kept(const struct lloyd *l, const float *x, const int32_t *kept, int64_t n) {
    struct best best = {.least = INFINITY, .second = INFINITY, .index = -1};
    for (int64_t k = 0; k < n; k += AT_ONCE) {
        const float *c[AT_ONCE];
        float product[AT_ONCE];
        for (int64_t i = 0; i < AT_ONCE; i++) {
            c[i] = l->centers + kept[k + i < n ? k + i : n - 1] * l->width;
        }
        dots(x, c, l->width, product);
        for (int64_t i = 0; i < AT_ONCE && k + i < n; i++) {
            float d = l->center_norms[kept[k + i]] - 2 * product[i];
            bool nearer = d < best.least;
            float worse = nearer ? best.least : d;
            best.second = worse < best.second ? worse : best.second;
            best.index = nearer ? kept[k + i] : best.index;
            best.least = nearer ? d : best.least;
        }
    }
    return best;
}

/* A row against all centers: k-th of this batch, local row `row`. */
static void filter_row(struct lloyd *l, int64_t k, int64_t row, const float *x, int32_t center,
                       struct filtered *out) {
    struct filter *f = l->filter;
    const float *shadow = f->shadows + k * f->stride;
    float norm = shadow[f->depth];
    float doubt = lloyd_doubt(l, row);
    float near = lloyd_distance(l, x, center) * (1 + l->error);
    float slack = shadow_error(f, shadow) + f->center_error;
    float of_product = lloyd_error(f->depth) * (norm + f->largest_norm) + 8 * (float)f->depth * FLT_MIN;
    float reach = (sqrtf(near + 2 * doubt) + slack) * 1.00001F;
    float threshold = reach * reach + of_product - norm;
    uint8_t *keep = f->keep + k * padded(l->clusters);
    int32_t *kept = f->kept + k * f->most;
    float rest = mark(f->products + k * product_stride(l), f->norms, l->clusters, threshold, keep);
    int64_t n = list_kept(keep, l->clusters, f->most, kept);
    *out = (struct filtered){.index = center};
    if (n > f->most || n == 0) {
        return;
    }
    out->looked = (int32_t)n;
    struct best best = best_kept(l, x, kept, n);
    if (!(best.second - best.least > 4 * doubt)) {
        return;
    }
    /* Of those that were dropped the least distance, of the shadow: no further than the row's. */
    float others = norm + rest - of_product;
    others = others > 0 ? sqrtf(others) * 0.99999F - slack : 0;
    float second = l->row_norms[row] + best.second - doubt;
    second = second > 0 ? sqrtf(second) : 0;
    float own = l->row_norms[row] + best.least + doubt;
    out->is_decided = true;
    out->index = best.index;
    out->upper = own > 0 ? sqrtf(own) : 0;
    out->lower = others < second ? others : second;
}

/* Shadows of a block's rows side by side in f->shadows: kept ones, or made anew. */
static enum status gather_shadows(struct lloyd *l, int64_t first, const float *x, const int32_t *place,
                                  int64_t n) {
    struct filter *f = l->filter;
    if (!f->cache) {
        return basis_project(l, x, place, n, f->row_memory, f->shadows);
    }
    int32_t *version = &f->version[first / KMEANS_BLOCK];
    int64_t rows = l->local - first < KMEANS_BLOCK ? l->local - first : KMEANS_BLOCK;
    for (int64_t i = 0; i < rows && *version != f->renewed; i += FILTER_ROWS) {
        int64_t at = (first + i) * f->stride;
        int64_t count = rows - i < FILTER_ROWS ? rows - i : FILTER_ROWS;
        void *device = (char *)f->cache_memory + at * (int64_t)sizeof(float);
        TRY(basis_project(l, x + i * l->width, NULL, count, device, f->cache + at));
    }
    *version = f->renewed;
    for (int64_t k = 0; k < n; k++) {
        memcpy(f->shadows + k * f->stride, f->cache + (first + place[k]) * f->stride,
               (size_t)f->stride * sizeof *f->shadows);
    }
    return OK;
}

enum status filter_rows(struct lloyd *l, int64_t first, const float *x, const int32_t *place, int64_t n,
                        const int32_t *assignment, struct filtered *out) {
    struct filter *f = l->filter;
    TRY(gather_shadows(l, first, x, place, n));
    struct gemm g = {
        .a = tensor_at(f->row_memory, n, f->depth, DTYPE_F32),
        .b = tensor_at(f->center_memory, l->clusters, f->depth, DTYPE_F32),
        .c = tensor_at(f->product_memory, n, l->clusters, DTYPE_F32),
        .transpose_b = true,
        .alpha = 1,
    };
    g.a.stride = f->stride;
    g.b.stride = f->stride;
    g.c.stride = product_stride(l);
    TRY(backend_gemm(l->backend, &g));
    TRY(backend_sync(l->backend));
#pragma omp parallel for schedule(dynamic, 8)
    for (int64_t k = 0; k < n; k++) {
        filter_row(l, k, first + place[k], x + place[k] * l->width, assignment[place[k]], &out[k]);
    }
    return OK;
}
