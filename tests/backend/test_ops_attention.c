/* Attention over forests, caches and windows on every back end, against the reference. */
#include "tests/unit.h"

#include <math.h>
#include <string.h>

#include "reference/harness.h"
#include "util/hash.h"
#include "util/mem.h"

enum { SEGMENTS = 12, RANGES = 64 };

/* A forest as its segments' parents and lengths, in order; parent -1 is a root. count 0 ends the list. */
struct tree {
    int parent, count;
};

struct map {
    struct query_span spans[SEGMENTS];
    struct key_range ranges[RANGES];
    struct attention_map map;
};

/* One span per segment: its ancestors whole, from the root down, then itself, causal. */
static void map_of_forest(const struct tree *trees, struct map *m) {
    int32_t firsts[SEGMENTS];
    int32_t row = 0;
    memset(m, 0, sizeof *m);
    for (int s = 0; s < SEGMENTS && trees[s].count > 0; s++) {
        int chain[SEGMENTS];
        int depth = 0;
        for (int at = s; at >= 0; at = trees[at].parent) {
            chain[depth++] = at;
        }
        firsts[s] = row;
        m->spans[s] = (struct query_span){row, trees[s].count, m->map.range_count, depth};
        while (depth-- > 0) {
            int at = chain[depth];
            m->ranges[m->map.range_count++] = (struct key_range){firsts[at], trees[at].count, at == s};
        }
        row += trees[s].count;
        m->map.span_count++;
    }
    m->map.id = hash_bytes(m->ranges, sizeof m->ranges, hash_bytes(m->spans, sizeof m->spans, 0));
    m->map.spans = m->spans;
    m->map.ranges = m->ranges;
}

struct attention_case {
    struct tree trees[SEGMENTS]; /* empty: one of the cache maps */
    int cache; /* 1: a decoding step of three sequences, 2: prefill in pieces, 3: see map_of_cache */
    int heads, kv_heads, head_dim, window;
    double softcap, spread;
    bool fused; /* q, k, v side by side in one matrix, as are their gradients */
};

static const struct attention_case cases[] = {
    {.trees = {{-1, 1}}, .heads = 1, .kv_heads = 1, .head_dim = 4, .spread = 1},
    {.trees = {{-1, 5}}, .heads = 2, .kv_heads = 1, .head_dim = 3, .spread = 1},
    {.trees = {{-1, 17}, {0, 30}, {0, 25}},
     .heads = 4,
     .kv_heads = 4,
     .head_dim = 16,
     .spread = 1,
     .fused = true},
    {.trees = {{-1, 70}, {0, 65}, {0, 1}, {-1, 33}, {3, 64}, {4, 12}, {4, 31}, {3, 2}},
     .heads = 6,
     .kv_heads = 2,
     .head_dim = 20,
     .spread = 1,
     .fused = true},
    {.trees = {{-1, 70}, {0, 65}, {0, 1}, {-1, 33}, {3, 64}, {4, 12}, {4, 31}, {3, 2}},
     .heads = 6,
     .kv_heads = 2,
     .head_dim = 16,
     .spread = 1,
     .fused = true},
    {.trees = {{-1, 9}, {0, 4}, {1, 3}, {2, 6}, {3, 2}, {4, 5}, {0, 8}},
     .heads = 2,
     .kv_heads = 1,
     .head_dim = 16,
     .spread = 1},
    {.trees = {{-1, 2}, {0, 3}, {1, 40}, {2, 5}, {2, 70}, {-1, 1}, {5, 1}},
     .heads = 2,
     .kv_heads = 2,
     .head_dim = 64,
     .window = 7,
     .spread = 1},
    {.trees = {{-1, 300}, {0, 129}, {0, 128}}, .heads = 2, .kv_heads = 1, .head_dim = 64, .spread = 1},
    {.trees = {{-1, 530}},
     .heads = 1,
     .kv_heads = 1,
     .head_dim = 80,
     .window = 100,
     .spread = 2,
     .fused = true},
    {.trees = {{-1, 90}, {0, 50}, {0, 60}},
     .heads = 3,
     .kv_heads = 1,
     .head_dim = 32,
     .window = 64,
     .softcap = 5,
     .spread = 2},
    {.trees = {{-1, 90}, {0, 50}}, .heads = 2, .kv_heads = 2, .head_dim = 128, .softcap = 50, .spread = 1},
    {.trees = {{-1, 40}, {0, 20}}, .heads = 8, .kv_heads = 1, .head_dim = 8, .window = 1, .spread = 3},
    {.cache = 1, .heads = 4, .kv_heads = 2, .head_dim = 16, .spread = 1},
    {.cache = 1, .heads = 4, .kv_heads = 4, .head_dim = 64, .window = 10, .softcap = 30, .spread = 1},
    {.cache = 2, .heads = 2, .kv_heads = 1, .head_dim = 32, .spread = 1},
    {.cache = 2, .heads = 2, .kv_heads = 2, .head_dim = 32, .window = 33, .spread = 1},
    {.cache = 3, .heads = 4, .kv_heads = 2, .head_dim = 16, .spread = 1},
    {.cache = 3, .heads = 2, .kv_heads = 2, .head_dim = 32, .window = 33, .softcap = 5, .spread = 1},
};

