/* bf16 as storage: a row is made fp32 where it is read, and rounded once where it is written. Of fp32 rows
 * these are the row itself, and cost nothing. */
#ifndef COLLIMATE_CPU_BF16_H
#define COLLIMATE_CPU_BF16_H

#include "backend/cpu/cpu_internal.h"

static inline float bf16_value(uint16_t bits) {
    union {
        uint32_t bits;
        float value;
    } u = {.bits = (uint32_t)bits << 16};
    return u.value;
}

/* To nearest even; a NaN stays one. */
static inline uint16_t bf16_bits(float value) {
    union {
        float value;
        uint32_t bits;
    } u = {.value = value};
    uint32_t rounded = (u.bits + 0x7fff + ((u.bits >> 16) & 1)) >> 16;
    return (uint16_t)(value != value ? (u.bits >> 16) | 0x40 : rounded);
}

static inline void bf16_to_floats(float *restrict to, const uint16_t *restrict from, int64_t n) {
    for (int64_t j = 0; j < n; j++) {
        to[j] = bf16_value(from[j]);
    }
}

static inline void floats_to_bf16(uint16_t *restrict to, const float *restrict from, int64_t n) {
    for (int64_t j = 0; j < n; j++) {
        to[j] = bf16_bits(from[j]);
    }
}

/* n values of row i from `column` on, as fp32: where they lie, or in room. */
static inline float *cpu_load(struct tensor t, int64_t i, int64_t column, int64_t n, float *room) {
    if (t.type != DTYPE_BF16) {
        return cpu_at(t, i, column);
    }
    bf16_to_floats(room, cpu_at(t, i, column), n);
    return room;
}

/* Where they are to be written as fp32, before cpu_store(). */
static inline float *cpu_place(struct tensor t, int64_t i, int64_t column, float *room) {
    return t.type == DTYPE_BF16 ? room : cpu_at(t, i, column);
}

/* What was written at cpu_place(), or changed at cpu_load(), goes to the row. */
static inline void cpu_store(struct tensor t, int64_t i, int64_t column, int64_t n, const float *values) {
    if (t.type == DTYPE_BF16) {
        floats_to_bf16(cpu_at(t, i, column), values, n);
    }
}

/* A loop over a row takes so many values at once: all of an fp32 row. */
enum { CPU_PIECE = 512 };
static inline int64_t cpu_piece(struct tensor t, int64_t n) {
    return t.type == DTYPE_BF16 && n > CPU_PIECE ? CPU_PIECE : n;
}

#endif
