/* Attention with products of bf16 operands, on emulated instructions (dot_emulation/), of both kinds: where
 * every P is 0 or 1, all of out, lse and gradients to the bit beside the order of sums that
 * cpu_dot_attention.h states, in plain loops; the same bits on any number of threads. Beside the
 * double-precision reference: test_ops_attention; queries beside others and alone: test_attention_rows. */
#include "tests/unit.h"

#include <math.h>
#include <string.h>

#include "backend/backend.h"
#include "backend/cpu/cpu_bf16.h"
#include "tests/dot_emulation/dot_intrinsics.h"
#include "util/mem.h"
#include "util/rng.h"

enum { TILE = 128, LANE_TILE = 128, PANEL = 32, MOST = 1024 };

static void must(enum status st) {
    if (st != OK) {
        FAIL("%s: %s", status_name(st), status_message()->text);
    }
}

static const char *const kinds[] = {"avx512_bf16", "amx"};

static struct backend *open_kind(int kind, int threads) {
    char why[256];
    struct backend *b = NULL;
    const struct backend_request request = {
        .device = "cpu", .compute = "bf16", .threads = threads, .device_index = -1, .products = kinds[kind]};
    must(backend_open(&request, &b, why));
    return b;
}

/* A prompt's keys, seen by two spans of queries that also see their own, up to themselves. */
struct layout {
    int prompt, queries[2];
    int heads, kv_heads, head_dim, window;
};

static const struct layout layouts[] = {
    {150, {40, 7}, 3, 1, 80, 0},  {5, {130, 1}, 2, 2, 66, 0},  {200, {1, 2}, 8, 2, 64, 0},
    {131, {50, 9}, 2, 1, 16, 37}, {128, {60, 33}, 6, 2, 3, 0}, {20, {30, 30}, 1, 1, 256, 1},
};

/* Numbers of a tensor, as floats. */
struct values {
    struct tensor t;
    float *x;
};

/* Rows of heads of random numbers: those of a head's columns [from, to), zeros beside them. `sign` other than
 * 0: rows of the first and of the second `mirrored` are, from the middle on, those before it times sign. With
 * -1 their sizes are far apart, so that what is left of a sum are its roundings, which show its order. */
struct numbers {
    int heads, from, to, mirrored[2], sign;
};

/* Of a row, or the one before the middle that it mirrors. */
static int64_t origin(const struct numbers *n, int64_t row) {
    int64_t first = row < n->mirrored[0] ? 0 : n->mirrored[0];
    int64_t count = row < n->mirrored[0] ? n->mirrored[0] : n->mirrored[1], at = row - first;
    return n->sign != 0 && at < count && at >= (count + 1) / 2 ? first + count - 1 - at : row;
}

static float number_at(const struct numbers *n, int64_t row, int64_t column, int stream) {
    struct rng g = rng_stream(4, stream, origin(n, row), column);
    float x = bf16_value(bf16_bits((float)rng_normal(&g)));
    bool is_mirrored = row < n->mirrored[0] + n->mirrored[1];
    if (n->sign < 0) {
        x = ldexpf(x, is_mirrored ? (int)rng_below(&g, 25) - 12 : -10);
    }
    return origin(n, row) != row ? (float)n->sign * x : x;
}

static struct values take(struct backend *b, int64_t rows, int head_dim, struct numbers of, int stream) {
    int64_t columns = (int64_t)of.heads * head_dim, n = rows * columns;
    struct values v = {.t = {.rows = rows, .columns = columns, .stride = columns, .type = DTYPE_BF16}};
    double *wide = mem_calloc(n, sizeof *wide);
    v.x = mem_calloc(n, sizeof *v.x);
    assert_true(wide && v.x);
    for (int64_t i = 0; i < n; i++) {
        bool is_there = i % head_dim >= of.from && i % head_dim < of.to;
        v.x[i] = is_there ? number_at(&of, i / columns, i % columns, stream) : 0;
        wide[i] = (double)v.x[i];
    }
    must(backend_alloc(b, n * 2, &v.t.data));
    must(backend_write_doubles(b, v.t, wide));
    mem_free(wide);
    return v;
}

