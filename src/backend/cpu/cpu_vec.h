/* Vectors of fp32 as the compiler's own type, and the exponential on them. */
#ifndef COLLIMATE_CPU_VEC_H
#define COLLIMATE_CPU_VEC_H

#include "backend/cpu/cpu_math.h"
#include "backend/cpu/cpu_panel.h"

typedef float vec __attribute__((vector_size(LANES * 4)));
typedef int32_t mask __attribute__((vector_size(LANES * 4)));
/* The same at any address. */
typedef float vec_any __attribute__((vector_size(LANES * 4), aligned(4), may_alias));
typedef int32_t mask_any __attribute__((vector_size(LANES * 4), aligned(4), may_alias));

static inline __attribute__((always_inline)) vec vec_at(const float *x) {
    return (vec) * (const vec_any *)x;
}

static inline __attribute__((always_inline)) void vec_put(float *x, vec value) {
    *(vec_any *)x = (vec_any)value;
}

static inline __attribute__((always_inline)) vec vec_of(float x) {
    return (vec){0} + x;
}

/* Each lane of a where m is all ones, of b where it is 0. */
static inline __attribute__((always_inline)) vec vec_pick(mask m, vec a, vec b) {
    return (vec)((m & (mask)a) | (~m & (mask)b));
}

/* The larger; b where one is a NaN. */
static inline __attribute__((always_inline)) vec vec_larger(vec a, vec b) {
    return vec_pick((mask)(a > b), a, b);
}

/* cpu_exp_negative() of each lane: the same polynomial, and 2^n straight from the rounder's low bits. */
static inline __attribute__((always_inline)) vec vec_exp_negative(vec x) {
    mask is_low = (mask)(x < CPU_EXP_LOWEST);
    vec y = vec_pick(is_low, vec_of(CPU_EXP_LOWEST), x);
    vec rounded = y * 1.44269504088896341f + 12582912.0f;
    vec whole = rounded - 12582912.0f;
    vec r = y - whole * 0.693359375f;
    r = r + whole * 2.12194440e-4f;
    vec p = r * 1.9875691500e-4f + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * r * r + r + 1.0f;
    mask power = ((mask)rounded << 23) + (127 << 23);
    return (vec)(~is_low & (mask)(p * (vec)power));
}

#endif
