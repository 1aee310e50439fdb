/* The kernel of AVX512-BF16. Sums of a panel of A (14 rows) by one of B (32 columns) stay in registers: 28
 * vectors, two of B, one broadcast pair of A, and so many independent chains hide the instruction's latency.
 *
 * The tests compile this file a second time, on intrinsics in plain C (DOT_INTRINSICS names their header).
 */
#include "backend/cpu/dot_kernel.h"

#if defined(DOT_INTRINSICS)
#include DOT_INTRINSICS
#elif defined(__AVX512BF16__)
#include <immintrin.h>
#endif

#if defined(DOT_INTRINSICS) || defined(__AVX512BF16__)
enum { ROWS = 14, HALF = DOT_COLUMNS / 2 };

static inline __attribute__((always_inline)) void multiply_rows(const int rows, int64_t pairs,
                                                                const uint16_t *restrict a,
                                                                const uint16_t *restrict b,
                                                                float *restrict sums) {
    __m512 c[ROWS][2];
#pragma GCC unroll 16
    for (int i = 0; i < rows; i++) {
        c[i][0] = c[i][1] = _mm512_setzero_ps();
    }
    for (int64_t k = 0; k < pairs; k++) {
        const uint16_t *line = b + 2 * DOT_COLUMNS * k;
        __m512bh b0 = (__m512bh)_mm512_loadu_si512(line);
        __m512bh b1 = (__m512bh)_mm512_loadu_si512(line + 2 * HALF);
#pragma GCC unroll 16
        for (int i = 0; i < rows; i++) {
            int32_t pair;
            __builtin_memcpy(&pair, a + 2 * (ROWS * k + i), sizeof pair);
            __m512bh x = (__m512bh)_mm512_set1_epi32(pair);
            c[i][0] = _mm512_dpbf16_ps(c[i][0], x, b0);
            c[i][1] = _mm512_dpbf16_ps(c[i][1], x, b1);
        }
    }
#pragma GCC unroll 16
    for (int i = 0; i < rows; i++) {
        _mm512_storeu_ps(sums + i * DOT_COLUMNS, c[i][0]);
        _mm512_storeu_ps(sums + i * DOT_COLUMNS + HALF, c[i][1]);
    }
}

/* A row is the same chain of operations in each. */
static void multiply(int64_t rows, int64_t pairs, const uint16_t *a, const uint16_t *b, float *sums) {
    if (rows == 1) {
        multiply_rows(1, pairs, a, b, sums);
    } else if (rows == 2) {
        multiply_rows(2, pairs, a, b, sums);
    } else if (rows <= 4) {
        multiply_rows(4, pairs, a, b, sums);
    } else if (rows <= 8) {
        multiply_rows(8, pairs, a, b, sums);
    } else {
        multiply_rows(ROWS, pairs, a, b, sums);
    }
}

const struct dot_kernel *dot_avx512(void) {
    static const struct dot_kernel kernel = {.name = PRODUCTS_AVX512,
                                             .words = "AVX512-BF16",
                                             .rows = ROWS,
                                             .group = 1,
                                             .depth = 512, /* of B 32 KiB */
                                             .multiply = multiply};
    return &kernel;
}
#else
const struct dot_kernel *dot_avx512(void) {
    return NULL;
}
#endif
