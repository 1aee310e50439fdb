/* Activations and their gradients.
 *
 *     silu(x) = x s(x)                       silu' = s (1 + x (1 - s)),  s the logistic function
 *     gelu(x) = x Phi(x)                     gelu' = Phi + x phi         (Hendrycks and Gimpel 2016)
 *     gelu_tanh(x) = x s(2u), u = sqrt(2/pi) (x + 0.044715 x^3);  (1 + tanh u) / 2 = s(2u)
 */
#include "backend/cpu/cpu_internal.h"
#include "backend/cpu/cpu_math.h"

static const float ROOT_2_OVER_PI = 0.797884561f;
static const float GELU_CUBIC = 0.044715f;

static inline float phi(float x) {
    float tail;
    float density;
    cpu_normal(x, &tail, &density);
    return x < 0.0f ? tail : 1.0f - tail;
}

static inline float silu(float x) {
    return x * cpu_sigmoid(x);
}
static inline float silu_slope(float x) {
    float rest;
    float s = cpu_logistic(x, &rest);
    return s * (1.0f + x * rest);
}
static inline float gelu(float x) {
    return x * phi(x);
}
static inline float gelu_slope(float x) {
    float tail;
    float density;
    cpu_normal(x, &tail, &density);
    return (x < 0.0f ? tail : 1.0f - tail) + x * density;
}
static inline float gelu_tanh(float x) {
    float u = ROOT_2_OVER_PI * (x + GELU_CUBIC * x * x * x);
    return x * cpu_sigmoid(2.0f * u);
}
static inline float gelu_tanh_slope(float x) {
    float u = ROOT_2_OVER_PI * (x + GELU_CUBIC * x * x * x);
    float slope = ROOT_2_OVER_PI * (1.0f + 3.0f * GELU_CUBIC * x * x);
    float rest;
    float s = cpu_logistic(2.0f * u, &rest);
    return s + x * 2.0f * s * rest * slope;
}
static inline float relu(float x) {
    return x < 0.0f ? 0.0f : x; /* a NaN stays one */
}
static inline float relu_slope(float x) {
    return x > 0.0f ? 1.0f : x != x ? x : 0.0f;
}

/* The two loops of each activation. y may not be gate or up; dgate and dup may be them. */
#define ACTIVATION_ROWS(name)                                                                       \
    static void name##_row(float *restrict y, const float *restrict gate, const float *restrict up, \
                           int64_t n) {                                                             \
        if (up) {                                                                                   \
            for (int64_t j = 0; j < n; j++) {                                                       \
                y[j] = name(gate[j]) * up[j];                                                       \
            }                                                                                       \
            return;                                                                                 \
        }                                                                                           \
        for (int64_t j = 0; j < n; j++) {                                                           \
            y[j] = name(gate[j]);                                                                   \
        }                                                                                           \
    }                                                                                               \
    static void name##_gradient_row(const struct activate *a, const struct activate_gradient *g,    \
                                    int64_t i) {                                                    \
        int64_t n = a->gate.columns;                                                                \
        const float *gate = cpu_row(a->gate, i);                                                    \
        const float *dy = cpu_row(g->dy, i);                                                        \
        float *dgate = cpu_row(g->dgate, i);                                                        \
        if (!a->up.data) {                                                                          \
            _Pragma("omp simd") for (int64_t j = 0; j < n; j++) {                                   \
                dgate[j] = dy[j] * name##_slope(gate[j]);                                           \
            }                                                                                       \
            return;                                                                                 \
        }                                                                                           \
        const float *up = cpu_row(a->up, i);                                                        \
        float *dup = cpu_row(g->dup, i);                                                            \
        _Pragma("omp simd") for (int64_t j = 0; j < n; j++) {                                       \
            float x = gate[j];                                                                      \
            float u = up[j];                                                                        \
            dup[j] = dy[j] * name(x);                                                               \
            dgate[j] = dy[j] * u * name##_slope(x);                                                 \
        }                                                                                           \
    }

ACTIVATION_ROWS(silu)
ACTIVATION_ROWS(gelu)
ACTIVATION_ROWS(gelu_tanh)
ACTIVATION_ROWS(relu)

static const struct {
    void (*row)(float *restrict y, const float *restrict gate, const float *restrict up, int64_t n);
    void (*gradient_row)(const struct activate *a, const struct activate_gradient *g, int64_t i);
} activations[] = {
    [ACTIVATION_SILU] = {silu_row, silu_gradient_row},
    [ACTIVATION_GELU] = {gelu_row, gelu_gradient_row},
    [ACTIVATION_GELU_TANH] = {gelu_tanh_row, gelu_tanh_gradient_row},
    [ACTIVATION_RELU] = {relu_row, relu_gradient_row},
};

enum status CPU_OPERATION(activate)(struct backend *b, const struct activate *a) {
#pragma omp parallel for num_threads(cpu_of(b)->threads) if (a->y.rows * a->y.columns > CPU_PARALLEL_ELEMENTS)
    for (int64_t i = 0; i < a->y.rows; i++) {
        activations[a->kind].row(cpu_row(a->y, i), cpu_row(a->gate, i), a->up.data ? cpu_row(a->up, i) : NULL,
                                 a->y.columns);
    }
    return OK;
}

enum status CPU_OPERATION(activate_gradient)(struct backend *b, const struct activate_backward *call) {
    const struct activate *a = &call->activate;
    const struct activate_gradient *g = &call->gradient;
    int64_t n = a->gate.rows * a->gate.columns;
#pragma omp parallel for num_threads(cpu_of(b)->threads) if (n > CPU_PARALLEL_ELEMENTS)
    for (int64_t i = 0; i < a->gate.rows; i++) {
        activations[a->kind].gradient_row(a, g, i);
    }
    return OK;
}
