/* What adapters add to a product, and their gradients. Both products with the rank are made anew in backward:
 * they are small beside the base's. */
#include "model/pass_internal.h"
#include "util/hash.h"
#include "util/mem.h"
#include "util/rng.h"

void pass_drop(struct pass *p, uint64_t seed, int64_t step) {
    p->drop_seed = seed;
    p->drop_step = step;
}

enum status adapters_name_tokens(struct pass *p, const struct forest *f) {
    if (p->drop_step < 0) {
        return OK;
    }
    TRY(GROW_ARRAY(p->drop_keys, p->cap_drop_keys, f->n_tokens));
    for (int32_t i = 0, root = 0; i < f->n_segments; i++) {
        const struct segment *s = &f->segments[i];
        root = s->parent < 0 ? i : root; /* a tree's segments follow its root */
        uint64_t tree = hash_join((uint64_t)s->row, (uint64_t)(i - root));
        for (int32_t t = 0; t < s->count; t++) {
            p->drop_keys[s->first + t] = hash_join(tree, (uint64_t)s->position + (uint64_t)t);
        }
    }
    return OK;
}

/* 0 or 1 / (1 - rate) for each element of an input of these rows. */
static enum status draw_mask(struct pass *p, const struct adapter *a, int64_t rows, int64_t columns) {
    bool all = rows == p->n_rows;
    double kept = 1 / (1 - a->dropout);
    uint32_t bound = (uint32_t)(a->dropout * 0x1p32);
    TRY(GROW_ARRAY(p->mask, p->cap_mask, rows * columns));
#pragma omp parallel for schedule(static) num_threads(p->w->backend->caps.threads)
    for (int64_t r = 0; r < rows; r++) {
        uint64_t key = hash_join(p->drop_keys[all ? r : p->active[r]], a->stream);
        struct rng g = rng_stream(p->drop_seed, RNG_DROPOUT, (int64_t)key, p->drop_step);
        for (int64_t j = 0; j < columns; j++) {
            p->mask[r * columns + j] = rng_u32(&g) < bound ? 0 : (float)kept;
        }
    }
    return OK;
}

static enum status put_mask(struct pass *p, struct tensor to) {
    int64_t n = to.rows * to.columns;
    if (to.type == DTYPE_F32) {
        return backend_write(p->w->backend, to.data, p->mask, n * (int64_t)sizeof *p->mask);
    }
    TRY(pass_need_numbers(p, n));
    for (int64_t i = 0; i < n; i++) {
        p->numbers[i] = (double)p->mask[i];
    }
    return backend_write_doubles(p->w->backend, to, p->numbers);
}

/* The mask of an adapter's input; none where nothing is dropped. */
static enum status take_mask(struct pass *p, const struct adapter *a, struct tensor x, struct tensor *out) {
    *out = (struct tensor){0};
    if (p->drop_step < 0 || a->dropout == 0) {
        return OK;
    }
    TRY(pass_take(p, x.rows, x.columns, "dropout", out));
    TRY(draw_mask(p, a, x.rows, x.columns));
    return put_mask(p, *out);
}

/* out = mask * x, or x itself where there is no mask. A mask is positive, so relu(mask) is the mask. */
static enum status drop(struct pass *p, struct tensor mask, struct tensor x, struct tensor *out) {
    *out = x;
    if (!mask.data) {
        return OK;
    }
    TRY(pass_take(p, x.rows, x.columns, "dropout", out));
    const struct activate a = {.kind = ACTIVATION_RELU, .gate = mask, .up = x, .y = *out};
    return backend_activate(p->w->backend, &a);
}

/* An adapter's outputs that lie in [first, first + columns) of its product, as columns of that range, and the
 * rows of B that give them. */
struct overlap {
    int64_t column, count;
    struct tensor b;
    struct place b_at;
};
static struct overlap overlap_of(const struct adapter *a, int64_t first, int64_t columns) {
    int64_t low = first > a->first ? first : a->first;
    int64_t end = first + columns < a->first + a->count ? first + columns : a->first + a->count;
    struct overlap o = {.column = low - first, .count = end - low};
    o.b_at = place_after(a->b, (low - a->first) * a->rank);
    o.b = o.count > 0 ? place_view(o.b_at, o.count, a->rank) : (struct tensor){0};
    return o;
}

