/* Element by element inside a layer: rotary embedding (RoFormer, Su et al. 2021) and gated activations. */
#include "cuda/device.cuh"

struct turn {
    view<const float> table;
    int64_t rows;
    int heads, head_dim, half;
    bool interleaved, inverse;
};

/* A thread turns one pair: no other thread touches it. */
template <typename T> __global__ void rope_pairs(turn r, view<T> x) {
    FOR_EACH_ELEMENT(t, at, r.rows, static_cast<int64_t>(r.heads) * r.half) {
        int64_t head_number = at / r.half;
        int i = static_cast<int>(at - head_number * r.half);
        const float *table = r.table.row(t);
        T *head = x.row(t) + head_number * r.head_dim;
        T *first = head + (r.interleaved ? 2 * i : i);
        T *second = head + (r.interleaved ? 2 * i + 1 : i + r.half);
        float cosine = table[i];
        float sine = r.inverse ? -table[r.half + i] : table[r.half + i];
        float a = value_of(*first);
        float b = value_of(*second);
        put(first, a * cosine - b * sine);
        put(second, b * cosine + a * sine);
    }
}

enum status cuda_rope(struct backend *b, const struct rope *r) {
    const struct cuda *c = cuda_of(b);
    turn how = {view_of<const float>(r->table),
                r->x.rows,
                r->heads,
                r->head_dim,
                r->rotary_dim / 2,
                r->interleaved,
                r->inverse};
    dim3 grid = grid_over(r->x.rows, static_cast<int64_t>(how.heads) * how.half);
    if (r->x.type == DTYPE_BF16) {
        LAUNCH(rope_pairs, grid, THREADS, 0, c->stream, how, view_of<bf16>(r->x));
    } else {
        LAUNCH(rope_pairs, grid, THREADS, 0, c->stream, how, view_of<float>(r->x));
    }
    return cuda_launched(c, "rope");
}

static const float ROOT_HALF = 0.70710678118654752f;
static const float ROOT_2_OVER_PI = 0.79788456080286536f;
static const float DENSITY_AT_0 = 0.39894228040143268f; /* 1 / sqrt(2 pi) */
static const float CUBIC = 0.044715f;                   /* Hendrycks, Gimpel 2016 */

__device__ static float act(enum activation kind, float x) {
    switch (kind) {
    case ACTIVATION_SILU:
        return x / (1.0f + expf(-x));
    case ACTIVATION_GELU:
        return 0.5f * x * erfcf(-x * ROOT_HALF);
    case ACTIVATION_GELU_TANH:
        return 0.5f * x * (1.0f + tanhf(ROOT_2_OVER_PI * (x + CUBIC * x * x * x)));
    case ACTIVATION_RELU:
        return x < 0.0f ? 0.0f : x; /* a NaN stays one */
    }
    return NAN;
}

__device__ static float act_slope(enum activation kind, float x) {
    if (kind == ACTIVATION_SILU) {
        float sigmoid = 1.0f / (1.0f + expf(-x));
        return sigmoid * (1.0f + x * (1.0f - sigmoid));
    }
    if (kind == ACTIVATION_GELU) {
        return 0.5f * erfcf(-x * ROOT_HALF) + x * DENSITY_AT_0 * expf(-0.5f * x * x);
    }
    if (kind == ACTIVATION_GELU_TANH) {
        float t = tanhf(ROOT_2_OVER_PI * (x + CUBIC * x * x * x));
        float inner_slope = ROOT_2_OVER_PI * (1.0f + 3.0f * CUBIC * x * x);
        return 0.5f * (1.0f + t) + 0.5f * x * (1.0f - t * t) * inner_slope;
    }
    return x > 0.0f ? 1.0f : 0.0f;
}

template <typename T>
__global__ void activate_forward(enum activation kind, view<const T> gate, view<const T> up, view<T> y,
                                 int64_t rows, int64_t columns) {
    FOR_EACH_ELEMENT(i, j, rows, columns) {
        float by = up.data ? value_of(up.row(i)[j]) : 1.0f;
        put(y.row(i) + j, act(kind, value_of(gate.row(i)[j])) * by);
    }
}

/* dgate may be gate and dup may be up: a thread reads its elements of both before it writes. */
template <typename T>
__global__ void activate_backward(enum activation kind, view<const T> gate_rows, view<const T> up_rows,
                                  view<const T> dy_rows, view<T> dgate, view<T> dup, int64_t rows,
                                  int64_t columns) {
    FOR_EACH_ELEMENT(i, j, rows, columns) {
        float gate = value_of(gate_rows.row(i)[j]);
        float up = up_rows.data ? value_of(up_rows.row(i)[j]) : 1.0f;
        float dy = value_of(dy_rows.row(i)[j]);
        put(dgate.row(i) + j, dy * up * act_slope(kind, gate));
        if (dup.data) {
            put(dup.row(i) + j, dy * act(kind, gate));
        }
    }
}

template <typename T> static void run_forward(const struct cuda *c, const struct activate *a) {
    LAUNCH(activate_forward, grid_over(a->y.rows, a->y.columns), THREADS, 0, c->stream, a->kind,
           view_of<const T>(a->gate), view_of<const T>(a->up), view_of<T>(a->y), a->y.rows, a->y.columns);
}

template <typename T>
static void run_backward(const struct cuda *c, const struct activate *a, const struct activate_gradient *g) {
    LAUNCH(activate_backward, grid_over(g->dy.rows, g->dy.columns), THREADS, 0, c->stream, a->kind,
           view_of<const T>(a->gate), view_of<const T>(a->up), view_of<const T>(g->dy), view_of<T>(g->dgate),
           view_of<T>(g->dup), g->dy.rows, g->dy.columns);
}

enum status cuda_activate(struct backend *b, const struct activate *a) {
    const struct cuda *c = cuda_of(b);
    a->y.type == DTYPE_BF16 ? run_forward<bf16>(c, a) : run_forward<float>(c, a);
    return cuda_launched(c, "activate");
}

enum status cuda_activate_gradient(struct backend *b, const struct activate_backward *call) {
    const struct activate *a = &call->activate;
    const struct activate_gradient *g = &call->gradient;
    const struct cuda *c = cuda_of(b);
    g->dy.type == DTYPE_BF16 ? run_backward<bf16>(c, a, g) : run_backward<float>(c, a, g);
    return cuda_launched(c, "activate_gradient");
}
