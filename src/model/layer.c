/* One decoder layer, forward. Which parts there are is in the descriptor:
 *
 *   sequential   mid = x + attention(norm1 x);  y = mid + mlp(norm2 mid)
 *   parallel     y = x + attention(norm1 x) + mlp(norm2 x)      (GPT-NeoX; Phi with norm1 for both)
 *   post norms   mid = x + post1(attention(norm1 x)), and so on (Gemma 2; OLMo 2 without norm1 and norm2)
 */
#include "model/pass_internal.h"

bool layer_is_compact(const struct pass *p, int64_t l) {
    return p->compact && l == p->model->config.layers - 1;
}

static const struct rope_tables *tables_of(const struct pass *p, int64_t l) {
    const struct model_config *c = &p->model->config;
    return c->local_theta > 0 && model_window(c, l) > 0 ? &p->tables_local : &p->tables;
}

struct tensor pass_query_table(const struct pass *p, int64_t l) {
    return layer_is_compact(p, l) ? tables_of(p, l)->active : tables_of(p, l)->all;
}

struct tensor pass_key_table(const struct pass *p, int64_t l) {
    return tables_of(p, l)->all;
}

const struct attention_map *pass_layer_map(const struct pass *p, int64_t l) {
    return layer_is_compact(p, l) ? &p->last_map : p->map;
}

struct norm layer_norm_of(const struct pass *p, const struct affine *a, struct tensor x, struct tensor y,
                          struct tensor statistics) {
    const struct model_config *c = &p->model->config;
    return (struct norm){
        .kind = c->norm,
        .epsilon = c->norm_epsilon,
        .weight_offset = c->norm_offset,
        .x = x,
        .y = y,
        .weight = place_view(a->weight, 1, a->n),
        .bias = place_view(a->bias, 1, a->n),
        .statistics = statistics,
    };
}

static enum status take_norm(struct pass *p, const struct affine *a, struct tensor x, struct tensor *y,
                             struct tensor *statistics) {
    TRY(pass_take(p, x.rows, x.columns, "norm", y));
    TRY(pass_take_readout(p, x.rows, 2, "norm statistics", statistics));
    struct norm n = layer_norm_of(p, a, x, *y, *statistics);
    return backend_norm(p->w->backend, &n);
}

/* The same for a norm before a branch; without one the branch reads x. */
static enum status take_pre_norm(struct pass *p, const struct affine *a, struct tensor x, struct tensor *y,
                                 struct tensor *statistics) {
    *y = x;
    return affine_is(a) ? take_norm(p, a, x, y, statistics) : OK;
}

/* y = x W^T + b (beta 0) or y += (beta 1), for outputs [first, first + y.columns) of the product. */
static struct gemm product_of(const struct linear *w, int64_t first, struct tensor x, struct tensor y,
                              double beta) {
    return (struct gemm){
        .a = x,
        .b = place_view(place_after(w->weight, first * w->in), y.columns, w->in),
        .c = y,
        .transpose_b = true,
        .alpha = 1,
        .beta = beta,
        .bias = place_view(place_after(w->bias, first), 1, y.columns),
    };
}

static enum status apply(struct pass *p, const struct linear *w, int64_t first, struct tensor x,
                         struct tensor y, double beta) {
    struct gemm g = product_of(w, first, x, y, beta);
    TRY(backend_gemm(p->w->backend, &g));
    return adapters_apply(p, w, first, x, y);
}

static enum status copy_tensor(struct pass *p, struct tensor from, struct tensor to) {
    return backend_copy(p->w->backend, to.data, from.data, from.rows * from.columns * dtype_size(from.type));
}

enum status layer_turn(struct pass *p, int64_t l, struct tensor x, int heads, struct tensor table,
                       bool back) {
    const struct model_config *c = &p->model->config;
    struct rope r = {
        .x = x,
        .table = table,
        .heads = heads,
        .head_dim = (int)c->head_dim,
        .rotary_dim = c->rope.rotary_dim,
        .interleaved = c->rope.interleaved,
        .inverse = back,
    };
    return c->rope.rotary_dim && model_turns(c, l) ? backend_rope(p->w->backend, &r) : OK;
}

