/* RMSNorm and LayerNorm, one row at a time.
 *
 * With s = 1 / sqrt(mean((x - m)^2) + epsilon) (m = 0 for RMS), xhat = (x - m) s, u = dy * (weight + offset):
 *     dx = s (u - mean(u) [layer norm only] - xhat mean(u xhat))
 *     dweight = sum over rows of dy xhat, dbias = sum over rows of dy
 * Ba et al. 2016; Zhang and Sennrich 2019.
 */
#include "backend/cpu/cpu_bf16.h"

#include <math.h>
#include <omp.h>

static float row_mean(const float *x, int64_t n) {
    float sum = 0.0f;
#pragma omp simd reduction(+ : sum)
    for (int64_t j = 0; j < n; j++) {
        sum += x[j];
    }
    return sum / (float)n;
}

static float row_mean_square(const float *x, float mean, int64_t n) {
    float sum = 0.0f;
#pragma omp simd reduction(+ : sum)
    for (int64_t j = 0; j < n; j++) {
        float d = x[j] - mean;
        sum += d * d;
    }
    return sum / (float)n;
}

/* Rows as fp32 where they are not: those that all threads read, and a thread's own. */
enum { SHARED_ROWS = 2, OWN_ROWS = 3 };
struct norm_rooms {
    const float *weight, *bias; /* NULL: none */
    float *own;                 /* OWN_ROWS rows for each thread */
    int64_t columns;
};

static enum status rooms_open(struct cpu *cpu, const struct norm *n, struct norm_rooms *out) {
    int64_t columns = n->x.columns;
    void *scratch = NULL;
    TRY(cpu_scratch(cpu, SCRATCH_ROWS,
                    (SHARED_ROWS + (int64_t)cpu->threads * OWN_ROWS) * columns * (int64_t)sizeof(float),
                    &scratch));
    float *shared = scratch;
    out->weight = n->weight.data ? cpu_load(n->weight, 0, 0, columns, shared) : NULL;
    out->bias = n->bias.data ? cpu_load(n->bias, 0, 0, columns, shared + columns) : NULL;
    out->own = shared + SHARED_ROWS * columns;
    out->columns = columns;
    return OK;
}

static float *own_row(const struct norm_rooms *r, int which) {
    return r->own + ((int64_t)omp_get_thread_num() * OWN_ROWS + which) * r->columns;
}

static void norm_row(const struct norm *n, const struct norm_rooms *r, int64_t i) {
    int64_t columns = n->x.columns;
    const float *restrict x = cpu_load(n->x, i, 0, columns, own_row(r, 0));
    float *restrict y = cpu_place(n->y, i, 0, own_row(r, 1));
    const float *restrict weight = r->weight;
    const float *restrict bias = r->bias;
    float offset = (float)n->weight_offset;
    float mean = n->kind == NORM_LAYER ? row_mean(x, columns) : 0.0f;
    float scale = 1.0f / sqrtf(row_mean_square(x, mean, columns) + (float)n->epsilon);
    for (int64_t j = 0; j < columns; j++) {
        y[j] = (x[j] - mean) * scale;
    }
    if (weight) {
        for (int64_t j = 0; j < columns; j++) {
            y[j] *= weight[j] + offset;
        }
    }
    if (bias) {
        for (int64_t j = 0; j < columns; j++) {
            y[j] += bias[j];
        }
    }
    cpu_store(n->y, i, 0, columns, y);
    float *statistics = cpu_row(n->statistics, i);
    statistics[0] = mean;
    statistics[1] = scale;
}

enum status CPU_OPERATION(norm)(struct backend *b, const struct norm *n) {
    struct norm_rooms rooms;
    TRY(rooms_open(cpu_of(b), n, &rooms));
#pragma omp parallel for num_threads(cpu_of(b)->threads) if (n->x.rows * n->x.columns > CPU_PARALLEL_ELEMENTS)
    for (int64_t i = 0; i < n->x.rows; i++) {
        norm_row(n, &rooms, i);
    }
    return OK;
}

