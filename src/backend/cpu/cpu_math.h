/* Functions of one fp32 that vectorise: no branches, no tables, no calls. Errors are measured against double
 * (tests/backend/test_cpu_math.c). NaN comes out as NaN; infinities give the limits. */
#ifndef COLLIMATE_CPU_MATH_H
#define COLLIMATE_CPU_MATH_H

#include <math.h>
#include <stdint.h>

static const float CPU_EXP_LOWEST = -87.33f; /* below it the result would be subnormal, and is 0 */

/* x = n ln 2 + r with n = round(x / ln 2) and |r| <= ln 2 / 2: gives e^r, by the polynomial of Cephes' expf
 * (Moshier). -87.33 <= x <= 88.72. */
static inline float cpu_exp_reduced(float x, int32_t *n) {
    /* Adding 1.5 * 2^23 rounds to an integer, which is then in the low bits. */
    const float rounder = 12582912.0f;
    union {
        float value;
        uint32_t bits;
    } rounded = {x * 1.44269504088896341f + rounder};
    float whole = rounded.value - rounder;
    /* ln 2 in two parts: the first has few bits, so whole * 0.693359375 is exact. */
    float r = x - whole * 0.693359375f;
    r = r + whole * 2.12194440e-4f;
    float p = 1.9875691500e-4f;
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    *n = (int32_t)(rounded.bits - 0x4b400000u);
    return p * r * r + r + 1.0f;
}

/* 2^n for -126 <= n <= 127. */
static inline float cpu_power_of_two(int32_t n) {
    union {
        uint32_t bits;
        float value;
    } power = {(uint32_t)(n + 127) << 23};
    return power.value;
}

/* e^x; relative error below 1.2e-7. */
static inline float cpu_exp(float x) {
    const float highest = 88.72f;
    float clamped = x < CPU_EXP_LOWEST ? CPU_EXP_LOWEST : x;
    clamped = clamped > highest ? highest : clamped;
    int32_t n;
    float p = cpu_exp_reduced(clamped, &n);
    /* 2^n in two factors: n may be 128, for which there is no single one. */
    int32_t half = n >> 1;
    p *= cpu_power_of_two(half);
    p *= cpu_power_of_two(n - half);
    p = x < CPU_EXP_LOWEST ? 0.0f : p;
    return x > highest ? INFINITY : p;
}

/* e^x for x <= 0 (softmax): one factor and no upper limit. */
static inline float cpu_exp_negative(float x) {
    int32_t n;
    float p = cpu_exp_reduced(x < CPU_EXP_LOWEST ? CPU_EXP_LOWEST : x, &n);
    p *= cpu_power_of_two(n);
    return x < CPU_EXP_LOWEST ? 0.0f : p;
}

/* s(x) = 1 / (1 + e^-x); *rest = 1 - s(x) = e^-x s(x), without cancellation. */
static inline float cpu_logistic(float x, float *rest) {
    float e = cpu_exp(x < -87.0f ? 87.0f : -x); /* finite, so that e times 0 is 0 */
    float s = 1.0f / (1.0f + e);
    *rest = e * s;
    return s;
}

static inline float cpu_sigmoid(float x) {
    return 1.0f / (1.0f + cpu_exp(-x));
}

/* Cephes' tanhf near 0, where 1 - 2 / (e^2x + 1) would cancel. Relative error below 3e-7. */
static inline float cpu_tanh(float x) {
    float s = x * x;
    float p = -5.70498872745e-3f;
    p = p * s + 2.06390887954e-2f;
    p = p * s - 5.37397155531e-2f;
    p = p * s + 1.33314422036e-1f;
    p = p * s - 3.33332819422e-1f;
    float near = x + x * s * p;
    float far = 1.0f - 2.0f / (cpu_exp(2.0f * x) + 1.0f);
    return fabsf(x) < 0.625f ? near : far;
}

/* The normal distribution: *tail = Phi(-|x|) and *density = phi(x).
 * Phi(-|x|) = erfc(z) / 2, z = |x| / sqrt 2, erfc(z) = e^(-z^2) t Q(t), t = 1 / (1 + z / 2); Q is a least
 * maximum fit of degree 8 to the scaled complementary error function on z in [0, 12] (relative error 4.4e-8,
 * 3e-7 in fp32). */
static inline void cpu_normal(float x, float *tail, float *density) {
    float z = fabsf(x) * 0.707106781f;
    float t = 1.0f / (1.0f + 0.5f * z);
    float e = cpu_exp_negative(-0.5f * x * x);
    float q = -5.936309267e-02f;
    q = q * t + 2.860107058e-01f;
    q = q * t - 4.901735797e-01f;
    q = q * t + 2.814691751e-01f;
    q = q * t - 2.896833869e-02f;
    q = q * t + 2.036771466e-01f;
    q = q * t + 2.428539081e-01f;
    q = q * t + 2.824095580e-01f;
    q = q * t + 2.820844733e-01f;
    *tail = 0.5f * e * t * q;
    *density = 0.398942280f * e;
}

#endif
