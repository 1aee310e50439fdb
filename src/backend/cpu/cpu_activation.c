/* Activations and their gradients.
 *
 *     silu(x) = x s(x)                       silu' = s (1 + x (1 - s)),  s the logistic function
 *     gelu(x) = x Phi(x)                     gelu' = Phi + x phi         (Hendrycks and Gimpel 2016)
 *     gelu_tanh(x) = x s(2u), u = sqrt(2/pi) (x + 0.044715 x^3);  (1 + tanh u) / 2 = s(2u)
 */
#include "backend/cpu/cpu_bf16.h"
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

/* The two loops of each activation. y may not be gate or up; dgate and dup may be them. up may be NULL. */
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
    static void name##_gradient_row(float *dgate, float *dup, const float *dy, const float *gate,   \
                                    const float *up, int64_t n) {                                   \
        if (!up) {                                                                                  \
            _Pragma("omp simd") for (int64_t j = 0; j < n; j++) {                                   \
                dgate[j] = dy[j] * name##_slope(gate[j]);                                           \
            }                                                                                       \
            return;                                                                                 \
        }                                                                                           \
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
    void (*gradient_row)(float *dgate, float *dup, const float *dy, const float *gate, const float *up,
                         int64_t n);
} activations[] = {
    [ACTIVATION_SILU] = {silu_row, silu_gradient_row},
    [ACTIVATION_GELU] = {gelu_row, gelu_gradient_row},
    [ACTIVATION_GELU_TANH] = {gelu_tanh_row, gelu_tanh_gradient_row},
    [ACTIVATION_RELU] = {relu_row, relu_gradient_row},
};

static void activate_row(const struct activate *a, int64_t i) {
    float room[3][CPU_PIECE];
    int64_t columns = a->y.columns;
    int64_t piece = cpu_piece(a->y, columns);
    for (int64_t j = 0; j < columns; j += piece) {
        int64_t n = columns - j < piece ? columns - j : piece;
        const float *up = a->up.data ? cpu_load(a->up, i, j, n, room[1]) : NULL;
        float *y = cpu_place(a->y, i, j, room[2]);
        activations[a->kind].row(y, cpu_load(a->gate, i, j, n, room[0]), up, n);
        cpu_store(a->y, i, j, n, y);
    }
}

enum status CPU_OPERATION(activate)(struct backend *b, const struct activate *a) {
#pragma omp parallel for num_threads(cpu_of(b)->threads) if (a->y.rows * a->y.columns > CPU_PARALLEL_ELEMENTS)
    for (int64_t i = 0; i < a->y.rows; i++) {
        activate_row(a, i);
    }
    return OK;
}

static void activate_gradient_row(const struct activate *a, const struct activate_gradient *g, int64_t i) {
    float room[5][CPU_PIECE];
    int64_t columns = a->gate.columns;
    int64_t piece = cpu_piece(a->gate, columns);
    for (int64_t j = 0; j < columns; j += piece) {
        int64_t n = columns - j < piece ? columns - j : piece;
        const float *gate = cpu_load(a->gate, i, j, n, room[0]);
        const float *up = a->up.data ? cpu_load(a->up, i, j, n, room[1]) : NULL;
        const float *dy = cpu_load(g->dy, i, j, n, room[2]);
        float *dgate = cpu_place(g->dgate, i, j, room[3]);
        float *dup = up ? cpu_place(g->dup, i, j, room[4]) : NULL;
        activations[a->kind].gradient_row(dgate, dup, dy, gate, up, n);
        cpu_store(g->dgate, i, j, n, dgate);
        if (up) {
            cpu_store(g->dup, i, j, n, dup);
        }
    }
}

enum status CPU_OPERATION(activate_gradient)(struct backend *b, const struct activate_backward *call) {
    const struct activate *a = &call->activate;
    int64_t n = a->gate.rows * a->gate.columns;
#pragma omp parallel for num_threads(cpu_of(b)->threads) if (n > CPU_PARALLEL_ELEMENTS)
    for (int64_t i = 0; i < a->gate.rows; i++) {
        activate_gradient_row(a, &call->gradient, i);
    }
    return OK;
}
