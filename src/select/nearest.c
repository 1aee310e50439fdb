/* Nearest centers of blocks of rows: products by the back end, then the least of |c|^2 - 2 x.c.
 *
 * Pruning is Hamerly's (2010, "Making k-means even faster"): a row keeps an upper bound of the distance to
 * its own center and a lower bound of that to any other; centers that drift loosen both by as much as they
 * moved. While the upper one is below the lower one the row stays, and no product is needed. The margin
 * between them is wider than the products' rounding, so that a pruned row is one that the products would have
 * left where it is. What is pruned is a function of the row and the centers: the same for any rank count.
 */
#include <math.h>
#include <string.h>

#include "select/kmeans_internal.h"

/* Bounds are loosened by this share of themselves each time; squared distances are taken for uncertain by
 * this share of the norms, far above what fp32 products round off. */
static const float loosen = 1e-6f, margin = 3e-5f;

/* Of a block's rows; scan() fills LANES at once. */
struct nearest {
    float least[KMEANS_BLOCK], second[KMEANS_BLOCK]; /* squared distances */
    int32_t index[KMEANS_BLOCK];
};

static enum status block_rows(struct lloyd *l, int64_t first, int64_t count, const float **x, void **device) {
    if (l->cached) {
        *x = l->cache + first * l->width;
        *device = (char *)l->cache_memory + first * l->width * (int64_t)sizeof(float);
        return OK;
    }
    TRY(l->rows->read(l->rows->context, l->rows->range.first + first, count, l->block));
    *x = l->block;
    *device = l->block_memory;
    return OK;
}

static float set_center_norms(struct lloyd *l, int64_t count) {
    float most = 0;
    for (int64_t c = 0; c < count; c++) {
        double norm = 0;
        for (int64_t d = 0; d < l->width; d++) {
            norm += (double)l->centers[c * l->width + d] * l->centers[c * l->width + d];
        }
        l->center_norms[c] = (float)norm;
        most = (float)norm > most ? (float)norm : most;
    }
    return most;
}

/* Sixteen rows at a time: a cache line of products, and one register where the processor has AVX-512. A
 * comparison gives all bits of each lane. */
enum { LANES = 16 };
typedef float vec __attribute__((vector_size(LANES * 4)));
typedef int32_t mask __attribute__((vector_size(LANES * 4)));
#define WHERE(m, yes, no) ((vec)(((mask)(yes) & (m)) | ((mask)(no) & ~(m))))

#if defined(__x86_64__) && defined(__gnu_linux__)
#define BEST_LEVEL __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define BEST_LEVEL
#endif

/* Least and second least of |c|^2 - 2 x.c over the centers, for LANES rows from `first` of `rows`; ties to
 * the lowest. products: centers x rows; LANES more may be read behind them. */
BEST_LEVEL static void scan(const struct lloyd *l, int64_t centers, int64_t first, struct nearest *out) {
    vec least;
    mask index = {0};
    for (int i = 0; i < LANES; i++) {
        least[i] = INFINITY;
    }
    vec second = least;
    for (int64_t c = 0; c < centers; c++) {
        vec d;
        memcpy(&d, l->products + c * LLOYD_STRIDE + first, sizeof d);
        d = l->center_norms[c] - 2 * d;
        mask nearer = d < least;
        vec worse = WHERE(nearer, least, d);
        mask closer = worse < second;
        least = WHERE(nearer, d, least);
        second = WHERE(closer, worse, second);
        index = ((int32_t)c & nearer) | (index & ~nearer);
    }
    memcpy(out->least + first, &least, sizeof least);
    memcpy(out->second + first, &second, sizeof second);
    memcpy(out->index + first, &index, sizeof index);
}

/* rows: as many at device; norms: their |x|^2. */
static enum status find_nearest(struct lloyd *l, void *device, int64_t rows, int64_t centers,
                                struct nearest *out) {
    struct gemm g = {
        .a = tensor_at(l->center_memory, centers, l->width, DTYPE_F32),
        .b = tensor_at(device, rows, l->width, DTYPE_F32),
        .c = {.data = l->product_memory,
              .rows = centers,
              .columns = rows,
              .stride = LLOYD_STRIDE,
              .type = DTYPE_F32},
        .transpose_b = true,
        .alpha = 1,
    };
    TRY(backend_gemm(l->backend, &g));
    TRY(backend_sync(l->backend));
#pragma omp parallel for schedule(static)
    for (int64_t first = 0; first < rows; first += LANES) {
        scan(l, centers, first, out);
    }
    return OK;
}

static float squared_distance(float norm, float relative) {
    float d = norm + relative;
    return d > 0 ? d : 0;
}

enum status lloyd_nearest(struct lloyd *l, int64_t count, lloyd_visit *visit, void *context) {
    struct nearest found;
    set_center_norms(l, count);
    for (int64_t first = 0; first < l->local; first += KMEANS_BLOCK) {
        int64_t rows = l->local - first < KMEANS_BLOCK ? l->local - first : KMEANS_BLOCK;
        const float *x;
        void *device;
        TRY(block_rows(l, first, rows, &x, &device));
        TRY(find_nearest(l, device, rows, count, &found));
        for (int64_t i = 0; i < rows; i++) {
            found.least[i] = squared_distance(l->row_norms[first + i], found.least[i]);
        }
        visit(context, first, rows, x, found.least, found.index);
    }
    return OK;
}

