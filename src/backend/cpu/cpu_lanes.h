/* Vectors of LANES values of k: how they are read, turned and fetched ahead. */
#ifndef COLLIMATE_CPU_LANES_H
#define COLLIMATE_CPU_LANES_H

#include "backend/cpu/cpu_bf16.h"
#include "backend/cpu/cpu_turn.h"
#include "backend/cpu/cpu_vec.h"

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

/* Two values of bf16 side by side are turned as one of fp32: 2 LANES values of k of `lines` lines, LANES at
 * most; those that do not exist are zero. r[j] has values k + 2j and k + 2j + 1 of each line, which low_of
 * and high_of make fp32. */
enum { PAIRS_ARE_IN_ORDER = __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__ };
typedef float pairs_any __attribute__((vector_size(LANES * 4), aligned(2), may_alias));

static inline __attribute__((always_inline)) void turn_pairs(const void *from, int64_t stride, int64_t lines,
                                                             int64_t k, vec r[LANES]) {
#pragma GCC unroll 16
    for (int i = 0; i < LANES; i++) {
        r[i] = i < lines ? (vec) * (const pairs_any *)((const uint16_t *)from + i * stride + k) : (vec){0};
    }
    transpose(r);
}

static inline __attribute__((always_inline)) vec low_of(vec pairs) {
    return (vec)((bits)pairs << 16);
}

static inline __attribute__((always_inline)) vec high_of(vec pairs) {
    return (vec)((bits)pairs & 0xffff0000u);
}

/* A vector's lines of k at a place, each cache line once: processors follow a few streams by themselves, not
 * a panel's. `ahead`: what will be read is so many values further on; 0: nothing is known. */
static inline __attribute__((always_inline)) void prefetch_lines(const bool is_bf16, const void *from,
                                                                 int64_t stride, int64_t k, int64_t ahead) {
    const int64_t size = is_bf16 ? 2 : 4;
    if (ahead == 0 || k * size % 64 >= LANES * size) {
        return;
    }
#pragma GCC unroll 16
    for (int i = 0; i < LANES; i++) {
        __builtin_prefetch((const void *)((uintptr_t)from + (uintptr_t)((i * stride + k + ahead) * size)));
    }
}

#endif