/* RMS norm of each head: rows are heads; or of all heads at once. */
static enum status norm_heads(struct pass *p, const struct affine *a, struct tensor x, struct tensor *y,
                              struct tensor *statistics) {
    struct tensor rows = tensor_at(x.data, x.rows * (x.columns / a->n), a->n, x.type), out;
    TRY(take_norm(p, a, rows, &out, statistics));
    *y = tensor_at(out.data, x.rows, x.columns, x.type);
    return OK;
}

/* q, k and v of one product and in one buffer, or (qk norms, or q of fewer rows than k and v) on their own.
 */
static enum status project(struct pass *p, int64_t l, struct layer_state *s) {
    const struct model_config *c = &p->model->config;
    const struct layer_plan *plan = &p->model->plan->layers[l];
    int64_t q = c->heads * c->head_dim, kv = c->kv_heads * c->head_dim;
    if (!c->qk_norm && !layer_is_compact(p, l)) {
        TRY(pass_take(p, s->n1.rows, q + 2 * kv, "queries, keys, values", &s->qkv));
        TRY(apply(p, &plan->qkv, 0, s->n1, s->qkv, 0));
        s->q = tensor_columns(s->qkv, 0, q);
        s->k = tensor_columns(s->qkv, q, kv);
        s->v = tensor_columns(s->qkv, q + kv, kv);
        return layer_turn(p, l, tensor_columns(s->qkv, 0, q + kv), (int)(c->heads + c->kv_heads),
                          pass_key_table(p, l), false);
    }
    TRY(pass_take(p, s->nq.rows, q, "queries", &s->q_raw));
    TRY(pass_take(p, s->n1.rows, kv, "keys", &s->k_raw));
    TRY(pass_take(p, s->n1.rows, kv, "values", &s->v));
    TRY(apply(p, &plan->qkv, 0, s->nq, s->q_raw, 0));
    TRY(apply(p, &plan->qkv, q, s->n1, s->k_raw, 0));
    TRY(apply(p, &plan->qkv, q + kv, s->n1, s->v, 0));
    s->q = s->q_raw;
    s->k = s->k_raw;
    if (c->qk_norm) {
        TRY(norm_heads(p, &plan->q_norm, s->q_raw, &s->q, &s->stat_q));
        TRY(norm_heads(p, &plan->k_norm, s->k_raw, &s->k, &s->stat_k));
    }
    TRY(layer_turn(p, l, s->q, (int)c->heads, pass_query_table(p, l), false));
    return layer_turn(p, l, s->k, (int)c->kv_heads, pass_key_table(p, l), false);
}

struct attention layer_attention_of(const struct pass *p, int64_t l, const struct layer_state *s) {
    const struct model_config *c = &p->model->config;
    return (struct attention){
        .map = pass_layer_map(p, l),
        .heads = (int)c->heads,
        .kv_heads = (int)c->kv_heads,
        .head_dim = (int)c->head_dim,
        .window = model_window(c, l),
        .scale = c->attention_scale,
        .softcap = c->attention_softcap,
        .q = s->q,
        .k = s->k,
        .v = s->v,
        .out = s->attended,
        .lse = s->lse,
    };
}

static enum status attend(struct pass *p, int64_t l, struct layer_state *s) {
    const struct model_config *c = &p->model->config;
    TRY(project(p, l, s));
    TRY(pass_take(p, s->q.rows, c->heads * c->head_dim, "attention", &s->attended));
    if (p->keep != KEEP_NOTHING) {
        TRY(pass_take_readout(p, s->q.rows, c->heads, "attention statistics", &s->lse));
    }
    struct attention a = layer_attention_of(p, l, s);
    if (p->cache) {
        TRY(cache_add(p->cache, p, l, s));
    }
    if (p->attend_cache) {
        cache_layer(p->cache, l, &a.k, &a.v);
    }
    return backend_attention(p->w->backend, &a);
}

static enum status feed(struct pass *p, const struct layer_plan *plan, struct layer_state *s) {
    const struct model_config *c = &p->model->config;
    TRY(pass_take(p, s->n2.rows, plan->up.out, "feed-forward", &s->up));
    s->gate = tensor_columns(s->up, 0, c->ffn);
    TRY(pass_take(p, s->n2.rows, c->ffn, "activation", &s->activated));
    struct activate a = {.kind = c->activation, .gate = s->gate, .y = s->activated};
    if (c->gated) {
        a.up = tensor_columns(s->up, c->ffn, c->ffn);
    }
    if (plan->up.n_adapters > 0) {
        TRY(apply(p, &plan->up, 0, s->n2, s->up, 0));
        return backend_activate(p->w->backend, &a);
    }
    struct gemm g = product_of(&plan->up, 0, s->n2, s->up, 0);
    return backend_gemm_activate(p->w->backend, &g, &a);
}

