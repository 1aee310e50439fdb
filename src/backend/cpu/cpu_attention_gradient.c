/* Attention's gradient. With P = exp(S - lse), D = rowsum(dO * O),
 *     dV = P^T dO,  dS = P * (dO V^T - D),  dQ = scale dS K,  dK = scale dS^T Q
 * P and dS of a tile are made once and serve all three sums. One item is (group of spans, key head): spans
 * that share key rows are in one group, so that an item alone adds into its rows of dK and dV, in a fixed
 * order. cpu_attention.h says what a lane is and how tiles lie. */
#include "backend/cpu/cpu_attention.h"
#include "backend/cpu/cpu_dot_attention.h"
#include "backend/cpu/cpu_softmax.h"

#include <omp.h>
#include <string.h>

/* Consecutive spans that share key rows, and the hull [low, high) of those rows. */
struct span_group {
    int32_t first, count;
    int64_t low, high;
};

/* Groups of spans with disjoint hulls, in order of rows; at most one per span. A span whose keys begin
 * before an earlier group's end joins that group and all after it; one without keys goes with those before
 * it, so that no group but the first is without. */
static int64_t group_spans(const struct attention_map *map, struct span_group *groups) {
    int64_t n = 0;
    for (int32_t s = 0; s < map->span_count; s++) {
        const struct query_span *span = &map->spans[s];
        struct span_group g = {.first = s, .count = 1, .low = INT64_MAX, .high = 0};
        for (int32_t i = 0; i < span->range_count; i++) {
            const struct key_range *range = &map->ranges[span->range_first + i];
            if (range->count > 0) {
                g.low = range->first < g.low ? range->first : g.low;
                int64_t end = (int64_t)range->first + range->count;
                g.high = end > g.high ? end : g.high;
            }
        }
        if (n > 0 && g.low > g.high) {
            groups[n - 1].count++;
            continue;
        }
        while (n > 0 && groups[n - 1].high > g.low) {
            n--;
            g.first = groups[n].first;
            g.count += groups[n].count;
            g.low = groups[n].low < g.low ? groups[n].low : g.low;
            g.high = groups[n].high > g.high ? groups[n].high : g.high;
        }
        groups[n++] = g;
    }
    return n;
}

/* A panel of lanes: q, dout and dq, turned (head_dim x WIDTH), and the rows of the key tile that it met. */
struct panel {
    float *q, *dout, *dq;
    struct panel_view view;
};
/* A thread's. */
struct backward_room {
    float *packed_keys, *packed_values, *keys; /* KEYS rows */
    float *scores, *gradients;                 /* KEYS x BACKWARD_LANES: P and dS */
    float *q, *dout;                           /* BACKWARD_LANES rows in whole vectors */
    float *lse, *d;                            /* BACKWARD_LANES */
    float *row;                                /* a head's */
    struct panel panels[BACKWARD_LANES / WIDTH];
};

static int64_t room_floats(int head_dim) {
    int64_t d = cpu_padded(head_dim);
    int64_t n = 3 * KEYS * d + 2 * KEYS * (int64_t)BACKWARD_LANES + 2 * BACKWARD_LANES * d +
                2 * BACKWARD_LANES + d + 3 * d * BACKWARD_LANES;
    return (n + 15) / 16 * 16;
}

/* The next n floats. */
static float *take(float **next, int64_t n) {
    float *at = *next;
    *next += n;
    return at;
}

static void room_open(float *next, int head_dim, struct backward_room *r) {
    int64_t d = cpu_padded(head_dim);
    r->scores = take(&next, KEYS * (int64_t)BACKWARD_LANES);
    r->gradients = take(&next, KEYS * (int64_t)BACKWARD_LANES);
    r->packed_keys = take(&next, KEYS * d);
    r->packed_values = take(&next, KEYS * d);
    r->keys = take(&next, KEYS * d);
    r->q = take(&next, BACKWARD_LANES * d);
    r->dout = take(&next, BACKWARD_LANES * d);
    r->lse = take(&next, BACKWARD_LANES);
    r->d = take(&next, BACKWARD_LANES);
    r->row = take(&next, d);
    for (int i = 0; i < BACKWARD_LANES / WIDTH; i++) {
        r->panels[i].q = take(&next, d * WIDTH);
        r->panels[i].dout = take(&next, d * WIDTH);
        r->panels[i].dq = take(&next, d * WIDTH);
    }
}

static struct sink sink_of(struct tensor to, int64_t first, int64_t column, int head_dim, float *room) {
    bool is_direct = to.type == DTYPE_F32;
    return (struct sink){.to = to,
                         .first = first,
                         .column = column,
                         .stride = is_direct ? to.stride : head_dim,
                         .data = is_direct ? cpu_at(to, first, column) : room};
}