static float *read_floats(struct backend *b, struct tensor t) {
    int64_t n = t.rows * t.columns;
    double *wide = mem_calloc(n, sizeof *wide);
    float *x = mem_calloc(n, sizeof *x);
    assert_true(wide && x);
    must(backend_read_doubles(b, wide, t));
    for (int64_t i = 0; i < n; i++) {
        x[i] = (float)wide[i];
    }
    mem_free(wide);
    return x;
}

struct world {
    struct backend *b;
    const struct layout *l;
    bool is_amx;
    int rows, keys;
    struct query_span spans[2];
    struct key_range ranges[4];
    struct attention_map map;
    struct attention a;
    struct attention_gradient g;
    struct values q, k, v, dout;
    void *data[9];
};

static void open_world(struct world *w, struct backend *b, const struct layout *l, bool is_flat) {
    int half = is_flat ? l->head_dim / 2 : 0; /* q and k have no column in common: all scores are 0 */
    *w = (struct world){.b = b, .l = l, .is_amx = strcmp(b->caps.products, kinds[1]) == 0};
    w->rows = l->queries[0] + l->queries[1];
    w->keys = l->prompt + w->rows;
    for (int s = 0, first = 0; s < 2; first += l->queries[s++]) {
        w->spans[s] = (struct query_span){first, l->queries[s], 2 * s, 2};
        w->ranges[2 * s] = (struct key_range){0, l->prompt, false};
        w->ranges[2 * s + 1] = (struct key_range){l->prompt + first, l->queries[s], true};
    }
    w->map = (struct attention_map){(uint64_t)(l->prompt * 1000 + w->rows), 2, 4, w->spans, w->ranges};
    int d = l->head_dim, n0 = l->queries[0], n1 = l->queries[1], sign = is_flat;
    w->q = take(b, w->rows, d, (struct numbers){l->heads, 0, is_flat ? half : d, {n0, n1}, sign}, 0);
    w->k = take(b, w->keys, d, (struct numbers){l->kv_heads, half, d, {l->prompt, 0}, sign}, 1);
    w->v = take(b, w->keys, d, (struct numbers){l->kv_heads, 0, d, {l->prompt, 0}, -sign}, 2);
    w->dout = take(b, w->rows, d, (struct numbers){l->heads, 0, d, {n0, n1}, -sign}, 3);
    struct tensor like_q[2], like_k[2], lse = {.rows = w->rows, .columns = l->heads, .stride = l->heads};
    for (int i = 0; i < 2; i++) {
        like_q[i] = w->q.t;
        like_k[i] = w->k.t;
        must(backend_alloc(b, w->q.t.rows * w->q.t.columns * 2, &like_q[i].data));
        must(backend_alloc(b, w->k.t.rows * w->k.t.columns * 2, &like_k[i].data));
    }
    lse.type = DTYPE_F32;
    must(backend_alloc(b, (int64_t)w->rows * l->heads * 4, &lse.data));
    w->a = (struct attention){.map = &w->map,
                              .heads = l->heads,
                              .kv_heads = l->kv_heads,
                              .head_dim = l->head_dim,
                              .window = l->window,
                              .scale = 0.3,
                              .q = w->q.t,
                              .k = w->k.t,
                              .v = w->v.t,
                              .out = like_q[0],
                              .lse = lse};
    w->g = (struct attention_gradient){w->dout.t, like_q[1], like_k[0], like_k[1]};
    void *made[] = {w->q.t.data,    w->k.t.data,    w->v.t.data,    w->dout.t.data, like_q[0].data,
                    like_q[1].data, like_k[0].data, like_k[1].data, lse.data};
    memcpy(w->data, made, sizeof made);
}

