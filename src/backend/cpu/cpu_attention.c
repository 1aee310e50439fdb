/* Attention in tiles with an online softmax (Milakov and Gimelshein 2018; Dao et al. 2022).
 *
 * A span's keys are its ranges' keys laid end to end; a key has a position there. Query q of a span's n sees
 * the positions [seen - window, seen), seen = total - n + q + 1 where the last range is causal, else total:
 * always one interval, so a tile of scores needs no mask, only each row's first and last visible column.
 *
 *     keys        0 ............. p | p+1 ....... n     positions among the span's keys
 *     query i     [=================|====]              the prompt whole, its own segment up to itself
 *     query i+1   [=================|=====]             with a window w: [----========= of the last w
 *
 * Online softmax, per query, over tiles of scores S: with the largest score m and the sum l of e^(S - m) so
 * far, a tile with maximum m' turns out and l into e^(m - max) times themselves before it adds its own, max =
 * max(m, m'); at the end out / l, and lse = m + log l is all that backward needs to make P again.
 *
 * Forward: one item is (query tile, head). Backward: with P = exp(S - lse), D = rowsum(dO * O),
 *     dV = P^T dO,  dS = P * (dO V^T - D),  dQ = scale dS K,  dK = scale dS^T Q
 * and one item is (group of spans, key head). Spans that share key rows are in one group, so that an item
 * alone adds into its rows of dK and dV, in a fixed order.
 */
#include "backend/cpu/cpu_bf16.h"
#include "backend/cpu/cpu_math.h"

#include <math.h>
#include <omp.h>
#include <string.h>

/* Most of a tile of scores: 35 KiB, in the first-level cache; 70 is five panels of a product with AVX-512. */
enum { QUERIES = 70, KEYS = 128 };

/* Queries [first, first + count) of a span. */
struct query_tile {
    int32_t span;
    int64_t first, count;
};
/* Keys [row, row + count) of k and v, at a position among the span's keys; a walk over visible tiles. */
struct key_walk {
    const struct attention *a;
    const struct query_span *span;
    int64_t total, seen_first,
        seen_last; /* keys that the tile's first and last query see, before the window */
    int32_t range;
    int64_t offset, base; /* in this range; positions before it */
    int64_t row, position, count;
};

static struct key_walk walk_start(const struct attention *a, struct query_tile tile) {
    struct key_walk w = {.a = a, .span = &a->map->spans[tile.span]};
    const struct key_range *ranges = a->map->ranges + w.span->range_first;
    for (int32_t i = 0; i < w.span->range_count; i++) {
        w.total += ranges[i].count;
    }
    bool is_causal = ranges[w.span->range_count - 1].causal;
    w.seen_first = is_causal ? w.total - w.span->count + tile.first + 1 : w.total;
    w.seen_last = is_causal ? w.seen_first + tile.count - 1 : w.total;
    return w;
}

/* The next tile of keys that some query of the tile sees; false at the end. */
static bool walk_next(struct key_walk *w) {
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
        int64_t rest = range->count - w->offset;
        w->row = range->first + w->offset;
        w->position = w->base + w->offset;
        w->count = rest < KEYS ? rest : KEYS;
        w->offset += w->count;
        if (w->position >= w->seen_last) {
            return false;
        }
        if (w->position + w->count > lowest) {
            int64_t visible = w->seen_last - w->position;
            w->count = w->count < visible ? w->count : visible;
            return true;
        }
    }
    return false;
}

/* A span's queries in even tiles, so that no tile is left with a few rows. */
static int64_t tile_length(int64_t queries) {
    int64_t tiles = (queries + QUERIES - 1) / QUERIES;
    return tiles == 0 ? QUERIES : (queries + tiles - 1) / tiles;
}

static int64_t clamp(int64_t x, int64_t low, int64_t high) {
    return x < low ? low : x > high ? high : x;
}

/* Columns [*low, *high) of the key tile that query i of the query tile sees. */
static void visible_columns(const struct key_walk *w, int64_t i, int64_t *low, int64_t *high) {
    int64_t seen = w->seen_first == w->seen_last ? w->seen_last : w->seen_first + i;
    *high = clamp(seen - w->position, 0, w->count);
    *low = w->a->window > 0 ? clamp(seen - w->a->window - w->position, 0, *high) : 0;
}

