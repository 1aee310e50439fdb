#include "model/pass_internal.h"

static void report(pass_on_final *on_final, void *context, int64_t first) {
    if (on_final) {
        on_final(context, first);
    }
}

/* Readouts and final norm: d becomes the gradient of the last layer's output. */
static enum status leave_head(struct pass *p, const struct readout_gradients *g, struct tensor d) {
    const struct affine *a = &p->model->plan->final_norm;
    struct backend *b = p->w->backend;
    int64_t mark = workspace_mark(p->w);
    struct tensor dhidden;
    TRY(pass_take(p, d.rows, d.columns, "gradient", &dhidden));
    TRY(backend_zero_tensor(b, dhidden));
    TRY(backend_zero_tensor(b, d));
    TRY(readouts_backward(p, g, dhidden));
    struct tensor y = p->layers[p->model->config.layers - 1].y;
    struct norm n = layer_norm_of(p, a, y, (struct tensor){0}, p->final_statistics);
    struct norm_gradient ng = {
        .dy = dhidden,
        .dx = d,
        .dweight = place_gradient(a->weight, 1, a->n),
        .dbias = place_gradient(a->bias, 1, a->n),
    };
    TRY(backend_norm_gradient(b, &n, &ng));
    workspace_release(p->w, mark);
    return OK;
}

static enum status layer_step(struct pass *p, int64_t l, struct tensor d, struct tensor dx) {
    int64_t mark = workspace_mark(p->w);
    struct layer_state again = {.x = p->layers[l].x};
    struct layer_state *s = &p->layers[l];
    if (p->keep == KEEP_INPUTS) {
        TRY(layer_forward(p, l, &again, false));
        s = &again;
    }
    TRY(layer_backward(p, l, s, d, dx));
    workspace_release(p->w, mark);
    return OK;
}

/* dtable += scale * d at the rows that ids name, where the table is trained. */
static enum status leave_table(struct pass *p, struct place table, int64_t rows, struct tensor d,
                               struct tensor ids, double scale) {
    struct tensor gradient = place_gradient(table, rows, d.columns);
    return gradient.data ? backend_embed_gradient(p->w->backend, gradient, d, ids, scale) : OK;
}

static enum status leave_embedding(struct pass *p, struct tensor d) {
    const struct model *m = p->model;
    const struct model_config *c = &m->config;
    TRY(leave_table(p, m->plan->embed, c->vocabulary, d, p->tokens, c->embedding_scale));
    return c->learned_positions ? leave_table(p, m->plan->positions, c->max_positions, d, p->positions, 1)
                                : OK;
}

enum status pass_backward(struct pass *p, const struct readout_gradients *g, pass_on_final *on_final,
                          void *context) {
    const struct model *m = p->model;
    const struct model_config *c = &m->config;
    if (!p->is_forward_done || p->is_backward_done || p->keep == KEEP_NOTHING || !m->trained ||
        !m->trained->sink.data) {
        return fail(ERR_INTERNAL,
                    "pass: backward needs one forward pass that keeps activations, and gradients");
    }
    p->is_backward_done = true;
    int64_t mark = workspace_mark(p->w);
    struct tensor d, dx;
    TRY(pass_take(p, p->n_rows, c->width, "gradient", &dx));
    d = dx;
    if (p->compact) {
        TRY(pass_take(p, p->n_active, c->width, "gradient", &d));
    }
    TRY(film_begin_backward(p));
    TRY(leave_head(p, g, d));
    report(on_final, context, m->plan->tail);
    for (int64_t l = c->layers - 1; l >= 0; l--) {
        TRY(layer_step(p, l, d, dx));
        d = dx;
        report(on_final, context, m->plan->layers[l].first);
    }
    TRY(leave_embedding(p, d));
    TRY(film_end_backward(p));
    report(on_final, context, 0);
    workspace_release(p->w, mark);
    return OK;
}
