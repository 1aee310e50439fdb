/* Products: plain loops with fp32 sums, operands widened exactly from bf16 (or rounded to TF32's 10 bits). */
#include <vector>

#include "blas.h"
#include "emulation.h"

namespace emulation {

static size_t size_of(cudaDataType_t type) {
    return type == CUDA_R_16BF ? 2 : 4;
}

static float load(const matrix &x, int64_t at) {
    if (x.type == CUDA_R_16BF) {
        return __uint_as_float(static_cast<unsigned>(static_cast<const uint16_t *>(x.data)[at]) << 16);
    }
    return static_cast<const float *>(x.data)[at];
}

/* bf16 to nearest, ties to even. */
static void store(const matrix &x, int64_t at, float value) {
    void *data = const_cast<void *>(x.data);
    if (x.type == CUDA_R_32F) {
        static_cast<float *>(data)[at] = value;
        return;
    }
    unsigned bits = __float_as_uint(value);
    unsigned rounded = (bits + 0x7fffu + (bits >> 16 & 1u)) >> 16;
    static_cast<uint16_t *>(data)[at] =
        static_cast<uint16_t>(std::isnan(value) ? (bits >> 16 | 0x40u) : rounded);
}

static float to_tf32(float x) {
    unsigned bits = __float_as_uint(x);
    return std::isfinite(x) ? __uint_as_float((bits + 0xfffu + (bits >> 13 & 1u)) & ~0x1fffu) : x;
}

/* op(x), rows x columns, dense and column-major. */
static std::vector<float> pack(const matrix &x, bool transpose, int64_t rows, int64_t columns, bool tf32) {
    std::vector<float> out(static_cast<size_t>(rows * columns));
    for (int64_t j = 0; j < columns; j++) {
        for (int64_t i = 0; i < rows; i++) {
            float value = load(x, transpose ? i * x.ld + j : j * x.ld + i);
            out[static_cast<size_t>(j * rows + i)] = tf32 ? to_tf32(value) : value;
        }
    }
    return out;
}

/* sums (m x 4) of four columns of op(B) at a time: every value of op(A) is used four times. */
enum { COLUMNS = 4 };
static void multiply(float *__restrict sums, const float *__restrict a, const float *const b[COLUMNS],
                     int64_t m, int64_t k) {
    for (int64_t l = 0; l < k; l++) {
        const float *x = a + l * m;
        for (int64_t i = 0; i < m; i++) {
            sums[i] += x[i] * b[0][l];
            sums[m + i] += x[i] * b[1][l];
            sums[2 * m + i] += x[i] * b[2][l];
            sums[3 * m + i] += x[i] * b[3][l];
        }
    }
}

/* tanh form (Hendrycks, Gimpel 2016). */
static float gelu_of(float x) {
    return 0.5f * x * (1.0f + tanhf(0.79788456080286536f * (x + 0.044715f * x * x * x)));
}

static void finish_column(const product &p, int64_t j, const float *sums) {
    for (int64_t i = 0; i < p.m; i++) {
        float x = p.alpha == 0.0f ? 0.0f : p.alpha * sums[i];
        x += p.beta == 0.0f ? 0.0f : p.beta * load(p.c, j * p.c.ld + i);
        x += p.bias.data ? load(p.bias, i) : 0.0f;
        if (p.aux.data) {
            store(p.aux, j * p.aux.ld + i, x);
        }
        store(p.d, j * p.d.ld + i, p.gelu ? gelu_of(x) : x);
    }
}

static void run(const product &p) {
    bool tf32 = p.compute == CUBLAS_COMPUTE_32F_FAST_TF32 && p.a.type == CUDA_R_32F;
    std::vector<float> a = pack(p.a, p.transpose_a, p.m, p.k, tf32);
    std::vector<float> b = pack(p.b, p.transpose_b, p.k, p.n, tf32);
    std::vector<float> sums(static_cast<size_t>(COLUMNS * p.m));
    for (int64_t j = 0; j < p.n; j += COLUMNS) {
        const float *columns[COLUMNS];
        for (int64_t c = 0; c < COLUMNS; c++) {
            columns[c] = b.data() + std::min(j + c, p.n - 1) * p.k;
        }
        std::fill(sums.begin(), sums.end(), 0.0f);
        multiply(sums.data(), a.data(), columns, p.m, p.k);
        for (int64_t c = 0; c < COLUMNS && j + c < p.n; c++) {
            finish_column(p, j + c, sums.data() + c * p.m);
        }
    }
}

static bool fits(const matrix &x, int64_t rows, int64_t columns) {
    if (x.ld < std::max<int64_t>(rows, 1)) {
        return false;
    }
    int64_t values = rows == 0 || columns == 0 ? 0 : (columns - 1) * x.ld + rows;
    return is_device(x.data, static_cast<size_t>(values) * size_of(x.type));
}

cublasStatus_t check(const product &p) {
    bool types_fit = p.a.type == p.b.type && (p.a.type == CUDA_R_32F || p.a.type == CUDA_R_16BF) &&
                     (p.d.type == CUDA_R_32F || p.d.type == p.a.type) && p.c.type == p.d.type &&
                     (!p.bias.data || p.bias.type == p.d.type);
    if (!types_fit) {
        return CUBLAS_STATUS_NOT_SUPPORTED;
    }
    bool is_right =
        p.m >= 0 && p.n >= 0 && p.k >= 0 && fits(p.a, p.transpose_a ? p.k : p.m, p.transpose_a ? p.m : p.k) &&
        fits(p.b, p.transpose_b ? p.n : p.k, p.transpose_b ? p.k : p.n) && fits(p.d, p.m, p.n) &&
        (p.beta == 0.0f || fits(p.c, p.m, p.n)) &&
        (!p.bias.data || is_device(p.bias.data, static_cast<size_t>(p.m) * size_of(p.bias.type))) &&
        (!p.aux.data || fits(p.aux, p.m, p.n));
    return is_right ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_INVALID_VALUE;
}

cublasStatus_t enqueue_product(const product &p, cudaStream_t stream) {
    guard in(lock());
    cublasStatus_t status = check(p);
    if (status == CUBLAS_STATUS_SUCCESS && p.m > 0 && p.n > 0) {
        enqueue(stream, [p] { run(p); });
    }
    return status;
}

} // namespace emulation