/* Keys of three sequences in a cache with unused rows between them; the third map's first and last share
 * keys, and the one between them has none. */
static int64_t map_of_cache(int kind, struct map *m) {
    static const struct key_range caches[3][3] = {{{0, 200, true}, {256, 1, true}, {300, 77, true}},
                                                  {{3, 140, true}, {256, 9, true}, {300, 77, true}},
                                                  {{100, 120, true}, {0, 0, false}, {150, 100, true}}};
    static const int32_t queries[3][3] = {{1, 1, 1}, {64, 9, 30}, {40, 5, 30}};
    memset(m, 0, sizeof *m);
    int32_t row = 0;
    for (int s = 0; s < 3; s++) {
        m->ranges[s] = caches[kind - 1][s];
        m->spans[s] = (struct query_span){row, queries[kind - 1][s], s, 1};
        row += queries[kind - 1][s];
    }
    m->map = (struct attention_map){(uint64_t)kind, 3, 3, m->spans, m->ranges};
    return 400;
}

static void spoil_unused(struct harness *h, const struct attention_map *map, struct pair *p) {
    double *values = reference_values(*p);
    for (int64_t i = 0; i < p->device.rows; i++) {
        bool used = false;
        for (int32_t r = 0; r < map->range_count; r++) {
            used = used || (i >= map->ranges[r].first && i < map->ranges[r].first + map->ranges[r].count);
        }
        for (int64_t j = 0; !used && j < p->device.columns; j++) {
            values[i * p->device.columns + j] = NAN;
        }
    }
    pair_set(h, p, values);
    mem_free(values);
}

/* Largest Euclidean length of a head's vector in a row, and largest magnitude. */
static void sizes(struct pair p, int head_dim, double *length, double *most) {
    double *x = reference_values(p);
    *length = *most = 0;
    for (int64_t i = 0; i < p.reference.rows * p.reference.columns / head_dim; i++) {
        double sum = 0;
        for (int j = 0; j < head_dim; j++) {
            sum += x[i * head_dim + j] * x[i * head_dim + j];
            *most = fmax(*most, fabs(x[i * head_dim + j]));
        }
        *length = fmax(*length, sqrt(sum));
    }
    mem_free(x);
}

struct errors {
    double out, lse, dq, dk, dv; /* dk and dv: times a key's mass */
};

/* With scores off by at most d, probabilities are off by a factor 1 +- 2d (and the roundings of their sum);
 * the rest follows from |ds| <= 2 p |dout| |v| and sum p = 1. */
static struct errors errors_of(struct harness *h, const struct attention *a, const struct pair in[4]) {
    double length[4];
    double most[4];
    for (int i = 0; i < 4; i++) {
        sizes(in[i], a->head_dim, &length[i], &most[i]);
    }
    int64_t keys = a->k.rows;
    double dot = sum_error(a->head_dim);
    double score = a->scale * length[0] * length[1];
    double delta = score * dot + (a->softcap > 0 ? 8 * 0x1p-24 * fmin(score, a->softcap) : 0);
    double p = 2 * delta + sum_error(keys) + roundoff(h->device->caps.compute);
    double dp = length[3] * length[2];
    double slope = a->softcap > 0 ? 8 * 0x1p-24 + 2 * delta / a->softcap : 0;
    double ds = a->scale * dp * (3 * p + 2 * dot + 2 * slope + 2 * sum_error(keys));
    return (struct errors){.out = most[2] * (p + sum_error(keys)),
                           .lse = delta + sum_error(keys),
                           .dq = most[1] * ds,
                           .dk = most[0] * ds,
                           .dv = most[3] * (p + sum_error(a->q.rows))};
}

