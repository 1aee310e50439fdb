/* Matrix products.
 *
 * C is cut into tiles whose size depends on the shape alone; each tile is one single-threaded OpenBLAS call
 * inside a parallel loop. So an element of C is computed by the same instructions whatever the thread count,
 * which the library's own threading does not promise.
 */
#include "backend/cpu_internal.h"

#include <cblas.h>
#include <limits.h>

static void add_bias(const struct product *p, int64_t row0, int64_t rows, int64_t column0, int64_t columns) {
    for (int64_t i = 0; i < rows; i++) {
        float *c = p->c + (row0 + i) * p->ldc + column0;
        const float *bias = p->bias + column0;
        for (int64_t j = 0; j < columns; j++) {
            c[j] += bias[j];
        }
    }
}

/* One block of C: rows [i, i + m), columns [j, j + n). */
static void block(const struct product *p, int64_t i, int64_t m, int64_t j, int64_t n) {
    const float *a = p->a + (p->transpose_a ? i : i * p->lda);
    const float *b = p->b + (p->transpose_b ? j * p->ldb : j);
    if (p->k == 0) {
        for (int64_t r = 0; r < m && p->beta == 0.0f; r++) {
            for (int64_t s = 0; s < n; s++) {
                p->c[(i + r) * p->ldc + j + s] = 0.0f;
            }
        }
    } else {
        cblas_sgemm(CblasRowMajor, p->transpose_a ? CblasTrans : CblasNoTrans,
                    p->transpose_b ? CblasTrans : CblasNoTrans, (int)m, (int)n, (int)p->k, p->alpha, a,
                    (int)p->lda, b, (int)p->ldb, p->beta, p->c + i * p->ldc + j, (int)p->ldc);
    }
    if (p->bias) {
        add_bias(p, i, m, j, n);
    }
}

void cpu_product_serial(const struct product *p) {
    block(p, 0, p->m, 0, p->n);
}

/* A side of n cut into equal pieces of at most `most`. */
static int64_t piece(int64_t n, int64_t most) {
    int64_t pieces = (n + most - 1) / most;
    return (n + pieces - 1) / pieces;
}

/* Tiles of C: large enough to pay for packing, small enough to share out. A function of the shape alone. */
static void choose_tile(const struct product *p, int64_t *tile_m, int64_t *tile_n) {
    enum { LARGEST = 512, SMALLEST = 64, WANTED = 16 };
    *tile_m = piece(p->m, LARGEST);
    *tile_n = piece(p->n, LARGEST);
    while ((p->m / *tile_m) * (p->n / *tile_n) < WANTED && (*tile_m > SMALLEST || *tile_n > SMALLEST)) {
        int64_t *longer = *tile_m >= *tile_n ? tile_m : tile_n;
        *longer = (*longer + 1) / 2;
    }
}

enum status cpu_product(struct cpu *cpu, const struct product *p) {
    if (p->k > INT_MAX || p->lda > INT_MAX || p->ldb > INT_MAX || p->ldc > INT_MAX) {
        return fail(ERR_INTERNAL, "product: a side of %lld or a stride of %lld, %lld, %lld is over 2^31",
                    (long long)p->k, (long long)p->lda, (long long)p->ldb, (long long)p->ldc);
    }
    int64_t tile_m = 0;
    int64_t tile_n = 0;
    choose_tile(p, &tile_m, &tile_n);
    int64_t tiles_m = (p->m + tile_m - 1) / tile_m;
    int64_t tiles_n = (p->n + tile_n - 1) / tile_n;
#pragma omp parallel for num_threads(cpu->threads) schedule(dynamic, 1) if (tiles_m * tiles_n > 1)
    for (int64_t tile = 0; tile < tiles_m * tiles_n; tile++) {
        int64_t i = tile % tiles_m * tile_m;
        int64_t j = tile / tiles_m * tile_n;
        block(p, i, i + tile_m < p->m ? tile_m : p->m - i, j, j + tile_n < p->n ? tile_n : p->n - j);
    }
    return OK;
}

enum status cpu_gemm(struct backend *b, const struct gemm *g) {
    struct product p = {
        .m = g->c.rows,
        .n = g->c.columns,
        .k = g->transpose_a ? g->a.rows : g->a.columns,
        .transpose_a = g->transpose_a,
        .transpose_b = g->transpose_b,
        .alpha = (float)g->alpha,
        .beta = (float)g->beta,
        .a = g->a.data,
        .b = g->b.data,
        .c = g->c.data,
        .lda = g->a.stride,
        .ldb = g->b.stride,
        .ldc = g->c.stride,
        .bias = g->bias.data,
    };
    return cpu_product(cpu_of(b), &p);
}
