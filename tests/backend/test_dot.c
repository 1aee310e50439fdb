/* The CPU's products of bf16 operands, on emulated instructions (dot_emulation/), of both kinds: the
 * emulation beside the library's fused multiply and add; every element of a product, to the bit, beside the
 * order of sums that dot_kernel.h states, in plain loops, for any shape, way, type and thread count; weights
 * that are kept, and change.
 */
#include "tests/unit.h"

#include <float.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "backend/backend.h"
#include "backend/cpu/cpu_bf16.h"
#include "backend/cpu/dot_kernel.h"
#include "tests/dot_emulation/dot_intrinsics.h"
#include "util/mem.h"
#include "util/rng.h"

static void must(enum status st) {
    if (st != OK) {
        FAIL("%s: %s", status_name(st), status_message()->text);
    }
}

static const char *const kinds[] = {"avx512_bf16", "amx"};

static struct backend *open_kind(const char *kind, int threads) {
    char why[256];
    struct backend *b = NULL;
    const struct backend_request request = {
        .device = "cpu", .compute = "bf16", .threads = threads, .device_index = -1, .products = kind};
    must(backend_open(&request, &b, why));
    return b;
}

static uint32_t bits_of(float x) {
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}

/* NaNs are all one: their payloads are nobody's business. */
static bool same_bits(float a, float b) {
    return bits_of(a) == bits_of(b) || (isnan(a) && isnan(b));
}

/* A value of a random sign and exponent, near the ends of the range now and then. */
static uint16_t any_bf16(struct rng *g) {
    static const uint16_t ends[] = {0x0000, 0x8000, 0x0001, 0x807f, 0x0080,
                                    0x8080, 0x7f7f, 0xff7f, 0x7f80, 0x7fc0};
    uint64_t pick = rng_below(g, 8);
    return pick == 0 ? ends[rng_below(g, COUNT_OF(ends))] : (uint16_t)rng_below(g, 0x10000);
}

static void add_products(const float x[16], const float y[16], float c[16]) {
    for (int i = 0; i < 16; i += EMULATED_LANES) {
        emulated_floats left, right, sums;
        memcpy(&left, x + i, sizeof left);
        memcpy(&right, y + i, sizeof right);
        memcpy(&sums, c + i, sizeof sums);
        sums = emulated_fma_all(left, right, sums);
        memcpy(c + i, &sums, sizeof sums);
    }
}

/* The fast sums beside the library's fused ones. */
static void test_emulated_sums(void **state) {
    struct rng g = rng_stream(7, 0, 0, 0);
    (void)state;
    for (int round = 0; round < 20000; round++) {
        float x[16], y[16], c[16], expected[16];
        for (int i = 0; i < 16; i++) {
            uint32_t sum = (uint32_t)rng_below(&g, (int64_t)1 << 32);
            bool is_wild = round % 4 == 0; /* else of a size, so that roundings and ties are many */
            x[i] = emulated_value(is_wild ? any_bf16(&g) : (uint16_t)(0x3f00 + rng_below(&g, 256)));
            y[i] = emulated_value(is_wild ? any_bf16(&g) : (uint16_t)(0xbf00 + rng_below(&g, 256)));
            memcpy(&c[i], &sum, sizeof sum);
            c[i] = is_wild ? emulated_flush(c[i]) : (float)rng_normal(&g) * 0x1p10f;
            expected[i] = emulated_flush(fmaf(x[i], y[i], c[i]));
        }
        add_products(x, y, c);
        for (int i = 0; i < 16; i++) {
            assert_true(same_bits(c[i], expected[i]));
        }
    }
}

/* What the order of a sum decides, and what is flushed, by hand. */
static float sum_of_two(const struct dot_kernel *kernel, float a0, float b0, float a1, float b1) {
    uint16_t a[DOT_MOST_ROWS * DOT_ROUND] = {0}, b[DOT_COLUMNS * DOT_ROUND] = {0};
    float sums[DOT_MOST_ROWS * DOT_COLUMNS];
    a[0] = bf16_bits(a0);
    a[1] = bf16_bits(a1);
    b[0] = bf16_bits(b0);
    b[1] = bf16_bits(b1);
    if (kernel->begin) {
        kernel->begin();
    }
    kernel->multiply(1, kernel->group, a, b, sums);
    if (kernel->end) {
        kernel->end();
    }
    return sums[0];
}

