/* A product as cuBLASLt means it: column-major,
 * D = epilogue(alpha op(A) op(B) + beta C), op(A) m x k, op(B) k x n, sums in fp32. */
#ifndef CUDA_EMULATION_BLAS_H
#define CUDA_EMULATION_BLAS_H

#include <cublasLt.h>

namespace emulation {

struct matrix {
    const void *data;
    cudaDataType_t type;
    int64_t ld;
};
struct product {
    int64_t m, n, k;
    bool transpose_a, transpose_b;
    float alpha, beta;
    matrix a, b, c, d;
    cublasComputeType_t compute;
    matrix bias; /* m values, added to every column; data NULL: none */
    bool gelu;   /* D = gelu(x), tanh form; x itself goes to aux where that is given */
    matrix aux;
};
/* The types go together, every operand lies on the device and its leading dimension is long enough. */
cublasStatus_t check(const product &p);
/* In the order of the stream. */
cublasStatus_t enqueue_product(const product &p, cudaStream_t stream);

} // namespace emulation

#endif
