#include "backend/cpu/cpu_attention.h"
#include "backend/cpu/cpu_vec.h"

#include <string.h>

static int64_t clamp(int64_t x, int64_t low, int64_t high) {
    return x < low ? low : x > high ? high : x;
}

int64_t cpu_lane_row(const struct attention *a, struct lane_tile tile, int64_t lane) {
    return a->map->spans[tile.span].first + (tile.first + lane) / cpu_group_of(a);
}

int64_t cpu_tile_lanes(int64_t lanes, int64_t most, int64_t width) {
    int64_t tiles = panels_over(lanes, most);
    return tiles == 0 ? most : panels_over(panels_over(lanes, tiles), width) * width;
}

int64_t cpu_count_tiles(const struct attention *a, int64_t most, int64_t width) {
    int64_t n = 0;
    for (int32_t s = 0; s < a->map->span_count; s++) {
        int64_t lanes = (int64_t)a->map->spans[s].count * cpu_group_of(a);
        n += panels_over(lanes, cpu_tile_lanes(lanes, most, width));
    }
    return n;
}

/* Keys that the tile's lane sees, before the window. */
static int64_t seen_by(const struct key_walk *w, struct lane_tile tile, int64_t lane) {
    int64_t query = (tile.first + lane) / cpu_group_of(w->a);
    return w->is_causal ? w->total - w->span->count + query + 1 : w->total;
}

struct key_walk cpu_walk_start(const struct attention *a, struct lane_tile tile, int32_t keys) {
    struct key_walk w = {.a = a, .span = &a->map->spans[tile.span], .tile = keys};
    const struct key_range *ranges = a->map->ranges + w.span->range_first;
    for (int32_t i = 0; i < w.span->range_count; i++) {
        w.total += ranges[i].count;
    }
    w.is_causal = ranges[w.span->range_count - 1].causal;
    w.seen_first = seen_by(&w, tile, 0);
    w.seen_last = seen_by(&w, tile, tile.count - 1);
    return w;
}

bool cpu_walk_next(struct key_walk *w) {
    const struct key_range *ranges = w->a->map->ranges + w->span->range_first;
    int64_t lowest = w->a->window > 0 ? w->seen_first - w->a->window : 0;
    while (w->range < w->span->range_count) {
        const struct key_range *range = &ranges[w->range];
        if (w->offset >= range->count) {
            w->base += range->count;
            w->offset = 0;
            w->range++;
            continue;
        }
        w->row = range->first + w->offset;
        w->position = w->base + w->offset;
        w->count = least(range->count - w->offset, w->tile);
        w->offset += w->count;
        if (w->position >= w->seen_last) {
            return false;
        }
        if (w->position + w->count > lowest) {
            w->count = least(w->count, w->seen_last - w->position);
            return true;
        }
    }
    return false;
}

static inline __attribute__((always_inline)) void view_panel(const int64_t width, int64_t rows,
                                                             const struct key_walk *w, struct lane_tile tile,
                                                             int64_t lane, struct panel_view *out) {
    int64_t lanes = least(tile.count - lane, width);
    for (int64_t l = 0; l < width; l++) {
        int64_t seen = seen_by(w, tile, lane + least(l, lanes - 1)) - w->position;
        int64_t high = clamp(seen, 0, w->count);
        out->high[l] = (int32_t)high;
        out->low[l] = w->a->window > 0 ? (int32_t)clamp(seen - w->a->window, 0, high) : 0;
    }
    /* Later lanes see later keys. */
    out->from = out->low[0] / rows * rows;
    out->to = panels_over(out->high[width - 1], rows) * rows;
    out->from = least(out->from, out->to);
}

/* Blocks [from, to) are what all lanes see throughout. */
static void view_whole(struct panel_view *v, int64_t width) {
    v->is_whole = v->low[width - 1] <= v->from && v->high[0] >= v->to;
}

