#include "backend/cpu/cpu_dot_attention.h"
#include "backend/cpu/cpu_softmax.h"

#include <string.h>

/* A panel of lanes: q and dout along d, dq (d x DOT_COLUMNS), and the rows of the key tile that it met. */
struct panel {
    uint16_t *q, *dout;
    float *dq;
    struct panel_view view;
};
/* A thread's. */
struct backward_room {
    uint16_t *keys, *values, *turned; /* panels of A: k, v, and k turned */
    float *scores, *dp;               /* of a panel */
    uint16_t *p, *ds;                 /* P and scale * dS: DOT_KEYS x DOT_BACKWARD_LANES */
    uint32_t *pairs;                  /* of a panel's scale * dS */
    uint16_t *block;                  /* a panel of A of p or ds */
    uint16_t *q, *dout;               /* panels of B along the tile's lanes */
    uint16_t *lanes;                  /* rows of q or dout, dense */
    float *lse, *d;                   /* DOT_BACKWARD_LANES */
    float *rows[2];                   /* a head's */
    struct panel panels[DOT_BACKWARD_LANES / DOT_COLUMNS];
};

/* The room's parts, and its bytes. */
static int64_t open_room(const struct dot_kernel *kernel, int head_dim, char *base, struct backward_room *r) {
    int64_t at = 0, d = head_dim, depth = dot_filled(d);
    int64_t columns = panels_over(d, DOT_COLUMNS) * DOT_COLUMNS;
    r->keys = dot_take(base, &at, dot_in_rows(kernel, DOT_KEYS) * depth * 2);
    r->values = dot_take(base, &at, dot_in_rows(kernel, DOT_KEYS) * depth * 2);
    r->turned = dot_take(base, &at, dot_in_rows(kernel, d) * DOT_KEYS * 2);
    r->scores = dot_take(base, &at, (DOT_KEYS + kernel->rows) * DOT_COLUMNS * 4);
    r->dp = dot_take(base, &at, (DOT_KEYS + kernel->rows) * DOT_COLUMNS * 4);
    r->p = dot_take(base, &at, (int64_t)DOT_KEYS * DOT_BACKWARD_LANES * 2);
    r->ds = dot_take(base, &at, (int64_t)DOT_KEYS * DOT_BACKWARD_LANES * 2);
    r->pairs = dot_take(base, &at, (int64_t)(DOT_KEYS + DOT_ROUND) * DOT_COLUMNS * 2);
    r->block = dot_take(base, &at, kernel->rows * DOT_BACKWARD_LANES * 2);
    r->q = dot_take(base, &at, columns * DOT_BACKWARD_LANES * 2);
    r->dout = dot_take(base, &at, columns * DOT_BACKWARD_LANES * 2);
    r->lanes = dot_take(base, &at, DOT_BACKWARD_LANES * d * 2);
    r->lse = dot_take(base, &at, DOT_BACKWARD_LANES * 4);
    r->d = dot_take(base, &at, DOT_BACKWARD_LANES * 4);
    r->rows[0] = dot_take(base, &at, d * 4);
    r->rows[1] = dot_take(base, &at, d * 4);
    for (int i = 0; i < DOT_BACKWARD_LANES / DOT_COLUMNS; i++) {
        r->panels[i].q = dot_take(base, &at, DOT_COLUMNS * depth * 2);
        r->panels[i].dout = dot_take(base, &at, DOT_COLUMNS * depth * 2);
        r->panels[i].dq = dot_take(base, &at, DOT_COLUMNS * d * 4);
    }
    return at;
}

int64_t cpu_dot_backward_bytes(const struct dot_kernel *kernel, int head_dim) {
    struct backward_room r;
    return open_room(kernel, head_dim, NULL, &r);
}

/* A vector rounded to bf16. */
static inline __attribute__((always_inline)) void put_rounded(uint16_t *to, vec x) {
    typedef uint16_t halves __attribute__((vector_size(LANES * 2)));
    typedef halves halves_any __attribute__((aligned(2), may_alias));
    *(halves_any *)to = (halves_any) __builtin_convertvector(vec_rounded(x) >> 16, halves);
}

/* P and scale * dS of one vector of a panel's lanes, the panel beginning at a lane. */
static inline __attribute__((always_inline)) void gradient_side(const bool is_whole, float cap, float scale,
                                                                const struct panel_view *view,
                                                                const struct backward_room *room,
                                                                int64_t lane, int side) {
    int64_t at = (int64_t)side * LANES;
    mask low = (mask) * (const mask_any *)(view->low + at);
    mask high = (mask) * (const mask_any *)(view->high + at);
    vec lse = vec_at(room->lse + lane + at);
    vec d = vec_at(room->d + lane + at);
    for (int64_t k = view->from; k < view->to; k++) {
        vec p = vec_at(room->scores + k * DOT_COLUMNS + at), ds = vec_at(room->dp + k * DOT_COLUMNS + at);
        gradient_of(is_whole, cap, k, low, high, lse, d, &p, &ds);
        put_rounded(room->p + k * DOT_BACKWARD_LANES + lane + at, p);
        put_rounded(room->ds + k * DOT_BACKWARD_LANES + lane + at, scale * ds);
    }
}

