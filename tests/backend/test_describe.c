/* What describe_*() says of calls of known shapes, and that times by operation count what went through the
 * front door and nothing where nobody asked. */
#include <math.h>
#include <string.h>

#include "backend/operation_times.h"
#include "tests/unit.h"

static float memory[4096];

static struct tensor at(int64_t rows, int64_t columns) {
    return tensor_at(memory, rows, columns, DTYPE_F32);
}

static void test_gemm(void **state) {
    (void)state;
    struct gemm g = {.a = at(7, 3), .b = at(5, 3), .c = at(7, 5), .transpose_b = true, .alpha = 1};
    struct described d;
    describe_gemm(&g, &d);
    assert_true(d.flops == 2.0 * 7 * 5 * 3);
    assert_true(d.bytes == 4 * (7 * 3 + 5 * 3 + 7 * 5)); /* no bias, C is not read */
    g = (struct gemm){.a = at(9, 4), .b = at(9, 6), .c = at(4, 6), .transpose_a = true, .beta = 1};
    describe_gemm(&g, &d);
    assert_true(d.flops == 2.0 * 4 * 6 * 9);
    assert_true(d.bytes == 4 * (9 * 4 + 9 * 6 + 2 * 4 * 6));
    for (int i = 0; i < d.n; i++) {
        enum use_kind want = strcmp(d.tensors[i].name, "c") == 0 ? USE_UPDATE : USE_READ;
        assert_int_equal(d.tensors[i].use, want);
    }
}

/* Pairs of a query and a key that it sees, counted one by one. */
static double count_pairs(const struct attention_map *map, int window) {
    double pairs = 0;
    for (int s = 0; s < map->span_count; s++) {
        const struct query_span *span = &map->spans[s];
        for (int i = 0; i < span->count; i++) {
            int seen = 0;
            for (int r = span->range_first; r < span->range_first + span->range_count; r++) {
                const struct key_range *range = &map->ranges[r];
                for (int k = 0; k < range->count; k++) {
                    seen += !range->causal || k <= range->count - span->count + i;
                }
            }
            pairs += window > 0 && seen > window ? window : seen;
        }
    }
    return pairs;
}

static void test_attention(void **state) {
    (void)state;
    /* A prompt of 6, two responses to it of 3 and 4, and a decoding step of 1 on 9 keys. */
    static const struct key_range ranges[] = {{0, 6, true},  {0, 6, false}, {6, 3, true},
                                              {0, 6, false}, {9, 4, true},  {13, 9, true}};
    static const struct query_span spans[] = {{0, 6, 0, 1}, {6, 3, 1, 2}, {9, 4, 3, 2}, {13, 1, 5, 1}};
    const struct attention_map map = {.span_count = 4, .range_count = 6, .spans = spans, .ranges = ranges};
    assert_true(count_pairs(&map, 0) == 21 + (18 + 6) + (24 + 10) + 9);
    for (int window = 0; window < 12; window += 5) {
        struct attention_backward call = {.attention = {.map = &map,
                                                        .heads = 4,
                                                        .kv_heads = 2,
                                                        .head_dim = 8,
                                                        .window = window,
                                                        .q = at(14, 32),
                                                        .k = at(22, 16),
                                                        .v = at(22, 16),
                                                        .out = at(14, 32)}};
        struct described d;
        describe_attention(&call.attention, &d);
        assert_true(d.flops == 2 * 2.0 * 4 * 8 * count_pairs(&map, window));
        assert_true(d.bytes == 4 * (2 * 14 * 32 + 2 * 22 * 16)); /* without a log-sum-exp */
        describe_attention_gradient(&call, &d);
        assert_true(d.flops == 5 * 2.0 * 4 * 8 * count_pairs(&map, window));
    }
}

static void test_rows(void **state) {
    (void)state;
    struct tensor ids = tensor_at(memory, 1, 5, DTYPE_I32);
    struct embed e = {.out = at(5, 12), .table = at(100, 12), .ids = ids, .scale = 1};
    struct described d;
    describe_embed(&e, &d);
    assert_true(d.bytes == 4 * (5 * 12 + 5 * 12 + 5)); /* of the table, the rows that are taken */
    assert_true(d.flops == 0);
    struct scatter_add s = {.to = at(100, 12), .from = at(5, 12), .rows = ids};
    describe_scatter_add(&s, &d);
    assert_true(d.bytes == 4 * (2 * 5 * 12 + 5 * 12 + 5));
    bool found = false;
    for (int i = 0; i < d.n; i++) {
        found = found || (d.tensors[i].index == INDEX_ROWS && d.tensors[i].high == 100);
    }
    assert_true(found);
}