/* Probability that all queries together give to each key, per key/value head: dv for dout of ones. */
static double *key_masses(struct harness *h, const struct attention *a) {
    struct pair ones = pair_normal(h, ROLE_COMPUTE, a->q.rows, a->q.columns, 0, 0);
    struct pair dq = pair_normal(h, ROLE_COMPUTE, a->q.rows, a->q.columns, 0, 0);
    struct pair dk = pair_normal(h, ROLE_COMPUTE, a->k.rows, a->k.columns, 0, 0);
    struct pair dv = pair_normal(h, ROLE_COMPUTE, a->k.rows, a->k.columns, 0, 0);
    for (int64_t i = 0; i < a->q.rows * a->q.columns; i++) {
        ((double *)ones.reference.data)[i] = 1;
    }
    struct attention_gradient g = {ones.reference, dq.reference, dk.reference, dv.reference};
    must(backend_attention_gradient(h->reference, a, &g));
    return reference_values(dv);
}

static void expect_masses(struct harness *h, struct pair p, const double *masses, double error,
                          const char *what) {
    int64_t n = p.device.rows * p.device.columns;
    double *bound = mem_calloc(n, sizeof *bound);
    assert_non_null(bound);
    for (int64_t i = 0; i < n; i++) {
        bound[i] = masses[i] * error;
    }
    expect_close(h, p, bound, what);
    mem_free(bound);
}

/* q, k, v (or their gradients): apart, or side by side in one matrix. */
static void three(struct harness *h, const struct attention_case *c, int64_t rows, int64_t keys,
                  struct pair *out) {
    int64_t q = (int64_t)c->heads * c->head_dim;
    int64_t kv = (int64_t)c->kv_heads * c->head_dim;
    int64_t unit = c->head_dim % 8 == 0 ? 8 : 1; /* rows that a library may take, and rows that it may not */
    if (c->fused) {
        struct pair all = pair_normal(h, ROLE_COMPUTE, rows, q + 2 * kv, 3 * unit, c->spread);
        out[0] = pair_columns(all, 0, q);
        out[1] = pair_columns(all, q, kv);
        out[2] = pair_columns(all, q + kv, kv);
        return;
    }
    out[0] = pair_normal(h, ROLE_COMPUTE, rows, q, unit, c->spread);
    out[1] = pair_normal(h, ROLE_COMPUTE, keys, kv, 0, c->spread);
    out[2] = pair_normal(h, ROLE_COMPUTE, keys, kv, 5 * unit, c->spread);
}

static void set_tensors(struct attention *a, const struct pair *const pairs[5], bool on_device) {
    struct tensor *const fields[] = {&a->q, &a->k, &a->v, &a->out, &a->lse};
    for (int i = 0; i < 5; i++) {
        *fields[i] = on_device ? pairs[i]->device : pairs[i]->reference;
    }
}

