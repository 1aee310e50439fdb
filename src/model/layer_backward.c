/* One decoder layer, backward: the chain rule over layer.c, last operation first. Weight gradients are added
 * into the gradient arena; the gradient of the residual stream goes on in place. */
#include "model/pass_internal.h"

/* dW += dy^T x, db += column sums of dy, where they are trained. */
static enum status add_weight_gradient(struct backend *b, const struct linear *w, int64_t first,
                                       struct tensor x, struct tensor dy) {
    struct gemm weight = {
        .a = dy,
        .b = x,
        .c = place_gradient(place_after(w->weight, first * w->in), dy.columns, w->in),
        .transpose_a = true,
        .alpha = 1,
        .beta = 1,
    };
    struct tensor bias = place_gradient(place_after(w->bias, first), 1, dy.columns);
    if (weight.c.data) {
        TRY(backend_gemm(b, &weight));
    }
    return bias.data ? backend_sum_rows(b, bias, dy) : OK;
}

/* The gradients of a product's weights, and dx = dy W (beta 0) or dx += (beta 1) where dx is wanted; for the
 * outputs [first, first + dy.columns) of the product. */
static enum status unapply(struct pass *p, const struct linear *w, int64_t first, struct tensor x,
                           struct tensor dy, struct tensor dx, double beta) {
    struct backend *b = p->w->backend;
    TRY(add_weight_gradient(b, w, first, x, dy));
    struct gemm input = {
        .a = dy,
        .b = place_view(place_after(w->weight, first * w->in), dy.columns, w->in),
        .c = dx,
        .alpha = 1,
        .beta = beta,
    };
    TRY(dx.data ? backend_gemm(b, &input) : OK);
    return adapters_unapply(p, w, first, x, dy, dx);
}

/* dx += the norm's gradient for dy; dy itself where there is no norm. */
static enum status unnorm(struct pass *p, const struct affine *a, struct tensor x, struct tensor statistics,
                          struct tensor dy, struct tensor dx) {
    if (!affine_is(a)) {
        return backend_add(p->w->backend, dx, 1, dy);
    }
    struct norm n = layer_norm_of(p, a, x, (struct tensor){0}, statistics);
    struct norm_gradient g = {
        .dy = dy,
        .dx = dx,
        .dweight = place_gradient(a->weight, 1, a->n),
        .dbias = place_gradient(a->bias, 1, a->n),
    };
    return backend_norm_gradient(p->w->backend, &n, &g);
}

static enum status take_zero(struct pass *p, int64_t rows, int64_t columns, struct tensor *out) {
    TRY(pass_take(p, rows, columns, "gradient", out));
    return backend_zero_tensor(p->w->backend, *out);
}

/* The gradient of a branch's product: d itself, or d through the scale and the post norm. */
static enum status leave_branch(struct pass *p, const struct affine *post, struct tensor in,
                                struct tensor statistics, struct tensor d, struct tensor *out) {
    double scale = p->model->config.residual_scale;
    *out = d;
    if (scale != 1) {
        TRY(take_zero(p, d.rows, d.columns, out));
        TRY(backend_add(p->w->backend, *out, scale, d));
        d = *out;
    }
    if (!affine_is(post)) {
        return OK;
    }
    TRY(take_zero(p, d.rows, d.columns, out));
    return unnorm(p, post, in, statistics, d, *out);
}

/* dn2: gradient of the norm's output that feeds the mlp. */
static enum status unfeed(struct pass *p, const struct layer_plan *plan, struct layer_state *s,
                          struct tensor d, struct tensor dn2) {
    const struct model_config *c = &p->model->config;
    int64_t mark = workspace_mark(p->w);
    struct tensor branch, dactivated;
    TRY(leave_branch(p, &plan->post_norm2, s->post2_in, s->stat_post2, d, &branch));
    TRY(pass_take(p, d.rows, c->ffn, "gradient", &dactivated));
    TRY(unapply(p, &plan->down, 0, s->activated, branch, dactivated, 0));
    struct activate a = {.kind = c->activation, .gate = s->gate};
    if (c->gated) {
        a.up = tensor_columns(s->up, c->ffn, c->ffn);
    }
    /* In place: the gradients of gate and up take their memory. */
    struct activate_gradient g = {.dy = dactivated, .dgate = a.gate, .dup = a.up};
    TRY(backend_activate_gradient(p->w->backend, &a, &g));
    TRY(unapply(p, &plan->up, 0, s->n2, s->up, dn2, 0));
    workspace_release(p->w, mark);
    return OK;
}

static enum status unnorm_heads(struct pass *p, const struct affine *a, struct tensor x,
                                struct tensor statistics, struct tensor *d) {
    int64_t n = a->n, rows = x.rows * (x.columns / n);
    struct tensor dx;
    TRY(take_zero(p, rows, n, &dx));
    TRY(unnorm(p, a, tensor_at(x.data, rows, n, x.type), statistics, tensor_at(d->data, rows, n, d->type),
               dx));
    *d = tensor_at(dx.data, x.rows, x.columns, x.type);
    return OK;
}