static void gradient_panel(const struct attention *a, const struct panel_view *view,
                           const struct backward_room *room, int64_t lane, int64_t lanes) {
    float cap = (float)a->softcap, scale = (float)a->scale;
    for (int side = 0; side * LANES < lanes; side++) {
        if (!view->is_whole) {
            gradient_side(false, cap, scale, view, room, lane, side);
        } else if (cap > 0.0f) {
            gradient_side(true, cap, scale, view, room, lane, side);
        } else {
            gradient_side(true, 0.0f, scale, view, room, lane, side);
        }
    }
}

/* P and dS of a panel against the walk's keys, and what they add to its dQ. */
static void backward_panel(const struct dot_kernel *kernel, const struct key_walk *w, struct lane_tile tile,
                           int64_t lane, struct backward_room *room) {
    const struct attention *a = w->a;
    struct panel *panel = &room->panels[lane / DOT_COLUMNS];
    const struct panel_view *view = &panel->view;
    cpu_view_dot_panel(w, tile, lane, kernel->rows, &panel->view);
    if (view->from == view->to) {
        return;
    }
    int64_t keys = view->to - view->from;
    cpu_dot_scores(kernel, view, a->head_dim, room->keys, panel->q, room->scores);
    cpu_dot_finish_scores(a, room->scores + view->from * DOT_COLUMNS, keys * DOT_COLUMNS);
    cpu_dot_scores(kernel, view, a->head_dim, room->values, panel->dout, room->dp);
    gradient_panel(a, view, room, lane, least(DOT_COLUMNS, tile.count - lane));
    const struct dot_source ds = {.data = room->ds + view->from * DOT_BACKWARD_LANES + lane,
                                  .type = DTYPE_BF16,
                                  .lines = DOT_COLUMNS,
                                  .depth = keys,
                                  .line_step = 1,
                                  .k_step = DOT_BACKWARD_LANES};
    cpu_dot_pack_b(&ds, 0, 0, keys, (uint16_t *)(room->pairs + view->from / 2 * DOT_COLUMNS));
    cpu_dot_add_across(kernel, view, w->count, a->head_dim, room->turned, room->pairs, panel->dq);
}

/* to (so many rows of d) += a panel of A along lanes times panels of B. */
static void add_down(const struct dot_kernel *kernel, int64_t rows, int64_t d, int64_t pairs,
                     const uint16_t *a, const uint16_t *b, const struct sink *to, int64_t row) {
    float sums[DOT_MOST_ROWS * DOT_COLUMNS] __attribute__((aligned(64)));
    for (int64_t j = 0; j < d; j += DOT_COLUMNS) {
        int64_t columns = least(DOT_COLUMNS, d - j);
        kernel->multiply(rows, pairs, a, b + j * DOT_BACKWARD_LANES, sums);
        for (int64_t i = 0; i < rows; i++) {
            float *at = to->data + (row - to->first + i) * to->stride + j;
            for (int64_t l = 0; l < columns; l++) {
                at[l] += sums[i * DOT_COLUMNS + l];
            }
        }
    }
}

/* What the tile's lanes add to dK and dV, a block of keys at a time: of the panels that met it, which lie
 * side by side. */
static void add_to_keys(const struct dot_kernel *kernel, const struct key_walk *w, struct lane_tile tile,
                        const struct backward_room *room, const struct sinks *to) {
    int64_t d = w->a->head_dim, panels = panels_over(tile.count, DOT_COLUMNS);
    for (int64_t k = 0; k < w->count; k += kernel->rows) {
        int64_t first = 0, last = panels;
        while (first < last && room->panels[first].view.to <= k) {
            first++;
        }
        while (last > first && room->panels[last - 1].view.from > k) {
            last--;
        }
        if (first == last) {
            continue;
        }
        int64_t lane = first * DOT_COLUMNS, lanes = least(last * DOT_COLUMNS, tile.count) - lane;
        int64_t rows = least(kernel->rows, w->count - k), pairs = dot_pairs(kernel, lanes);
        struct dot_source s = {.data = room->p + k * DOT_BACKWARD_LANES + lane,
                               .type = DTYPE_BF16,
                               .lines = rows,
                               .depth = lanes,
                               .line_step = DOT_BACKWARD_LANES,
                               .k_step = 1};
        cpu_dot_pack_a(&s, kernel, 0, 0, lanes, room->block);
        add_down(kernel, rows, d, pairs, room->block, room->dout + lane * DOT_COLUMNS, &to->dv, w->row + k);
        s.data = room->ds + k * DOT_BACKWARD_LANES + lane;
        cpu_dot_pack_a(&s, kernel, 0, 0, lanes, room->block);
        add_down(kernel, rows, d, pairs, room->block, room->q + lane * DOT_COLUMNS, &to->dk, w->row + k);
    }
}

