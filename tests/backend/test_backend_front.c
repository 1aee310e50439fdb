/* The front door of the back ends: wrong arguments are ERR_INTERNAL and named; views, overlap, workspaces,
 * the registry. Numbers are the business of tests/numerics. */
#include "tests/unit.h"

#include <math.h>
#include <string.h>

#include "backend/backend_internal.h"
#include "backend/workspace.h"
#include "util/mem.h"

static const struct tensor none;

static void must(enum status st) {
    if (st != OK) {
        FAIL("%s: %s", status_name(st), status_message()->text);
    }
}

/* st is code and the message holds `text`. */
static void expect(enum status st, enum status code, const char *text) {
    if (st != code || !strstr(status_message()->text, text)) {
        FAIL("status %d (\"%s\") where %d with \"%s\" was expected", (int)st, status_message()->text,
             (int)code, text);
    }
    status_clear();
}

static struct backend *open_device(const char *device, const char *compute) {
    struct backend *b = NULL;
    char why[256] = "";
    must(
        backend_open(&(struct backend_request){.device = device, .compute = compute, .threads = 1}, &b, why));
    assert_true(strlen(why) > 0);
    return b;
}

static int setup(void **state) {
    *state = open_device("cpu", "fp32");
    return 0;
}

static int teardown(void **state) {
    backend_close(*state);
    return 0;
}

/* Zeroed, from one buffer per test that release() frees. */
static struct {
    void *blocks[64];
    int count;
} held;

static struct tensor make(struct backend *b, int64_t rows, int64_t columns, enum dtype type) {
    void *data = NULL;
    must(backend_alloc(b, rows * columns * dtype_size(type), &data));
    must(backend_zero(b, data, rows * columns * dtype_size(type)));
    held.blocks[held.count++] = data;
    return tensor_at(data, rows, columns, type);
}

static int release(void **state) {
    while (held.count > 0) {
        backend_free(*state, held.blocks[--held.count]);
    }
    return 0;
}

static void test_types(void **state) {
    (void)state;
    assert_int_equal(dtype_size(DTYPE_F32), 4);
    assert_int_equal(dtype_size(DTYPE_BF16), 2);
    assert_int_equal(dtype_size(DTYPE_F64), 8);
    assert_int_equal(dtype_size(DTYPE_I32), 4);
    assert_string_equal(dtype_name(DTYPE_BF16), "bf16");
}

static void test_views(void **state) {
    (void)state;
    float data[60];
    struct tensor t = tensor_at(data, 6, 10, DTYPE_F32);
    struct tensor rows = tensor_rows(t, 2, 3);
    assert_ptr_equal(rows.data, data + 20);
    assert_int_equal(rows.rows, 3);
    struct tensor columns = tensor_columns(rows, 4, 2);
    assert_ptr_equal(columns.data, data + 24);
    assert_int_equal(columns.columns, 2);
    assert_int_equal(columns.stride, 10);
    assert_false(tensor_is_contiguous(columns));
    assert_true(tensor_is_contiguous(tensor_rows(columns, 0, 1)));
    assert_null(tensor_rows(none, 3, 1).data);
}

static void test_overlap(void **state) {
    (void)state;
    float data[60];
    struct tensor t = tensor_at(data, 6, 10, DTYPE_F32);
    struct tensor left = tensor_columns(t, 0, 4);
    struct tensor right = tensor_columns(t, 4, 6);
    assert_true(tensor_overlaps(t, t));
    assert_true(tensor_overlaps(t, left));
    assert_false(tensor_overlaps(left, right));
    assert_false(tensor_overlaps(right, left));
    assert_false(tensor_overlaps(tensor_rows(left, 1, 3), tensor_rows(right, 0, 5)));
    assert_true(tensor_overlaps(tensor_columns(t, 3, 3), right));
    assert_false(tensor_overlaps(tensor_rows(t, 0, 3), tensor_rows(t, 3, 3)));
    assert_true(tensor_overlaps(tensor_rows(t, 0, 4), tensor_rows(t, 3, 3)));
    assert_true(tensor_overlaps(tensor_at(data, 4, 5, DTYPE_F32), tensor_rows(t, 1, 1))); /* other pitch */
    assert_false(tensor_overlaps(none, t));
    assert_false(tensor_overlaps(tensor_rows(t, 0, 0), t));
}

