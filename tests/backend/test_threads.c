/* The CPU back end gives the same bits with 1, 2 and 3 threads: every operation runs on the same numbers with
 * each count, and the outputs are compared as bytes. Sizes are ragged and larger than tiles and strips. */
#include "tests/unit.h"

#include <string.h>

#include "backend/cpu/cpu_internal.h"
#include "util/mem.h"
#include "util/rng.h"

enum { TOKENS = 333, WIDTH = 144, VOCABULARY = 4999, HEADS = 6, KV_HEADS = 3, HEAD_DIM = 24 };

struct run {
    struct backend *b;
    struct rng rng;
    struct tensor made[256];
    int made_count;
};

static void must(enum status st) {
    if (st != OK) {
        FAIL("%s: %s", status_name(st), status_message()->text);
    }
}

static struct tensor take(struct run *r, int64_t rows, int64_t columns, enum dtype type) {
    void *data = NULL;
    must(backend_alloc(r->b, rows * columns * dtype_size(type), &data));
    return r->made[r->made_count++] = tensor_at(data, rows, columns, type);
}

static struct tensor normal(struct run *r, int64_t rows, int64_t columns) {
    struct tensor t = take(r, rows, columns, DTYPE_F32);
    float *host = mem_calloc(rows * columns, sizeof *host);
    assert_non_null(host);
    for (int64_t i = 0; i < rows * columns; i++) {
        host[i] = (float)rng_normal(&r->rng);
    }
    must(backend_write(r->b, t.data, host, rows * columns * 4));
    mem_free(host);
    return t;
}

static struct tensor numbers(struct run *r, int64_t n, int64_t below) {
    struct tensor t = take(r, 1, n, DTYPE_I32);
    int32_t *host = mem_calloc(n, sizeof *host);
    assert_non_null(host);
    for (int64_t i = 0; i < n; i++) {
        host[i] = (int32_t)rng_below(&r->rng, below);
    }
    must(backend_write(r->b, t.data, host, n * 4));
    mem_free(host);
    return t;
}

static void run_products(struct run *r) {
    static const int64_t shapes[][3] = {
        {1, 700, 300},    {5, 333, 129},   {37, 45, 29},   {300, 200, 1},
        {517, 1031, 513}, {1000, 96, 700}, {33, 5000, 64}, {4100, 40, 260},
    };
    for (int i = 0; i < COUNT_OF(shapes); i++) {
        int64_t m = shapes[i][0];
        int64_t n = shapes[i][1];
        int64_t k = shapes[i][2];
        for (int t = 0; t < 4; t++) {
            struct gemm g = {.transpose_a = t & 1, .transpose_b = t & 2, .alpha = 0.5, .beta = t > 1};
            g.a = g.transpose_a ? normal(r, k, m) : normal(r, m, k);
            g.b = g.transpose_b ? normal(r, n, k) : normal(r, k, n);
            g.c = normal(r, m, n);
            g.bias = normal(r, 1, n);
            must(backend_gemm(r->b, &g));
        }
    }
}

static void run_vectors(struct run *r) {
    struct backend *b = r->b;
    struct tensor x = normal(r, TOKENS, WIDTH);
    struct tensor y = normal(r, TOKENS, WIDTH);
    struct tensor table = normal(r, 50, WIDTH); /* few ids: many rows meet */
    struct tensor ids = numbers(r, TOKENS, 50);
    struct tensor copy = take(r, TOKENS, WIDTH, DTYPE_BF16);
    must(backend_add(b, x, 0.3, y));
    must(backend_sum_rows(b, normal(r, 1, WIDTH), x));
    must(backend_convert(b, copy, x));
    must(backend_embed(b, x, table, ids, 2.0, true));
    must(backend_embed_gradient(b, table, x, ids, 0.7));
    must(backend_scatter_add(b, table, y, ids));
    must(backend_gather(b, y, table, ids));
    struct tensor factors = normal(r, 50, 2 * WIDTH), slopes = take(r, 50, 2 * WIDTH, DTYPE_F32);
    struct tensor d = normal(r, TOKENS, WIDTH), filmed = take(r, TOKENS, WIDTH, DTYPE_F32);
    const struct film f = {y, filmed, tensor_columns(factors, 0, WIDTH),
                           tensor_columns(factors, WIDTH, WIDTH), ids};
    const struct film_gradient g = {d, tensor_columns(slopes, 0, WIDTH),
                                    tensor_columns(slopes, WIDTH, WIDTH)};
    must(backend_film(b, &f));
    must(backend_film_gradient(b, &f, &g));
    struct tensor big = normal(r, 1, 100003);
    double sum = 0.0;
    must(backend_sum_squares(b, big, &sum));
    struct tensor out = take(r, 1, 2, DTYPE_F32);
    must(backend_write(b, out.data, &sum, sizeof sum));
    for (int kind = 0; kind < 4; kind++) {
        struct optimizer_step s = {.kind = (enum optimizer_kind)kind,
                                   .learning_rate = 0.01,
                                   .beta1 = 0.9,
                                   .beta2 = 0.999,
                                   .epsilon = 1e-8,
                                   .weight_decay = 0.1,
                                   .alpha = 0.99,
                                   .bias_correction1 = 0.1,
                                   .bias_correction2 = 0.001,
                                   .gradient_scale = 0.5,
                                   .parameters = big,
                                   .gradients = normal(r, 1, 100003),
                                   .first = normal(r, 1, 100003),
                                   .second = take(r, 1, 100003, DTYPE_F32)};
        must(backend_zero_tensor(b, s.second));
        must(backend_optimizer(b, &s));
    }
}