void cpu_view_panel(const struct key_walk *w, struct lane_tile tile, int64_t lane, struct panel_view *out) {
    view_panel(WIDTH, PANEL_ROWS, w, tile, lane, out);
    view_whole(out, WIDTH);
}

void cpu_view_dot_panel(const struct key_walk *w, struct lane_tile tile, int64_t lane, int64_t rows,
                        struct panel_view *out) {
    view_panel(DOT_COLUMNS, rows, w, tile, lane, out);
    out->to = least(out->to, w->tile);
    view_whole(out, DOT_COLUMNS);
}

void cpu_turn_lanes(const struct attention *a, struct tensor from, struct lane_tile tile, int64_t lane,
                    float *to, float *room) {
    int64_t lanes = least(tile.count - lane, WIDTH);
    if (lanes < WIDTH) {
        memset(to, 0, (size_t)(a->head_dim * WIDTH) * sizeof *to);
    }
    for (int64_t l = 0; l < lanes; l++) {
        const float *x = cpu_load(from, cpu_lane_row(a, tile, lane + l), cpu_lane_column(a, tile, lane + l),
                                  a->head_dim, room);
        for (int64_t d = 0; d < a->head_dim; d++) {
            to[d * WIDTH + l] = x[d];
        }
    }
}

void cpu_pack_keys(const struct key_walk *w, struct tensor from, int kv_head, float *to) {
    int64_t depth = w->a->head_dim;
    const struct product p = {.m = w->count,
                              .k = depth,
                              .a = cpu_at(from, w->row, kv_head * depth),
                              .lda = from.stride,
                              .type_a = from.type};
    for (int64_t i = 0; i < w->count; i += PANEL_ROWS) {
        cpu_pack_rows(&p, i, 0, depth, to + i * depth);
    }
}

void cpu_copy_keys(const struct key_walk *w, struct tensor from, int kv_head, float *to, int64_t stride) {
    int64_t n = w->a->head_dim;
    for (int64_t i = 0; i < w->count; i++) {
        float *row = to + i * stride;
        const float *x = cpu_load(from, w->row + i, kv_head * n, n, row);
        if (x != row) {
            memcpy(row, x, (size_t)n * sizeof *to);
        }
        for (int64_t j = n; j < stride; j++) {
            row[j] = 0.0f;
        }
    }
}

void cpu_cap_scores(double cap, float *scores, int64_t n) {
    float c = (float)cap;
    for (int64_t j = 0; j < n; j++) {
        scores[j] = c * cpu_tanh(scores[j] / c);
    }
}

/* Where a product's operands lie: a's value (i, k) at i * row + k * step. */
struct operands {
    const float *restrict a;
    int64_t row, step;
    const float *restrict b;
    int64_t ldb, depth;
};

/* rows x sides vectors of sums, each one chain over k. */
static inline __attribute__((always_inline)) void chains(const int rows, const int sides, struct operands o,
                                                         vec out[PANEL_ROWS][2]) {
    vec c[PANEL_ROWS][2];
#pragma GCC unroll 16
    for (int i = 0; i < rows; i++) {
        c[i][0] = c[i][1] = (vec){0};
    }
    for (int64_t k = 0; k < o.depth; k++) {
        vec b0 = vec_at(o.b + k * o.ldb);
        vec b1 = sides > 1 ? vec_at(o.b + k * o.ldb + LANES) : b0;
#pragma GCC unroll 16
        for (int i = 0; i < rows; i++) {
            float x = o.a[i * o.row + k * o.step];
            c[i][0] += x * b0;
            if (sides > 1) {
                c[i][1] += x * b1;
            }
        }
    }
#pragma GCC unroll 16
    for (int i = 0; i < rows; i++) {
        out[i][0] = c[i][0];
        out[i][1] = c[i][1];
    }
}