static void run_attention(struct harness *h, const struct attention_case *c) {
    struct map m;
    int64_t keys = 0;
    if (c->cache) {
        keys = map_of_cache(c->cache, &m);
    } else {
        map_of_forest(c->trees, &m);
    }
    const struct query_span *last = &m.spans[m.map.span_count - 1];
    int64_t rows = last->first + last->count;
    keys = c->cache ? keys : rows;
    struct pair in[4];
    struct pair gradients[3];
    three(h, c, rows, keys, in);
    three(h, c, rows, keys, gradients);
    if (c->cache) { /* rows that no range names are not read */
        spoil_unused(h, &m.map, &in[1]);
        spoil_unused(h, &m.map, &in[2]);
    }
    struct pair out = pair_normal(h, ROLE_COMPUTE, rows, (int64_t)c->heads * c->head_dim, 16, 1);
    struct pair lse = pair_normal(h, ROLE_READOUT, rows, c->heads, 0, 1);
    in[3] = pair_normal(h, ROLE_COMPUTE, rows, (int64_t)c->heads * c->head_dim, 0, 1);
    struct attention a = {.map = &m.map,
                          .heads = c->heads,
                          .kv_heads = c->kv_heads,
                          .head_dim = c->head_dim,
                          .window = c->window,
                          .scale = 1 / sqrt(c->head_dim),
                          .softcap = c->softcap};
    struct attention b = a;
    const struct pair *const tensors[] = {&in[0], &in[1], &in[2], &out, &lse};
    set_tensors(&a, tensors, true);
    set_tensors(&b, tensors, false);
    must(backend_attention(h->device, &a));
    must(backend_attention(h->reference, &b));
    struct errors e = errors_of(h, &b, in);
    expect_within(h, out, e.out, "attention");
    expect_within(h, lse, e.lse, "attention lse");
    struct attention_gradient ga = {in[3].device, gradients[0].device, gradients[1].device,
                                    gradients[2].device};
    struct attention_gradient gb = {in[3].reference, gradients[0].reference, gradients[1].reference,
                                    gradients[2].reference};
    must(backend_attention_gradient(h->device, &a, &ga));
    must(backend_attention_gradient(h->reference, &b, &gb));
    double *masses = key_masses(h, &b);
    expect_within(h, gradients[0], e.dq, "attention dq");
    expect_masses(h, gradients[1], masses, e.dk, "attention dk");
    expect_masses(h, gradients[2], masses, e.dv, "attention dv");
    mem_free(masses);
}

static void test_attention(void **state) {
    struct harness *h = *state;
    FOR_EACH_DEVICE(h, d) {
        for (int i = 0; i < COUNT_OF(cases); i++) {
            harness_begin(h, d, (uint64_t)i);
            run_attention(h, &cases[i]);
            harness_end(h);
        }
    }
}

/* One query over `keys` keys; q and k as given (head_dim 4), v normal. */
static void run_row(struct harness *h, int64_t keys, const double *q, const double *k, double error) {
    struct map m;
    memset(&m, 0, sizeof m);
    m.spans[0] = (struct query_span){0, 1, 0, 1};
    m.ranges[0] = (struct key_range){0, (int32_t)keys, true};
    m.map = (struct attention_map){1000 + (uint64_t)keys, 1, 1, m.spans, m.ranges};
    struct pair pairs[] = {
        pair_normal(h, ROLE_COMPUTE, 1, 4, 0, 1), pair_normal(h, ROLE_COMPUTE, keys, 4, 0, 1),
        pair_normal(h, ROLE_COMPUTE, keys, 4, 0, 1), pair_normal(h, ROLE_COMPUTE, 1, 4, 0, 1),
        pair_normal(h, ROLE_READOUT, 1, 1, 0, 1)};
    pair_set(h, &pairs[0], q);
    pair_set(h, &pairs[1], k);
    struct attention a = {.map = &m.map, .heads = 1, .kv_heads = 1, .head_dim = 4, .scale = 1};
    struct attention b = a;
    const struct pair *const tensors[] = {&pairs[0], &pairs[1], &pairs[2], &pairs[3], &pairs[4]};
    set_tensors(&a, tensors, true);
    set_tensors(&b, tensors, false);
    must(backend_attention(h->device, &a));
    must(backend_attention(h->reference, &b));
    expect_within(h, pairs[3], error, "attention of one row");
    expect_within(h, pairs[4], error, "lse of one row");
}

/* Scores that are whole numbers, so that only the softmax itself rounds: +-1e4 and ties. */
static void test_extreme_scores(void **state) {
    struct harness *h = *state;
    static const double q[] = {100, 0, 0, 0};
    FOR_EACH_DEVICE(h, d) {
        harness_begin(h, d, 8);
        double k[4 * 100] = {0};
        run_row(h, 1, q, k, 4 * 0x1p-24);          /* one key: its value, lse 0 */
        run_row(h, 100, q, k, 6 * sum_error(100)); /* all equal: the mean, lse log 100 */
        for (int i = 0; i < 100; i++) {
            k[4 * i] = i % 2 ? 100 : -100;
        }
        run_row(h, 100, q, k, 6 * sum_error(100)); /* half of them at 1e4 */
        k[4 * 63] = 101;
        run_row(h, 100, q, k, 6 * sum_error(100)); /* one winner */
        for (int i = 0; i < 100; i++) {
            k[4 * i] = -100;
        }
        run_row(h, 100, q, k, 6 * sum_error(100)); /* all at -1e4 */
        harness_end(h);
    }
}