static void test_gemm(void **state) {
    struct backend *b = *state;
    struct gemm g = {.a = make(b, 3, 4, DTYPE_F32),
                     .b = make(b, 4, 5, DTYPE_F32),
                     .c = make(b, 3, 5, DTYPE_F32),
                     .alpha = 1.0};
    must(backend_gemm(b, &g));
    struct gemm wrong = g;
    wrong.b.rows = 3;
    expect(backend_gemm(b, &wrong), ERR_INTERNAL, "backend_gemm: b is 3 x 5 and should be 4 x 5");
    wrong = g;
    wrong.c = tensor_rows(g.c, 0, 2);
    expect(backend_gemm(b, &wrong), ERR_INTERNAL, "c is 2 x 5 and should be 3 x 5");
    wrong = g;
    wrong.a.type = DTYPE_F64;
    expect(backend_gemm(b, &wrong), ERR_INTERNAL, "a is fp64 and should be fp32");
    wrong = g;
    wrong.beta = 0.5;
    expect(backend_gemm(b, &wrong), ERR_INTERNAL, "beta");
    wrong = g;
    wrong.bias = make(b, 1, 4, DTYPE_F32);
    expect(backend_gemm(b, &wrong), ERR_INTERNAL, "bias is 1 x 4");
    wrong = g;
    wrong.a.data = NULL;
    expect(backend_gemm(b, &wrong), ERR_INTERNAL, "a: no memory");
    wrong = g;
    wrong.a.stride = 3;
    expect(backend_gemm(b, &wrong), ERR_INTERNAL, "stride 3");
    wrong = g;
    wrong.c = tensor_at(g.a.data, 3, 5, DTYPE_F32);
    expect(backend_gemm(b, &wrong), ERR_INTERNAL, "c: overlaps");
    wrong = g;
    wrong.a = tensor_rows(g.a, 0, 0);
    wrong.c = tensor_rows(g.c, 0, 0);
    must(backend_gemm(b, &wrong));
}

static void test_rows(void **state) {
    struct backend *b = *state;
    struct tensor x = make(b, 4, 6, DTYPE_F32);
    struct tensor y = make(b, 4, 6, DTYPE_F32);
    struct tensor ids = make(b, 1, 4, DTYPE_I32);
    int32_t bad[4] = {0, 3, 4, 1};
    expect(backend_add(b, x, 1.0, tensor_rows(y, 0, 3)), ERR_INTERNAL, "backend_add: to is 4 x 6");
    expect(backend_add(b, x, 1.0, x), ERR_INTERNAL, "to: overlaps");
    expect(backend_add(b, ids, 1.0, tensor_at(x.data, 1, 4, DTYPE_F32)), ERR_INTERNAL, "to: int32");
    expect(backend_convert(b, ids, tensor_at(x.data, 1, 4, DTYPE_F32)), ERR_INTERNAL, "convert");
    expect(backend_sum_rows(b, x, y), ERR_INTERNAL, "should be 1 x 6");
    expect(backend_gather(b, x, y, tensor_columns(ids, 0, 3)), ERR_INTERNAL, "should hold 4 numbers");
    must(backend_gather(b, x, y, ids));
    must(backend_write(b, ids.data, bad, sizeof bad));
    expect(backend_gather(b, x, y, ids), ERR_INTERNAL, "number 2 is 4, outside [0, 4)");
    expect(backend_scatter_add(b, x, y, ids), ERR_INTERNAL, "outside [0, 4)");
    expect(backend_embed(b, x, y, ids, 1.0, false), ERR_INTERNAL, "outside [0, 4)");
    expect(backend_embed_gradient(b, x, y, ids, 1.0), ERR_INTERNAL, "outside [0, 4)");
    int32_t spans[4] = {0, 2, 3, 2};
    struct tensor of_spans = make(b, 2, 2, DTYPE_I32);
    must(backend_write(b, of_spans.data, spans, sizeof spans));
    expect(backend_pool(b, tensor_rows(x, 0, 2), y, of_spans), ERR_INTERNAL, "span 1 takes rows 3 + 2 of 4");
    expect(backend_zero_tensor(b, tensor_columns(x, 0, 3)), ERR_INTERNAL, "contiguous");
    double sum = 0.0;
    expect(backend_sum_squares(b, tensor_columns(x, 0, 3), &sum), ERR_INTERNAL, "contiguous");
    expect(backend_copy(b, x.data, (char *)x.data + 8, 32), ERR_INTERNAL, "overlaps");
    expect(backend_alloc(b, -1, &(void *){NULL}), ERR_INTERNAL, "negative");
    expect(backend_write(b, NULL, spans, 4), ERR_INTERNAL, "no memory");
}

