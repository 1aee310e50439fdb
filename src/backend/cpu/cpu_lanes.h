/* Vectors of LANES values of k: how they are read and turned. */
#ifndef COLLIMATE_CPU_LANES_H
#define COLLIMATE_CPU_LANES_H

#include "backend/cpu/cpu_bf16.h"
#include "backend/cpu/cpu_turn.h"
#include "backend/cpu/cpu_vec.h"

#include <string.h>

#if defined(__AVX__)
#include <immintrin.h>
#endif

/* As many bf16 values, and their bits at fp32's width. */
typedef uint16_t half_any __attribute__((vector_size(LANES * 2), aligned(2), may_alias));
typedef uint32_t bits __attribute__((vector_size(LANES * 4)));

static inline __attribute__((always_inline)) vec load(const bool is_bf16, const void *from, int64_t i) {
    if (!is_bf16) {
        return (vec) * (const vec_any *)((const float *)from + i);
    }
    half_any half = *(const half_any *)((const uint16_t *)from + i);
    return (vec)(__builtin_convertvector(half, bits) << 16);
}

static inline __attribute__((always_inline)) float value(const bool is_bf16, const void *from, int64_t i) {
    return is_bf16 ? bf16_value(((const uint16_t *)from)[i]) : ((const float *)from)[i];
}

/* r[i][j] becomes r[j][i]. */
static inline __attribute__((always_inline)) void transpose(vec r[LANES]) {
#if defined(__AVX512F__)
    TURN_STAGE(16, 1, r, vec, mask)
    TURN_STAGE(16, 2, r, vec, mask)
    TURN_STAGE(16, 4, r, vec, mask)
    TURN_STAGE(16, 8, r, vec, mask)
#elif defined(__AVX__)
    TURN_STAGE(8, 1, r, vec, mask)
    TURN_STAGE(8, 2, r, vec, mask)
    TURN_STAGE(8, 4, r, vec, mask)
#else
    TURN_STAGE(4, 1, r, vec, mask)
    TURN_STAGE(4, 2, r, vec, mask)
#endif
}

/* Sixteen bytes of each of a few lines are turned at once: WORDS words of 32 bits, an fp32 value or two of
 * bf16 each. Halves of a vector are loaded where they are to be, which spares the widest of the shuffles. */
enum { WORDS = 4, PAIRS_ARE_IN_ORDER = __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__ };
#if defined(__AVX__)
enum { LINES = 8 };
#else
enum { LINES = 4 };
#endif
typedef float turned __attribute__((vector_size(LINES * 4)));
typedef float turned_any __attribute__((vector_size(LINES * 4), aligned(2), may_alias));
typedef uint32_t line_bits __attribute__((vector_size(LINES * 4)));

/* r[w]: word w of lines `stride` bytes apart; lanes of lines past `count`, that do not exist, are the last
 * one's. */
static inline __attribute__((always_inline)) void turn_words(const int count, const char *from,
                                                             int64_t stride, turned r[WORDS]) {
#if defined(__AVX__)
    __m256 x[WORDS];
#pragma GCC unroll 4
    for (int i = 0; i < WORDS; i++) {
        const char *low = from + (i < count ? i : count - 1) * stride;
        const char *high = from + (i + WORDS < count ? i + WORDS : count - 1) * stride;
        x[i] = _mm256_insertf128_ps(_mm256_castps128_ps256(_mm_loadu_ps((const float *)low)),
                                    _mm_loadu_ps((const float *)high), 1);
    }
    __m256d a = _mm256_castps_pd(_mm256_unpacklo_ps(x[0], x[1]));
    __m256d b = _mm256_castps_pd(_mm256_unpackhi_ps(x[0], x[1]));
    __m256d c = _mm256_castps_pd(_mm256_unpacklo_ps(x[2], x[3]));
    __m256d d = _mm256_castps_pd(_mm256_unpackhi_ps(x[2], x[3]));
    r[0] = (turned)_mm256_unpacklo_pd(a, c);
    r[1] = (turned)_mm256_unpackhi_pd(a, c);
    r[2] = (turned)_mm256_unpacklo_pd(b, d);
    r[3] = (turned)_mm256_unpackhi_pd(b, d);
#else
    for (int i = 0; i < WORDS; i++) {
        r[i] = (turned) * (const turned_any *)(from + (i < count ? i : count - 1) * stride);
    }
    transpose(r);
#endif
}

static inline __attribute__((always_inline)) turned low_words(turned pairs) {
    return (turned)((line_bits)pairs << 16);
}

static inline __attribute__((always_inline)) turned high_words(turned pairs) {
    return (turned)((line_bits)pairs & 0xffff0000u);
}

/* Whole vectors go over what the next k then writes; a panel's last ones keep to its width. */
static inline __attribute__((always_inline)) void put(float *to, const turned *r, const int n, bool is_last) {
    if (n >= LINES || !is_last) {
        *(turned_any *)to = *r;
    } else {
        memcpy(to, r, (size_t)n * sizeof *to);
    }
}

/* `count` lines of k, `stride` values apart, that all exist: `count` values for each k, `pitch` apart; where
 * it ends, the last few k being left. */
static inline __attribute__((always_inline)) int64_t pack_whole(const bool is_bf16, const int count,
                                                                const void *from, int64_t stride,
                                                                int64_t depth, float *to, int64_t pitch) {
    enum { GROUPS = (PANEL_COLUMNS + LINES - 1) / LINES };
    const int in_a_word = is_bf16 ? 2 : 1;
    const int64_t size = is_bf16 ? 2 : 4;
    int64_t k = 0;
    for (; k + WORDS * in_a_word <= depth && (!is_bf16 || PAIRS_ARE_IN_ORDER); k += WORDS * in_a_word) {
        bool is_end = k + WORDS * in_a_word == depth;
        turned r[GROUPS][WORDS];
#pragma GCC unroll 8
        for (int g = 0; g * LINES < count; g++) {
            turn_words(count - g * LINES, (const char *)from + (g * LINES * stride + k) * size, stride * size,
                       r[g]);
        }
#pragma GCC unroll 8
        for (int i = 0; i < WORDS * in_a_word; i++) {
#pragma GCC unroll 8
            for (int g = 0; g * LINES < count; g++) {
                turned word = r[g][i / in_a_word];
                turned x = !is_bf16 ? word : i % 2 == 0 ? low_words(word) : high_words(word);
                put(to + (k + i) * pitch + g * LINES, &x, count - g * LINES,
                    is_end && i == WORDS * in_a_word - 1);
            }
        }
    }
    return k;
}

#endif