static void test_by_hand(void **state) {
    (void)state;
    for (int i = 0; i < COUNT_OF(kinds); i++) {
        const struct dot_kernel *k;
        must(dot_kernel_find(kinds[i], &k));
        assert_string_equal(k->name, kinds[i]);
        assert_true(sum_of_two(k, 3, 5, -2, 0.5f) == 14);
        assert_true(sum_of_two(k, 0x1p-130f, 0x1p100f, 1, 1) == 1); /* a denormal operand is zero */
        assert_true(sum_of_two(k, 0x1p-70f, 0x1p-70f, 0, 0) == 0);  /* a denormal sum is */
        assert_true(bits_of(sum_of_two(k, 0x1p-63f, 0x1p-63f, 0, 0)) == bits_of(0x1p-126f));
        assert_true(isinf(sum_of_two(k, 0x1p127f, 4, 1, 1)));
        assert_true(isnan(sum_of_two(k, INFINITY, 0, 1, 1)));
    }
    /* 1 + 2^-24 is a tie, which goes to even, 1; 2^-24 (1 + 2^-7) beside it is more than a tie: the odd
     * product comes first by VDPBF16PS, whose second is fused; TDPBF16PS adds two finished sums. Either way
     * once rounded. */
    const struct dot_kernel *avx512 = dot_avx512(), *amx = dot_amx();
    assert_true(sum_of_two(avx512, 1, 1, 0x1p-24f, 1) == 1);
    assert_true(sum_of_two(amx, 1, 1, 0x1p-24f, 1) == 1);
    float more = 0x1p-24f * (1 + 0x1p-7f);
    assert_true(sum_of_two(avx512, 1, 1, more, 1) == 1 + 0x1p-23f);
    assert_true(sum_of_two(amx, 1, 1, more, 1) == 1 + 0x1p-23f);
}

/* Order of sums, in plain loops (dot_kernel.h). */
struct plain {
    const float *a, *b; /* m x k and k x n: of op(A) and op(B), values of bf16 */
    int64_t m, n, k;
};

static float fused(float x, float y, float c) {
    return emulated_flush(fmaf(emulated_flush(x), emulated_flush(y), c));
}

static float piece_of(const struct plain *p, bool is_amx, int64_t i, int64_t j, int64_t first, int64_t last) {
    float s = 0;
    if (!is_amx) {
        for (int64_t k = first; k < last; k += 2) {
            float odd = k + 1 < last ? p->a[i * p->k + k + 1] : 0,
                  weight = k + 1 < last ? p->b[(k + 1) * p->n + j] : 0;
            s = fused(odd, weight, s);
            s = fused(p->a[i * p->k + k], p->b[k * p->n + j], s);
        }
        return s;
    }
    for (int64_t step = first; step < last; step += 32) {
        float sums[2] = {0};
        for (int64_t k = step; k < step + 32; k++) {
            float x = k < last ? p->a[i * p->k + k] : 0, y = k < last ? p->b[k * p->n + j] : 0;
            sums[k % 2] = fused(x, y, sums[k % 2]);
        }
        s = emulated_flush(s + emulated_flush(sums[0] + sums[1]));
    }
    return s;
}

struct dot_case {
    int64_t m, n, k;
    bool transpose_a, transpose_b, bias, wide_c; /* wide_c: C is fp32 */
    float alpha, beta;
    int64_t pad;
};

