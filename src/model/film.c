#include "model/film.h"

#include <stdio.h>

#include "model/pass_internal.h"
#include "util/mem.h"

enum status film_add(struct arena *a, const struct film_layout *f, int64_t layer, int64_t width,
                     struct film_plan *out) {
    const struct {
        const char *name;
        int64_t rows, columns;
        int init;
        bool joined; /* with the one before, so that one product makes gamma and beta */
        struct place *place;
    } parts[] = {{"gamma.weight", width, f->width, INIT_NORMAL, false, &out->weight},
                 {"beta.weight", width, f->width, INIT_NORMAL, true, NULL},
                 {"gamma.bias", 1, width, INIT_ONE, false, &out->bias},
                 {"beta.bias", 1, width, INIT_ZERO, true, NULL}};
    for (int i = 0; i < COUNT_OF(parts); i++) {
        bool is_weight = parts[i].init == INIT_NORMAL;
        struct parameter p = {.rows = parts[i].rows,
                              .columns = parts[i].columns,
                              .decay = is_weight,
                              .n_dims = is_weight ? 2 : 1,
                              .init = is_weight && f->deviation == 0 ? INIT_ZERO : parts[i].init,
                              .deviation = f->deviation,
                              .rate = f->rate};
        snprintf(p.name, sizeof p.name, "film.layers.%lld.%s", (long long)layer, parts[i].name);
        TRY(arena_add(a, &p, parts[i].joined, parts[i].place));
    }
    out->width = f->width;
    return OK;
}

static const struct film_plan *plan_of(const struct pass *p, int64_t l) {
    return &p->model->plan->layers[l].film;
}

bool film_is(const struct pass *p, int64_t l) {
    return p->z.data && plan_of(p, l)->weight.arena;
}

void pass_condition(struct pass *p, const struct condition *c) {
    p->condition = c;
}

/* Conditions of the rows, and of those that go on in the last layer. */
static enum status put_conditions(struct pass *p, const int32_t *conditions, int32_t n) {
    TRY(pass_put_ids(p, conditions, n, "conditions", &p->row_conditions));
    p->active_conditions = p->row_conditions;
    if (!p->compact) {
        return OK;
    }
    TRY(GROW_ARRAY(p->scratch, p->cap_scratch, p->n_active));
    for (int32_t i = 0; i < p->n_active; i++) {
        p->scratch[i] = conditions[p->active[i]];
    }
    return pass_put_ids(p, p->scratch, p->n_active, "conditions", &p->active_conditions);
}

enum status film_begin(struct pass *p, const int32_t *conditions, int32_t n) {
    const struct condition *c = p->condition;
    const struct film_plan *first = plan_of(p, 0);
    p->z = p->dz = (struct tensor){0};
    if (!c || !conditions || !first->weight.arena) {
        return OK;
    }
    if (c->width != first->width || c->n < 1) {
        return fail(ERR_INTERNAL, "pass: %d conditions of width %lld; the model has %lld", c->n,
                    (long long)c->width, (long long)first->width);
    }
    TRY(pass_take(p, c->n, c->width, "conditions", &p->z));
    TRY(backend_write_doubles(p->w->backend, p->z, c->z));
    return put_conditions(p, conditions, n);
}

/* gamma and beta of every condition, side by side: (n, 2 d). */
static enum status modulation(struct pass *p, int64_t l, int64_t width, struct tensor *out) {
    const struct film_plan *f = plan_of(p, l);
    TRY(pass_take(p, p->z.rows, 2 * width, "modulation", out));
    const struct gemm g = {.a = p->z,
                           .b = place_view(f->weight, 2 * width, f->width),
                           .c = *out,
                           .transpose_b = true,
                           .alpha = 1,
                           .bias = place_view(f->bias, 1, 2 * width)};
    return backend_gemm(p->w->backend, &g);
}

static struct film film_of(const struct pass *p, int64_t l, struct tensor x, struct tensor y,
                           struct tensor modulations) {
    return (struct film){.x = x,
                         .y = y,
                         .scale = tensor_columns(modulations, 0, x.columns),
                         .shift = tensor_columns(modulations, x.columns, x.columns),
                         .conditions = layer_is_compact(p, l) ? p->active_conditions : p->row_conditions};
}

enum status film_apply(struct pass *p, int64_t l, struct tensor x, struct tensor y) {
    int64_t mark = workspace_mark(p->w);
    struct tensor modulations;
    TRY(modulation(p, l, x.columns, &modulations));
    const struct film f = film_of(p, l, x, y, modulations);
    TRY(backend_film(p->w->backend, &f));
    workspace_release(p->w, mark);
    return OK;
}

/* From the gradient of gamma and beta: those of their weights, where they are trained, and of z. */
static enum status unmodulate(struct pass *p, int64_t l, struct tensor d) {
    const struct film_plan *f = plan_of(p, l);
    struct backend *b = p->w->backend;
    const struct gemm weight = {.a = d,
                                .b = p->z,
                                .c = place_gradient(f->weight, d.columns, f->width),
                                .transpose_a = true,
                                .alpha = 1,
                                .beta = 1};
    struct tensor bias = place_gradient(f->bias, 1, d.columns);
    const struct gemm z = {
        .a = d, .b = place_view(f->weight, d.columns, f->width), .c = p->dz, .alpha = 1, .beta = 1};
    TRY(weight.c.data ? backend_gemm(b, &weight) : OK);
    TRY(bias.data ? backend_sum_rows(b, bias, d) : OK);
    return backend_gemm(b, &z);
}

enum status film_unapply(struct pass *p, int64_t l, struct tensor x, struct tensor d) {
    int64_t mark = workspace_mark(p->w);
    struct tensor modulations, dmodulations;
    TRY(modulation(p, l, x.columns, &modulations));
    TRY(pass_take(p, p->z.rows, 2 * x.columns, "modulation", &dmodulations));
    const struct film f = film_of(p, l, x, (struct tensor){0}, modulations);
    const struct film_gradient g = {.d = d,
                                    .dscale = tensor_columns(dmodulations, 0, x.columns),
                                    .dshift = tensor_columns(dmodulations, x.columns, x.columns)};
    TRY(backend_film_gradient(p->w->backend, &f, &g));
    TRY(unmodulate(p, l, dmodulations));
    workspace_release(p->w, mark);
    return OK;
}

enum status film_begin_backward(struct pass *p) {
    if (!p->z.data) {
        return OK;
    }
    TRY(pass_take(p, p->z.rows, p->z.columns, "gradient", &p->dz));
    return backend_zero_tensor(p->w->backend, p->dz);
}

enum status film_end_backward(struct pass *p) {
    int64_t n = p->z.rows * p->z.columns;
    if (!p->z.data || !p->condition->dz) {
        return OK;
    }
    TRY(pass_need_numbers(p, n));
    TRY(backend_read_doubles(p->w->backend, p->numbers, p->dz));
    for (int64_t i = 0; i < n; i++) {
        p->condition->dz[i] += p->numbers[i];
    }
    return OK;
}