static void norm_gradient_row(const struct norm *n, const struct norm_rooms *r, const struct norm_gradient *g,
                              int64_t i) {
    int64_t columns = n->x.columns;
    const float *restrict x = cpu_load(n->x, i, 0, columns, own_row(r, 0));
    const float *restrict dy = cpu_load(g->dy, i, 0, columns, own_row(r, 1));
    float *restrict dx = cpu_load(g->dx, i, 0, columns, own_row(r, 2));
    const float *restrict weight = r->weight;
    float offset = (float)n->weight_offset;
    float mean = cpu_row(n->statistics, i)[0];
    float scale = cpu_row(n->statistics, i)[1];
    float sum_u = 0.0f;
    float sum_ux = 0.0f;
    if (weight) {
#pragma omp simd reduction(+ : sum_u, sum_ux)
        for (int64_t j = 0; j < columns; j++) {
            float u = dy[j] * (weight[j] + offset);
            sum_u += u;
            sum_ux += u * (x[j] - mean) * scale;
        }
    } else {
#pragma omp simd reduction(+ : sum_u, sum_ux)
        for (int64_t j = 0; j < columns; j++) {
            sum_u += dy[j];
            sum_ux += dy[j] * (x[j] - mean) * scale;
        }
    }
    float mean_u = n->kind == NORM_LAYER ? sum_u / (float)columns : 0.0f;
    float mean_ux = sum_ux / (float)columns;
    for (int64_t j = 0; j < columns; j++) {
        float u = weight ? dy[j] * (weight[j] + offset) : dy[j];
        dx[j] += scale * (u - mean_u - (x[j] - mean) * scale * mean_ux);
    }
    cpu_store(g->dx, i, 0, columns, dx);
}

/* dweight and dbias in one strip of columns, over all rows in order. */
static void norm_gradient_strip(const struct norm *n, const struct norm_gradient *g, int64_t first) {
    int64_t width = n->x.columns - first < CPU_STRIP ? n->x.columns - first : CPU_STRIP;
    double weights[CPU_STRIP] = {0};
    double biases[CPU_STRIP] = {0};
    float room[2][CPU_STRIP];
    for (int64_t i = 0; i < n->x.rows; i++) {
        const float *x = cpu_load(n->x, i, first, width, room[0]);
        const float *dy = cpu_load(g->dy, i, first, width, room[1]);
        float mean = cpu_row(n->statistics, i)[0];
        float scale = cpu_row(n->statistics, i)[1];
        for (int64_t j = 0; j < width; j++) {
            weights[j] += (double)(dy[j] * ((x[j] - mean) * scale));
            biases[j] += (double)dy[j];
        }
    }
    float *dweight = g->dweight.data;
    float *dbias = g->dbias.data;
    for (int64_t j = 0; j < width && dweight; j++) {
        dweight[first + j] += (float)weights[j];
    }
    for (int64_t j = 0; j < width && dbias; j++) {
        dbias[first + j] += (float)biases[j];
    }
}

enum status CPU_OPERATION(norm_gradient)(struct backend *b, const struct norm_backward *call) {
    const struct norm *n = &call->norm;
    const struct norm_gradient *g = &call->gradient;
    bool is_large = n->x.rows * n->x.columns > CPU_PARALLEL_ELEMENTS;
    struct norm_rooms rooms;
    TRY(rooms_open(cpu_of(b), n, &rooms));
#pragma omp parallel for num_threads(cpu_of(b)->threads) if (is_large)
    for (int64_t i = 0; i < n->x.rows; i++) {
        norm_gradient_row(n, &rooms, g, i);
    }
    if (g->dweight.data || g->dbias.data) {
#pragma omp parallel for num_threads(cpu_of(b)->threads) if (is_large)
        for (int64_t first = 0; first < n->x.columns; first += CPU_STRIP) {
            norm_gradient_strip(n, g, first);
        }
    }
    return OK;
}