static void *head_of(struct tensor t, int64_t row, int head, int head_dim) {
    return cpu_at(t, row, (int64_t)head * head_dim);
}

/* A thread's tiles. */
struct tiles {
    float *scores, *gradients; /* QUERIES x KEYS */
    float *out;                /* QUERIES x head_dim */
    float *pack;
    float largest[QUERIES], sum[QUERIES];
};

static int64_t tiles_elements(int head_dim) {
    int64_t longest = head_dim > KEYS ? head_dim : KEYS;
    int64_t n = 2 * QUERIES * KEYS + QUERIES * (int64_t)head_dim + cpu_pack_floats(KEYS, longest, longest);
    return (n + 15) / 16 * 16;
}

static struct tiles tiles_of(float *scratch, int head_dim) {
    struct tiles t;
    t.scores = scratch + (int64_t)omp_get_thread_num() * tiles_elements(head_dim);
    t.gradients = t.scores + QUERIES * KEYS;
    t.out = t.gradients + QUERIES * KEYS;
    t.pack = t.out + QUERIES * (int64_t)head_dim;
    return t;
}

/* scores = scale * q k^T, capped. */
static void score_tile(const struct key_walk *w, struct query_tile tile, int head, struct tiles *t) {
    float *scores = t->scores;
    const struct attention *a = w->a;
    int group = a->heads / a->kv_heads;
    struct product p = {
        .m = tile.count,
        .n = w->count,
        .k = a->head_dim,
        .transpose_b = true,
        .alpha = (float)a->scale,
        .a = head_of(a->q, w->span->first + tile.first, head, a->head_dim),
        .b = head_of(a->k, w->row, head / group, a->head_dim),
        .c = scores,
        .lda = a->q.stride,
        .ldb = a->k.stride,
        .ldc = KEYS,
        .type_a = a->q.type,
        .type_b = a->k.type,
    };
    cpu_product_serial(&p, t->pack);
    if (a->softcap > 0.0) {
        float cap = (float)a->softcap;
        for (int64_t i = 0; i < tile.count; i++) {
            for (int64_t j = 0; j < w->count; j++) {
                scores[i * KEYS + j] = cap * cpu_tanh(scores[i * KEYS + j] / cap);
            }
        }
    }
}

static float largest_of(const float *x, int64_t n) {
    float largest = -INFINITY;
#pragma omp simd reduction(max : largest)
    for (int64_t j = 0; j < n; j++) {
        largest = x[j] > largest ? x[j] : largest;
    }
    return largest;
}

/* x = e^(x - shift); the sum. */
static float exponentials(float *x, float shift, int64_t n) {
    float sum = 0.0f;
#pragma omp simd reduction(+ : sum)
    for (int64_t j = 0; j < n; j++) {
        float e = cpu_exp_negative(x[j] - shift);
        x[j] = e;
        sum += e;
    }
    return sum;
}

static void zero(float *x, int64_t n) {
    for (int64_t j = 0; j < n; j++) {
        x[j] = 0.0f;
    }
}

/* Scores to e^(score - running maximum); rescales what was summed before. */
static void softmax_tile(const struct key_walk *w, struct query_tile tile, struct tiles *t) {
    int head_dim = w->a->head_dim;
    for (int64_t i = 0; i < tile.count; i++) {
        float *x = t->scores + i * KEYS;
        int64_t low = 0;
        int64_t high = 0;
        visible_columns(w, i, &low, &high);
        zero(x, low);
        zero(x + high, w->count - high);
        if (low == high) {
            continue;
        }
        float before = t->largest[i];
        float largest = largest_of(x + low, high - low);
        largest = largest > before ? largest : before;
        float sum = exponentials(x + low, largest, high - low);
        float keep = before == largest ? 1.0f : cpu_exp_negative(before - largest);
        t->largest[i] = largest;
        t->sum[i] = t->sum[i] * keep + sum;
        if (keep != 1.0f) {
            float *out = t->out + i * head_dim;
            for (int64_t j = 0; j < head_dim; j++) {
                out[j] *= keep;
            }
        }
    }
}

