/* Optimizer updates in one pass over the arena, with PyTorch's semantics (torch.optim 2.x, single tensor). */
#include "backend/cpu/cpu_bf16.h"

#include <math.h>
#include <string.h>

/* The settings of a step as fp32, and its arrays. */
struct update {
    float rate, decay, epsilon, scale, momentum;
    float keep1, take1, keep2, take2; /* beta and 1 - beta */
    float root_correction2;           /* sqrt(1 - beta2^t) */
    float *restrict p, *restrict first, *restrict second;
    const float *restrict g;
    int64_t begin, end; /* the block */
};

/* theta -= rate * b, b = momentum b + g. */
static void sgd(struct update u) {
    for (int64_t i = u.begin; i < u.end; i++) {
        float g = u.g[i] * u.scale + u.decay * u.p[i];
        u.p[i] -= u.rate * g;
    }
}

static void sgd_momentum(struct update u) {
    for (int64_t i = u.begin; i < u.end; i++) {
        float g = u.g[i] * u.scale + u.decay * u.p[i];
        u.first[i] = u.momentum * u.first[i] + g;
        u.p[i] -= u.rate * u.first[i];
    }
}

/* v = alpha v + (1 - alpha) g^2; theta -= rate * g / (sqrt(v) + epsilon). */
static void rmsprop(struct update u) {
    for (int64_t i = u.begin; i < u.end; i++) {
        float g = u.g[i] * u.scale + u.decay * u.p[i];
        float v = u.keep2 * u.second[i] + u.take2 * g * g;
        u.second[i] = v;
        u.p[i] -= u.rate * (g / (sqrtf(v) + u.epsilon));
    }
}

static void rmsprop_momentum(struct update u) {
    for (int64_t i = u.begin; i < u.end; i++) {
        float g = u.g[i] * u.scale + u.decay * u.p[i];
        float v = u.keep2 * u.second[i] + u.take2 * g * g;
        u.second[i] = v;
        u.first[i] = u.momentum * u.first[i] + g / (sqrtf(v) + u.epsilon);
        u.p[i] -= u.rate * u.first[i];
    }
}

/* Adam (Kingma and Ba 2015) with L2 decay in the gradient. rate is already divided by 1 - beta1^t. */
static void adam(struct update u) {
    for (int64_t i = u.begin; i < u.end; i++) {
        float g = u.g[i] * u.scale + u.decay * u.p[i];
        float m = u.keep1 * u.first[i] + u.take1 * g;
        float v = u.keep2 * u.second[i] + u.take2 * g * g;
        u.first[i] = m;
        u.second[i] = v;
        u.p[i] -= u.rate * m / (sqrtf(v) / u.root_correction2 + u.epsilon);
    }
}

/* AdamW (Loshchilov and Hutter 2019): decay multiplies the parameter; here u.decay is 1 - rate * decay. */
static void adamw(struct update u) {
    for (int64_t i = u.begin; i < u.end; i++) {
        float g = u.g[i] * u.scale;
        float m = u.keep1 * u.first[i] + u.take1 * g;
        float v = u.keep2 * u.second[i] + u.take2 * g * g;
        u.first[i] = m;
        u.second[i] = v;
        u.p[i] = u.p[i] * u.decay - u.rate * m / (sqrtf(v) / u.root_correction2 + u.epsilon);
    }
}

static void (*choose(const struct optimizer_step *s))(struct update u) {
    switch (s->kind) {
    case OPTIMIZER_SGD:
        return s->momentum != 0.0 ? sgd_momentum : sgd;
    case OPTIMIZER_RMSPROP:
        return s->momentum != 0.0 ? rmsprop_momentum : rmsprop;
    case OPTIMIZER_ADAM:
        return adam;
    case OPTIMIZER_ADAMW:
        return adamw;
    }
    return sgd;
}

static struct update settings_of(const struct optimizer_step *s) {
    bool is_adam = s->kind == OPTIMIZER_ADAM || s->kind == OPTIMIZER_ADAMW;
    double beta2 = is_adam ? s->beta2 : s->alpha;
    return (struct update){
        .rate = (float)(is_adam ? s->learning_rate / s->bias_correction1 : s->learning_rate),
        .decay =
            (float)(s->kind == OPTIMIZER_ADAMW ? 1.0 - s->learning_rate * s->weight_decay : s->weight_decay),
        .epsilon = (float)s->epsilon,
        .scale = (float)s->gradient_scale,
        .momentum = (float)s->momentum,
        .keep1 = (float)s->beta1,
        .take1 = (float)(1.0 - s->beta1),
        .keep2 = (float)beta2,
        .take2 = (float)(1.0 - beta2),
        .p = s->parameters.data,
        .g = s->gradients.data,
        .first = s->first.data,
        .second = s->second.data,
        .root_correction2 = (float)sqrt(s->bias_correction2),
    };
}

/* The compute copy of a block that is still in the cache. */
static void renew_copy(struct tensor copy, const struct update *u) {
    int64_t n = u->end - u->begin;
    const float *p = u->p + u->begin;
    if (copy.type == DTYPE_BF16) {
        cpu_store(copy, 0, u->begin, n, p);
    } else {
        memcpy(cpu_row(copy, 0) + u->begin, p, (size_t)n * sizeof *p);
    }
}

enum status CPU_OPERATION(optimizer)(struct backend *b, const struct optimizer_step *s) {
    enum { BLOCK = 4096 };
    void (*update)(struct update) = choose(s);
    const struct update settings = settings_of(s);
    int64_t n = s->parameters.columns;
#pragma omp parallel for num_threads(cpu_of(b)->threads) if (n > CPU_PARALLEL_ELEMENTS)
    for (int64_t i = 0; i < n; i += BLOCK) {
        struct update u = settings;
        u.begin = i;
        u.end = n - i < BLOCK ? n : i + BLOCK;
        update(u);
        if (s->copy.data) {
            renew_copy(s->copy, &u);
        }
    }
    return OK;
}