static void run_layers(struct run *r) {
    struct backend *b = r->b;
    for (int kind = 0; kind < 2; kind++) {
        struct norm n = {.kind = (enum norm_kind)kind,
                         .epsilon = 1e-5,
                         .x = normal(r, TOKENS, WIDTH),
                         .y = normal(r, TOKENS, WIDTH),
                         .weight = normal(r, 1, WIDTH),
                         .bias = normal(r, 1, WIDTH),
                         .statistics = normal(r, TOKENS, 2)};
        struct norm_gradient g = {.dy = normal(r, TOKENS, WIDTH),
                                  .dx = normal(r, TOKENS, WIDTH),
                                  .dweight = normal(r, 1, WIDTH),
                                  .dbias = normal(r, 1, WIDTH)};
        must(backend_norm(b, &n));
        must(backend_norm_gradient(b, &n, &g));
        struct rope rope = {.x = n.y,
                            .table = normal(r, TOKENS, 16),
                            .heads = HEADS,
                            .head_dim = HEAD_DIM,
                            .rotary_dim = 16,
                            .interleaved = kind == 1};
        must(backend_rope(b, &rope));
    }
    for (int kind = 0; kind < 4; kind++) {
        struct activate a = {.kind = (enum activation)kind,
                             .gate = normal(r, TOKENS, WIDTH),
                             .up = normal(r, TOKENS, WIDTH),
                             .y = normal(r, TOKENS, WIDTH)};
        struct activate_gradient g = {.dy = normal(r, TOKENS, WIDTH), .dgate = a.gate, .dup = a.up};
        must(backend_activate(b, &a));
        must(backend_activate_gradient(b, &a, &g));
    }
}

static void run_attention(struct run *r) {
    /* A prompt with two responses, a lone sequence, and a prompt with one response. */
    struct query_span spans[] = {{0, 90, 0, 1},    {90, 31, 1, 2},  {121, 52, 3, 2},
                                 {173, 100, 5, 1}, {273, 20, 6, 1}, {293, 40, 7, 2}};
    struct key_range ranges[] = {{0, 90, true},   {0, 90, false},   {90, 31, true},
                                 {0, 90, false},  {121, 52, true},  {173, 100, true},
                                 {273, 20, true}, {273, 20, false}, {293, 40, true}};
    struct attention_map map = {.id = 7,
                                .span_count = COUNT_OF(spans),
                                .range_count = COUNT_OF(ranges),
                                .spans = spans,
                                .ranges = ranges};
    for (int i = 0; i < 2; i++) {
        struct attention a = {.map = &map,
                              .heads = HEADS,
                              .kv_heads = KV_HEADS,
                              .head_dim = HEAD_DIM,
                              .window = i ? 37 : 0,
                              .scale = 0.2,
                              .softcap = i ? 5.0 : 0.0,
                              .q = normal(r, TOKENS, HEADS * HEAD_DIM),
                              .k = normal(r, TOKENS, KV_HEADS * HEAD_DIM),
                              .v = normal(r, TOKENS, KV_HEADS * HEAD_DIM),
                              .out = normal(r, TOKENS, HEADS * HEAD_DIM),
                              .lse = normal(r, TOKENS, HEADS)};
        struct attention_gradient g = {.dout = normal(r, TOKENS, HEADS * HEAD_DIM),
                                       .dq = normal(r, TOKENS, HEADS * HEAD_DIM),
                                       .dk = normal(r, TOKENS, KV_HEADS * HEAD_DIM),
                                       .dv = normal(r, TOKENS, KV_HEADS * HEAD_DIM)};
        must(backend_attention(r->b, &a));
        must(backend_attention_gradient(r->b, &a, &g));
    }
}