static void forward_item(const struct attention *a, struct query_tile tile, int head, struct tiles *t) {
    int head_dim = a->head_dim;
    int group = a->heads / a->kv_heads;
    zero(t->out, tile.count * head_dim);
    for (int64_t i = 0; i < tile.count; i++) {
        t->largest[i] = -INFINITY;
        t->sum[i] = 0.0f;
    }
    struct key_walk w = walk_start(a, tile);
    while (walk_next(&w)) {
        score_tile(&w, tile, head, t);
        softmax_tile(&w, tile, t);
        struct product p = {
            .m = tile.count,
            .n = head_dim,
            .k = w.count,
            .alpha = 1.0f,
            .beta = 1.0f,
            .a = t->scores,
            .b = head_of(a->v, w.row, head / group, head_dim),
            .c = t->out,
            .lda = KEYS,
            .ldb = a->v.stride,
            .ldc = head_dim,
            .type_b = a->v.type,
        };
        cpu_product_serial(&p, t->pack);
    }
    for (int64_t i = 0; i < tile.count; i++) {
        int64_t row = w.span->first + tile.first + i;
        float *sums = t->out + i * head_dim;
        float *out = cpu_place(a->out, row, (int64_t)head * head_dim, sums);
        float factor = t->sum[i] == 0.0f ? 0.0f : 1.0f / t->sum[i];
        for (int64_t j = 0; j < head_dim; j++) {
            out[j] = sums[j] * factor;
        }
        cpu_store(a->out, row, (int64_t)head * head_dim, head_dim, out);
        if (a->lse.data) {
            cpu_row(a->lse, row)[head] = t->largest[i] + logf(t->sum[i]);
        }
    }
}

/* At most: even tiles can be fewer. */
static int64_t count_tiles(const struct attention_map *map) {
    int64_t n = 0;
    for (int32_t s = 0; s < map->span_count; s++) {
        n += (map->spans[s].count + QUERIES - 1) / QUERIES;
    }
    return n;
}

enum status CPU_OPERATION(attention)(struct backend *b, const struct attention *a) {
    struct cpu *cpu = cpu_of(b);
    int64_t n_tiles = count_tiles(a->map);
    int64_t floats = cpu->threads * tiles_elements(a->head_dim);
    void *scratch = NULL;
    TRY(cpu_scratch(cpu, SCRATCH_ATTENTION,
                    floats * (int64_t)sizeof(float) + n_tiles * (int64_t)sizeof(struct query_tile),
                    &scratch));
    struct query_tile *tiles = (void *)((float *)scratch + floats);
    int64_t n = 0;
    for (int32_t s = 0; s < a->map->span_count; s++) {
        int64_t count = a->map->spans[s].count;
        int64_t length = tile_length(count);
        for (int64_t first = 0; first < count; first += length) {
            int64_t rest = count - first;
            tiles[n++] = (struct query_tile){s, first, rest < length ? rest : length};
        }
    }
#pragma omp parallel for num_threads(cpu->threads) schedule(dynamic, 1)
    for (int64_t item = 0; item < n * a->heads; item++) {
        struct tiles t = tiles_of(scratch, a->head_dim);
        forward_item(a, tiles[item / a->heads], (int)(item % a->heads), &t);
    }
    return OK;
}

/* Consecutive spans that share key rows, and the hull [low, high) of those rows. */
struct span_group {
    int32_t first, count;
    int64_t low, high;
};

/* Groups of spans with disjoint hulls, in order of rows; at most one per span. A span whose keys begin
 * before an earlier group's end joins that group and all after it. */
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

