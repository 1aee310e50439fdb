/* Attention in tiles with an online softmax (Milakov and Gimelshein 2018; Dao et al. 2022).
 *
 * A span's keys are its ranges' keys laid end to end; a key has a position there. Query q of a span's n sees
 * the positions [seen - window, seen), seen = total - n + q + 1 where the last range is causal, else total:
 * always one interval, so a tile of scores needs no mask, only each query's first and last visible key.
 *
 *     keys        0 ............. p | p+1 ....... n     positions among the span's keys
 *     query i     [=================|====]              the prompt whole, its own segment up to itself
 *     query i+1   [=================|=====]             with a window w: [----========= of the last w
 *
 * Online softmax, per query, over tiles of scores S: with the largest score m and the sum l of e^(S - m) so
 * far, a tile with maximum m' turns out and l into e^(m - max) times themselves before it adds its own, max =
 * max(m, m'); at the end out / l, and lse = m + log l is all that backward needs to make P again.
 *
 * Tiles of keys begin where ranges begin, so what a query adds up, and in which order, is the same whichever
 * queries are beside it: a sum of a tile's values runs over its keys in order, that of the exponentials over
 * its even and its odd keys. Keys that a query does not see are zeros there, times values of other rows: they
 * change no sum of finite values. A step of decoding has a lane or a few in a span: they take the same sums
 * from k and v as they lie.
 *
 * One item is (tile of lanes, key head); cpu_attention.h says what a lane is.
 */
#include "backend/cpu/cpu_attention.h"
#include "backend/cpu/cpu_dot_attention.h"
#include "backend/cpu/cpu_softmax.h"

#include <omp.h>
#include <string.h>

/* Spans of at most so many lanes are taken lane by lane. */
enum { FEW_LANES = 4 };
/* A lane's row of scores, in whole vectors. */
enum { SCORES = (KEYS + LANES - 1) / LANES * LANES };

/* A panel of lanes; a few lanes have q and out as rows. */
struct panel {
    float *q, *out; /* head_dim x WIDTH */
    struct running *running;
};
/* A thread's. */
struct forward_room {
    float *keys, *values; /* KEYS rows, in panels and as they are */
    float *scores;        /* KEYS x WIDTH */
    float *row;           /* a head's */
    struct panel panels[FORWARD_LANES / WIDTH];
};

static int64_t room_floats(int head_dim) {
    int64_t d = cpu_padded(head_dim);
    int64_t panel = 2 * d * WIDTH + (int64_t)(sizeof(struct running) / sizeof(float));
    int64_t n = 2 * KEYS * d + (int64_t)KEYS * WIDTH + d + FORWARD_LANES / WIDTH * panel;
    return (n + 15) / 16 * 16;
}

static struct forward_room room_of(float *room, int head_dim) {
    struct forward_room r;
    int64_t d = cpu_padded(head_dim);
    r.keys = room;
    r.values = r.keys + KEYS * d;
    r.scores = r.values + KEYS * d;
    r.row = r.scores + KEYS * WIDTH;
    float *next = r.row + d;
    for (int i = 0; i < FORWARD_LANES / WIDTH; i++) {
        r.panels[i].q = next;
        r.panels[i].out = next + d * WIDTH;
        r.panels[i].running = (void *)(next + 2 * d * WIDTH);
        next += 2 * d * WIDTH + (int64_t)(sizeof(struct running) / sizeof(float));
    }
    return r;
}

static void panel_start(struct panel *p, int head_dim) {
    memset(p->out, 0, (size_t)(cpu_padded(head_dim) * WIDTH) * sizeof *p->out);
    running_start(p->running, WIDTH);
}

/* out^T of a panel times what each lane keeps. */
static void keep_panel(const struct panel *p, int64_t lanes, int head_dim) {
    for (int side = 0; side * LANES < lanes; side++) {
        vec keep = vec_at(p->running->keep + (ptrdiff_t)side * LANES);
        for (int64_t d = 0; d < head_dim; d++) {
            float *to = p->out + d * WIDTH + (ptrdiff_t)side * LANES;
            vec_put(to, keep * vec_at(to));
        }
    }
}