static void close_world(struct world *w) {
    for (int i = 0; i < COUNT_OF(w->data); i++) {
        backend_free(w->b, w->data[i]);
    }
    mem_free(w->q.x);
    mem_free(w->k.x);
    mem_free(w->v.x);
    mem_free(w->dout.x);
}

static float fused(float x, float y, float sum) {
    return emulated_flush(fmaf(emulated_flush(x), emulated_flush(y), sum));
}

/* A kernel's sum of n products from zero (dot_kernel.h); a and b have 32 zeros behind them. */
static float chain(bool is_amx, int64_t n, const float *a, const float *b) {
    float s = 0;
    for (int64_t i = 0; i < n && !is_amx; i += 2) {
        s = fused(a[i + 1], b[i + 1], s);
        s = fused(a[i], b[i], s);
    }
    for (int64_t i = 0; i < n && is_amx; i += 32) {
        float sums[2] = {0};
        for (int64_t j = i; j < i + 32; j++) {
            sums[j % 2] = fused(a[j], b[j], sums[j % 2]);
        }
        s = emulated_flush(s + emulated_flush(sums[0] + sums[1]));
    }
    return s;
}

/* The row of k and v at a position among a span's keys, and how many a query of it sees. */
static int64_t key_at(const struct world *w, int s, int64_t position) {
    return position < w->l->prompt ? position : w->spans[s].first + position;
}
static bool is_seen(const struct world *w, int64_t query, int64_t position) {
    int64_t seen = w->l->prompt + query + 1;
    return position < seen && (w->l->window == 0 || position >= seen - w->l->window);
}

static const float *head_of(const struct values *v, int64_t row, int head, int head_dim) {
    return v->x + row * v->t.columns + (int64_t)head * head_dim;
}

/* scale * (dP - D), which is dS where P is 1 and D is 0, as products take it. */
static float slope_of(const struct world *w, int64_t row, int head, int64_t key) {
    int d = w->l->head_dim, group = w->l->heads / w->l->kv_heads;
    float x[MOST] = {0}, y[MOST] = {0};
    memcpy(x, head_of(&w->v, key, head / group, d), (size_t)d * sizeof *x);
    memcpy(y, head_of(&w->dout, row, head, d), (size_t)d * sizeof *y);
    return bf16_value(bf16_bits((float)w->a.scale * chain(w->is_amx, d, x, y)));
}

/* Sum over a query's keys, tile by tile, of P (`slopes`: dS) times column c of their rows of `of`. */
static float sum_over_keys(const struct world *w, int s, int64_t query, int head, int c,
                           const struct values *of, bool slopes) {
    const struct layout *l = w->l;
    int group = l->heads / l->kv_heads;
    int64_t ends[2] = {l->prompt, (int64_t)l->prompt + w->spans[s].count};
    float sum = 0;
    for (int64_t range = 0, at = 0; range < 2; at = ends[range++]) {
        for (int64_t tile = at; tile < ends[range]; tile += TILE) {
            float p[MOST] = {0}, x[MOST] = {0};
            for (int64_t i = 0; i < TILE && tile + i < ends[range]; i++) {
                if (is_seen(w, query, tile + i)) {
                    int64_t key = key_at(w, s, tile + i);
                    p[i] = slopes ? slope_of(w, w->spans[s].first + query, head, key) : 1;
                    x[i] = head_of(of, key, head / group, l->head_dim)[c];
                }
            }
            sum += chain(w->is_amx, TILE, p, x);
        }
    }
    return sum;
}

/* Sum over all lanes of a key head, tile by tile, of P (`slopes`: dS) at a key times column c of their rows
 * of `of`. */
