/* The intrinsics of dot_avx512.c and dot_amx.c in plain C, after the operations in Intel's SDM (volume 2:
 * VDPBF16PS, TDPBF16PS, LDTILECFG, TILELOADD, TILESTORED), so that the kernels run where their instructions
 * are not.
 *
 * Arithmetic: fp32, each multiplication and addition fused, rounded to nearest even; operands that are
 * denormal and results that are become zeros of their sign. What an instruction would refuse (no
 * configuration, tiles whose shapes do not fit) ends the program.
 */
#ifndef COLLIMATE_TESTS_DOT_INTRINSICS_H
#define COLLIMATE_TESTS_DOT_INTRINSICS_H

#include <float.h>
#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "util/level.h"

static inline float emulated_flush(float x) {
    return fabsf(x) < FLT_MIN ? copysignf(0.0f, x) : x;
}

static inline float emulated_value(uint16_t bf16) {
    uint32_t bits = (uint32_t)bf16 << 16;
    float value;
    memcpy(&value, &bits, sizeof value);
    return emulated_flush(value);
}

/* x y + c, rounded once. */
static inline float emulated_fma(float x, float y, float c) {
    return emulated_flush(fmaf(x, y, c));
}

/* The same of 8 at once. The product of two bf16 has 16 bits, so that it is exact in fp32, and a sum of it
 * is as good as a fused one, but where it leaves fp32's range. Vectors of 8, for compilers take comparisons
 * of wider ones one by one on AVX2; inlined, since none is passed in a register. */
#pragma GCC diagnostic ignored "-Wpsabi"
#define EMULATED static inline __attribute__((always_inline))
#ifdef __clang__ /* makes no clones of what is not to be inlined */
#define EMULATED_CALL static __attribute__((noinline, unused))
#else
#define EMULATED_CALL BEST_LEVEL static __attribute__((noinline, unused))
#endif
enum { EMULATED_LANES = 8 };
typedef float emulated_floats __attribute__((vector_size(32), may_alias));
typedef int32_t emulated_ints __attribute__((vector_size(32), may_alias));
typedef int64_t emulated_longs __attribute__((vector_size(32), may_alias));

EMULATED emulated_floats emulated_flush_all(emulated_floats x) {
    emulated_ints bits = (emulated_ints)x, is_small = (bits & INT32_MAX) < 0x00800000;
    return (emulated_floats)(bits & ~(is_small & INT32_MAX));
}

/* Those that stand in the even or the odd half of each pair. */
EMULATED emulated_floats emulated_half(const uint32_t pairs[EMULATED_LANES], int odd) {
    emulated_ints from;
    memcpy(&from, pairs, sizeof from);
    return emulated_flush_all((emulated_floats)((from << (odd ? 0 : 16)) & -65536));
}

EMULATED emulated_floats emulated_fma_all(emulated_floats x, emulated_floats y, emulated_floats c) {
    emulated_floats product = x * y;
    emulated_ints size = (emulated_ints)product & INT32_MAX;
    emulated_ints fits = (size >= 0x0d800000) & (size < 0x7f800000); /* from 2^-100 to what is finite */
    emulated_longs odd = (emulated_longs)(~fits & (x != 0.0f) & (y != 0.0f));
    if (!(odd[0] | odd[1] | odd[2] | odd[3])) {
        return emulated_flush_all(product + c);
    }
    for (int i = 0; i < EMULATED_LANES; i++) {
        c[i] = fmaf(x[i], y[i], c[i]);
    }
    return emulated_flush_all(c);
}

/* AVX-512. */
typedef float __m512 __attribute__((vector_size(64), may_alias));
typedef uint32_t __m512bh __attribute__((vector_size(64), may_alias));

EMULATED __m512 _mm512_setzero_ps(void) {
    return (__m512){0};
}

EMULATED __m512bh _mm512_loadu_si512(const void *from) {
    __m512bh out;
    memcpy(&out, from, sizeof out);
    return out;
}

EMULATED __m512bh _mm512_set1_epi32(int32_t pair) {
    return (__m512bh){0} + (uint32_t)pair;
}

EMULATED void _mm512_storeu_ps(void *to, __m512 from) {
    memcpy(to, &from, sizeof from);
}

/* The odd ones first. A call, since kernels have it unrolled in hundreds of places. */
EMULATED_CALL void emulated_pairs_dot(float sum[16], const uint32_t a[16], const uint32_t b[16]) {
    for (int i = 0; i < 16; i += EMULATED_LANES) {
        emulated_floats s;
        memcpy(&s, sum + i, sizeof s);
        s = emulated_flush_all(s);
        for (int odd = 1; odd >= 0; odd--) {
            s = emulated_fma_all(emulated_half(a + i, odd), emulated_half(b + i, odd), s);
        }
        memcpy(sum + i, &s, sizeof s);
    }
}

EMULATED __m512 _mm512_dpbf16_ps(__m512 sum, __m512bh a, __m512bh b) {
    float s[16];
    uint32_t x[16], y[16];
    memcpy(s, &sum, sizeof s);
    memcpy(x, &a, sizeof x);
    memcpy(y, &b, sizeof y);
    emulated_pairs_dot(s, x, y);
    memcpy(&sum, s, sizeof sum);
    return sum;
}