static void forward_panel(const struct key_walk *w, struct lane_tile tile, int64_t lane,
                          const struct forward_room *room) {
    const struct attention *a = w->a;
    const struct panel *panel = &room->panels[lane / WIDTH];
    int64_t lanes = tile.count - lane < WIDTH ? tile.count - lane : WIDTH;
    struct panel_view view;
    cpu_view_panel(w, tile, lane, &view);
    if (view.from == view.to) {
        return;
    }
    float *scores = room->scores + view.from * WIDTH;
    cpu_multiply_scores(&(struct tile_product){.rows = view.to - view.from,
                                               .columns = lanes,
                                               .depth = a->head_dim,
                                               .a = room->keys + view.from * a->head_dim,
                                               .b = panel->q,
                                               .c = scores,
                                               .ldb = WIDTH,
                                               .ldc = WIDTH,
                                               .alpha = (float)a->scale});
    for (int64_t k = view.from; k < view.to && a->softcap > 0.0; k++) {
        cpu_cap_scores(a->softcap, room->scores + k * WIDTH, cpu_written(lanes));
    }
    softmax_panel(WIDTH, &view, lanes, room->scores, NULL, panel->running);
    keep_panel(panel, lanes, a->head_dim);
    int64_t end = view.to < w->count ? view.to : w->count;
    cpu_multiply_across(&(struct tile_product){.rows = a->head_dim,
                                               .columns = lanes,
                                               .depth = end - view.from,
                                               .a = room->values + view.from * a->head_dim,
                                               .b = scores,
                                               .c = panel->out,
                                               .lda = a->head_dim,
                                               .ldb = WIDTH,
                                               .ldc = WIDTH,
                                               .alpha = 1.0f});
}

static void finish(const struct attention *a, struct lane_tile tile, int64_t lane, const float *sums,
                   int64_t step, const struct running *r, float *room) {
    finish_lane(a, cpu_lane_row(a, tile, lane), cpu_lane_column(a, tile, lane), sums, step,
                r->largest[lane % WIDTH], r->sum[lane % WIDTH], room);
}

static void forward_item(const struct attention *a, struct lane_tile tile, struct forward_room *room) {
    struct key_walk w = cpu_walk_start(a, tile, KEYS);
    for (int64_t lane = 0; lane < tile.count; lane += WIDTH) {
        struct panel *p = &room->panels[lane / WIDTH];
        cpu_turn_lanes(a, a->q, tile, lane, p->q, room->row);
        panel_start(p, a->head_dim);
    }
    while (cpu_walk_next(&w)) {
        cpu_pack_keys(&w, a->k, tile.kv_head, room->keys);
        cpu_copy_keys(&w, a->v, tile.kv_head, room->values, a->head_dim);
        for (int64_t lane = 0; lane < tile.count; lane += WIDTH) {
            forward_panel(&w, tile, lane, room);
        }
    }
    for (int64_t lane = 0; lane < tile.count; lane++) {
        const struct panel *p = &room->panels[lane / WIDTH];
        finish(a, tile, lane, p->out + lane % WIDTH, WIDTH, p->running, room->row);
    }
}

/* Scores of the lanes against the walk's keys, WIDTH of them at a time. */
static void scores_of_few(const struct key_walk *w, struct lane_tile tile, const struct forward_room *room) {
    const struct attention *a = w->a;
    float scale = (float)a->scale;
    const struct product keys = {.n = w->count,
                                 .k = a->head_dim,
                                 .transpose_b = true,
                                 .b = cpu_at(a->k, w->row, (int64_t)tile.kv_head * a->head_dim),
                                 .ldb = a->k.stride,
                                 .type_b = a->k.type};
    for (int64_t j = 0; j < w->count; j += WIDTH) {
        cpu_pack_columns(&keys, j, 0, a->head_dim, room->keys);
        for (int64_t l = 0; l < tile.count; l++) {
            const float *q = room->panels[0].q + l * cpu_padded(a->head_dim);
            vec sums[2] = {{0}, {0}};
            for (int64_t d = 0; d < a->head_dim; d++) {
                sums[0] += q[d] * vec_at(room->keys + d * WIDTH);
                sums[1] += q[d] * vec_at(room->keys + d * WIDTH + LANES);
            }
            float *to = room->scores + l * (SCORES + WIDTH) + j;
            vec_put(to, scale * sums[0]);
            vec_put(to + LANES, scale * sums[1]);
        }
    }
}

static void keep_lane(float *out, float keep, int64_t n) {
    for (int64_t d = 0; d < n; d++) {
        out[d] = keep * out[d];
    }
}

/* A lane's out (whole vectors) += sum over keys of its scores times their rows of v. */
static void add_values(float *out, int64_t n, const float *scores, int64_t from, int64_t to, const float *v,
                       int64_t ldv) {
    int64_t d = 0;
    for (; d + 4 * LANES <= n; d += 4 * LANES) {
        vec sums[4] = {{0}, {0}, {0}, {0}};
        for (int64_t k = from; k < to; k++) {
#pragma GCC unroll 4
            for (int i = 0; i < 4; i++) {
                sums[i] += scores[k] * vec_at(v + k * ldv + d + (ptrdiff_t)i * LANES);
            }
        }
        for (int i = 0; i < 4; i++) {
            vec_put(out + d + (ptrdiff_t)i * LANES, sums[i] + vec_at(out + d + (ptrdiff_t)i * LANES));
        }
    }
    for (; d < n; d += LANES) {
        vec sums = {0};
        for (int64_t k = from; k < to; k++) {
            sums += scores[k] * vec_at(v + k * ldv + d);
        }
        vec_put(out + d, sums + vec_at(out + d));
    }
}