static float sum_over_lanes(const struct world *w, int64_t key, int kv_head, int c, const struct values *of,
                            bool slopes) {
    int group = w->l->heads / w->l->kv_heads;
    float sum = 0;
    for (int s = 0; s < 2; s++) {
        int64_t lanes = (int64_t)w->spans[s].count * group, tiles = (lanes + LANE_TILE - 1) / LANE_TILE;
        int64_t length = ((lanes + tiles - 1) / tiles + PANEL - 1) / PANEL * PANEL;
        int64_t position = key < w->l->prompt ? key : key - w->spans[s].first;
        if (key >= w->l->prompt &&
            (position < w->l->prompt || position >= w->l->prompt + w->spans[s].count)) {
            continue; /* the other span's */
        }
        for (int64_t tile = 0; tile < lanes; tile += length) {
            float p[MOST] = {0}, x[MOST] = {0};
            for (int64_t i = 0; i < length && tile + i < lanes; i++) {
                int64_t query = (tile + i) / group, row = w->spans[s].first + query;
                int head = kv_head * group + (int)((tile + i) % group);
                if (is_seen(w, query, position)) {
                    p[i] = slopes ? slope_of(w, row, head, key) : 1;
                    x[i] = head_of(of, row, head, w->l->head_dim)[c];
                }
            }
            sum += chain(w->is_amx, LANE_TILE, p, x);
        }
    }
    return sum;
}

static void expect_bits(const struct world *w, float got, float expected, const char *what, int64_t row,
                        int64_t column) {
    uint32_t bits[2];
    memcpy(&bits[0], &got, sizeof got);
    memcpy(&bits[1], &expected, sizeof expected);
    if (bits[0] != bits[1]) {
        FAIL("%s, %d heads of %d: %s (%lld, %lld) is %.9g, not %.9g", w->b->caps.products, w->l->heads,
             w->l->head_dim, what, (long long)row, (long long)column, (double)got, (double)expected);
    }
}

static int64_t keys_seen(const struct world *w, int s, int64_t query) {
    int64_t n = 0;
    for (int64_t i = 0; i < w->l->prompt + w->spans[s].count; i++) {
        n += is_seen(w, query, i);
    }
    return n;
}

static void expect_forward(struct world *w) {
    int d = w->l->head_dim;
    must(backend_attention(w->b, &w->a));
    float *out = read_floats(w->b, w->a.out), *lse = read_floats(w->b, w->a.lse);
    for (int s = 0; s < 2; s++) {
        for (int64_t i = 0; i < w->spans[s].count * (int64_t)w->l->heads * d; i++) {
            int64_t query = i / (w->l->heads * d), row = w->spans[s].first + query;
            int head = (int)(i / d % w->l->heads), c = (int)(i % d);
            float factor = 1.0f / (float)keys_seen(w, s, query);
            float expected =
                bf16_value(bf16_bits(sum_over_keys(w, s, query, head, c, &w->v, false) * factor));
            expect_bits(w, out[row * w->l->heads * d + head * d + c], expected, "out", row, head * d + c);
            expect_bits(w, lse[row * w->l->heads + head], logf((float)keys_seen(w, s, query)), "lse", row,
                        head);
        }
    }
    mem_free(out);
    mem_free(lse);
}

/* With out and lse of 0, which are a gradient's input: P is 1, D is 0. */
static void expect_gradient(struct world *w) {
    int d = w->l->head_dim;
    int64_t width = (int64_t)w->l->heads * d, narrow = (int64_t)w->l->kv_heads * d;
    must(backend_zero_tensor(w->b, w->a.out));
    must(backend_zero_tensor(w->b, w->a.lse));
    must(backend_attention_gradient(w->b, &w->a, &w->g));
    float *dq = read_floats(w->b, w->g.dq), *dk = read_floats(w->b, w->g.dk),
          *dv = read_floats(w->b, w->g.dv);
    for (int64_t i = 0; i < w->rows * width; i += 7) {
        int s = i / width >= w->spans[1].first;
        float sum = sum_over_keys(w, s, i / width - w->spans[s].first, (int)(i % width) / d, (int)(i % d),
                                  &w->k, true);
        expect_bits(w, dq[i], bf16_value(bf16_bits(sum)), "dq", i / width, i % width);
    }
    for (int64_t i = 0; i < w->keys * narrow; i += 5) {
        int head = (int)(i % narrow) / d, c = (int)(i % d);
        float k = sum_over_lanes(w, i / narrow, head, c, &w->q, true);
        float v = sum_over_lanes(w, i / narrow, head, c, &w->dout, false);
        expect_bits(w, dk[i], bf16_value(bf16_bits(k)), "dk", i / narrow, i % narrow);
        expect_bits(w, dv[i], bf16_value(bf16_bits(v)), "dv", i / narrow, i % narrow);
    }
    mem_free(dq);
    mem_free(dk);
    mem_free(dv);
}