/* scores (capped) and dP become P and dS, the gradient with respect to scale * q k^T. */
static void gradient_tile(const struct key_walk *w, struct query_tile tile, int head, struct tiles *t) {
    const struct attention *a = w->a;
    float cap = (float)a->softcap;
    for (int64_t i = 0; i < tile.count; i++) {
        float *restrict p = t->scores + i * KEYS;
        float *restrict ds = t->gradients + i * KEYS;
        float lse = cpu_row(a->lse, w->span->first + tile.first + i)[head];
        float d = t->sum[i];
        int64_t low = 0;
        int64_t high = 0;
        visible_columns(w, i, &low, &high);
        zero(p, low);
        zero(ds, low);
        zero(p + high, w->count - high);
        zero(ds + high, w->count - high);
        if (cap > 0.0f) {
            for (int64_t j = low; j < high; j++) {
                float ratio = p[j] / cap;
                p[j] = cpu_exp_negative(p[j] - lse);
                ds[j] = p[j] * (ds[j] - d) * (1.0f - ratio * ratio);
            }
        } else {
            for (int64_t j = low; j < high; j++) {
                p[j] = cpu_exp_negative(p[j] - lse);
                ds[j] = p[j] * (ds[j] - d);
            }
        }
    }
}

/* Where sums of one head go as fp32: the tensor itself, or a thread's memory of which cpu_store() makes the
 * tensor's rows. */
struct sink {
    struct tensor to;
    int64_t first, column; /* the row that data begins at; the head's columns */
    int64_t stride;
    float *data;
};

static struct sink sink_of(struct tensor to, int64_t first, int64_t column, int head_dim, float *room) {
    bool is_direct = to.type == DTYPE_F32;
    return (struct sink){.to = to,
                         .first = first,
                         .column = column,
                         .stride = is_direct ? to.stride : head_dim,
                         .data = is_direct ? cpu_at(to, first, column) : room};
}

static void sink_zero(const struct sink *s, int64_t rows, int head_dim) {
    for (int64_t i = 0; i < rows; i++) {
        zero(s->data + i * s->stride, head_dim);
    }
}

static void sink_store(const struct sink *s, int64_t rows, int head_dim) {
    for (int64_t i = 0; i < rows; i++) {
        cpu_store(s->to, s->first + i, s->column, head_dim, s->data + i * s->stride);
    }
}

/* What one head of a query tile, and one key head of a group, have as gradients. */
struct sinks {
    struct sink dq, dk, dv;
};

/* A query tile against a block of keys: P in t->scores, dS in t->gradients. */
static void gradients_of_block(const struct attention *a, const struct attention_gradient *g,
                               const struct key_walk *w, struct query_tile tile, int head, struct tiles *t) {
    score_tile(w, tile, head, t);
    cpu_product_serial(
        &(struct product){.m = tile.count,
                          .n = w->count,
                          .k = a->head_dim,
                          .transpose_b = true,
                          .alpha = 1.0f,
                          .a = head_of(g->dout, w->span->first + tile.first, head, a->head_dim),
                          .b = head_of(a->v, w->row, head / (a->heads / a->kv_heads), a->head_dim),
                          .c = t->gradients,
                          .lda = g->dout.stride,
                          .ldb = a->v.stride,
                          .ldc = KEYS,
                          .type_a = g->dout.type,
                          .type_b = a->v.type},
        t->pack);
    gradient_tile(w, tile, head, t);
}

/* to's rows of the keys += scale * tile^T times the queries' rows of from. */
static void add_to_keys(const struct attention *a, const struct sink *to, const struct key_walk *w,
                        struct query_tile tile, const float *scores, double scale, struct tensor from,
                        int head, float *pack) {
    cpu_product_serial(&(struct product){.m = w->count,
                                         .n = a->head_dim,
                                         .k = tile.count,
                                         .transpose_a = true,
                                         .alpha = (float)scale,
                                         .beta = 1.0f,
                                         .a = scores,
                                         .b = head_of(from, w->span->first + tile.first, head, a->head_dim),
                                         .c = to->data + (w->row - to->first) * to->stride,
                                         .lda = KEYS,
                                         .ldb = from.stride,
                                         .ldc = to->stride,
                                         .type_b = from.type},
                       pack);
}

