/* Products of matrices in host memory, in double, for networks that are too small for a device and whose
 * gradients are to be checked to many digits. OpenBLAS on this process's OpenMP threads; the bits may depend
 * on the thread count. Row-major, leading dimensions in elements. Cannot fail. Local.
 */
#ifndef COLLIMATE_ENCODER_DENSE_H
#define COLLIMATE_ENCODER_DENSE_H

#include <stdbool.h>
#include <stdint.h>

/* C (m x n) = op(A) op(B) + beta * C, with op(A) m x k and op(B) k x n. Sizes fit an int. A size of zero is
 * fine. */
struct dense_product {
    bool transpose_a, transpose_b;
    int64_t m, n, k;
    const double *a, *b;
    int64_t lda, ldb;
    double beta;
    double *c;
    int64_t ldc;
};
void dense_multiply(const struct dense_product *p);

/* OpenMP threads of this process from here on. */
void dense_set_threads(int threads);

#endif