/* Rows of q or dout to panels of B: along d, for each panel of lanes, and along the lanes. */
static void pack_lanes(const struct attention *a, struct tensor from, struct lane_tile tile,
                       const struct backward_room *room, bool is_q) {
    int64_t d = a->head_dim;
    struct dot_source s = {.data = room->lanes,
                           .type = DTYPE_BF16,
                           .lines = tile.count,
                           .depth = d,
                           .line_step = d,
                           .k_step = 1};
    cpu_dot_gather(a, from, tile, 0, tile.count, room->lanes);
    for (int64_t lane = 0; lane < tile.count; lane += DOT_COLUMNS) {
        const struct panel *p = &room->panels[lane / DOT_COLUMNS];
        cpu_dot_pack_b(&s, lane, 0, d, is_q ? p->q : p->dout);
    }
    s = dot_turned(s);
    for (int64_t j = 0; j < d; j += DOT_COLUMNS) {
        cpu_dot_pack_b(&s, j, 0, tile.count, (is_q ? room->q : room->dout) + j * DOT_BACKWARD_LANES);
    }
}

/* The tile's q and dout, lse and D. */
static void open_lanes(const struct attention_backward *call, struct lane_tile tile,
                       const struct backward_room *room) {
    const struct attention *a = &call->attention;
    struct tensor from = call->gradient.dout;
    pack_lanes(a, a->q, tile, room, true);
    pack_lanes(a, from, tile, room, false);
    for (int64_t l = 0; l < panels_over(tile.count, DOT_COLUMNS) * DOT_COLUMNS; l++) {
        room->lse[l] = room->d[l] = 0.0f;
        if (l >= tile.count) {
            continue;
        }
        int64_t row = cpu_lane_row(a, tile, l), column = cpu_lane_column(a, tile, l);
        const float *out = cpu_load(a->out, row, column, a->head_dim, room->rows[0]);
        const float *dout = cpu_load(from, row, column, a->head_dim, room->rows[1]);
        room->d[l] = row_product(out, dout, a->head_dim);
        room->lse[l] = cpu_row(a->lse, row)[column / a->head_dim];
    }
    for (int64_t lane = 0; lane < tile.count; lane += DOT_COLUMNS) {
        float *dq = room->panels[lane / DOT_COLUMNS].dq;
        memset(dq, 0, (size_t)(a->head_dim * DOT_COLUMNS) * sizeof *dq);
    }
}

static void close_lanes(const struct attention_backward *call, struct lane_tile tile,
                        const struct backward_room *room) {
    const struct attention *a = &call->attention;
    for (int64_t l = 0; l < tile.count; l++) {
        int64_t row = cpu_lane_row(a, tile, l), column = cpu_lane_column(a, tile, l);
        const float *from = room->panels[l / DOT_COLUMNS].dq + l % DOT_COLUMNS;
        float *dq = cpu_place(call->gradient.dq, row, column, room->rows[0]);
        for (int64_t j = 0; j < a->head_dim; j++) {
            dq[j] = from[j * DOT_COLUMNS];
        }
        cpu_store(call->gradient.dq, row, column, a->head_dim, dq);
    }
}

void cpu_dot_backward(const struct dot_kernel *kernel, const struct attention_backward *call,
                      struct lane_tile tile, char *room, const struct sinks *to) {
    const struct attention *a = &call->attention;
    struct key_walk w = cpu_walk_start(a, tile, DOT_KEYS);
    struct backward_room r;
    open_room(kernel, a->head_dim, room, &r);
    open_lanes(call, tile, &r);
    dot_begin(kernel);
    while (cpu_walk_next(&w)) {
        const struct dot_source k = dot_keys(&w, a->k, tile.kv_head), turned = dot_turned(k),
                                v = dot_keys(&w, a->v, tile.kv_head);
        cpu_dot_pack_panels(kernel, &k, dot_filled(a->head_dim), r.keys);
        cpu_dot_pack_panels(kernel, &v, dot_filled(a->head_dim), r.values);
        cpu_dot_pack_panels(kernel, &turned, DOT_KEYS, r.turned);
        for (int64_t lane = 0; lane < tile.count; lane += DOT_COLUMNS) {
            backward_panel(kernel, &w, tile, lane, &r);
        }
        add_to_keys(kernel, &w, tile, &r, to);
    }
    close_lanes(call, tile, &r);
    dot_end(kernel);
}