static void test_layers(void **state) {
    struct backend *b = *state;
    struct tensor x = make(b, 4, 8, DTYPE_F32);
    struct tensor y = make(b, 4, 8, DTYPE_F32);
    struct norm n = {.x = x, .y = y, .statistics = make(b, 4, 2, DTYPE_F32)};
    must(backend_norm(b, &n));
    n.weight = make(b, 1, 7, DTYPE_F32);
    expect(backend_norm(b, &n), ERR_INTERNAL, "backend_norm: weight is 1 x 7 and should be 1 x 8");
    n.weight = none;
    n.y = x;
    expect(backend_norm(b, &n), ERR_INTERNAL, "y: overlaps");
    n.statistics = none;
    expect(backend_norm(b, &n), ERR_INTERNAL, "statistics");
    struct rope r = {.x = x, .table = make(b, 4, 4, DTYPE_F32), .heads = 2, .head_dim = 4, .rotary_dim = 4};
    must(backend_rope(b, &r));
    r.rotary_dim = 3;
    expect(backend_rope(b, &r), ERR_INTERNAL, "3 of 4 values in 2 heads");
    r.rotary_dim = 2;
    expect(backend_rope(b, &r), ERR_INTERNAL, "table is 4 x 4 and should be 4 x 2");
    struct activate a = {.kind = ACTIVATION_SILU, .gate = x, .y = y};
    struct activate_gradient g = {.dy = y, .dgate = x};
    must(backend_activate_gradient(b, &a, &g));
    g.dgate = y;
    expect(backend_activate_gradient(b, &a, &g), ERR_INTERNAL, "dgate: overlaps");
    a.up = make(b, 4, 8, DTYPE_F32);
    g = (struct activate_gradient){.dy = y, .dgate = x};
    expect(backend_activate_gradient(b, &a, &g), ERR_INTERNAL, "dup");
}

static void test_attention(void **state) {
    struct backend *b = *state;
    struct query_span spans[] = {{0, 3, 0, 1}, {3, 2, 1, 2}};
    struct key_range ranges[] = {{0, 3, true}, {0, 3, false}, {3, 2, true}};
    struct attention_map map = {.id = 1, .span_count = 2, .range_count = 3, .spans = spans, .ranges = ranges};
    struct attention a = {.map = &map,
                          .heads = 4,
                          .kv_heads = 2,
                          .head_dim = 2,
                          .scale = 1.0,
                          .q = make(b, 5, 8, DTYPE_F32),
                          .k = make(b, 5, 4, DTYPE_F32),
                          .v = make(b, 5, 4, DTYPE_F32),
                          .out = make(b, 5, 8, DTYPE_F32)};
    must(backend_attention(b, &a));
    spans[1].first = 2;
    expect(backend_attention(b, &a), ERR_INTERNAL, "span 1 (rows 2 + 2, ranges 1 + 2) does not follow row 3");
    spans[1] = (struct query_span){3, 1, 1, 2};
    expect(backend_attention(b, &a), ERR_INTERNAL, "do not cover");
    spans[1] = (struct query_span){3, 2, 1, 3};
    expect(backend_attention(b, &a), ERR_INTERNAL, "span 1");
    spans[1] = (struct query_span){3, 2, 1, 2};
    ranges[2].count = 3;
    expect(backend_attention(b, &a), ERR_INTERNAL, "range 1 (keys 3 + 3, causal) of span 1");
    ranges[2].count = 1;
    expect(backend_attention(b, &a), ERR_INTERNAL, "out of place"); /* fewer keys than queries */
    ranges[2].count = 2;
    ranges[1].causal = true;
    expect(backend_attention(b, &a), ERR_INTERNAL, "out of place"); /* causal, not last */
    ranges[1].causal = false;
    a.kv_heads = 3;
    expect(backend_attention(b, &a), ERR_INTERNAL, "4 heads over 3 key heads");
    a.kv_heads = 2;
    struct attention_gradient g = {.dout = a.out, .dq = a.q, .dk = a.k, .dv = a.v};
    expect(backend_attention_gradient(b, &a, &g), ERR_INTERNAL, "lse");
}

static void test_head(void **state) {
    struct backend *b = *state;
    struct head h = {.hidden = make(b, 3, 4, DTYPE_F32),
                     .weight = make(b, 7, 4, DTYPE_F32),
                     .targets = make(b, 1, 3, DTYPE_I32),
                     .statistics = make(b, 3, HEAD_STATISTICS, DTYPE_F32)};
    must(backend_head(b, &h));
    int32_t targets[3] = {6, -1, 7};
    must(backend_write(b, h.targets.data, targets, sizeof targets));
    expect(backend_head(b, &h), ERR_INTERNAL, "target 2 is 7, outside a vocabulary of 7");
    targets[2] = 0;
    must(backend_write(b, h.targets.data, targets, sizeof targets));
    struct head_gradient g = {.row_weight = make(b, 1, 3, DTYPE_F32), .dhidden = make(b, 3, 4, DTYPE_F32)};
    must(backend_head_gradient(b, &h, &g));
    g.dweight = make(b, 7, 3, DTYPE_F32);
    expect(backend_head_gradient(b, &h, &g), ERR_INTERNAL, "dweight is 7 x 3 and should be 7 x 4");
    h.weight = make(b, 7, 5, DTYPE_F32);
    expect(backend_head(b, &h), ERR_INTERNAL, "weight is 7 x 5 and should be 7 x 4");
}