/* low = drop(x) A^T. */
static enum status lower(struct pass *p, const struct adapter *a, struct tensor dropped, struct tensor *low) {
    TRY(pass_take(p, dropped.rows, a->rank, "adapter", low));
    const struct gemm g = {.a = dropped,
                           .b = place_view(a->a, a->rank, dropped.columns),
                           .c = *low,
                           .transpose_b = true,
                           .alpha = 1};
    return backend_gemm(p->w->backend, &g);
}

enum status adapters_apply(struct pass *p, const struct linear *w, int64_t first, struct tensor x,
                           struct tensor y) {
    for (int i = 0; i < w->n_adapters; i++) {
        const struct adapter *a = &w->adapters[i];
        struct overlap o = overlap_of(a, first, y.columns);
        int64_t mark = workspace_mark(p->w);
        struct tensor mask, dropped, low;
        if (o.count <= 0) {
            continue;
        }
        TRY(take_mask(p, a, x, &mask));
        TRY(drop(p, mask, x, &dropped));
        TRY(lower(p, a, dropped, &low));
        const struct gemm g = {.a = low,
                               .b = o.b,
                               .c = tensor_columns(y, o.column, o.count),
                               .transpose_b = true,
                               .alpha = a->scale,
                               .beta = 1};
        TRY(backend_gemm(p->w->backend, &g));
        workspace_release(p->w, mark);
    }
    return OK;
}

/* dx += mask * (dlow A). */
static enum status raise(struct pass *p, const struct adapter *a, struct tensor mask, struct tensor dlow,
                         struct tensor dx) {
    struct tensor to = dx, dropped;
    if (mask.data) {
        TRY(pass_take(p, dx.rows, dx.columns, "adapter", &to));
    }
    const struct gemm g = {.a = dlow,
                           .b = place_view(a->a, a->rank, dx.columns),
                           .c = to,
                           .alpha = 1,
                           .beta = mask.data ? 0 : 1};
    TRY(backend_gemm(p->w->backend, &g));
    TRY(drop(p, mask, to, &dropped));
    return mask.data ? backend_add(p->w->backend, dx, 1, dropped) : OK;
}

/* The gradients of one adapter's A and B for the gradient dy of the outputs that it has a part in. */
static enum status unapply_one(struct pass *p, const struct adapter *a, const struct overlap *o,
                               struct tensor x, struct tensor dy, struct tensor dx) {
    struct backend *b = p->w->backend;
    struct tensor mask, dropped, low, dlow;
    TRY(take_mask(p, a, x, &mask));
    TRY(drop(p, mask, x, &dropped));
    TRY(lower(p, a, dropped, &low));
    TRY(pass_take(p, x.rows, a->rank, "adapter", &dlow));
    const struct gemm down = {.a = dy, .b = o->b, .c = dlow, .alpha = a->scale};
    const struct gemm db = {.a = dy,
                            .b = low,
                            .c = place_gradient(o->b_at, o->count, a->rank),
                            .transpose_a = true,
                            .alpha = a->scale,
                            .beta = 1};
    const struct gemm da = {.a = dlow,
                            .b = dropped,
                            .c = place_gradient(a->a, a->rank, x.columns),
                            .transpose_a = true,
                            .alpha = 1,
                            .beta = 1};
    TRY(backend_gemm(b, &down));
    TRY(db.c.data ? backend_gemm(b, &db) : OK);
    TRY(da.c.data ? backend_gemm(b, &da) : OK);
    return dx.data ? raise(p, a, mask, dlow, dx) : OK;
}

enum status adapters_unapply(struct pass *p, const struct linear *w, int64_t first, struct tensor x,
                             struct tensor dy, struct tensor dx) {
    for (int i = 0; i < w->n_adapters; i++) {
        const struct overlap o = overlap_of(&w->adapters[i], first, dy.columns);
        int64_t mark = workspace_mark(p->w);
        if (o.count <= 0) {
            continue;
        }
        TRY(unapply_one(p, &w->adapters[i], &o, x, tensor_columns(dy, o.column, o.count), dx));
        workspace_release(p->w, mark);
    }
    return OK;
}
