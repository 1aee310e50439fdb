/* Nearest centers of blocks of rows: products by the back end, then the least of |c|^2 - 2 x.c.
 *
 * Pruning is Hamerly's (2010, "Making k-means even faster"): a row keeps an upper bound of the distance to
 * its own center and a lower bound of that to any other; centers that drift loosen both by as much as they
 * moved. While the upper one is below the lower one by more than the products can be wrong (lloyd_doubt), the
 * row stays, and no product is needed. Where there are many centers, short vectors then tell which of them a
 * row may belong to at all (kmeans_filter.h). Either way a row goes where the products would have sent it,
 * and what is pruned is a function of the row's block and the centers: the same for any rank count.
 */
#include <math.h>
#include <string.h>

#include "select/kmeans_filter.h"
#include "select/vector_lanes.h"

/* Bounds are loosened by this share of themselves each time: some roundings. */
static const float loosen = 1e-6F;

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

static void set_center_norms(struct lloyd *l, int64_t count) {
    l->largest_norm = 0;
    for (int64_t c = 0; c < count; c++) {
        double norm = 0;
        for (int64_t d = 0; d < l->width; d++) {
            norm += (double)l->centers[c * l->width + d] * l->centers[c * l->width + d];
        }
        l->center_norms[c] = (float)norm;
        l->largest_norm = (float)norm > l->largest_norm ? (float)norm : l->largest_norm;
    }
}

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
    float most, next;
    int64_t most_at;
};

static struct drift largest_drift(const struct lloyd *l) {
    struct drift out = {.most_at = -1};
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

/* By so much that the products would say so, too. */
static bool is_inside(const struct lloyd *l, int64_t row) {
    float low = l->lower[row];
    float high = l->upper[row];
    return low > 0 && high * high * (1 + loosen) + 2 * lloyd_doubt(l, row) < low * low * (1 - loosen);
}

/* Renews a row's bounds; whether it surely stays with its center. */
static bool stays(struct lloyd *l, const struct drift *drift, const float *x, int64_t row, int32_t center) {
    if (center < 0) {
        return false;
    }
    float others = center == drift->most_at ? drift->next : drift->most;
    l->upper[row] = (l->upper[row] + l->drift[center]) * (1 + loosen);
    l->lower[row] = (l->lower[row] - others) * (1 - loosen) - loosen * others;
    if (is_inside(l, row)) {
        return true;
    }
    l->upper[row] = sqrtf(lloyd_distance(l, x, center) * (1 + l->error)) * (1 + loosen);
    return is_inside(l, row);
}

/* Bounds that spare few rows cost more than they save: a block is then left alone for some passes, in which
 * its rows' bounds come from the products. */
enum { LEAST_SPARED = 8, PASSES_LEFT_ALONE = 3 }; /* one row in so many */

/* A block that is in work. */
struct block_of_rows {
    int64_t first, rows; /* local */
    const float *x;
    void *device;
    int64_t n;                   /* rows that may change: */
    int32_t place[KMEANS_BLOCK]; /* which they are */
    const int32_t *assignment;   /* by place */
    int32_t index[KMEANS_BLOCK]; /* by place: what becomes of it */
    struct nearest found;        /* of rows that went through all products */
};

/* Leaves the rows that Hamerly's bounds do not hold. */
static void take_open(struct lloyd *l, const struct drift *drift, struct block_of_rows *b) {
    bool is_open[KMEANS_BLOCK];
    int8_t *left_alone = &l->left_alone[b->first / KMEANS_BLOCK];
    bool prunes = *left_alone == 0 && l->options->pruning != PRUNING_NONE;
#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < b->rows; i++) {
        is_open[i] = !prunes || !stays(l, drift, b->x + i * l->width, b->first + i, b->assignment[i]);
    }
    b->n = 0;
    for (int64_t i = 0; i < b->rows; i++) {
        b->place[b->n] = (int32_t)i;
        b->n += is_open[i];
    }
    if (!prunes) {
        *left_alone -= *left_alone > 0;
    } else if ((b->rows - b->n) * LEAST_SPARED < b->rows) {
        *left_alone = PASSES_LEFT_ALONE;
    }
}

/* Leaves the rows that the filter does not decide; all from the first batch on that is hardly worth it. */
static enum status decide(struct lloyd *l, struct block_of_rows *b) {
    struct filtered out[FILTER_ROWS];
    int8_t *unfiltered = &l->unfiltered[b->first / KMEANS_BLOCK];
    if (!l->filter || b->n == 0 || b->assignment[0] < 0 || *unfiltered > 0) {
        *unfiltered -= *unfiltered > 0;
        return OK;
    }
    int64_t left = 0;
    int64_t k = 0;
    while (k < b->n && *unfiltered == 0) {
        int64_t batch = b->n - k < FILTER_ROWS ? b->n - k : FILTER_ROWS;
        int64_t before = left;
        TRY(filter_rows(l, b->first, b->x, b->place + k, batch, b->assignment, out));
        for (int64_t i = 0; i < batch; i++) {
            int32_t place = b->place[k + i];
            l->looked += out[i].looked;
            if (out[i].is_decided) {
                b->index[place] = out[i].index;
                l->upper[b->first + place] = out[i].upper;
                l->lower[b->first + place] = out[i].lower;
            } else {
                b->place[left++] = place;
            }
        }
        k += batch;
        *unfiltered = 2 * (left - before) > batch ? PASSES_LEFT_ALONE : 0;
    }
    while (k < b->n) {
        b->place[left++] = b->place[k++];
    }
    b->n = left;
    return OK;
}

/* All products of the rows that are left. */
static enum status look(struct lloyd *l, struct block_of_rows *b) {
    void *device = b->device;
    if (b->n == 0) {
        return OK;
    }
    if (b->n < b->rows) { /* else as they are */
        device = l->open_memory;
#pragma omp parallel for schedule(static)
        for (int64_t k = 0; k < b->n; k++) {
            memcpy(l->open + k * l->width, b->x + b->place[k] * l->width, (size_t)l->width * sizeof *b->x);
        }
    }
    TRY(find_nearest(l, device, b->n, l->clusters, &b->found));
    l->looked += b->n * l->clusters;
    for (int64_t k = 0; k < b->n; k++) {
        int64_t row = b->first + b->place[k];
        float norm = l->row_norms[row];
        float doubt = lloyd_doubt(l, row);
        b->index[b->place[k]] = b->found.index[k];
        l->upper[row] = sqrtf(squared_distance(norm + doubt, b->found.least[k]));
        l->lower[row] = sqrtf(squared_distance(norm - doubt, b->found.second[k]));
    }
    return OK;
}

enum status lloyd_assign(struct lloyd *l, const int32_t *assignment, lloyd_visit *visit, void *context) {
    struct block_of_rows b;
    set_center_norms(l, l->clusters);
    TRY(l->filter ? filter_renew(l) : OK);
    const struct drift drift = largest_drift(l);
    for (b.first = 0; b.first < l->local; b.first += KMEANS_BLOCK) {
        b.rows = l->local - b.first < KMEANS_BLOCK ? l->local - b.first : KMEANS_BLOCK;
        b.assignment = assignment + b.first;
        TRY(block_rows(l, b.first, b.rows, &b.x, &b.device));
        memcpy(b.index, b.assignment, (size_t)b.rows * sizeof *b.index);
        take_open(l, &drift, &b);
        TRY(decide(l, &b));
        TRY(look(l, &b));
        visit(context, b.first, b.rows, b.x, NULL, b.index);
    }
    return OK;
}
