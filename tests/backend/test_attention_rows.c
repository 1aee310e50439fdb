/* Attention on the CPU: a query's output has the same bits whichever queries stand beside it (a step of
 * decoding has one, a forest many), at every x86-64 level and in both types, with the products of
 * COLLIMATE_TEST_PRODUCTS in bf16; and memory inside is what was said, and grows with the tokens of a row,
 * not with their square. */
#include "tests/unit.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "backend/backend.h"
#include "backend/cpu/cpu_internal.h"
#include "util/mem.h"
#include "util/rng.h"

enum { PROMPT = 131, RESPONSE = 150, TOKENS = PROMPT + RESPONSE, MOST = 8 };

struct shape {
    int heads, kv_heads, head_dim, window;
    double softcap;
};

static const struct shape shapes[] = {
    {2, 2, 64, 0, 0},  {6, 2, 20, 0, 0},   {3, 1, 32, 40, 0}, {2, 2, 80, 0, 5},  {7, 1, 16, 1, 0},
    {2, 1, 3, 127, 0}, {1, 1, 128, 0, 30}, {40, 1, 8, 0, 0},  {1, 1, 256, 0, 0}, {2, 2, 33, 20, 0},
};

static void must(enum status st) {
    if (st != OK) {
        FAIL("%s: %s", status_name(st), status_message()->text);
    }
}

static struct backend *open_cpu(const char *compute, int threads) {
    char why[256];
    struct backend *b;
    const char *products = strcmp(compute, "bf16") == 0 ? getenv("COLLIMATE_TEST_PRODUCTS") : NULL;
    const struct backend_request request = {
        .device = "cpu", .compute = compute, .threads = threads, .products = products};
    must(backend_open(&request, &b, why));
    return b;
}

static struct tensor take(struct backend *b, int64_t rows, int64_t columns, enum dtype type, int stream) {
    void *data = NULL;
    double *values = mem_calloc(rows * columns, sizeof *values);
    struct rng r = rng_stream(4, RNG_CHECK, stream, 9);
    assert_non_null(values);
    must(backend_alloc(b, rows * columns * dtype_size(type), &data));
    struct tensor t = tensor_at(data, rows, columns, type);
    for (int64_t i = 0; i < rows * columns; i++) {
        values[i] = rng_normal(&r);
    }
    must(backend_write_doubles(b, t, values));
    mem_free(values);
    return t;
}

/* The response's rows [first, first + count), which see the prompt and the response up to themselves. */
static void attend(struct backend *b, struct attention a, int first, int count) {
    const struct query_span span = {0, count, 0, 2};
    const struct key_range ranges[] = {{0, PROMPT, false}, {PROMPT, first + count, true}};
    const struct attention_map map = {(uint64_t)(first * TOKENS + count), 1, 2, &span, ranges};
    a.map = &map;
    a.q = tensor_rows(a.q, first, count);
    a.out = tensor_rows(a.out, first, count);
    a.lse = tensor_rows(a.lse, first, count);
    must(backend_attention(b, &a));
}

static void check_shape(struct backend *b, const struct shape *s) {
    static const int pieces[] = {1, 2, 5, 17, 33, 64, 100};
    enum dtype type = b->caps.compute;
    struct attention a = {.heads = s->heads,
                          .kv_heads = s->kv_heads,
                          .head_dim = s->head_dim,
                          .window = s->window,
                          .scale = 0.3,
                          .softcap = s->softcap};
    struct tensor out[2], lse[2];
    int64_t width = (int64_t)s->heads * s->head_dim, narrow = (int64_t)s->kv_heads * s->head_dim;
    a.q = take(b, RESPONSE, width, type, 0);
    a.k = take(b, TOKENS, narrow, type, 1);
    a.v = take(b, TOKENS, narrow, type, 2);
    for (int i = 0; i < 2; i++) {
        out[i] = take(b, RESPONSE, width, type, 3 + i);
        lse[i] = take(b, RESPONSE, s->heads, DTYPE_F32, 5 + i);
    }
    a.out = out[0];
    a.lse = lse[0];
    attend(b, a, 0, RESPONSE);
    for (int i = 0; i < COUNT_OF(pieces); i++) {
        a.out = out[1];
        a.lse = lse[1];
        for (int first = 0; first < RESPONSE; first += pieces[i]) {
            attend(b, a, first, RESPONSE - first < pieces[i] ? RESPONSE - first : pieces[i]);
        }
        if (memcmp(out[0].data, out[1].data, (size_t)(RESPONSE * width * dtype_size(type))) != 0 ||
            memcmp(lse[0].data, lse[1].data, (size_t)(RESPONSE * s->heads) * sizeof(float)) != 0) {
            FAIL("%s: %d heads of %d: other bits in pieces of %d queries", dtype_name(type), s->heads,
                 s->head_dim, pieces[i]);
        }
    }
    struct tensor made[] = {a.q, a.k, a.v, out[0], out[1], lse[0], lse[1]};
    for (int i = 0; i < COUNT_OF(made); i++) {
        backend_free(b, made[i].data);
    }
}