static const struct dot_case cases[] = {
    {1, 1, 1, false, true, false, true, 1, 0, 0},
    {1, 33, 31, false, true, true, false, 1, 0, 1},
    {2, 64, 32, false, false, false, true, -0.5f, 1, 0},
    {3, 31, 65, true, true, true, true, 2, 0, 3},
    {4, 100, 64, true, false, false, false, 1, 1, 2},
    {7, 96, 100, false, true, true, true, 1, 1, 5},
    {13, 40, 96, false, false, true, false, 0.25f, 1, 0},
    {15, 70, 33, true, false, false, true, 0.3f, 1, 7},
    {17, 35, 516, false, true, true, false, 1, 0, 0},
    {33, 65, 1027, false, true, false, true, -1.7f, 1, 1},
    {47, 64, 34, false, false, true, true, 1, 0, 4},
    {50, 95, 530, true, false, false, true, 1, 1, 0},
    {61, 33, 40, true, true, true, false, 1, 1, 6},
    {130, 70, 66, false, false, true, false, -1, 0, 0},
    {49, 40, 4200, true, false, true, true, 1, 1, 0},
    {50, 33, 2100, false, true, true, false, 1, 0, 0},
};

struct made {
    struct tensor a, b, c, bias;
    struct plain plain;
    float *before, *shift; /* C's and the bias's values */
};

static float *random_bf16(struct rng *g, int64_t n) {
    float *x = mem_calloc(n, sizeof *x);
    assert_non_null(x);
    for (int64_t i = 0; i < n; i++) {
        x[i] = bf16_value(bf16_bits((float)rng_normal(g)));
    }
    return x;
}

/* rows x columns with gaps, of values of bf16. */
static struct tensor put(struct backend *b, const float *values, int64_t rows, int64_t columns, int64_t pad,
                         bool is_transposed, enum dtype type) {
    struct tensor t = {.rows = rows, .columns = columns, .stride = columns + pad, .type = type};
    int64_t n = rows * t.stride;
    double *wide = mem_calloc(n, sizeof *wide);
    assert_non_null(wide);
    for (int64_t i = 0; i < rows; i++) {
        for (int64_t j = 0; j < columns; j++) {
            wide[i * t.stride + j] = (double)(is_transposed ? values[j * rows + i] : values[i * columns + j]);
        }
    }
    must(backend_alloc(b, n * dtype_size(type), &t.data));
    must(backend_write_doubles(b, tensor_at(t.data, 1, n, type), wide));
    mem_free(wide);
    return t;
}

static struct made make(struct backend *b, const struct dot_case *c, struct rng *g) {
    struct made x = {.plain = {.m = c->m, .n = c->n, .k = c->k}};
    float *a = random_bf16(g, c->m * c->k), *w = random_bf16(g, c->k * c->n);
    x.plain.a = a;
    x.plain.b = w;
    x.before = random_bf16(g, c->m * c->n);
    x.shift = random_bf16(g, c->n);
    x.a = c->transpose_a ? put(b, a, c->k, c->m, c->pad, true, DTYPE_BF16)
                         : put(b, a, c->m, c->k, c->pad, false, DTYPE_BF16);
    x.b = c->transpose_b ? put(b, w, c->n, c->k, 0, true, DTYPE_BF16)
                         : put(b, w, c->k, c->n, 0, false, DTYPE_BF16);
    x.c = put(b, x.before, c->m, c->n, c->pad, false, c->wide_c ? DTYPE_F32 : DTYPE_BF16);
    x.bias = put(b, x.shift, 1, c->n, 0, false, DTYPE_BF16);
    return x;
}

static void forget(struct backend *b, struct made *x) {
    backend_free(b, x->a.data);
    backend_free(b, x->b.data);
    backend_free(b, x->c.data);
    backend_free(b, x->bias.data);
    mem_free((void *)x->plain.a);
    mem_free((void *)x->plain.b);
    mem_free(x->before);
    mem_free(x->shift);
}

/* alpha s is rounded, not fused with the sum. */
static float expected_at(const struct made *x, const struct dot_case *c, bool is_amx, int64_t i, int64_t j) {
    int64_t depth = is_amx ? 1024 : 512;
    float r = c->beta != 0 ? x->before[i * c->n + j] : 0;
    r = c->bias ? r + x->shift[j] : r;
    for (int64_t k = 0; k < c->k; k += depth) {
        float s = piece_of(&x->plain, is_amx, i, j, k, k + depth < c->k ? k + depth : c->k);
        volatile float product = c->alpha * s;
        r = product + r;
    }
    return c->wide_c ? r : bf16_value(bf16_bits(r));
}