static void sink_store(const struct sink *s, int64_t rows, int head_dim) {
    for (int64_t i = 0; i < rows; i++) {
        cpu_store(s->to, s->first + i, s->column, head_dim, s->data + i * s->stride);
    }
}

/* P and dS of one vector of lanes in the place of scores and dP. */
static inline __attribute__((always_inline)) void gradient_side(const bool is_whole, float cap,
                                                                const struct panel_view *view,
                                                                const struct backward_room *room,
                                                                int64_t lane, int side) {
    int64_t at = (int64_t)side * LANES;
    mask low = (mask) * (const mask_any *)(view->low + at);
    mask high = (mask) * (const mask_any *)(view->high + at);
    vec lse = vec_at(room->lse + lane + at);
    vec d = vec_at(room->d + lane + at);
    for (int64_t k = view->from; k < view->to; k++) {
        float *p = room->scores + k * BACKWARD_LANES + lane + at;
        float *ds = room->gradients + k * BACKWARD_LANES + lane + at;
        vec e = vec_at(p), slope = vec_at(ds);
        gradient_of(is_whole, cap, k, low, high, lse, d, &e, &slope);
        vec_put(p, e);
        vec_put(ds, slope);
    }
}

static void gradient_panel(const struct attention *a, const struct panel_view *view,
                           const struct backward_room *room, int64_t lane, int64_t lanes) {
    float cap = (float)a->softcap;
    for (int side = 0; side * LANES < lanes; side++) {
        if (!view->is_whole) {
            gradient_side(false, cap, view, room, lane, side);
        } else if (cap > 0.0f) {
            gradient_side(true, cap, view, room, lane, side);
        } else {
            gradient_side(true, 0.0f, view, room, lane, side);
        }
    }
}

/* P and dS of a panel against the walk's keys, and what they add to its dQ. */
static void backward_panel(const struct key_walk *w, struct lane_tile tile, int64_t lane,
                           struct backward_room *room) {
    const struct attention *a = w->a;
    struct panel *panel = &room->panels[lane / WIDTH];
    const struct panel_view *view = &panel->view;
    int64_t lanes = tile.count - lane < WIDTH ? tile.count - lane : WIDTH;
    cpu_view_panel(w, tile, lane, &panel->view);
    if (view->from == view->to) {
        return;
    }
    int64_t at = view->from * BACKWARD_LANES + lane;
    struct tile_product p = {.rows = view->to - view->from,
                             .columns = lanes,
                             .depth = a->head_dim,
                             .a = room->packed_keys + view->from * a->head_dim,
                             .b = panel->q,
                             .c = room->scores + at,
                             .ldb = WIDTH,
                             .ldc = BACKWARD_LANES,
                             .alpha = (float)a->scale};
    cpu_multiply_scores(&p);
    for (int64_t k = view->from; k < view->to && a->softcap > 0.0; k++) {
        cpu_cap_scores(a->softcap, room->scores + k * BACKWARD_LANES + lane, cpu_written(lanes));
    }
    p.a = room->packed_values + view->from * a->head_dim;
    p.b = panel->dout;
    p.c = room->gradients + at;
    p.alpha = 1.0f;
    cpu_multiply_scores(&p);
    gradient_panel(a, view, room, lane, lanes);
    int64_t end = view->to < w->count ? view->to : w->count;
    cpu_multiply_across(&(struct tile_product){.rows = a->head_dim,
                                               .columns = lanes,
                                               .depth = end - view->from,
                                               .a = room->keys + view->from * a->head_dim,
                                               .b = room->gradients + at,
                                               .c = panel->dq,
                                               .lda = a->head_dim,
                                               .ldb = BACKWARD_LANES,
                                               .ldc = WIDTH,
                                               .alpha = (float)a->scale});
}

/* What the tile's lanes add to dK and dV, a block of PANEL_ROWS keys at a time: of the panels that met it,
 * which lie side by side. */