static inline __attribute__((always_inline)) void put(const int rows, const int sides, const bool is_new,
                                                      float alpha, vec sums[PANEL_ROWS][2], float *c,
                                                      int64_t ldc) {
#pragma GCC unroll 16
    for (int i = 0; i < rows; i++) {
#pragma GCC unroll 2
        for (int side = 0; side < sides; side++) {
            float *to = c + i * ldc + side * LANES;
            vec_put(to, is_new ? alpha * sums[i][side] : alpha * sums[i][side] + vec_at(to));
        }
    }
}

static inline __attribute__((always_inline)) void scores_of_block(const int sides,
                                                                  const struct tile_product *p, int64_t i) {
    vec sums[PANEL_ROWS][2];
    chains(PANEL_ROWS, sides, (struct operands){p->a + i * p->depth, 1, PANEL_ROWS, p->b, p->ldb, p->depth},
           sums);
    put(PANEL_ROWS, sides, true, p->alpha, sums, p->c + i * p->ldc, p->ldc);
}

void cpu_multiply_scores(const struct tile_product *p) {
    for (int64_t i = 0; i < p->rows; i += PANEL_ROWS) {
        if (p->columns > LANES) {
            scores_of_block(2, p, i);
        } else {
            scores_of_block(1, p, i);
        }
    }
}

/* So many rows of c, from row i on. */
static inline __attribute__((always_inline)) void across(const int rows, const struct tile_product *p,
                                                         int64_t i) {
    vec sums[PANEL_ROWS][2];
    const struct operands o = {p->a + i, 1, p->lda, p->b, p->ldb, p->depth};
    if (p->columns > LANES) {
        chains(rows, 2, o, sums);
        put(rows, 2, false, p->alpha, sums, p->c + i * p->ldc, p->ldc);
    } else {
        chains(rows, 1, o, sums);
        put(rows, 1, false, p->alpha, sums, p->c + i * p->ldc, p->ldc);
    }
}

void cpu_multiply_across(const struct tile_product *p) {
    int64_t i = 0;
    while (i < p->rows) {
        int64_t rest = p->rows - i;
        if (rest >= PANEL_ROWS) {
            across(PANEL_ROWS, p, i);
            i += PANEL_ROWS;
#if defined(__AVX512F__)
        } else if (rest >= 8) {
            across(8, p, i);
            i += 8;
#endif
        } else if (rest >= 4) {
            across(4, p, i);
            i += 4;
        } else {
            across(1, p, i);
            i++;
        }
    }
}

/* The part of a block that is inside c. */
static void add_part(const struct tile_product *p, int64_t i, int64_t j, vec sums[PANEL_ROWS][2]) {
    int64_t columns = least(p->columns - j, WIDTH);
    for (int64_t r = 0; r < least(PANEL_ROWS, p->rows - i); r++) {
        const float *from = (const float *)sums[r];
        float *to = p->c + (i + r) * p->ldc + j;
        for (int64_t l = 0; l < columns; l++) {
            to[l] += p->alpha * from[l];
        }
    }
}

static inline __attribute__((always_inline)) void down(const int sides, const struct tile_product *p,
                                                       int64_t i, int64_t j) {
    vec sums[PANEL_ROWS][2];
    chains(PANEL_ROWS, sides,
           (struct operands){p->a + i * BACKWARD_LANES, BACKWARD_LANES, 1, p->b + j, p->ldb, p->depth}, sums);
    if (p->rows - i >= PANEL_ROWS && p->columns - j >= sides * LANES) {
        put(PANEL_ROWS, sides, false, p->alpha, sums, p->c + i * p->ldc + j, p->ldc);
    } else {
        add_part(p, i, j, sums);
    }
}

void cpu_multiply_down(const struct tile_product *p) {
    for (int64_t j = 0; j < p->columns; j += WIDTH) {
        for (int64_t i = 0; i < p->rows; i += PANEL_ROWS) {
            if (p->columns - j > LANES) {
                down(2, p, i, j);
            } else {
                down(1, p, i, j);
            }
        }
    }
}
