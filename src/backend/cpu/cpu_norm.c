/* RMSNorm and LayerNorm, one row at a time.
 *
 * With s = 1 / sqrt(mean((x - m)^2) + epsilon) (m = 0 for RMS), xhat = (x - m) s, u = dy * (weight + offset):
 *     dx = s (u - mean(u) [layer norm only] - xhat mean(u xhat))
 *     dweight = sum over rows of dy xhat, dbias = sum over rows of dy
 * Ba et al. 2016; Zhang and Sennrich 2019.
 */
#include "backend/cpu/cpu_internal.h"

#include <math.h>

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

static void norm_row(const struct norm *n, int64_t i) {
    int64_t columns = n->x.columns;
    const float *restrict x = cpu_row(n->x, i);
    float *restrict y = cpu_row(n->y, i);
    const float *restrict weight = n->weight.data;
    const float *restrict bias = n->bias.data;
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
    float *statistics = cpu_row(n->statistics, i);
    statistics[0] = mean;
    statistics[1] = scale;
}

enum status CPU_OPERATION(norm)(struct backend *b, const struct norm *n) {
#pragma omp parallel for num_threads(cpu_of(b)->threads) if (n->x.rows * n->x.columns > CPU_PARALLEL_ELEMENTS)
    for (int64_t i = 0; i < n->x.rows; i++) {
        norm_row(n, i);
    }
    return OK;
}

static void norm_gradient_row(const struct norm *n, const struct norm_gradient *g, int64_t i) {
    int64_t columns = n->x.columns;
    const float *restrict x = cpu_row(n->x, i);
    const float *restrict dy = cpu_row(g->dy, i);
    float *restrict dx = cpu_row(g->dx, i);
    const float *restrict weight = n->weight.data;
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
}

/* dweight and dbias in one strip of columns, over all rows in order. */
static void norm_gradient_strip(const struct norm *n, const struct norm_gradient *g, int64_t first) {
    int64_t width = n->x.columns - first < CPU_STRIP ? n->x.columns - first : CPU_STRIP;
    double weights[CPU_STRIP] = {0};
    double biases[CPU_STRIP] = {0};
    for (int64_t i = 0; i < n->x.rows; i++) {
        const float *x = cpu_row(n->x, i) + first;
        const float *dy = cpu_row(g->dy, i) + first;
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
#pragma omp parallel for num_threads(cpu_of(b)->threads) if (is_large)
    for (int64_t i = 0; i < n->x.rows; i++) {
        norm_gradient_row(n, g, i);
    }
    if (g->dweight.data || g->dbias.data) {
#pragma omp parallel for num_threads(cpu_of(b)->threads) if (is_large)
        for (int64_t first = 0; first < n->x.columns; first += CPU_STRIP) {
            norm_gradient_strip(n, g, first);
        }
    }
    return OK;
}
