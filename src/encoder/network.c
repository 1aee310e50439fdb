#include "encoder/network.h"

#include <math.h>

#include "util/mem.h"
#include "util/rng.h"

static void layout(struct network *m) {
    const struct network_shape *s = &m->shape;
    int64_t h = s->hidden;
    int64_t d = s->width;
    bool is_encoder = s->kind == NETWORK_CONTEXT;
    int64_t set = is_encoder || s->kind == NETWORK_PROCESS ? h : 0; /* rows of the context encoder alone */
    int64_t t = is_encoder ? 0 : h;                                 /* of the rest */
    int64_t mlp = s->inner_mlp ? set : 0;
    int64_t attention = s->aggregate == AGGREGATE_ATTENTION ? set : 0;
    const struct network_range all[NETWORK_TENSORS] = {
        [NETWORK_TARGET_0] = {"target_encoder.0.weight", 0, t, d},
        [NETWORK_TARGET_0_BIAS] = {"target_encoder.0.bias", 0, t, 1},
        [NETWORK_TARGET_1] = {"target_encoder.1.weight", 0, t, h},
        [NETWORK_TARGET_1_BIAS] = {"target_encoder.1.bias", 0, t, 1},
        [NETWORK_HEAD_0] = {"head.0.weight", 0, t, h + set},
        [NETWORK_NORM_WEIGHT] = {"head.norm.weight", 0, t, 1},
        [NETWORK_NORM_BIAS] = {"head.norm.bias", 0, t, 1},
        [NETWORK_HEAD_1] = {"head.1.weight", 0, is_encoder ? 0 : network_outputs(s), h},
        [NETWORK_INNER_0] = {"context_encoder.inner.0.weight", 0, set, 2 * d},
        [NETWORK_INNER_0_BIAS] = {"context_encoder.inner.0.bias", 0, set, 1},
        [NETWORK_INNER_1] = {"context_encoder.inner.1.weight", 0, mlp, h},
        [NETWORK_INNER_1_BIAS] = {"context_encoder.inner.1.bias", 0, mlp, 1},
        [NETWORK_ATTENTION_IN] = {"context_encoder.attention.in_proj_weight", 0, 3 * attention, h},
        [NETWORK_ATTENTION_IN_BIAS] = {"context_encoder.attention.in_proj_bias", 0, 3 * attention, 1},
        [NETWORK_ATTENTION_OUT] = {"context_encoder.attention.out_proj.weight", 0, attention, h},
        [NETWORK_ATTENTION_OUT_BIAS] = {"context_encoder.attention.out_proj.bias", 0, attention, 1},
        [NETWORK_OUTER_0] = {"context_encoder.outer.0.weight", 0, set, h},
        [NETWORK_OUTER_0_BIAS] = {"context_encoder.outer.0.bias", 0, set, 1},
        [NETWORK_OUTER_1] = {"context_encoder.outer.1.weight", 0, s->latent ? 2 * set : set, h},
        [NETWORK_OUTER_1_BIAS] = {"context_encoder.outer.1.bias", 0, s->latent ? 2 * set : set, 1},
    };
    m->count = 0;
    for (int i = 0; i < NETWORK_TENSORS; i++) {
        m->tensors[i] = all[i];
        m->tensors[i].offset = m->count;
        m->count += all[i].rows * all[i].columns;
    }
}

/* Each tensor has its own stream of draws, so that models of one seed share what they have in common. */
static void fill(struct network *m, enum network_tensor t, uint64_t seed, double bound) {
    struct rng r = rng_stream(seed, RNG_INIT, t, 0);
    double *p = m->parameters + m->tensors[t].offset;
    for (int64_t i = 0; i < m->tensors[t].rows * m->tensors[t].columns; i++) {
        p[i] = (2 * rng_uniform(&r) - 1) * bound;
    }
}

static void initialize(struct network *m, uint64_t seed) {
    static const enum network_tensor with_bias[] = {NETWORK_TARGET_0, NETWORK_TARGET_1, NETWORK_INNER_0,
                                                    NETWORK_INNER_1,  NETWORK_OUTER_0,  NETWORK_OUTER_1};
    static const enum network_tensor without[] = {NETWORK_HEAD_0, NETWORK_HEAD_1, NETWORK_ATTENTION_OUT};
    for (int i = 0; i < COUNT_OF(with_bias); i++) {
        double bound = 1 / sqrt((double)m->tensors[with_bias[i]].columns);
        fill(m, with_bias[i], seed, bound);
        fill(m, with_bias[i] + 1, seed, bound);
    }
    for (int i = 0; i < COUNT_OF(without); i++) {
        fill(m, without[i], seed, 1 / sqrt((double)m->tensors[without[i]].columns));
    }
    double h = (double)m->shape.hidden;
    fill(m, NETWORK_ATTENTION_IN, seed, sqrt(6 / (3 * h + h)));
    double *weight = network_parameter(m, NETWORK_NORM_WEIGHT);
    for (int64_t i = 0; i < m->shape.hidden && weight; i++) {
        weight[i] = 1;
        m->running_variance[i] = 1;
    }
}

enum status network_open(const struct network_shape *shape, uint64_t seed, struct network *out) {
    enum { MOST = 1 << 16 };
    *out = (struct network){.shape = *shape};
    if (shape->width < 1 || shape->width > MOST || shape->hidden < 1 || shape->hidden > MOST) {
        return fail(ERR_USAGE, "few-shot model: width %lld and hidden size %lld must be between 1 and %d",
                    (long long)shape->width, (long long)shape->hidden, MOST);
    }
    if (shape->heads < 1 || shape->hidden % shape->heads != 0) {
        return fail(ERR_USAGE, "few-shot model: %lld attention heads do not divide the hidden size %lld",
                    (long long)shape->heads, (long long)shape->hidden);
    }
    layout(out);
    enum status st = NEW_ARRAY(out->parameters, out->count);
    st = st == OK ? NEW_ARRAY(out->gradients, out->count) : st;
    st = st == OK ? NEW_ARRAY(out->running_mean, shape->hidden) : st;
    st = st == OK ? NEW_ARRAY(out->running_variance, shape->hidden) : st;
    if (st != OK) {
        network_close(out);
        return st;
    }
    initialize(out, seed);
    return OK;
}

void network_close(struct network *m) {
    mem_free(m->parameters);
    mem_free(m->gradients);
    mem_free(m->running_mean);
    mem_free(m->running_variance);
    *m = (struct network){0};
}

double *network_parameter(const struct network *m, enum network_tensor t) {
    return m->tensors[t].rows > 0 ? m->parameters + m->tensors[t].offset : NULL;
}

double *network_gradient(const struct network *m, enum network_tensor t) {
    return m->tensors[t].rows > 0 ? m->gradients + m->tensors[t].offset : NULL;
}

struct linear_layer network_layer(const struct network *m, enum network_tensor weight) {
    const struct network_range *r = &m->tensors[weight];
    bool has_bias = weight != NETWORK_HEAD_0 && weight != NETWORK_HEAD_1;
    return (struct linear_layer){.inputs = r->columns,
                                 .outputs = r->rows,
                                 .weight = network_parameter(m, weight),
                                 .bias = has_bias ? network_parameter(m, weight + 1) : NULL,
                                 .d_weight = network_gradient(m, weight),
                                 .d_bias = has_bias ? network_gradient(m, weight + 1) : NULL};
}

int64_t network_outputs(const struct network_shape *s) {
    return s->kind == NETWORK_DPL ? 2 : 1;
}