static void test_film(void **state) {
    (void)state;
    struct film_backward call = {.film = {.x = at(9, 12),
                                          .y = at(9, 12),
                                          .scale = at(3, 12),
                                          .shift = at(3, 12),
                                          .conditions = tensor_at(memory, 1, 9, DTYPE_I32)},
                                 .gradient = {.d = at(9, 12), .dscale = at(3, 12), .dshift = at(3, 12)}};
    struct described d;
    describe_film(&call.film, &d);
    assert_true(d.bytes == 4 * (2 * 9 * 12 + 2 * 3 * 12 + 9));
    describe_film_gradient(&call, &d);
    assert_true(d.bytes == 4 * (9 * 12 + 3 * 12 + 9 + 2 * 9 * 12 + 2 * 3 * 12));
}

static void test_head(void **state) {
    (void)state;
    struct head_backward call = {.head = {.hidden = at(6, 16), .weight = at(50, 16)},
                                 .gradient = {.dhidden = at(6, 16)}};
    struct described d;
    describe_head(&call.head, &d);
    assert_true(d.flops == 2.0 * 6 * 16 * 50);
    describe_head_gradient(&call, &d);
    assert_true(d.flops == 2 * 2.0 * 6 * 16 * 50); /* the weight is frozen */
    call.gradient.dweight = at(50, 16);
    describe_head_gradient(&call, &d);
    assert_true(d.flops == 3 * 2.0 * 6 * 16 * 50);
}

static void must(enum status st) {
    if (st != OK) {
        FAIL("%s: %s", status_name(st), status_message()->text);
    }
}

static void test_times(void **state) {
    (void)state;
    const struct backend_request request = {.device = "cpu", .threads = 1};
    struct operation_time times[OPERATION_TIMES];
    struct backend *b = NULL;
    char why[256];
    must(backend_open(&request, &b, why));
    void *data = NULL;
    must(backend_alloc(b, 3 * 64 * 64 * 4, &data));
    struct tensor x = tensor_at(data, 64, 64, DTYPE_F32);
    struct tensor y = tensor_at((float *)data + 4096, 64, 64, DTYPE_F32);
    struct tensor z = tensor_at((float *)data + 8192, 64, 64, DTYPE_F32);
    const struct gemm product = {.a = x, .b = y, .c = z, .alpha = 1};
    must(backend_zero(b, data, 3 * 64 * 64 * 4));
    must(backend_gemm(b, &product));
    must(operation_times_read(b, times)); /* nobody asked */
    assert_int_equal(times[OPERATION_gemm].calls, 0);
    must(operation_times_start(b));
    must(backend_zero(b, data, 3 * 64 * 64 * 4));
    must(backend_gemm(b, &product));
    must(backend_gemm(b, &product));
    must(backend_add(b, x, 1, y));
    must(backend_add(b, tensor_rows(x, 0, 0), 1, tensor_rows(y, 0, 0))); /* nothing: does not come through */
    assert_int_not_equal(backend_add(b, x, 1, x), OK);                   /* refused at the door */
    status_clear();
    must(operation_times_read(b, times));
    assert_int_equal(times[OPERATION_gemm].calls, 2);
    assert_true(times[OPERATION_gemm].flops == 2 * 2.0 * 64 * 64 * 64);
    assert_true(times[OPERATION_gemm].seconds > 0 && times[OPERATION_gemm].seconds < 10);
    assert_int_equal(times[OPERATION_add].calls, 1);
    assert_true(times[OPERATION_add].bytes == 3 * 64 * 64 * 4);
    assert_int_equal(times[MOVED_ZERO].calls, 1);
    assert_true(times[MOVED_ZERO].bytes == 3 * 64 * 64 * 4);
    assert_int_equal(times[OPERATION_head].calls, 0);
    assert_string_equal(operation_times_name(OPERATION_gemm), "gemm");
    assert_string_equal(operation_times_name(MOVED_ZERO), "zero");
    must(operation_times_start(b)); /* anew */
    must(operation_times_read(b, times));
    assert_int_equal(times[OPERATION_gemm].calls, 0);
    backend_free(b, data);
    backend_close(b);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_gemm), cmocka_unit_test(test_attention), cmocka_unit_test(test_rows),
        cmocka_unit_test(test_film), cmocka_unit_test(test_head),      cmocka_unit_test(test_times),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
