/* Which parameters a model has, and how files hold them. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "model/model_internal.h"
#include "util/mem.h"

/* What add() is told beside name and shape. */
struct layout {
    bool joined; /* follows the one before without a gap */
    bool transposed;
    bool bias; /* of a product: one follows its weight */
    int64_t heads;
    int init;
    double init_scale;
};

/* Replaces '*' in pattern by layer and adds suffix. */
static enum status name_of(const char *pattern, int64_t layer, const char *suffix, char out[96]) {
    const char *star = strchr(pattern, '*');
    int head = star ? (int)(star - pattern) : (int)strlen(pattern);
    int n = star ? snprintf(out, 96, "%.*s%lld%s%s", head, pattern, (long long)layer, star + 1, suffix)
                 : snprintf(out, 96, "%s%s", pattern, suffix);
    return n > 0 && n < 96 ? OK : fail(ERR_INTERNAL, "parameter name %s is too long", pattern);
}

static enum status add(struct model *m, const char *name, int64_t rows, int64_t columns,
                       const struct layout *o, struct place *out) {
    double scale = o->init_scale == 0 ? 1 : o->init_scale;
    struct parameter p = {.rows = rows, .columns = columns, .stored_heads = o->heads};
    snprintf(p.name, sizeof p.name, "%s", name);
    p.n_dims = rows == 1 && o->init != INIT_NORMAL ? 1 : 2;
    p.decay = p.n_dims == 2;
    p.stored_transposed = o->transposed && p.n_dims == 2;
    p.init = o->init;
    p.deviation = m->config.initializer_range * scale;
    return arena_add(m->base, &p, o->joined, out);
}

static enum status add_affine(struct model *m, const char *pattern, int64_t layer, int64_t n,
                              struct affine *out) {
    *out = (struct affine){.n = n};
    if (!pattern) {
        return OK;
    }
    const struct model_config *c = &m->config;
    char name[96];
    TRY(name_of(pattern, layer, ".weight", name));
    struct layout o = {.init = c->norm_offset == 1 ? INIT_ZERO : INIT_ONE};
    TRY(add(m, name, 1, n, &o, &out->weight));
    if (c->norm_bias) {
        TRY(name_of(pattern, layer, ".bias", name));
        TRY(add(m, name, 1, n, &(struct layout){.init = INIT_ZERO}, &out->bias));
    }
    return OK;
}

/* A product whose weight is several parameters, one under the other: weights first, then biases. */
struct part {
    const char *pattern;
    int64_t outputs;
};
static enum status add_linear(struct model *m, int64_t layer, const struct part *parts, int n_parts,
                              const struct layout *o, struct linear *out) {
    char name[96];
    for (int i = 0; i < n_parts; i++) {
        struct layout each = *o;
        each.joined = i > 0;
        each.init = INIT_NORMAL;
        TRY(name_of(parts[i].pattern, layer, ".weight", name));
        TRY(add(m, name, parts[i].outputs, out->in, &each, i == 0 ? &out->weight : NULL));
    }
    for (int i = 0; o->bias && i < n_parts; i++) {
        struct layout each = {.joined = i > 0, .heads = o->heads, .init = INIT_ZERO};
        TRY(name_of(parts[i].pattern, layer, ".bias", name));
        TRY(add(m, name, 1, parts[i].outputs, &each, i == 0 ? &out->bias : NULL));
    }
    return OK;
}

static struct linear linear_of(int64_t out, int64_t in) {
    return (struct linear){.out = out, .in = in};
}

static enum status add_attention(struct model *m, int64_t l, struct layer_plan *p) {
    const struct model_config *c = &m->config;
    const struct family_names *n = &c->family->names;
    int64_t q = c->heads * c->head_dim, kv = c->kv_heads * c->head_dim;
    struct layout o = {.transposed = c->family->stored_transposed, .bias = c->qkv_bias};
    p->qkv = linear_of(q + 2 * kv, c->width);
    if (n->qkv) {
        o.heads = c->family->heads_interleaved ? c->heads : 0;
        TRY(add_linear(m, l, &(struct part){n->qkv, q + 2 * kv}, 1, &o, &p->qkv));
        o.heads = 0;
    } else {
        const struct part parts[] = {{n->q, q}, {n->k, kv}, {n->v, kv}};
        TRY(add_linear(m, l, parts, 3, &o, &p->qkv));
    }
    TRY(add_affine(m, c->qk_norm ? n->q_norm : NULL, l, c->qk_norm_whole ? q : c->head_dim, &p->q_norm));
    TRY(add_affine(m, c->qk_norm ? n->k_norm : NULL, l, c->qk_norm_whole ? kv : c->head_dim, &p->k_norm));
    p->out = linear_of(c->width, q);
    o.bias = c->out_bias;
    o.init_scale = c->residual_init ? 1 / sqrt(2 * (double)c->layers) : 1;
    TRY(add_linear(m, l, &(struct part){n->out, c->width}, 1, &o, &p->out));
    return OK;
}