static void add_to_keys(const struct key_walk *w, struct lane_tile tile, const struct backward_room *room,
                        const struct sinks *to) {
    int64_t d = w->a->head_dim;
    int64_t panels = panels_over(tile.count, WIDTH);
    for (int64_t k = 0; k < w->count; k += PANEL_ROWS) {
        int64_t first = 0;
        int64_t last = panels;
        while (first < last && room->panels[first].view.to <= k) {
            first++;
        }
        while (last > first && room->panels[last - 1].view.from > k) {
            last--;
        }
        int64_t lane = first * WIDTH;
        int64_t end = last * WIDTH < tile.count ? last * WIDTH : tile.count;
        if (end <= lane) {
            continue;
        }
        int64_t key = w->row + k;
        struct tile_product p = {.rows = w->count - k < PANEL_ROWS ? w->count - k : PANEL_ROWS,
                                 .columns = d,
                                 .depth = end - lane,
                                 .a = room->scores + k * BACKWARD_LANES + lane,
                                 .b = room->dout + lane * cpu_padded(d),
                                 .c = to->dv.data + (key - to->dv.first) * to->dv.stride,
                                 .ldb = cpu_padded(d),
                                 .ldc = to->dv.stride,
                                 .alpha = 1.0f};
        cpu_multiply_down(&p);
        p.a = room->gradients + k * BACKWARD_LANES + lane;
        p.b = room->q + lane * cpu_padded(d);
        p.c = to->dk.data + (key - to->dk.first) * to->dk.stride;
        p.ldc = to->dk.stride;
        p.alpha = (float)w->a->scale;
        cpu_multiply_down(&p);
    }
}

/* A row of a head in whole vectors. */
static const float *copy_row(struct tensor from, int64_t row, int64_t column, int head_dim, float *to) {
    const float *x = cpu_load(from, row, column, head_dim, to);
    if (x != to) {
        memcpy(to, x, (size_t)head_dim * sizeof *to);
    }
    for (int64_t j = head_dim; j < cpu_padded(head_dim); j++) {
        to[j] = 0.0f;
    }
    return to;
}

/* The tile's q and dout, both ways, lse and D. */
static void open_lanes(const struct attention *a, const struct attention_gradient *g, struct lane_tile tile,
                       struct backward_room *room) {
    int64_t d = cpu_padded(a->head_dim);
    for (int64_t lane = 0; lane < tile.count; lane += WIDTH) {
        struct panel *p = &room->panels[lane / WIDTH];
        cpu_turn_lanes(a, a->q, tile, lane, p->q, room->row);
        cpu_turn_lanes(a, g->dout, tile, lane, p->dout, room->row);
        memset(p->dq, 0, (size_t)(a->head_dim * WIDTH) * sizeof *p->dq);
    }
    for (int64_t l = 0; l < panels_over(tile.count, WIDTH) * WIDTH; l++) {
        room->lse[l] = room->d[l] = 0.0f;
        if (l >= tile.count) {
            continue;
        }
        int64_t row = cpu_lane_row(a, tile, l);
        int64_t column = cpu_lane_column(a, tile, l);
        const float *out = cpu_load(a->out, row, column, a->head_dim, room->row);
        const float *dout = copy_row(g->dout, row, column, a->head_dim, room->dout + l * d);
        (void)copy_row(a->q, row, column, a->head_dim, room->q + l * d);
        room->d[l] = row_product(out, dout, a->head_dim);
        room->lse[l] = cpu_row(a->lse, row)[column / a->head_dim];
    }
}

static void close_lanes(const struct attention *a, const struct attention_gradient *g, struct lane_tile tile,
                        const struct backward_room *room) {
    for (int64_t l = 0; l < tile.count; l++) {
        int64_t row = cpu_lane_row(a, tile, l);
        int64_t column = cpu_lane_column(a, tile, l);
        const float *from = room->panels[l / WIDTH].dq + l % WIDTH;
        float *dq = cpu_place(g->dq, row, column, room->row);
        for (int64_t j = 0; j < a->head_dim; j++) {
            dq[j] = from[j * WIDTH];
        }
        cpu_store(g->dq, row, column, a->head_dim, dq);
    }
}

/* One tile of lanes' dQ, and its part of dK and dV. */
static void backward_tile(const struct attention *a, const struct attention_gradient *g,
                          struct lane_tile tile, struct backward_room *room, const struct sinks *to) {
    struct key_walk w = cpu_walk_start(a, tile, KEYS);
    open_lanes(a, g, tile, room);
    while (cpu_walk_next(&w)) {
        cpu_pack_keys(&w, a->k, tile.kv_head, room->packed_keys);
        cpu_pack_keys(&w, a->v, tile.kv_head, room->packed_values);
        cpu_copy_keys(&w, a->k, tile.kv_head, room->keys, a->head_dim);
        for (int64_t lane = 0; lane < tile.count; lane += WIDTH) {
            backward_panel(&w, tile, lane, room);
        }
        add_to_keys(&w, tile, room, to);
    }
    close_lanes(a, g, tile, room);
}

/* A thread's: of its tiles; two times as many fp32 rows of a head as a group has keys, where dK and dV are
 * not fp32. */
