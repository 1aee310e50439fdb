#include "encoder/dense.h"

#include <cblas.h>
#include <omp.h>

void dense_multiply(const struct dense_product *p) {
    if (p->m == 0 || p->n == 0) {
        return;
    }
    if (p->k == 0) { /* the library may leave C as it is */
        for (int64_t i = 0; i < p->m; i++) {
            for (int64_t j = 0; j < p->n; j++) {
                p->c[i * p->ldc + j] *= p->beta;
            }
        }
        return;
    }
    cblas_dgemm(CblasRowMajor, p->transpose_a ? CblasTrans : CblasNoTrans,
                p->transpose_b ? CblasTrans : CblasNoTrans, (blasint)p->m, (blasint)p->n, (blasint)p->k, 1.0,
                p->a, (blasint)p->lda, p->b, (blasint)p->ldb, p->beta, p->c, (blasint)p->ldc);
}

void dense_set_threads(int threads) {
    omp_set_num_threads(threads);
}
