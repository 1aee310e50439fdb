/* The directions in which centers differ most, and shadows on them (kmeans_filter.h). */
#include <math.h>
#include <string.h>

#include "select/kmeans_filter.h"
#include "util/mem.h"
#include "util/rng.h"

/* Subspace iterations: from nothing, and from the directions before. */
enum { FIRST_ROUNDS = 3, ROUNDS = 1 };

static enum status multiply(struct backend *b, struct tensor x, struct tensor y, bool transpose_y,
                            struct tensor out) {
    const struct gemm g = {.a = x, .b = y, .c = out, .transpose_b = transpose_y, .alpha = 1};
    TRY(backend_gemm(b, &g));
    return backend_sync(b);
}

static double dot(const double *a, const double *b, int64_t n) {
    double sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t i = 0; i < n; i++) {
        sum += a[i] * b[i];
    }
    return sum;
}

/* Gram and Schmidt, twice each. A row that hardly leaves those before it, or is not finite, becomes zero. */
static void orthonormalize(double *v, int64_t rows, int64_t width) {
    for (int64_t i = 0; i < rows; i++) {
        double *row = v + i * width;
        double before = sqrt(dot(row, row, width));
        for (int64_t j = 0; j < 2 * i; j++) {
            const double *other = v + j % i * width;
            double along = dot(row, other, width);
            for (int64_t d = 0; d < width; d++) {
                row[d] -= along * other[d];
            }
        }
        double norm = sqrt(dot(row, row, width));
        bool is_new = isfinite(before) && norm > 1e-6 * before && norm > 0;
        for (int64_t d = 0; d < width; d++) {
            row[d] = is_new ? row[d] / norm : 0;
        }
    }
}

/* |V'V - I| of the directions as they are in fp32, rows of zeros aside (Frobenius). */
static double skew(const float *v, int64_t rows, int64_t width) {
    double sum = 0;
    for (int64_t i = 0; i < rows; i++) {
        for (int64_t j = 0; j <= i; j++) {
            double product = 0;
            for (int64_t d = 0; d < width; d++) {
                product += (double)v[i * width + d] * v[j * width + d];
            }
            double off = i == j && product != 0 ? product - 1 : product;
            sum += (i == j ? 1 : 2) * off * off;
        }
    }
    return sqrt(sum);
}

static void shift(const struct filter *f, const float *x, int64_t width, float *out) {
    for (int64_t d = 0; d < width; d++) {
        out[d] = x[d] - f->mean[d];
    }
}

static void set_mean(const struct lloyd *l) {
    for (int64_t d = 0; d < l->width; d++) {
        double sum = 0;
        for (int64_t c = 0; c < l->clusters; c++) {
            sum += l->centers[c * l->width + d];
        }
        l->filter->mean[d] = (float)(sum / (double)l->clusters);
    }
}

/* One round: V of C'C V, with the centers less their mean in f->shifted. */
static enum status turn(struct lloyd *l, double *work) {
    struct filter *f = l->filter;
    int64_t values = f->directions * l->width;
    struct tensor basis = tensor_at(f->basis_memory, f->directions, l->width, DTYPE_F32);
    struct tensor centers = tensor_at(f->shifted_memory, l->clusters, l->width, DTYPE_F32);
    struct tensor along = tensor_at(f->product_memory, f->directions, l->clusters, DTYPE_F32);
    TRY(multiply(l->backend, basis, centers, true, along));
    TRY(multiply(l->backend, along, centers, false, basis));
    for (int64_t i = 0; i < values; i++) {
        work[i] = f->basis[i];
    }
    orthonormalize(work, f->directions, l->width);
    for (int64_t i = 0; i < values; i++) {
        f->basis[i] = (float)work[i];
    }
    return OK;
}

enum status basis_renew(struct lloyd *l) {
    struct filter *f = l->filter;
    int64_t values = f->directions * l->width;
    int rounds = f->renewed == 0 ? FIRST_ROUNDS : ROUNDS;
    double *work;
    TRY(NEW_ARRAY(work, values));
    set_mean(l);
    for (int64_t c = 0; c < l->clusters; c++) {
        shift(f, l->centers + c * l->width, l->width, f->shifted + c * l->width);
    }
    struct rng draws = rng_stream(0, RNG_SELECT, -3, 0);
    for (int64_t i = 0; i < values && f->renewed == 0; i++) {
        f->basis[i] = (float)rng_uniform(&draws) - 0.5F;
    }
    enum status st = OK;
    for (int i = 0; i < rounds && st == OK; i++) {
        st = turn(l, work);
    }
    mem_free(work);
    TRY(st);
    double off = skew(f->basis, f->directions, l->width);
    if (!(off < 1e-2)) { /* no directions are right as well */
        memset(f->basis, 0, (size_t)values * sizeof *f->basis);
        off = 0;
    }
    f->error = (float)(1.01 * (sqrt((double)f->directions) * l->error + off) + 1e-6);
    f->renewed++;
    return OK;
}

enum status basis_project(struct lloyd *l, const float *x, const int32_t *place, int64_t n, void *device,
                          float *out) {
    struct filter *f = l->filter;
#pragma omp parallel for schedule(static)
    for (int64_t k = 0; k < n; k++) {
        shift(f, x + (place ? place[k] : k) * l->width, l->width, f->shifted + k * l->width);
    }
    struct tensor to = tensor_at(device, n, f->directions, DTYPE_F32);
    to.stride = f->stride;
    TRY(multiply(l->backend, tensor_at(f->shifted_memory, n, l->width, DTYPE_F32),
                 tensor_at(f->basis_memory, f->directions, l->width, DTYPE_F32), true, to));
#pragma omp parallel for schedule(static)
    for (int64_t k = 0; k < n; k++) {
        const float *y = f->shifted + k * l->width;
        float *shadow = out + k * f->stride;
        double norm = 0;
        double inside = 0;
#pragma omp simd reduction(+ : norm)
        for (int64_t d = 0; d < l->width; d++) {
            norm += (double)y[d] * y[d];
        }
        for (int64_t d = 0; d < f->directions; d++) {
            inside += (double)shadow[d] * shadow[d];
        }
        float tail = (float)sqrt(norm > inside ? norm - inside : 0);
        shadow[f->directions] = tail;
        shadow[f->depth] = (float)(inside + (double)tail * tail);
    }
    return OK;
}

float shadow_error(const struct filter *f, const float *shadow) {
    float tail = shadow[f->directions];
    float size = sqrtf(shadow[f->depth]) * (1 + f->error);
    float of_square = (2 * f->error + f->error * f->error + 1e-6F) * size * size;
    float of_tail = tail * tail > of_square ? of_square / tail : sqrtf(of_square);
    return 1.0001F * (f->error * size + of_tail + 1e-6F * size);
}