/* Pruning. */

/* How far centers have moved: the most, which center that is, and the most of the others. */
struct drift {
    float most, next, largest_norm;
    int64_t most_at;
};

static struct drift largest_drift(const struct lloyd *l, float largest_norm) {
    struct drift out = {.most_at = -1, .largest_norm = largest_norm};
    for (int64_t c = 0; c < l->clusters; c++) {
        if (l->drift[c] > out.most) {
            out.next = out.most;
            out.most = l->drift[c];
            out.most_at = c;
        } else if (l->drift[c] > out.next) {
            out.next = l->drift[c];
        }
    }
    return out;
}

float lloyd_distance(const struct lloyd *l, const float *x, int64_t center) {
    const float *c = l->centers + center * l->width;
    float sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t d = 0; d < l->width; d++) {
        sum += (x[d] - c[d]) * (x[d] - c[d]);
    }
    return sum;
}

/* Of the row's squared distances by products. */
static float uncertainty(const struct lloyd *l, const struct drift *drift, int64_t row) {
    return margin * (l->row_norms[row] + drift->largest_norm);
}

/* By so much that the products would say so, too. */
static bool is_inside(const struct lloyd *l, const struct drift *drift, int64_t row) {
    float low = l->lower[row];
    return low > 0 && l->upper[row] * l->upper[row] + uncertainty(l, drift, row) < low * low;
}

/* Renews a row's bounds; whether it surely stays with its center. */
static bool stays(struct lloyd *l, const struct drift *drift, const float *x, int64_t row, int32_t center) {
    if (center < 0) {
        return false;
    }
    float others = center == drift->most_at ? drift->next : drift->most;
    l->upper[row] = (l->upper[row] + l->drift[center]) * (1 + loosen);
    l->lower[row] = (l->lower[row] - others) * (1 - loosen) - loosen * others;
    if (is_inside(l, drift, row)) {
        return true;
    }
    l->upper[row] = sqrtf(lloyd_distance(l, x, center)) * (1 + loosen);
    return is_inside(l, drift, row);
}

/* Bounds that spare few rows cost more than they save: a block is then left alone for some passes, in which
 * its rows' bounds come from the products. */
enum { LEAST_SPARED = 8, PASSES_LEFT_ALONE = 3 }; /* one row in so many */

/* A block's rows that may change, side by side in *device; place[k]: which they are. */
static int64_t take_open(struct lloyd *l, const struct drift *drift, int64_t first, int64_t rows,
                         const float *x, const int32_t *assignment, void **device, int32_t *place) {
    bool is_open[KMEANS_BLOCK];
    int64_t n = 0;
    int8_t *left_alone = &l->left_alone[first / KMEANS_BLOCK];
    bool prunes = *left_alone == 0;
#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < rows; i++) {
        is_open[i] = !prunes || !stays(l, drift, x + i * l->width, first + i, assignment[i]);
    }
    for (int64_t i = 0; i < rows; i++) {
        place[n] = (int32_t)i;
        n += is_open[i];
    }
    if (!prunes) {
        --*left_alone;
    } else if ((rows - n) * LEAST_SPARED < rows) {
        *left_alone = PASSES_LEFT_ALONE;
    }
    if (n == rows) {
        return n; /* as they are */
    }
#pragma omp parallel for schedule(static)
    for (int64_t k = 0; k < n; k++) {
        memcpy(l->open + k * l->width, x + place[k] * l->width, (size_t)l->width * sizeof *x);
    }
    *device = l->open_memory;
    return n;
}

enum status lloyd_assign(struct lloyd *l, const int32_t *assignment, lloyd_visit *visit, void *context) {
    struct nearest found;
    int32_t place[KMEANS_BLOCK];
    int32_t index[KMEANS_BLOCK];
    const struct drift drift = largest_drift(l, set_center_norms(l, l->clusters));
    for (int64_t first = 0; first < l->local; first += KMEANS_BLOCK) {
        int64_t rows = l->local - first < KMEANS_BLOCK ? l->local - first : KMEANS_BLOCK;
        const float *x;
        void *device;
        TRY(block_rows(l, first, rows, &x, &device));
        memcpy(index, assignment + first, (size_t)rows * sizeof *index);
        int64_t n = take_open(l, &drift, first, rows, x, index, &device, place);
        TRY(n > 0 ? find_nearest(l, device, n, l->clusters, &found) : OK);
        l->looked += n;
        for (int64_t k = 0; k < n; k++) {
            int64_t row = first + place[k];
            float norm = l->row_norms[row];
            float doubt = uncertainty(l, &drift, row);
            index[place[k]] = found.index[k];
            l->upper[row] = sqrtf(squared_distance(norm + doubt, found.least[k]));
            l->lower[row] = sqrtf(squared_distance(norm - doubt, found.second[k]));
        }
        visit(context, first, rows, x, NULL, index);
    }
    return OK;
}