static void expect_product(struct backend *b, const struct made *x, const struct dot_case *c, bool is_amx,
                           const char *what) {
    struct tensor c_all = x->c;
    double *got = mem_calloc(c->m * x->c.stride, sizeof *got);
    assert_non_null(got);
    c_all = tensor_at(x->c.data, 1, c->m * x->c.stride, x->c.type);
    must(backend_read_doubles(b, got, c_all));
    for (int64_t i = 0; i < c->m; i++) {
        for (int64_t j = 0; j < c->n; j++) {
            float expected = expected_at(x, c, is_amx, i, j), value = (float)got[i * x->c.stride + j];
            if (!same_bits(value, expected)) {
                FAIL("%s, %lld x %lld x %lld: element %lld, %lld is %.9g, not %.9g", what, (long long)c->m,
                     (long long)c->n, (long long)c->k, (long long)i, (long long)j, (double)value,
                     (double)expected);
            }
        }
        for (int64_t j = c->n; j < x->c.stride; j++) {
            assert_true(got[i * x->c.stride + j] == 0); /* gaps are left alone */
        }
    }
    mem_free(got);
}

static void run_case(struct backend *b, const struct dot_case *c, bool is_amx, bool is_kept, uint64_t seed) {
    struct rng g = rng_stream(seed, 0, 0, 0);
    struct made x = make(b, c, &g);
    must(is_kept ? backend_keep_weights(b, x.b) : OK);
    struct gemm call = {.a = x.a,
                        .b = x.b,
                        .c = x.c,
                        .transpose_a = c->transpose_a,
                        .transpose_b = c->transpose_b,
                        .alpha = (double)c->alpha,
                        .beta = (double)c->beta,
                        .bias = c->bias ? x.bias : (struct tensor){0}};
    must(backend_gemm(b, &call));
    expect_product(b, &x, c, is_amx, is_kept ? "kept" : "packed");
    backend_drop_weights(b, x.b);
    forget(b, &x);
}

static void test_order_of_sums(void **state) {
    (void)state;
    for (int kind = 0; kind < COUNT_OF(kinds); kind++) {
        for (int threads = 1; threads <= 3; threads += 2) {
            struct backend *b = open_kind(kinds[kind], threads);
            for (int i = 0; i < 2 * COUNT_OF(cases); i++) {
                run_case(b, &cases[i / 2], kind == 1, i % 2, (uint64_t)i);
            }
            backend_close(b);
        }
    }
}

/* A product of a part of kept weights (a slab of the head, one of three joined matrices) and values that
 * change. */
static void expect_part(struct backend *b, struct tensor w, bool is_turned, int64_t first, int64_t count) {
    enum { ROWS = 19 };
    float out[2][ROWS * 128];
    struct rng g = rng_stream((uint64_t)first, 0, 0, 0);
    struct tensor part = tensor_rows(w, first, count);
    int64_t k = is_turned ? w.columns : count, n = is_turned ? count : w.columns;
    float *values = random_bf16(&g, ROWS * k);
    struct tensor x = put(b, values, ROWS, k, 0, false, DTYPE_BF16),
                  c = put(b, values, ROWS, n, 0, false, DTYPE_F32);
    void *data;
    must(backend_alloc(b, count * w.columns * 2, &data));
    struct tensor copy = tensor_at(data, count, w.columns, DTYPE_BF16); /* elsewhere: not kept */
    must(backend_convert(b, copy, part));
    for (int i = 0; i < 2; i++) {
        struct gemm call = {.a = x, .b = i ? copy : part, .c = c, .transpose_b = is_turned, .alpha = 1};
        must(backend_gemm(b, &call));
        must(backend_read(b, out[i], c.data, ROWS * n * 4));
    }
    assert_memory_equal(out[0], out[1], (size_t)(ROWS * n) * 4);
    backend_free(b, data);
    backend_free(b, x.data);
    backend_free(b, c.data);
    mem_free(values);
}