struct backward_memory {
    const struct dot_kernel *dot;
    char *room;
    float *rows;
};

static void add_span(const struct attention_backward *call, int32_t span, int kv_head,
                     const struct backward_memory *memory, const struct sinks *to) {
    const struct attention *a = &call->attention;
    const struct dot_kernel *dot = memory->dot;
    struct backward_room room;
    int64_t lanes = (int64_t)a->map->spans[span].count * cpu_group_of(a);
    int64_t length = dot ? cpu_tile_lanes(lanes, DOT_BACKWARD_LANES, DOT_COLUMNS)
                         : cpu_tile_lanes(lanes, BACKWARD_LANES, WIDTH);
    room_open((float *)(void *)memory->room, a->head_dim, &room);
    for (int64_t lane = 0; lane < lanes; lane += length) {
        struct lane_tile tile = {span, kv_head, lane, lanes - lane < length ? lanes - lane : length};
        if (dot) {
            cpu_dot_backward(dot, call, tile, memory->room, to);
        } else {
            backward_tile(a, &call->gradient, tile, &room, to);
        }
    }
}

static void backward_item(const struct attention_backward *call, struct span_group group, int kv_head,
                          const struct backward_memory *memory) {
    const struct attention *a = &call->attention;
    const struct attention_gradient *g = &call->gradient;
    float *rows = memory->rows;
    int64_t keys = group.high > group.low ? group.high - group.low : 0;
    int64_t first = keys > 0 ? group.low : 0;
    int64_t column = (int64_t)kv_head * a->head_dim;
    struct sinks to = {
        .dk = sink_of(g->dk, first, column, a->head_dim, rows),
        .dv = sink_of(g->dv, first, column, a->head_dim, rows),
    };
    if (g->dk.type != DTYPE_F32 && keys > 0) { /* else the tensors themselves, which are zero */
        to.dv.data = rows + keys * a->head_dim;
        memset(rows, 0, (size_t)(2 * keys * a->head_dim) * sizeof *rows);
    }
    for (int32_t s = group.first; s < group.first + group.count; s++) {
        add_span(call, s, kv_head, memory, &to);
    }
    sink_store(&to.dk, keys, a->head_dim);
    sink_store(&to.dv, keys, a->head_dim);
}

static int64_t most_keys(const struct span_group *groups, int64_t n) {
    int64_t most = 0;
    for (int64_t i = 0; i < n; i++) {
        int64_t keys = groups[i].high - groups[i].low;
        most = keys > most ? keys : most;
    }
    return most;
}

int64_t cpu_backward_bytes(const struct dot_kernel *dot, int head_dim) {
    return dot ? cpu_dot_backward_bytes(dot, head_dim) : room_floats(head_dim) * (int64_t)sizeof(float);
}

enum status CPU_OPERATION(attention_gradient)(struct backend *b, const struct attention_backward *call) {
    const struct attention *a = &call->attention;
    const struct attention_gradient *g = &call->gradient;
    struct cpu *cpu = cpu_of(b);
    int64_t bytes = cpu_backward_bytes(cpu->dot, a->head_dim);
    void *scratch = NULL;
    TRY(cpu_scratch(cpu, SCRATCH_ATTENTION,
                    cpu->threads * bytes + a->map->span_count * (int64_t)sizeof(struct span_group),
                    &scratch));
    struct span_group *groups = (void *)((char *)scratch + cpu->threads * bytes);
    int64_t n_groups = group_spans(a->map, groups);
    int64_t room = g->dk.type == DTYPE_F32 ? 0 : 2 * most_keys(groups, n_groups) * a->head_dim;
    void *rooms = NULL;
    TRY(cpu_scratch(cpu, SCRATCH_ROWS, cpu->threads * room * (int64_t)sizeof(float), &rooms));
    int64_t row_bytes = g->dk.columns * dtype_size(g->dk.type);
#pragma omp parallel for num_threads(cpu->threads)
    for (int64_t i = 0; i < g->dk.rows; i++) {
        memset(cpu_at(g->dk, i, 0), 0, (size_t)row_bytes);
        memset(cpu_at(g->dv, i, 0), 0, (size_t)row_bytes);
    }
#pragma omp parallel for num_threads(cpu->threads) schedule(dynamic, 1)
    for (int64_t item = 0; item < n_groups * a->kv_heads; item++) {
        int thread = omp_get_thread_num();
        const struct backward_memory memory = {cpu->dot, (char *)scratch + thread * bytes,
                                               room > 0 ? (float *)rooms + thread * room : NULL};
        backward_item(call, groups[item / a->kv_heads], (int)(item % a->kv_heads), &memory);
    }
    return OK;
}
