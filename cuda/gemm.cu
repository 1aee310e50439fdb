/* Products by cuBLAS with fp32 accumulation, and the bias.
 *
 * cuBLAS counts by columns: a row-major matrix is the transpose of what it sees at the same address. So
 * C = op(A) op(B) is asked for as C^T = op(B)^T op(A)^T, operands swapped and their flags kept. fp32 products
 * stay fp32 (no TF32). With one stream per handle cuBLAS repeats its bits.
 */
#include <cublas_v2.h>

#include "cuda/device.cuh"

static enum status blas_failed(const struct cuda *c, const char *what, cublasStatus_t status) {
    return cuda_fail(c, ERR_SYSTEM, "cuda: %s: %s", what, cublasGetStatusString(status));
}
#define BLAS_TRY(c, what, call)                       \
    do {                                              \
        cublasStatus_t status_ = (call);              \
        if (status_ != CUBLAS_STATUS_SUCCESS) {       \
            return blas_failed((c), (what), status_); \
        }                                             \
    } while (0)

enum status cuda_blas_open(struct cuda *c) {
    BLAS_TRY(c, "cublasCreate", cublasCreate(&c->blas));
    BLAS_TRY(c, "cublasSetStream", cublasSetStream(c->blas, c->stream));
    BLAS_TRY(c, "cublasSetMathMode",
             cublasSetMathMode(c->blas,
                               static_cast<cublasMath_t>(CUBLAS_DEFAULT_MATH |
                                                         CUBLAS_MATH_DISALLOW_REDUCED_PRECISION_REDUCTION)));
    return OK;
}

void cuda_blas_close(struct cuda *c) {
    if (c->blas) {
        (void)cublasDestroy(c->blas);
    }
}

static cudaDataType_t blas_type(enum dtype type) {
    return type == DTYPE_BF16 ? CUDA_R_16BF : CUDA_R_32F;
}

/* One row's stride may be anything; cuBLAS wants a leading dimension that a row fits in. */
static int64_t leading(struct tensor t) {
    int64_t least = t.columns > 1 ? t.columns : 1;
    return t.stride > least ? t.stride : least;
}

template <typename T> __global__ void clear_rows(view<T> c, int64_t rows, int64_t columns) {
    FOR_EACH_ELEMENT(i, j, rows, columns) {
        put(c.row(i) + j, 0.0f);
    }
}

/* An empty sum: C is 0, or stays. */
static enum status empty_product(struct cuda *c, const struct gemm *g) {
    if (g->beta != 0.0) {
        return OK;
    }
    dim3 grid = grid_over(g->c.rows, g->c.columns);
    if (g->c.type == DTYPE_BF16) {
        LAUNCH(clear_rows, grid, THREADS, 0, c->stream, view_of<bf16>(g->c), g->c.rows, g->c.columns);
    } else {
        LAUNCH(clear_rows, grid, THREADS, 0, c->stream, view_of<float>(g->c), g->c.rows, g->c.columns);
    }
    return cuda_launched(c, "gemm");
}

enum status cuda_product(struct cuda *c, const struct gemm *g) {
    int64_t k = g->transpose_a ? g->a.rows : g->a.columns;
    float alpha = static_cast<float>(g->alpha);
    float beta = static_cast<float>(g->beta);
    if (k == 0) {
        return empty_product(c, g);
    }
    BLAS_TRY(c, "cublasGemmEx",
             cublasGemmEx_64(c->blas, g->transpose_b ? CUBLAS_OP_T : CUBLAS_OP_N,
                             g->transpose_a ? CUBLAS_OP_T : CUBLAS_OP_N, g->c.columns, g->c.rows, k, &alpha,
                             g->b.data, blas_type(g->b.type), leading(g->b), g->a.data, blas_type(g->a.type),
                             leading(g->a), &beta, g->c.data, blas_type(g->c.type), leading(g->c),
                             CUBLAS_COMPUTE_32F, CUBLAS_GEMM_DEFAULT));
    return OK;
}

template <typename C, typename T>
__global__ void add_bias(view<C> c, const T *bias, int64_t rows, int64_t columns) {
    FOR_EACH_ELEMENT(i, j, rows, columns) {
        C *at = c.row(i) + j;
        put(at, value_of(*at) + value_of(bias[j]));
    }
}

enum status cuda_gemm(struct backend *b, const struct gemm *g) {
    struct cuda *c = cuda_of(b);
    TRY(cuda_product(c, g));
    if (!g->bias.data) {
        return OK;
    }
    dim3 grid = grid_over(g->c.rows, g->c.columns);
    int64_t rows = g->c.rows;
    int64_t columns = g->c.columns;
    const void *bias = g->bias.data;
    if (g->bias.type == DTYPE_F32) {
        LAUNCH(add_bias, grid, THREADS, 0, c->stream, view_of<float>(g->c), static_cast<const float *>(bias),
               rows, columns);
    } else if (g->c.type == DTYPE_F32) {
        LAUNCH(add_bias, grid, THREADS, 0, c->stream, view_of<float>(g->c), static_cast<const bf16 *>(bias),
               rows, columns);
    } else {
        LAUNCH(add_bias, grid, THREADS, 0, c->stream, view_of<bf16>(g->c), static_cast<const bf16 *>(bias),
               rows, columns);
    }
    return cuda_launched(c, "gemm");
}