/* v's rows as fp32 in whole vectors: where they lie, or copied. */
static const float *values_of(const struct key_walk *w, int kv_head, const struct forward_room *room,
                              int64_t *ldv) {
    const struct attention *a = w->a;
    int64_t d = a->head_dim;
    if (a->v.type == DTYPE_F32 && cpu_padded(d) == d) {
        *ldv = a->v.stride;
        return cpu_at(a->v, w->row, kv_head * d);
    }
    *ldv = cpu_padded(d);
    cpu_copy_keys(w, a->v, kv_head, room->values, cpu_padded(d));
    return room->values;
}

static void forward_few(const struct attention *a, struct lane_tile tile, struct forward_room *room) {
    struct key_walk w = cpu_walk_start(a, tile, KEYS);
    struct panel *p = &room->panels[0];
    int64_t d = cpu_padded(a->head_dim);
    panel_start(p, a->head_dim);
    for (int64_t l = 0; l < tile.count; l++) {
        float *to = p->q + l * d;
        const float *q =
            cpu_load(a->q, cpu_lane_row(a, tile, l), cpu_lane_column(a, tile, l), a->head_dim, to);
        if (q != to) {
            memcpy(to, q, (size_t)a->head_dim * sizeof *to);
        }
    }
    while (cpu_walk_next(&w)) {
        struct panel_view view;
        int64_t ldv;
        const float *v = values_of(&w, tile.kv_head, room, &ldv);
        cpu_view_panel(&w, tile, 0, &view);
        scores_of_few(&w, tile, room);
        for (int64_t l = 0; l < tile.count; l++) {
            float *scores = room->scores + l * (SCORES + WIDTH);
            if (a->softcap > 0.0) {
                cpu_cap_scores(a->softcap, scores, w.count);
            }
            softmax_lane(SCORES, &view, l, scores, p->running);
            keep_lane(p->out + l * d, p->running->keep[l], d);
            add_values(p->out + l * d, d, scores, view.low[l], view.high[l], v, ldv);
        }
    }
    for (int64_t l = 0; l < tile.count; l++) {
        finish(a, tile, l, p->out + l * d, 1, p->running, room->row);
    }
}

static void list_tiles(const struct attention *a, int64_t most, int64_t width, struct lane_tile *tiles) {
    int64_t n = 0;
    for (int32_t s = 0; s < a->map->span_count; s++) {
        int64_t lanes = (int64_t)a->map->spans[s].count * cpu_group_of(a);
        int64_t length = cpu_tile_lanes(lanes, most, width);
        for (int64_t first = 0; first < lanes; first += length) {
            int64_t rest = lanes - first;
            tiles[n++] = (struct lane_tile){s, 0, first, rest < length ? rest : length};
        }
    }
}

/* One item, in a thread's room. */
static void forward(const struct attention *a, struct lane_tile tile, float *room) {
    struct forward_room r = room_of(room, a->head_dim);
    if (tile.count <= FEW_LANES) {
        forward_few(a, tile, &r);
    } else {
        forward_item(a, tile, &r);
    }
}

int64_t cpu_forward_bytes(const struct dot_kernel *dot, int head_dim) {
    return dot ? cpu_dot_forward_bytes(dot, head_dim) : room_floats(head_dim) * (int64_t)sizeof(float);
}

enum status CPU_OPERATION(attention)(struct backend *b, const struct attention *a) {
    struct cpu *cpu = cpu_of(b);
    int64_t most = cpu->dot ? DOT_FORWARD_LANES : FORWARD_LANES, width = cpu->dot ? DOT_COLUMNS : WIDTH;
    int64_t n = cpu_count_tiles(a, most, width);
    int64_t bytes = cpu_forward_bytes(cpu->dot, a->head_dim);
    void *scratch = NULL;
    TRY(cpu_scratch(cpu, SCRATCH_ATTENTION, cpu->threads * bytes + n * (int64_t)sizeof(struct lane_tile),
                    &scratch));
    struct lane_tile *tiles = (void *)((char *)scratch + cpu->threads * bytes);
    list_tiles(a, most, width, tiles);
    /* Later tiles of a causal span take longer: they begin first. */
#pragma omp parallel for num_threads(cpu->threads) schedule(dynamic, 1)
    for (int64_t item = 0; item < n * a->kv_heads; item++) {
        char *room = (char *)scratch + omp_get_thread_num() * bytes;
        struct lane_tile tile = tiles[n - 1 - item / a->kv_heads];
        tile.kv_head = (int)(item % a->kv_heads);
        if (cpu->dot) {
            cpu_dot_forward(cpu->dot, a, tile, room);
        } else {
            forward(a, tile, (float *)(void *)room);
        }
    }
    return OK;
}
