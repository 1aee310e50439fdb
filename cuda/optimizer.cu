/* Optimizer updates in one pass over the arena, PyTorch's semantics (torch.optim 2.x, single tensor), with
 * fp32 masters; the bf16 compute copy is written in the same pass. */
#include <cmath>

#include "cuda/device.cuh"

struct update {
    enum optimizer_kind kind;
    float rate, decay, epsilon, scale, momentum;
    float keep1, take1, keep2, take2; /* beta and 1 - beta */
    float root_correction2;           /* sqrt(1 - beta2^t) */
    float *p, *first, *second;
    const float *g;
    int64_t n;
};

/* Adam (Kingma and Ba 2015): rate is already divided by 1 - beta1^t. AdamW (Loshchilov and Hutter 2019):
 * decay is 1 - rate * weight_decay and multiplies the parameter. */
__device__ static float adam(const update &u, int64_t i, float p, float g) {
    bool is_decoupled = u.kind == OPTIMIZER_ADAMW;
    g += is_decoupled ? 0.0f : u.decay * p;
    float m = u.keep1 * u.first[i] + u.take1 * g;
    float v = u.keep2 * u.second[i] + u.take2 * g * g;
    u.first[i] = m;
    u.second[i] = v;
    return (is_decoupled ? p * u.decay : p) - u.rate * m / (sqrtf(v) / u.root_correction2 + u.epsilon);
}

/* b = momentum b + direction; theta -= rate b, where direction is g, or g / (sqrt(v) + epsilon) for RMSprop
 * with v = alpha v + (1 - alpha) g^2. */
__device__ static float descend(const update &u, int64_t i, float p, float g) {
    float direction = g + u.decay * p;
    if (u.kind == OPTIMIZER_RMSPROP) {
        float v = u.keep2 * u.second[i] + u.take2 * direction * direction;
        u.second[i] = v;
        direction /= sqrtf(v) + u.epsilon;
    }
    if (u.momentum != 0.0f) {
        direction += u.momentum * u.first[i];
        u.first[i] = direction;
    }
    return p - u.rate * direction;
}

template <typename T> __global__ void update_elements(update u, T *copy) {
    int64_t step = static_cast<int64_t>(gridDim.x) * blockDim.x;
    bool is_adam = u.kind == OPTIMIZER_ADAM || u.kind == OPTIMIZER_ADAMW;
    for (int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; i < u.n; i += step) {
        float g = u.g[i] * u.scale;
        float p = is_adam ? adam(u, i, u.p[i], g) : descend(u, i, u.p[i], g);
        u.p[i] = p;
        if (copy) {
            put(copy + i, p);
        }
    }
}

static update settings_of(const struct optimizer_step *s) {
    bool is_adam = s->kind == OPTIMIZER_ADAM || s->kind == OPTIMIZER_ADAMW;
    double beta2 = is_adam ? s->beta2 : s->alpha;
    update u = {};
    u.kind = s->kind;
    u.rate = static_cast<float>(is_adam ? s->learning_rate / s->bias_correction1 : s->learning_rate);
    u.decay = static_cast<float>(s->kind == OPTIMIZER_ADAMW ? 1.0 - s->learning_rate * s->weight_decay
                                                            : s->weight_decay);
    u.epsilon = static_cast<float>(s->epsilon);
    u.scale = static_cast<float>(s->gradient_scale);
    u.momentum = static_cast<float>(s->momentum);
    u.keep1 = static_cast<float>(s->beta1);
    u.take1 = static_cast<float>(1.0 - s->beta1);
    u.keep2 = static_cast<float>(beta2);
    u.take2 = static_cast<float>(1.0 - beta2);
    u.root_correction2 = static_cast<float>(std::sqrt(s->bias_correction2));
    u.p = static_cast<float *>(s->parameters.data);
    u.first = static_cast<float *>(s->first.data);
    u.second = static_cast<float *>(s->second.data);
    u.g = static_cast<const float *>(s->gradients.data);
    u.n = s->parameters.columns;
    return u;
}

enum status cuda_optimizer(struct backend *b, const struct optimizer_step *s) {
    const struct cuda *c = cuda_of(b);
    update u = settings_of(s);
    dim3 grid = grid_over(1, u.n);
    if (s->copy.data && s->copy.type == DTYPE_BF16) {
        LAUNCH(update_elements, grid, THREADS, 0, c->stream, u, static_cast<bf16 *>(s->copy.data));
    } else {
        LAUNCH(update_elements, grid, THREADS, 0, c->stream, u, static_cast<float *>(s->copy.data));
    }
    return cuda_launched(c, "optimizer");
}