static void test_long_row(void **state) {
    struct harness *h = *state;
    enum { KEYS = 30000 };
    double *k = mem_calloc(4 * KEYS, sizeof *k);
    static const double q[] = {1, -0.5, 0.25, 2};
    assert_non_null(k);
    FOR_EACH_DEVICE(h, d) {
        harness_begin(h, d, 9);
        for (int i = 0; i < 4 * KEYS; i++) {
            k[i] = (double)((i * 37) % 64) / 32 - 1; /* products of few bits: scores are exact */
        }
        run_row(h, KEYS, q, k, 6 * sum_error(KEYS));
        harness_end(h);
    }
    mem_free(k);
}

static uint64_t hash_pair(struct harness *h, struct pair p, uint64_t seed) {
    double *values = device_values(h, p);
    uint64_t hash = hash_bytes(values, (size_t)(p.device.rows * p.device.columns) * sizeof *values, seed);
    mem_free(values);
    return hash;
}

/* One root and many children: all of them add into the root's dk and dv. */
static uint64_t run_children(struct harness *h) {
    enum { CHILDREN = 12, LENGTH = 40, ROWS = (CHILDREN + 1) * LENGTH };
    struct query_span spans[CHILDREN + 1];
    struct key_range ranges[2 * CHILDREN + 1] = {{0, LENGTH, true}};
    spans[0] = (struct query_span){0, LENGTH, 0, 1};
    for (int c = 1; c <= CHILDREN; c++) {
        spans[c] = (struct query_span){c * LENGTH, LENGTH, 2 * c - 1, 2};
        ranges[2 * c - 1] = (struct key_range){0, LENGTH, false};
        ranges[2 * c] = (struct key_range){c * LENGTH, LENGTH, true};
    }
    const struct attention_map map = {99, CHILDREN + 1, 2 * CHILDREN + 1, spans, ranges};
    struct pair p[9]; /* q, out, dout, dq; k, v, dk, dv; lse */
    for (int i = 0; i < 9; i++) {
        p[i] = pair_normal(h, i < 8 ? ROLE_COMPUTE : ROLE_READOUT, ROWS,
                           i < 4   ? 2 * 32
                           : i < 8 ? 32
                                   : 2,
                           0, 1);
    }
    struct attention a = {.map = &map,
                          .heads = 2,
                          .kv_heads = 1,
                          .head_dim = 32,
                          .scale = 0.2,
                          .q = p[0].device,
                          .k = p[4].device,
                          .v = p[5].device,
                          .out = p[1].device,
                          .lse = p[8].device};
    struct attention_gradient g = {
        .dout = p[2].device, .dq = p[3].device, .dk = p[6].device, .dv = p[7].device};
    uint64_t hash = 0;
    for (int repeat = 0; repeat < 10; repeat++) {
        must(backend_attention(h->device, &a));
        must(backend_attention_gradient(h->device, &a, &g));
        for (int i = 0; i < 9; i++) {
            hash = hash_pair(h, p[i], hash);
        }
    }
    return hash;
}

/* Threads that meet in a root's keys neither lose an addition nor change its order. */
static void test_children_on_threads(void **state) {
    struct harness *h = *state;
    uint64_t hashes[4];
    if (h->device_count < 2) {
        skip(); /* one device was asked for: threads are the CPU's affair */
    }
    for (int i = 0; i < 4; i++) {
        struct backend_request request = {.device = "cpu",
                                          .compute = "fp32",
                                          .threads = i < 3 ? i + 1 : 2, /* and once more */
                                          .device_index = -1,
                                          .deterministic = true};
        char why[256];
        must(backend_open(&request, &h->device, why));
        h->rng = rng_stream(3, RNG_CHECK, 0, 0);
        h->pair_count = 0;
        hashes[i] = run_children(h);
        harness_end(h);
        backend_close(h->device);
    }
    assert_true(hashes[1] == hashes[3]);
    assert_true(hashes[0] == hashes[1] && hashes[0] == hashes[2]);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_attention),
        cmocka_unit_test(test_extreme_scores),
        cmocka_unit_test(test_long_row),
        cmocka_unit_test(test_children_on_threads),
    };
    return cmocka_run_group_tests(tests, harness_setup, harness_teardown);
}