static void expect_parts(struct backend *b, struct tensor w) {
    static const int64_t parts[][2] = {{0, 100}, {0, 64}, {64, 36}, {32, 32}, {32, 68}, {16, 33},
                                       {6, 94},  {7, 50}, {96, 4},  {98, 2},  {99, 1}};
    for (int i = 0; i < 2 * COUNT_OF(parts); i++) {
        expect_part(b, w, i % 2, parts[i / 2][0], parts[i / 2][1]);
    }
}

static void test_kept_weights(void **state) {
    enum { ROWS = 100, COLUMNS = 75 };
    (void)state;
    for (int kind = 0; kind < COUNT_OF(kinds); kind++) {
        struct backend *b = open_kind(kinds[kind], 2);
        struct rng g = rng_stream(3, 0, 0, 0);
        float *values = random_bf16(&g, 3 * ROWS * COLUMNS);
        struct tensor all = put(b, values, 3 * ROWS, COLUMNS, 0, false, DTYPE_BF16);
        assert_true(b->caps.keeps_weights);
        assert_int_equal(backend_kept_bytes(b, ROWS, COLUMNS), 128 * 96 * 2);
        for (int64_t i = 0; i < 3; i++) {
            must(backend_keep_weights(b, tensor_rows(all, i * ROWS, ROWS)));
        }
        assert_int_equal(backend_keep_weights(b, tensor_rows(all, ROWS, 5)), ERR_INTERNAL);
        status_clear();
        for (int round = 0; round < 3; round++) {
            for (int64_t i = 0; i < 3; i++) {
                expect_parts(b, tensor_rows(all, i * ROWS, ROWS));
            }
            /* one value of the middle one changes, which is said of it alone */
            struct tensor one = tensor_columns(tensor_rows(all, ROWS + 40 + round, 1), 7, 1);
            must(backend_write_doubles(b, one, &(double){100}));
            backend_weights_changed(b, one);
        }
        backend_drop_weights(b, tensor_rows(all, ROWS, ROWS));
        expect_parts(b, tensor_rows(all, ROWS, ROWS));
        expect_parts(b, tensor_rows(all, 2L * ROWS, ROWS));
        backend_free(b, all.data);
        mem_free(values);
        backend_close(b);
    }
}

static struct gemm product_of(const struct made *x, struct tensor b, bool is_turned) {
    return (struct gemm){.a = x->a, .b = b, .c = x->c, .transpose_b = is_turned, .alpha = 1};
}

/* The panels are what a product reads: a value that changes behind them, unsaid, is not seen until it is
 * said; a part that begins within a panel is read from memory. */
static void expect_panels_are_read(struct backend *b, bool is_turned) {
    enum { M = 5, N = 64, K = 96, AT = 40 };
    float first[M * N], unsaid[M * N], said[M * N], part[M];
    struct rng g = rng_stream(11, is_turned, 0, 0);
    const struct dot_case c = {M, N, K, false, is_turned, false, true, 1, 0, 0};
    struct made x = make(b, &c, &g);
    const struct gemm call = product_of(&x, x.b, is_turned);
    must(backend_keep_weights(b, x.b));
    must(backend_gemm(b, &call));
    must(backend_read(b, first, x.c.data, sizeof first));
    uint16_t *weights = backend_host_address(b, x.b.data);
    assert_non_null(weights);
    weights[is_turned ? AT * K : AT] = bf16_bits(1000); /* column AT at k = 0 */
    must(backend_gemm(b, &call));
    must(backend_read(b, unsaid, x.c.data, sizeof unsaid));
    assert_memory_equal(unsaid, first, sizeof first);
    if (is_turned) {
        struct gemm one = product_of(&x, tensor_rows(x.b, AT, 1), true);
        one.c = tensor_at(x.c.data, M, 1, DTYPE_F32);
        must(backend_gemm(b, &one));
        must(backend_read(b, part, x.c.data, sizeof part));
    }
    backend_weights_changed(b, x.b);
    must(backend_gemm(b, &call));
    must(backend_read(b, said, x.c.data, sizeof said));
    for (int64_t i = 0; i < M * N; i++) {
        assert_true(same_bits(said[i], first[i]) == (i % N != AT));
        assert_true(!is_turned || i % N != AT || same_bits(said[i], part[i / N]));
    }
    backend_drop_weights(b, x.b);
    forget(b, &x);
}