static void test_optimizer(void **state) {
    struct backend *b = *state;
    struct optimizer_step s = {.kind = OPTIMIZER_ADAMW,
                               .bias_correction1 = 0.1,
                               .bias_correction2 = 0.001,
                               .gradient_scale = 1.0,
                               .parameters = make(b, 1, 9, DTYPE_F32),
                               .gradients = make(b, 1, 9, DTYPE_F32)};
    expect(backend_optimizer(b, &s), ERR_INTERNAL, "first: missing");
    s.first = make(b, 1, 9, DTYPE_F32);
    expect(backend_optimizer(b, &s), ERR_INTERNAL, "second: missing");
    s.second = make(b, 1, 8, DTYPE_F32);
    expect(backend_optimizer(b, &s), ERR_INTERNAL, "second is 1 x 8 and should be 1 x 9");
}

static void test_workspace(void **state) {
    struct backend *b = *state;
    struct workspace w = {0};
    must(workspace_open(b, 1024, &w));
    struct tensor t = none;
    struct tensor u = none;
    must(workspace_take(&w, 3, 5, DTYPE_F32, "first", &t)); /* 60 bytes, rounded up to 64 */
    int64_t mark = workspace_mark(&w);
    assert_int_equal(mark, 64);
    must(workspace_take(&w, 1, 16, DTYPE_F32, "second", &u));
    assert_int_equal((char *)u.data - (char *)t.data, 64);
    assert_int_equal((uintptr_t)u.data % 64, 0);
    assert_false(tensor_overlaps(t, u));
    expect(workspace_take(&w, 1, 225, DTYPE_F32, "scores", &u), ERR_SYSTEM, "scores");
    expect(workspace_take(&w, 1, 225, DTYPE_F32, "scores", &u), ERR_SYSTEM, "train.micro_tokens");
    expect(workspace_take(&w, INT64_MAX, 8, DTYPE_F32, "huge", &u), ERR_DATA, "huge");
    expect(workspace_take(&w, -1, 8, DTYPE_F32, "negative", &u), ERR_DATA, "negative");
    assert_int_equal(workspace_mark(&w), 128); /* failures take nothing */
    workspace_release(&w, mark);
    must(workspace_take(&w, 1, 240, DTYPE_F32, "all the rest", &u));
    assert_int_equal(w.peak, 1024);
    workspace_release(&w, 0);
    assert_int_equal(workspace_mark(&w), 0);
    workspace_close(&w);
    assert_null(w.base);
}

static void test_doubles(void **state) {
    struct backend *b = *state;
    static const enum dtype types[] = {DTYPE_F32, DTYPE_F64, DTYPE_BF16};
    double values[6] = {0.0, 1.5, -2.0, 1e10, INFINITY, 0.0078125};
    for (int i = 0; i < COUNT_OF(types); i++) {
        struct tensor t = make(b, 2, 3, types[i]);
        double back[6];
        must(backend_write_doubles(b, t, values));
        must(backend_read_doubles(b, back, t));
        for (int j = 0; j < 6; j++) {
            double wanted = values[j];
            assert_true(back[j] == wanted || fabs(back[j] - wanted) <= fabs(wanted) / 256);
        }
    }
    struct tensor ids = make(b, 1, 6, DTYPE_I32);
    expect(backend_read_doubles(b, values, ids), ERR_INTERNAL, "floating type");
}

static void test_registry(void **state) {
    (void)state;
    struct backend *b = NULL;
    char why[256];
    struct backend_request r = {.device = "cpuu", .compute = "fp32"};
    expect(backend_open(&r, &b, why), ERR_USAGE,
           "unknown back end \"cpuu\"; the nearest known one is \"cpu\"");
    r.device = "cuba";
    expect(backend_open(&r, &b, why), ERR_USAGE, "\"cuda\"");
    r.device = "atuo";
    expect(backend_open(&r, &b, why), ERR_USAGE, "\"auto\"");
    r = (struct backend_request){.device = "cpu", .compute = "fp16"};
    expect(backend_open(&r, &b, why), ERR_USAGE, "\"fp16\"");
    assert_null(b);
    backend_close(NULL);
}

int main(void) {
#define ONE(name) cmocka_unit_test_teardown(name, release)
    const struct CMUnitTest tests[] = {
        ONE(test_types),     ONE(test_views),     ONE(test_overlap),   ONE(test_gemm),
        ONE(test_rows),      ONE(test_layers),    ONE(test_attention), ONE(test_head),
        ONE(test_optimizer), ONE(test_workspace), ONE(test_doubles),   ONE(test_registry),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