static void test_order_of_sums(void **state) {
    (void)state;
    for (int i = 0; i < 2 * COUNT_OF(layouts); i++) {
        struct world w;
        struct backend *b = open_kind(i % 2, 2);
        open_world(&w, b, &layouts[i / 2], true);
        expect_forward(&w);
        expect_gradient(&w);
        close_world(&w);
        backend_close(b);
    }
}

/* Each query sees itself alone: lse is its score. */
static void test_scores(void **state) {
    static const struct layout alone[] = {
        {3, {40, 2}, 4, 2, 80, 1}, {0, {70, 1}, 2, 1, 33, 1}, {9, {1, 5}, 2, 2, 256, 1}};
    (void)state;
    for (int i = 0; i < 2 * COUNT_OF(alone); i++) {
        struct world w;
        struct backend *b = open_kind(i % 2, 1);
        const struct layout *l = &alone[i / 2];
        open_world(&w, b, l, false);
        must(backend_attention(b, &w.a));
        float *lse = read_floats(b, w.a.lse);
        for (int64_t j = 0; j < (int64_t)w.rows * l->heads; j++) {
            int64_t row = j / l->heads, head = j % l->heads;
            float x[MOST] = {0}, y[MOST] = {0};
            size_t bytes = (size_t)l->head_dim * sizeof *x;
            memcpy(x, head_of(&w.q, row, (int)head, l->head_dim), bytes);
            memcpy(y, head_of(&w.k, l->prompt + row, (int)head / (l->heads / l->kv_heads), l->head_dim),
                   bytes);
            expect_bits(&w, lse[j], (float)w.a.scale * chain(w.is_amx, l->head_dim, x, y), "score", row,
                        head);
        }
        mem_free(lse);
        close_world(&w);
        backend_close(b);
    }
}

/* All outputs of a layout, one after another. */
static char *run_on(int kind, int threads, const struct layout *l, int64_t *bytes) {
    struct world w;
    struct backend *b = open_kind(kind, threads);
    open_world(&w, b, l, false);
    w.a.softcap = l->window ? 5 : 0;
    must(backend_attention(b, &w.a));
    must(backend_attention_gradient(b, &w.a, &w.g));
    assert_int_equal(emulated_configured(threads), 0);
    struct tensor made[] = {w.a.out, w.g.dq, w.g.dk, w.g.dv, w.a.lse};
    *bytes = 0;
    for (int i = 0; i < COUNT_OF(made); i++) {
        *bytes += made[i].rows * made[i].columns * dtype_size(made[i].type);
    }
    char *all = mem_calloc(*bytes, 1), *at = all;
    assert_non_null(all);
    for (int i = 0; i < COUNT_OF(made); i++) {
        int64_t size = made[i].rows * made[i].columns * dtype_size(made[i].type);
        must(backend_read(b, at, made[i].data, size));
        at += size;
    }
    close_world(&w);
    backend_close(b);
    return all;
}

static void test_threads(void **state) {
    (void)state;
    for (int i = 0; i < 2 * COUNT_OF(layouts); i++) {
        int64_t bytes;
        char *one = run_on(i % 2, 1, &layouts[i / 2], &bytes);
        for (int threads = 2; threads <= 3; threads++) {
            char *more = run_on(i % 2, threads, &layouts[i / 2], &bytes);
            assert_memory_equal(one, more, (size_t)bytes);
            mem_free(more);
        }
        mem_free(one);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_order_of_sums), cmocka_unit_test(test_scores),
                                       cmocka_unit_test(test_threads)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