/* Gradients of q, k, v, before rope and norms. In one buffer (all) where the projection was. */
struct qkv_gradient {
    struct tensor all, q, k, v;
};
static enum status unattend(struct pass *p, int64_t l, struct layer_state *s, struct tensor dattended,
                            struct qkv_gradient *g) {
    const struct model_config *c = &p->model->config;
    const struct layer_plan *plan = &p->model->plan->layers[l];
    int64_t q = s->q.columns, kv = s->k.columns;
    *g = (struct qkv_gradient){0};
    if (s->qkv.data) {
        TRY(pass_take(p, s->qkv.rows, s->qkv.columns, "gradient", &g->all));
        g->q = tensor_columns(g->all, 0, q);
        g->k = tensor_columns(g->all, q, kv);
        g->v = tensor_columns(g->all, q + kv, kv);
    } else {
        TRY(pass_take(p, s->q.rows, q, "gradient", &g->q));
        TRY(pass_take(p, s->k.rows, kv, "gradient", &g->k));
        TRY(pass_take(p, s->v.rows, kv, "gradient", &g->v));
    }
    struct attention a = layer_attention_of(p, l, s);
    struct attention_gradient d = {.dout = dattended, .dq = g->q, .dk = g->k, .dv = g->v};
    TRY(backend_attention_gradient(p->w->backend, &a, &d));
    if (s->qkv.data) {
        return layer_turn(p, l, tensor_columns(g->all, 0, q + kv), (int)(c->heads + c->kv_heads),
                          pass_key_table(p, l), true);
    }
    TRY(layer_turn(p, l, g->q, (int)c->heads, pass_query_table(p, l), true));
    TRY(layer_turn(p, l, g->k, (int)c->kv_heads, pass_key_table(p, l), true));
    if (c->qk_norm) {
        TRY(unnorm_heads(p, &plan->q_norm, s->q_raw, s->stat_q, &g->q));
        TRY(unnorm_heads(p, &plan->k_norm, s->k_raw, s->stat_k, &g->k));
    }
    return OK;
}

/* dn1 (T, d): gradient of norm1's output. dnq (A, d), only where compact: the part that comes through the
 * active rows. */
static enum status unproject(struct pass *p, int64_t l, struct layer_state *s, const struct qkv_gradient *g,
                             struct tensor dn1, struct tensor dnq) {
    const struct linear *w = &p->model->plan->layers[l].qkv;
    int64_t q = s->q.columns, kv = s->k.columns;
    if (g->all.data) {
        return unapply(p, w, 0, s->n1, g->all, dn1, 0);
    }
    TRY(unapply(p, w, q, s->n1, g->k, dn1, 0));
    TRY(unapply(p, w, q + kv, s->n1, g->v, dn1, 1));
    return dnq.data ? unapply(p, w, 0, s->nq, g->q, dnq, 0) : unapply(p, w, 0, s->n1, g->q, dn1, 1);
}

static enum status attention_backward(struct pass *p, int64_t l, struct layer_state *s, struct tensor d,
                                      struct tensor dn1, struct tensor dnq) {
    const struct layer_plan *plan = &p->model->plan->layers[l];
    int64_t mark = workspace_mark(p->w);
    struct tensor branch, dattended;
    struct qkv_gradient g;
    TRY(leave_branch(p, &plan->post_norm1, s->post1_in, s->stat_post1, d, &branch));
    TRY(pass_take(p, d.rows, s->attended.columns, "gradient", &dattended));
    TRY(unapply(p, &plan->out, 0, s->attended, branch, dattended, 0));
    TRY(unattend(p, l, s, dattended, &g));
    TRY(unproject(p, l, s, &g, dn1, dnq));
    workspace_release(p->w, mark);
    return OK;
}

enum status layer_backward(struct pass *p, int64_t l, struct layer_state *s, struct tensor d,
                           struct tensor dx) {
    const struct model_config *c = &p->model->config;
    const struct layer_plan *plan = &p->model->plan->layers[l];
    struct backend *b = p->w->backend;
    bool compact = layer_is_compact(p, l);
    struct tensor dn2, dn1, dnq = {0};
    TRY(film_is(p, l) ? film_unapply(p, l, s->raw, d) : OK);
    TRY(pass_take(p, d.rows, c->width, "gradient", &dn2));
    TRY(pass_take(p, s->x.rows, c->width, "gradient", &dn1));
    if (compact) {
        TRY(pass_take(p, d.rows, c->width, "gradient", &dnq));
    }
    TRY(unfeed(p, plan, s, d, dn2));
    if (!c->parallel_residual) {
        TRY(unnorm(p, &plan->norm2, s->mid, s->stat2, dn2, d));
    }
    /* In parallel both branches read the same d, so that it changes only after the second. */
    TRY(attention_backward(p, l, s, d, dn1, dnq));
    if (c->parallel_residual && c->shared_norm) {
        TRY(backend_add(b, compact ? dnq : dn1, 1, dn2));
    } else if (c->parallel_residual) {
        TRY(unnorm(p, &plan->norm2, s->xa, s->stat2, dn2, d));
    }
    if (compact) {
        TRY(backend_scatter_add(b, dn1, dnq, p->active_rows));
        TRY(backend_zero_tensor(b, dx));
        TRY(backend_scatter_add(b, dx, d, p->active_rows));
        d = dx;
    }
    return unnorm(p, &plan->norm1, s->x, s->stat1, dn1, d);
}
