#include "backend/cpu/cpu_dot_attention.h"
#include "backend/cpu/cpu_softmax.h"

#include <string.h>

/* A panel of lanes. */
struct panel {
    uint16_t *q; /* along d */
    float *out;  /* d x DOT_COLUMNS */
    struct running *running;
};
/* A thread's. */
struct forward_room {
    uint16_t *keys, *values; /* panels of A: k, and v turned */
    float *scores;
    uint32_t *pairs;  /* of P: DOT_KEYS / 2 x DOT_COLUMNS */
    uint16_t *lanes;  /* rows of q, dense */
    float *row;       /* a head's */
    uint16_t *few[2]; /* of a few lanes: q and P, panels of A; */
    uint16_t *other;  /* keys or values, a panel of B; */
    float *rows;      /* their rows of out */
    struct panel panels[DOT_FORWARD_LANES / DOT_COLUMNS];
};

/* The room's parts, and its bytes. */
static int64_t open_room(const struct dot_kernel *kernel, int head_dim, char *base, struct forward_room *r) {
    int64_t at = 0, d = head_dim, depth = dot_filled(d);
    int64_t most = depth > DOT_KEYS ? depth : DOT_KEYS;
    r->keys = dot_take(base, &at, dot_in_rows(kernel, DOT_KEYS) * depth * 2);
    r->values = dot_take(base, &at, dot_in_rows(kernel, d) * DOT_KEYS * 2);
    r->scores = dot_take(base, &at, (DOT_KEYS + kernel->rows) * DOT_COLUMNS * 4);
    r->pairs = dot_take(base, &at, (int64_t)DOT_KEYS * DOT_COLUMNS * 2);
    r->lanes = dot_take(base, &at, DOT_COLUMNS * d * 2);
    r->row = dot_take(base, &at, d * 4);
    r->few[0] = dot_take(base, &at, kernel->rows * depth * 2);
    r->few[1] = dot_take(base, &at, kernel->rows * DOT_KEYS * 2);
    r->other = dot_take(base, &at, DOT_COLUMNS * most * 2);
    r->rows = dot_take(base, &at, DOT_FEW_LANES * panels_over(d, DOT_COLUMNS) * DOT_COLUMNS * 4);
    for (int i = 0; i < DOT_FORWARD_LANES / DOT_COLUMNS; i++) {
        r->panels[i].q = dot_take(base, &at, DOT_COLUMNS * depth * 2);
        r->panels[i].out = dot_take(base, &at, DOT_COLUMNS * d * 4);
        r->panels[i].running = dot_take(base, &at, (int64_t)sizeof(struct running));
    }
    return at;
}

int64_t cpu_dot_forward_bytes(const struct dot_kernel *kernel, int head_dim) {
    struct forward_room r;
    return open_room(kernel, head_dim, NULL, &r);
}

void cpu_dot_gather(const struct attention *a, struct tensor from, struct lane_tile tile, int64_t lane,
                    int64_t count, uint16_t *to) {
    for (int64_t l = lane; l < lane + count; l++) {
        memcpy(to + (l - lane) * a->head_dim,
               cpu_at(from, cpu_lane_row(a, tile, l), cpu_lane_column(a, tile, l)),
               (size_t)a->head_dim * sizeof *to);
    }
}

void cpu_dot_pack_panels(const struct dot_kernel *kernel, const struct dot_source *s, int64_t depth,
                         uint16_t *to) {
    for (int64_t line = 0; line < s->lines; line += kernel->rows) {
        cpu_dot_pack_a(s, kernel, line, 0, s->depth, to + line * depth);
    }
}

void cpu_dot_scores(const struct dot_kernel *kernel, const struct panel_view *view, int64_t head_dim,
                    const uint16_t *keys, const uint16_t *lanes, float *scores) {
    for (int64_t k = view->from; k < view->to; k += kernel->rows) {
        kernel->multiply(least(kernel->rows, view->to - k), dot_pairs(kernel, head_dim),
                         keys + k * dot_filled(head_dim), lanes, scores + k * DOT_COLUMNS);
    }
}

void cpu_dot_finish_scores(const struct attention *a, float *scores, int64_t n) {
    float scale = (float)a->scale;
    for (int64_t i = 0; i < n; i++) {
        scores[i] *= scale;
    }
    if (a->softcap > 0.0) {
        cpu_cap_scores(a->softcap, scores, n);
    }
}