static void test_pieces(void **state) {
    (void)state;
    for (int i = 0; i < 2; i++) {
        struct backend *b = open_cpu(i ? "bf16" : "fp32", 1); /* counts of threads: test_threads */
        for (int s = 0; s < COUNT_OF(shapes); s++) {
            check_shape(b, &shapes[s]);
        }
        backend_close(b);
    }
}

static int64_t scratch_of(const struct backend *b) {
    int64_t sum = 0;
    for (int i = 0; i < SCRATCH_KINDS; i++) {
        sum += cpu_of(b)->scratch_bytes[i];
    }
    return sum;
}

/* Bytes inside after attention and its gradient on a causal row of so many tokens. */
static int64_t scratch_for(const char *compute, int tokens) {
    enum { HEADS = 2, HEAD_DIM = 16, THREADS = 2 };
    struct backend *b = open_cpu(compute, THREADS);
    const struct query_span span = {0, tokens, 0, 1};
    const struct key_range range = {0, tokens, true};
    const struct attention_map map = {1, 1, 1, &span, &range};
    struct tensor t[MOST], lse = take(b, tokens, HEADS, DTYPE_F32, MOST);
    for (int i = 0; i < MOST; i++) {
        t[i] = take(b, tokens, HEADS * HEAD_DIM, b->caps.compute, i);
    }
    struct attention a = {.map = &map,
                          .heads = HEADS,
                          .kv_heads = HEADS,
                          .head_dim = HEAD_DIM,
                          .scale = 0.25,
                          .q = t[0],
                          .k = t[1],
                          .v = t[2],
                          .out = t[3],
                          .lse = lse};
    struct attention_gradient g = {.dout = t[4], .dq = t[5], .dk = t[6], .dv = t[7]};
    must(backend_attention(b, &a));
    must(backend_attention_gradient(b, &a, &g));
    int64_t bytes = scratch_of(b);
    int64_t counted = backend_scratch_bytes(b, 0, 0, HEAD_DIM) - cpu_scratch_bytes(b, 0, 0);
    assert_in_range(cpu_of(b)->scratch_bytes[SCRATCH_ATTENTION], counted, counted + (int64_t)tokens * 24);
    for (int i = 0; i < MOST; i++) {
        backend_free(b, t[i].data);
    }
    backend_free(b, lse.data);
    backend_close(b);
    return bytes;
}

/* Four times the tokens: at most the list of tiles more in fp32, and in bf16 a thread's sums of dK and dV as
 * well.
 */
static void test_linear_memory(void **state) {
    (void)state;
    enum { SHORT = 512, LONG = 4 * SHORT, MORE = LONG - SHORT };
    int64_t list = MORE * 24; /* a tile has one token at least */
    int64_t sums = 2 * 2 * MORE * 16 * (int64_t)sizeof(float);
    assert_in_range(scratch_for("fp32", LONG) - scratch_for("fp32", SHORT), 0, list);
    assert_in_range(scratch_for("bf16", LONG) - scratch_for("bf16", SHORT), 0, list + sums);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_pieces), cmocka_unit_test(test_linear_memory)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