/* What these add to dQ, dK and dV in one head. */
static void add_block(const struct attention *a, const struct attention_gradient *g, const struct key_walk *w,
                      struct query_tile tile, int head, struct tiles *t, const struct sinks *to) {
    int kv_head = head / (a->heads / a->kv_heads);
    add_to_keys(a, &to->dv, w, tile, t->scores, 1.0, g->dout, head, t->pack);
    add_to_keys(a, &to->dk, w, tile, t->gradients, a->scale, a->q, head, t->pack);
    cpu_product_serial(&(struct product){.m = tile.count,
                                         .n = a->head_dim,
                                         .k = w->count,
                                         .alpha = (float)a->scale,
                                         .beta = 1.0f,
                                         .a = t->gradients,
                                         .b = head_of(a->k, w->row, kv_head, a->head_dim),
                                         .c = to->dq.data,
                                         .lda = KEYS,
                                         .ldb = a->k.stride,
                                         .ldc = to->dq.stride,
                                         .type_b = a->k.type},
                       t->pack);
}

/* One query tile's part of dQ, dK and dV in one head. */
static void backward_tile(const struct attention *a, const struct attention_gradient *g,
                          struct query_tile tile, int head, struct tiles *t, struct sinks *to) {
    int head_dim = a->head_dim;
    struct key_walk w = walk_start(a, tile);
    int64_t row = w.span->first + tile.first, column = (int64_t)head * head_dim;
    for (int64_t i = 0; i < tile.count; i++) {
        const float *out = cpu_load(a->out, row + i, column, head_dim, t->pack);
        const float *d = cpu_load(g->dout, row + i, column, head_dim, t->pack + head_dim);
        float sum = 0.0f;
#pragma omp simd reduction(+ : sum)
        for (int64_t j = 0; j < head_dim; j++) {
            sum += out[j] * d[j];
        }
        t->sum[i] = sum;
    }
    to->dq = sink_of(g->dq, row, column, head_dim, t->out);
    sink_zero(&to->dq, tile.count, head_dim);
    while (walk_next(&w)) {
        gradients_of_block(a, g, &w, tile, head, t);
        add_block(a, g, &w, tile, head, t, to);
    }
    sink_store(&to->dq, tile.count, head_dim);
}

/* room: two times as many fp32 rows of a head as the group has keys, where dK and dV are not fp32. */
static void backward_item(const struct attention *a, const struct attention_gradient *g,
                          struct span_group group, int kv_head, struct tiles *t, float *room) {
    int heads = a->heads / a->kv_heads;
    int64_t keys = group.high > group.low ? group.high - group.low : 0;
    int64_t column = (int64_t)kv_head * a->head_dim;
    struct sinks to = {
        .dk = sink_of(g->dk, keys > 0 ? group.low : 0, column, a->head_dim, room),
        .dv = sink_of(g->dv, keys > 0 ? group.low : 0, column, a->head_dim, room + keys * a->head_dim),
    };
    if (g->dk.type != DTYPE_F32) { /* else the tensors themselves, which are zero */
        sink_zero(&to.dk, keys, a->head_dim);
        sink_zero(&to.dv, keys, a->head_dim);
    }
    for (int32_t s = group.first; s < group.first + group.count; s++) {
        int64_t count = a->map->spans[s].count;
        int64_t length = tile_length(count);
        for (int64_t first = 0; first < count; first += length) {
            int64_t rest = count - first;
            struct query_tile tile = {s, first, rest < length ? rest : length};
            for (int head = kv_head * heads; head < (kv_head + 1) * heads; head++) {
                backward_tile(a, g, tile, head, t, &to);
            }
        }
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

enum status CPU_OPERATION(attention_gradient)(struct backend *b, const struct attention_backward *call) {
    const struct attention *a = &call->attention;
    const struct attention_gradient *g = &call->gradient;
    struct cpu *cpu = cpu_of(b);
    int64_t floats = cpu->threads * tiles_elements(a->head_dim);
    void *scratch = NULL;
    TRY(cpu_scratch(cpu, SCRATCH_ATTENTION,
                    floats * (int64_t)sizeof(float) +
                        (int64_t)a->map->span_count * (int64_t)sizeof(struct span_group),
                    &scratch));
    struct span_group *groups = (void *)((float *)scratch + floats);
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
        struct tiles t = tiles_of(scratch, a->head_dim);
        backward_item(a, g, groups[item / a->kv_heads], (int)(item % a->kv_heads), &t,
                      (float *)rooms + omp_get_thread_num() * room);
    }
    return OK;
}