void cpu_dot_add_across(const struct dot_kernel *kernel, const struct panel_view *view, int64_t count,
                        int64_t head_dim, const uint16_t *turned, const uint32_t *pairs, float *to) {
    float sums[DOT_MOST_ROWS * DOT_COLUMNS] __attribute__((aligned(64)));
    int64_t depth = least(view->to, count) - view->from;
    for (int64_t i = 0; i < head_dim; i += kernel->rows) {
        int64_t rows = least(kernel->rows, head_dim - i);
        kernel->multiply(rows, dot_pairs(kernel, depth), turned + i * DOT_KEYS + view->from * kernel->rows,
                         (const uint16_t *)(pairs + view->from / 2 * DOT_COLUMNS), sums);
        for (int64_t j = 0; j < rows * DOT_COLUMNS; j++) {
            to[i * DOT_COLUMNS + j] += sums[j];
        }
    }
}

/* out^T of a panel times what each lane keeps. */
static void keep_panel(const struct panel *p, int64_t head_dim) {
    for (int64_t d = 0; d < head_dim; d++) {
        for (int64_t l = 0; l < DOT_COLUMNS; l++) {
            p->out[d * DOT_COLUMNS + l] *= p->running->keep[l];
        }
    }
}

static void forward_panel(const struct dot_kernel *kernel, const struct key_walk *w, struct lane_tile tile,
                          int64_t lane, const struct forward_room *room) {
    const struct attention *a = w->a;
    const struct panel *p = &room->panels[lane / DOT_COLUMNS];
    struct panel_view view;
    cpu_view_dot_panel(w, tile, lane, kernel->rows, &view);
    if (view.from == view.to) {
        return;
    }
    cpu_dot_scores(kernel, &view, a->head_dim, room->keys, p->q, room->scores);
    cpu_dot_finish_scores(a, room->scores + view.from * DOT_COLUMNS, (view.to - view.from) * DOT_COLUMNS);
    softmax_panel(DOT_COLUMNS, &view, least(DOT_COLUMNS, tile.count - lane), room->scores, room->pairs,
                  p->running);
    keep_panel(p, a->head_dim);
    cpu_dot_add_across(kernel, &view, w->count, a->head_dim, room->values, room->pairs, p->out);
}

static struct dot_source dense(const void *data, enum dtype type, int64_t lines, int64_t depth,
                               int64_t step) {
    return (struct dot_source){
        .data = data, .type = type, .lines = lines, .depth = depth, .line_step = step, .k_step = 1};
}

static void forward_item(const struct dot_kernel *kernel, const struct attention *a, struct lane_tile tile,
                         const struct forward_room *room) {
    struct key_walk w = cpu_walk_start(a, tile, DOT_KEYS);
    int64_t d = a->head_dim;
    for (int64_t lane = 0; lane < tile.count; lane += DOT_COLUMNS) {
        const struct panel *p = &room->panels[lane / DOT_COLUMNS];
        int64_t lanes = least(DOT_COLUMNS, tile.count - lane);
        const struct dot_source q = dense(room->lanes, DTYPE_BF16, lanes, d, d);
        cpu_dot_gather(a, a->q, tile, lane, lanes, room->lanes);
        cpu_dot_pack_b(&q, 0, 0, d, p->q);
        memset(p->out, 0, (size_t)(d * DOT_COLUMNS) * sizeof *p->out);
        running_start(p->running, DOT_COLUMNS);
    }
    while (cpu_walk_next(&w)) {
        const struct dot_source k = dot_keys(&w, a->k, tile.kv_head),
                                v = dot_turned(dot_keys(&w, a->v, tile.kv_head));
        cpu_dot_pack_panels(kernel, &k, dot_filled(d), room->keys);
        cpu_dot_pack_panels(kernel, &v, DOT_KEYS, room->values);
        for (int64_t lane = 0; lane < tile.count; lane += DOT_COLUMNS) {
            forward_panel(kernel, &w, tile, lane, room);
        }
    }
    for (int64_t lane = 0; lane < tile.count; lane++) {
        const struct panel *p = &room->panels[lane / DOT_COLUMNS];
        int64_t l = lane % DOT_COLUMNS;
        finish_lane(a, cpu_lane_row(a, tile, lane), cpu_lane_column(a, tile, lane), p->out + l, DOT_COLUMNS,
                    p->running->largest[l], p->running->sum[l], room->row);
    }
}