static void test_panels_are_read(void **state) {
    (void)state;
    for (int kind = 0; kind < 2 * COUNT_OF(kinds); kind++) {
        struct backend *b = open_kind(kinds[kind / 2], 2);
        expect_panels_are_read(b, kind % 2);
        backend_close(b);
    }
}

/* Products of several blocks of rows, columns and k: the bits are those of kept weights in few rows, which
 * are taken in one go, and some elements are looked at beside plain loops. */
static void expect_blocks(struct backend *b, const struct dot_case *c, bool is_amx) {
    enum { FEW = 40 };
    struct rng g = rng_stream((uint64_t)c->k, 0, 0, 0);
    struct made x = make(b, c, &g);
    int64_t size = (int64_t)dtype_size(x.c.type), bytes = c->m * c->n * size;
    char *blocks = mem_calloc(bytes, 1), *rows = mem_calloc(bytes, 1);
    assert_true(blocks && rows);
    struct gemm call = product_of(&x, x.b, c->transpose_b);
    must(backend_gemm(b, &call));
    must(backend_read(b, blocks, x.c.data, bytes));
    must(backend_keep_weights(b, x.b));
    for (int64_t i = 0; i < c->m; i += FEW) {
        int64_t count = i + FEW < c->m ? FEW : c->m - i;
        call.a = tensor_rows(x.a, i, count);
        call.c = tensor_rows(x.c, i, count);
        must(backend_gemm(b, &call));
    }
    must(backend_read(b, rows, x.c.data, bytes));
    assert_memory_equal(blocks, rows, (size_t)bytes);
    for (int i = 0; i < 20; i++) {
        int64_t row = i ? rng_below(&g, c->m) : c->m - 1, column = i ? rng_below(&g, c->n) : c->n - 1;
        int64_t at = row * c->n + column;
        float value =
            c->wide_c ? ((float *)(void *)blocks)[at] : bf16_value(((uint16_t *)(void *)blocks)[at]);
        assert_true(same_bits(value, expected_at(&x, c, is_amx, row, column)));
    }
    backend_drop_weights(b, x.b);
    mem_free(blocks);
    mem_free(rows);
    forget(b, &x);
}

static void test_blocks(void **state) {
    static const struct dot_case large[] = {
        {33, 33, 50000, false, true, false, false, 1, 0, 0}, /* bf16: all of k, few lines a block */
        {514, 3, 4200, false, true, false, true, 1, 0, 0},   /* fp32: two spans of k, rows in two blocks */
        {2, 514, 4200, false, false, false, true, 1, 0, 0},  /* columns in two */
    };
    (void)state;
    for (int kind = 0; kind < COUNT_OF(kinds); kind++) {
        struct backend *b = open_kind(kinds[kind], 2);
        for (int i = 0; i < COUNT_OF(large); i++) {
            expect_blocks(b, &large[i], kind == 1);
        }
        backend_close(b);
    }
}

/* After a product, of few rows or of many, no thread has a configuration of tiles. */
static void test_tiles_are_released(void **state) {
    enum { THREADS = 3 };
    static const int64_t rows[] = {1, 20, 200};
    struct backend *b = open_kind("amx", THREADS);
    struct rng g = rng_stream(13, 0, 0, 0);
    const struct dot_case c = {200, 500, 100, false, true, false, true, 1, 0, 0};
    struct made x = make(b, &c, &g);
    (void)state;
    for (int i = 0; i < COUNT_OF(rows); i++) {
        struct gemm call = product_of(&x, x.b, true);
        call.a.rows = call.c.rows = rows[i];
        must(backend_gemm(b, &call));
        assert_int_equal(emulated_configured(THREADS), 0);
    }
    dot_amx()->begin();
    assert_int_equal(emulated_configured(THREADS), 1); /* it would be seen */
    dot_amx()->end();
    assert_int_equal(emulated_configured(THREADS), 0);
    forget(b, &x);
    backend_close(b);
}