/* to += residual_scale * post_norm(x W^T + b), or without the norm where there is none. */
static enum status add_branch(struct pass *p, const struct linear *w, const struct affine *post,
                              struct tensor x, struct tensor to, struct tensor *in,
                              struct tensor *statistics) {
    double scale = p->model->config.residual_scale;
    if (!affine_is(post) && scale == 1) {
        return apply(p, w, 0, x, to, 1);
    }
    TRY(pass_take(p, to.rows, to.columns, "branch", in));
    TRY(apply(p, w, 0, x, *in, 0));
    struct tensor out = *in;
    if (affine_is(post)) {
        TRY(take_norm(p, post, *in, &out, statistics));
    }
    return backend_add(p->w->backend, to, scale, out);
}

/* Norm1 and the rows that go on. */
static enum status enter(struct pass *p, int64_t l, struct layer_state *s) {
    const struct layer_plan *plan = &p->model->plan->layers[l];
    TRY(take_pre_norm(p, &plan->norm1, s->x, &s->n1, &s->stat1));
    s->xa = s->x;
    s->nq = s->n1;
    if (!layer_is_compact(p, l)) {
        return OK;
    }
    TRY(pass_take(p, p->n_active, s->x.columns, "rows read out", &s->xa));
    TRY(backend_gather(p->w->backend, s->xa, s->x, p->active_rows));
    s->nq = s->xa;
    if (!affine_is(&plan->norm1)) {
        return OK;
    }
    TRY(pass_take(p, p->n_active, s->x.columns, "rows read out", &s->nq));
    return backend_gather(p->w->backend, s->nq, s->n1, p->active_rows);
}

/* Without FiLM. */
static enum status block_forward(struct pass *p, int64_t l, struct layer_state *s, bool want_y) {
    const struct model_config *c = &p->model->config;
    const struct layer_plan *plan = &p->model->plan->layers[l];
    TRY(enter(p, l, s));
    TRY(attend(p, l, s));
    if (!s->y.data && want_y) {
        TRY(pass_take(p, s->xa.rows, c->width, "residual", &s->y));
    }
    if (c->parallel_residual) {
        s->n2 = s->nq;
        if (!c->shared_norm) {
            TRY(take_norm(p, &plan->norm2, s->xa, &s->n2, &s->stat2));
        }
        TRY(feed(p, plan, s));
        if (!want_y) {
            return OK;
        }
        TRY(copy_tensor(p, s->xa, s->y));
        TRY(apply(p, &plan->out, 0, s->attended, s->y, 1));
        return apply(p, &plan->down, 0, s->activated, s->y, 1);
    }
    TRY(pass_take(p, s->xa.rows, c->width, "residual", &s->mid));
    TRY(copy_tensor(p, s->xa, s->mid));
    TRY(add_branch(p, &plan->out, &plan->post_norm1, s->attended, s->mid, &s->post1_in, &s->stat_post1));
    TRY(take_pre_norm(p, &plan->norm2, s->mid, &s->n2, &s->stat2));
    TRY(feed(p, plan, s));
    if (!want_y && !c->post_norms) {
        return OK;
    }
    if (!s->y.data) {
        TRY(pass_take(p, s->xa.rows, c->width, "residual", &s->y));
    }
    TRY(copy_tensor(p, s->mid, s->y));
    return add_branch(p, &plan->down, &plan->post_norm2, s->activated, s->y, &s->post2_in, &s->stat_post2);
}

enum status layer_forward(struct pass *p, int64_t l, struct layer_state *s, bool want_y) {
    struct tensor y = s->y;
    if (!film_is(p, l)) {
        return block_forward(p, l, s, want_y);
    }
    s->y = (struct tensor){0};
    TRY(block_forward(p, l, s, true));
    s->raw = s->y;
    s->y = y;
    if (!want_y) {
        return OK;
    }
    TRY(y.data ? OK : pass_take(p, s->raw.rows, s->raw.columns, "residual", &s->y));
    return film_apply(p, l, s->raw, s->y);
}