static enum status add_mlp(struct model *m, int64_t l, struct layer_plan *p) {
    const struct model_config *c = &m->config;
    const struct family_names *n = &c->family->names;
    struct layout o = {.transposed = c->family->stored_transposed, .bias = c->mlp_bias};
    const struct part parts[] = {{n->gate, c->ffn}, {n->up, c->ffn}};
    p->up = linear_of(c->gated ? 2 * c->ffn : c->ffn, c->width);
    if (n->gate_up) {
        TRY(add_linear(m, l, &(struct part){n->gate_up, p->up.out}, 1, &o, &p->up));
    } else {
        TRY(add_linear(m, l, c->gated ? parts : parts + 1, c->gated ? 2 : 1, &o, &p->up));
    }
    p->down = linear_of(c->width, c->ffn);
    o.init_scale = c->residual_init ? 1 / sqrt(2 * (double)c->layers) : 1;
    return add_linear(m, l, &(struct part){n->down, c->width}, 1, &o, &p->down);
}

static enum status add_layer(struct model *m, int64_t l, struct layer_plan *p) {
    const struct model_config *c = &m->config;
    const struct family_names *n = &c->family->names;
    p->first = m->base->elements;
    TRY(add_affine(m, n->norm1, l, c->width, &p->norm1));
    TRY(add_attention(m, l, p));
    TRY(add_affine(m, c->post_norms ? n->post_norm1 : NULL, l, c->width, &p->post_norm1));
    TRY(add_affine(m, c->shared_norm ? NULL : n->norm2, l, c->width, &p->norm2));
    TRY(add_mlp(m, l, p));
    return add_affine(m, c->post_norms ? n->post_norm2 : NULL, l, c->width, &p->post_norm2);
}

static enum status add_head(struct model *m) {
    const struct model_config *c = &m->config;
    struct model_plan *plan = m->plan;
    bool scores = c->head == HEAD_SCORE;
    plan->head = linear_of(scores ? 1 : c->vocabulary, c->width);
    const char *pattern = scores ? "score" : c->family->names.head;
    if (scores || !c->tied) {
        double range = c->initializer_range > 0 ? c->initializer_range : 1;
        /* N(0, 1 / (d + 1)): values of unit size whatever the width (Ziegler et al. 2019). */
        struct layout o = {.bias = !scores && c->head_bias,
                           .init_scale = scores ? 1 / (sqrt((double)c->width + 1) * range) : 0};
        return add_linear(m, 0, &(struct part){pattern, plan->head.out}, 1, &o, &plan->head);
    }
    plan->head.weight = plan->embed;
    if (c->head_bias) {
        char name[96];
        TRY(name_of(pattern, 0, ".bias", name));
        TRY(add(m, name, 1, c->vocabulary, &(struct layout){.init = INIT_ZERO}, &plan->head.bias));
    }
    return OK;
}

/* Order of use in the forward pass: embeddings first, since a tied embedding's gradient is final last. */
static enum status lay_out(struct model *m) {
    const struct model_config *c = &m->config;
    const struct family_names *n = &c->family->names;
    struct model_plan *plan = m->plan;
    struct linear table = linear_of(c->vocabulary, c->width);
    TRY(add_linear(m, 0, &(struct part){n->embed, c->vocabulary}, 1, &(struct layout){0}, &table));
    plan->embed = table.weight;
    if (c->learned_positions) {
        table = linear_of(c->max_positions, c->width);
        TRY(add_linear(m, 0, &(struct part){n->positions, c->max_positions}, 1, &(struct layout){0}, &table));
        plan->positions = table.weight;
    }
    TRY(NEW_ARRAY(plan->layers, c->layers));
    for (int64_t l = 0; l < c->layers; l++) {
        TRY(add_layer(m, l, &plan->layers[l]));
    }
    plan->tail = m->base->elements;
    TRY(add_affine(m, n->final_norm, 0, c->width, &plan->final_norm));
    TRY(add_head(m));
    const struct layout zero = {.init = INIT_ZERO};
    return c->value_head ? add(m, VALUE_HEAD, 1, c->width, &zero, &plan->value) : OK;
}

enum status model_open_as(struct backend *b, const struct model_config *config, enum arena_kind kind,
                          int64_t beside, struct model **out) {
    struct model *m;
    enum status st = OK;
    TRY(NEW_ARRAY(m, 1));
    m->config = *config;
    m->config.lora = NULL;
    m->backend = b;
    TRY_TO(failed, NEW_ARRAY(m->plan, 1));
    TRY_TO(failed, arena_open(b, kind, &m->base));
    TRY_TO(failed, lay_out(m));
    TRY_TO(failed, arena_allocate(m->base, beside));
    m->trained = kind == ARENA_TRAINED ? m->base : NULL;
    m->bare = m->plan;
    *out = m;
    return OK;
failed:
    model_close(m);
    return st;
}

enum status model_open(struct backend *b, const struct model_config *config, struct model **out) {
    return model_open_as(b, config, ARENA_TRAINED, 0, out);
}

void model_plan_free(struct model_plan *plan) {
    if (plan) {
        mem_free(plan->layers);
    }
    mem_free(plan);
}

void model_close(struct model *m) {
    if (!m) {
        return;
    }
    if (m->loras) {
        lora_close_all(m);
    }
    if (m->trained != m->base) {
        arena_close(m->trained);
    }
    arena_close(m->base);
    model_plan_free(m->plan);
    mem_free(m);
}