/* AMX: eight tiles of a thread, 16 rows of 64 bytes each at most. */
enum { EMULATED_TILES = 8, EMULATED_ROWS = 16, EMULATED_BYTES = 64 };
struct emulated_tiles {
    int palette;
    int rows[EMULATED_TILES], bytes[EMULATED_TILES];
    union {
        float sums[EMULATED_ROWS][16];
        uint32_t pairs[EMULATED_ROWS][16];
    } tile[EMULATED_TILES];
};
extern _Thread_local struct emulated_tiles emulated_tiles;

/* Threads of a team that hold tiles. */
EMULATED int emulated_configured(int threads) {
    int n = 0;
#pragma omp parallel num_threads(threads) reduction(+ : n)
    n += emulated_tiles.palette != 0;
    return n;
}

static inline void emulated_need(bool holds, const char *what) {
    if (!holds) {
        fprintf(stderr, "emulated AMX: %s\n", what);
        abort();
    }
}

static inline void emulated_configure(const void *configuration) {
    const uint8_t *c = configuration;
    struct emulated_tiles *t = &emulated_tiles;
    emulated_need(c[0] == 1 && c[1] == 0, "palette 1 from row 0");
    memset(t, 0, sizeof *t);
    t->palette = 1;
    for (int i = 2; i < 64; i++) {
        bool is_used = (i >= 16 && i < 16 + 2 * EMULATED_TILES) || (i >= 48 && i < 48 + EMULATED_TILES);
        emulated_need(is_used || c[i] == 0, "reserved bytes are zero");
    }
    for (int i = 0; i < EMULATED_TILES; i++) {
        t->bytes[i] = c[16 + 2 * i] | c[17 + 2 * i] << 8;
        t->rows[i] = c[48 + i];
        emulated_need(t->bytes[i] <= EMULATED_BYTES && t->rows[i] <= EMULATED_ROWS, "a tile's shape");
    }
}

static inline void emulated_release(void) {
    memset(&emulated_tiles, 0, sizeof emulated_tiles);
}

static inline void emulated_tile_zero(int tile) {
    emulated_need(emulated_tiles.palette == 1, "tiles are configured");
    memset(&emulated_tiles.tile[tile], 0, sizeof emulated_tiles.tile[tile]);
}

static inline void emulated_tile_load(int tile, const void *from, int64_t step) {
    struct emulated_tiles *t = &emulated_tiles;
    emulated_tile_zero(tile);
    for (int i = 0; i < t->rows[tile]; i++) {
        memcpy(t->tile[tile].pairs[i], (const char *)from + i * step, (size_t)t->bytes[tile]);
    }
}

static inline void emulated_tile_store(int tile, void *to, int64_t step) {
    struct emulated_tiles *t = &emulated_tiles;
    emulated_need(t->palette == 1, "tiles are configured");
    for (int i = 0; i < t->rows[tile]; i++) {
        memcpy((char *)to + i * step, t->tile[tile].pairs[i], (size_t)t->bytes[tile]);
    }
}

EMULATED_CALL void emulated_tile_dot(int to, int a, int b) {
    struct emulated_tiles *t = &emulated_tiles;
    int pairs = t->bytes[a] / 4, columns = t->bytes[to] / 4;
    emulated_floats y[16][2][2]; /* of even and of odd k, in halves */
    emulated_need(t->palette == 1 && to != a && to != b && a != b, "three tiles");
    emulated_need(t->rows[a] == t->rows[to] && t->bytes[b] == t->bytes[to] && t->rows[b] == pairs,
                  "shapes fit");
    for (int k = 0; k < pairs; k++) {
        for (int i = 0; i < 4; i++) {
            y[k][i / 2][i % 2] = emulated_half(t->tile[b].pairs[k] + i % 2 * EMULATED_LANES, i / 2);
        }
    }
    for (int m = 0; m < t->rows[to]; m++) {
        emulated_floats sums[2][2] = {{{0}}};
        for (int k = 0; k < 2 * pairs; k++) {
            float value = emulated_value((uint16_t)(t->tile[a].pairs[m][k / 2] >> 16 * (k % 2)));
            emulated_floats x = value - (emulated_floats){0};
            for (int i = 0; i < 2; i++) {
                sums[k % 2][i] = emulated_fma_all(x, y[k / 2][k % 2][i], sums[k % 2][i]);
            }
        }
        for (int n = 0; n < columns; n++) {
            float *sum = &t->tile[to].sums[m][n];
            *sum = emulated_flush(emulated_flush(*sum) +
                                  emulated_flush(sums[0][n / EMULATED_LANES][n % EMULATED_LANES] +
                                                 sums[1][n / EMULATED_LANES][n % EMULATED_LANES]));
        }
    }
}

#define _tile_loadconfig emulated_configure
#define _tile_release emulated_release
#define _tile_zero emulated_tile_zero
#define _tile_loadd emulated_tile_load
#define _tile_stored emulated_tile_store
#define _tile_dpbf16ps emulated_tile_dot

#endif