/* Rows among many, of a few or alone: the same bits. */
static void test_neighbours(void **state) {
    enum { MANY = 200, N = 70, K = 1100 };
    static float many[MANY * N], few[MANY * N];
    static const int64_t counts[] = {1, 2, 3, 4, 5, 8, 9, 14, 15, 16, 17, 32, 33, 48, 49, 100};
    (void)state;
    for (int kind = 0; kind < COUNT_OF(kinds); kind++) {
        struct backend *b = open_kind(kinds[kind], 2);
        struct rng g = rng_stream(5, 0, 0, 0);
        const struct dot_case c = {MANY, N, K, false, true, true, true, 1, 0, 0};
        struct made x = make(b, &c, &g);
        struct gemm call = {.a = x.a, .b = x.b, .c = x.c, .transpose_b = true, .alpha = 1, .bias = x.bias};
        must(backend_gemm(b, &call));
        must(backend_read(b, many, x.c.data, sizeof many));
        for (int i = 0; i < COUNT_OF(counts); i++) {
            int64_t first = i;
            call.a = tensor_rows(x.a, first, counts[i]);
            call.c.rows = counts[i];
            must(backend_gemm(b, &call));
            must(backend_read(b, few, x.c.data, counts[i] * N * 4));
            assert_memory_equal(few, many + first * N, (size_t)(counts[i] * N) * 4);
        }
        forget(b, &x);
        backend_close(b);
    }
}

/* fp32 operands (the head's gradients) are rounded to nearest even, and no more than that. */
static void test_fp32_operands(void **state) {
    enum { M = 20, N = 40, K = 70 };
    (void)state;
    for (int kind = 0; kind < 2 * COUNT_OF(kinds); kind++) {
        struct backend *b = open_kind(kinds[kind / 2], 2);
        struct rng g = rng_stream(9, 0, 0, 0);
        const struct dot_case c = {M, N, K, kind % 2, false, false, true, 1, 0, 0};
        struct made x = make(b, &c, &g);
        float *wide = mem_calloc(M * K, sizeof *wide), *rounded = mem_calloc(M * K, sizeof *rounded);
        assert_true(wide && rounded);
        for (int i = 0; i < M * K; i++) {
            wide[i] = (float)rng_normal(&g);
            rounded[i] = bf16_value(bf16_bits(wide[i]));
        }
        struct tensor a =
            kind % 2 ? put(b, wide, K, M, 1, true, DTYPE_F32) : put(b, wide, M, K, 1, false, DTYPE_F32);
        struct gemm call = {.a = a, .b = x.b, .c = x.c, .transpose_a = kind % 2, .alpha = 1};
        must(b->ops->gemm(b, &call)); /* behind the front, which wants bf16 */
        mem_free((void *)x.plain.a);
        x.plain.a = rounded;
        expect_product(b, &x, &c, kind / 2 == 1, "fp32");
        backend_free(b, a.data);
        mem_free(wide);
        forget(b, &x);
        backend_close(b);
    }
}

static void test_names(void **state) {
    const struct dot_kernel *k = dot_avx512();
    (void)state;
    must(dot_kernel_find("fp32", &k));
    assert_null(k);
    must(dot_kernel_find(NULL, &k));
    assert_int_equal(dot_kernel_find("bf16", &k), ERR_USAGE);
    status_clear();
    struct backend *b = NULL;
    char why[256];
    const struct backend_request request = {
        .device = "cpu", .compute = "fp32", .device_index = -1, .products = "amx"};
    assert_int_equal(backend_open(&request, &b, why), ERR_USAGE); /* without bf16 it has no effect */
    status_clear();
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_emulated_sums),      cmocka_unit_test(test_by_hand),
        cmocka_unit_test(test_order_of_sums),      cmocka_unit_test(test_kept_weights),
        cmocka_unit_test(test_panels_are_read),    cmocka_unit_test(test_blocks),
        cmocka_unit_test(test_tiles_are_released), cmocka_unit_test(test_neighbours),
        cmocka_unit_test(test_fp32_operands),      cmocka_unit_test(test_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