static void run_head(struct run *r) {
    int64_t rows = 550; /* more than a slab's */
    struct head h = {.hidden = normal(r, rows, 32),
                     .weight = normal(r, VOCABULARY, 32),
                     .bias = normal(r, 1, VOCABULARY),
                     .targets = numbers(r, rows, VOCABULARY),
                     .statistics = normal(r, rows, HEAD_STATISTICS)};
    struct head_gradient g = {.row_weight = normal(r, 1, rows),
                              .dhidden = normal(r, rows, 32),
                              .dweight = normal(r, VOCABULARY, 32),
                              .dbias = normal(r, 1, VOCABULARY)};
    must(backend_head(r->b, &h));
    must(backend_head_gradient(r->b, &h, &g));
}

/* Runs work with each thread count and compares all memory that it took. */
static void compare(void (*work)(struct run *r), const char *name) {
    static struct run runs[3];
    for (int i = 0; i < 3; i++) {
        char why[256];
        struct backend_request request = {.device = "cpu", .compute = "fp32", .threads = i + 1};
        runs[i] = (struct run){.rng = rng_stream(1, RNG_CHECK, 2, 3)};
        must(backend_open(&request, &runs[i].b, why));
        work(&runs[i]);
    }
    for (int j = 0; j < runs[0].made_count; j++) {
        struct tensor t = runs[0].made[j];
        int64_t bytes = t.rows * t.columns * dtype_size(t.type);
        char *one = mem_calloc(bytes, 1);
        char *other = mem_calloc(bytes, 1);
        assert_true(one && other);
        must(backend_read(runs[0].b, one, t.data, bytes));
        for (int i = 1; i < 3; i++) {
            must(backend_read(runs[i].b, other, runs[i].made[j].data, bytes));
            if (memcmp(one, other, (size_t)bytes) != 0) {
                FAIL("%s: tensor %d (%lld x %lld) has other bits with %d threads than with 1", name, j,
                     (long long)t.rows, (long long)t.columns, i + 1);
            }
        }
        mem_free(one);
        mem_free(other);
    }
    for (int i = 0; i < 3; i++) {
        for (int j = 0; j < runs[i].made_count; j++) {
            backend_free(runs[i].b, runs[i].made[j].data);
        }
        backend_close(runs[i].b);
    }
}

static void test_threads(void **state) {
    (void)state;
    compare(run_products, "products");
    compare(run_vectors, "vectors");
    compare(run_layers, "layers");
    compare(run_attention, "attention");
    compare(run_head, "head");
}

/* Every thread has a room of its own in a product of few rows: it is in what the back end says that it keeps.
 */
static void test_scratch_of_few_rows(void **state) {
    (void)state;
    char why[256];
    struct backend_request request = {.device = "cpu", .compute = "fp32", .threads = 24};
    struct run r = {.rng = rng_stream(1, RNG_CHECK, 2, 4)};
    must(backend_open(&request, &r.b, why));
    struct gemm g = {.a = normal(&r, 40, 300), .b = normal(&r, 700, 300), .transpose_b = true, .alpha = 1};
    g.c = take(&r, 40, 700, DTYPE_F32);
    must(backend_gemm(r.b, &g));
    int64_t held = 0;
    for (int i = 0; i < SCRATCH_KINDS; i++) {
        held += cpu_of(r.b)->scratch_bytes[i];
    }
    assert_true(held > 0);
    assert_true(held <= backend_scratch_bytes(r.b, 0, 0, 0));
    for (int i = 0; i < r.made_count; i++) {
        backend_free(r.b, r.made[i].data);
    }
    backend_close(r.b);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_threads),
                                       cmocka_unit_test(test_scratch_of_few_rows)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