/* Scores of the lanes against the walk's keys: rows of DOT_KEYS. */
static void scores_of_few(const struct dot_kernel *kernel, const struct key_walk *w, struct lane_tile tile,
                          const struct forward_room *room) {
    const struct attention *a = w->a;
    const struct dot_source k = dot_keys(w, a->k, tile.kv_head);
    float sums[DOT_MOST_ROWS * DOT_COLUMNS] __attribute__((aligned(64)));
    for (int64_t j = 0; j < w->count; j += DOT_COLUMNS) {
        cpu_dot_pack_b(&k, j, 0, a->head_dim, room->other);
        kernel->multiply(tile.count, dot_pairs(kernel, a->head_dim), room->few[0], room->other, sums);
        cpu_dot_finish_scores(a, sums, tile.count * DOT_COLUMNS);
        for (int64_t l = 0; l < tile.count; l++) {
            memcpy(room->scores + l * DOT_KEYS + j, sums + l * DOT_COLUMNS, DOT_COLUMNS * sizeof *sums);
        }
    }
}

/* The lanes' rows of out (`step` apart) += what the walk's values add. */
static void add_values(const struct dot_kernel *kernel, const struct key_walk *w, struct lane_tile tile,
                       const struct forward_room *room, int64_t step) {
    const struct attention *a = w->a;
    const struct dot_source p = dense(room->scores, DTYPE_F32, tile.count, w->count, DOT_KEYS),
                            v = dot_turned(dot_keys(w, a->v, tile.kv_head));
    float sums[DOT_MOST_ROWS * DOT_COLUMNS] __attribute__((aligned(64)));
    cpu_dot_pack_a(&p, kernel, 0, 0, w->count, room->few[1]);
    for (int64_t j = 0; j < a->head_dim; j += DOT_COLUMNS) {
        cpu_dot_pack_b(&v, j, 0, w->count, room->other);
        kernel->multiply(tile.count, dot_pairs(kernel, w->count), room->few[1], room->other, sums);
        for (int64_t l = 0; l < tile.count; l++) {
            float *to = room->rows + l * step + j;
            for (int64_t i = 0; i < DOT_COLUMNS; i++) {
                to[i] += sums[l * DOT_COLUMNS + i];
            }
        }
    }
}

static void keep_lane(float *out, float keep, int64_t n) {
    for (int64_t d = 0; d < n; d++) {
        out[d] *= keep;
    }
}

static void forward_few(const struct dot_kernel *kernel, const struct attention *a, struct lane_tile tile,
                        const struct forward_room *room) {
    struct key_walk w = cpu_walk_start(a, tile, DOT_KEYS);
    struct running *running = room->panels[0].running;
    int64_t d = a->head_dim, step = panels_over(d, DOT_COLUMNS) * DOT_COLUMNS;
    const struct dot_source q = dense(room->lanes, DTYPE_BF16, tile.count, d, d);
    cpu_dot_gather(a, a->q, tile, 0, tile.count, room->lanes);
    cpu_dot_pack_a(&q, kernel, 0, 0, d, room->few[0]);
    memset(room->rows, 0, (size_t)(tile.count * step) * sizeof *room->rows);
    running_start(running, DOT_COLUMNS);
    while (cpu_walk_next(&w)) {
        struct panel_view view;
        cpu_view_dot_panel(&w, tile, 0, kernel->rows, &view);
        scores_of_few(kernel, &w, tile, room);
        for (int64_t l = 0; l < tile.count; l++) {
            softmax_lane(DOT_KEYS, &view, l, room->scores + l * DOT_KEYS, running);
            keep_lane(room->rows + l * step, running->keep[l], step);
        }
        add_values(kernel, &w, tile, room, step);
    }
    for (int64_t l = 0; l < tile.count; l++) {
        finish_lane(a, cpu_lane_row(a, tile, l), cpu_lane_column(a, tile, l), room->rows + l * step, 1,
                    running->largest[l], running->sum[l], room->row);
    }
}

void cpu_dot_forward(const struct dot_kernel *kernel, const struct attention *a, struct lane_tile tile,
                     char *room) {
    struct forward_room r;
    open_room(kernel, a->head_dim, room, &r);
    dot_begin(kernel);
    if (tile.count <= DOT_FEW_LANES) {
        forward_few(kernel, a, tile, &r);
    } else {
        forward_item(kernel, a, tile, &r);
    }
    dot_end(kernel);
}
