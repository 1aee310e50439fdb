/* Products, sums, conversions and moves by index on every back end, against the reference. */
#include "tests/unit.h"

#include <math.h>
#include <string.h>

#include "reference/harness.h"
#include "util/mem.h"

struct gemm_case {
    int64_t m, n, k;
    bool transpose_a, transpose_b, bias, master;
    double alpha, beta;
    int64_t pad;
};

static const struct gemm_case gemm_cases[] = {
    {1, 1, 1, false, false, false, false, 1, 0, 0},     {1, 64, 48, false, true, true, false, 1, 0, 0},
    {37, 29, 31, false, false, false, false, 1, 0, 3},  {37, 29, 31, false, true, true, false, 1, 1, 3},
    {37, 29, 31, true, false, false, true, 1, 1, 5},    {37, 29, 31, true, true, true, false, -0.5, 0, 1},
    {3, 257, 64, false, true, true, false, 0.25, 0, 0}, {130, 257, 193, false, true, true, false, 1, 0, 0},
    {130, 257, 193, true, false, false, true, 1, 1, 0}, {130, 65, 513, false, false, true, false, 2, 1, 7},
    {2, 3, 20000, false, true, false, false, 1, 0, 0},  {300, 1, 17, false, false, true, false, 1, 1, 2},
    {16, 16, 0, false, false, true, false, 1, 0, 0},
};

/* sum over k of |a b|, times |alpha|, plus what else is added: the magnitude that roundings scale with. */
static double *gemm_bound(const struct harness *h, const struct gemm_case *c, const struct gemm *g,
                          const double *before) {
    double *bound = mem_calloc(c->m * c->n, sizeof *bound);
    const double *a = g->a.data;
    const double *b = g->b.data;
    assert_non_null(bound);
    for (int64_t i = 0; i < c->m * c->n; i++) {
        int64_t row = i / c->n;
        int64_t column = i % c->n;
        double sum = 0;
        for (int64_t k = 0; k < c->k; k++) {
            double left = c->transpose_a ? a[k * g->a.stride + row] : a[row * g->a.stride + k];
            double right = c->transpose_b ? b[column * g->b.stride + k] : b[k * g->b.stride + column];
            sum += fabs(left * right);
        }
        sum = fabs(c->alpha) * sum + (c->beta != 0 ? fabs(before[row * g->c.stride + column]) : 0) +
              (c->bias ? fabs(((const double *)g->bias.data)[column]) : 0);
        /* a compute type narrower than fp32 may round C before the bias comes */
        bound[i] = sum * (sum_error(c->k) + 2 * (roundoff(h->device->caps.compute) - 0x1p-24));
    }
    return bound;
}

static void run_gemm(struct harness *h, const struct gemm_case *c) {
    struct pair a =
        pair_normal(h, ROLE_COMPUTE, c->transpose_a ? c->k : c->m, c->transpose_a ? c->m : c->k, c->pad, 1);
    struct pair b =
        pair_normal(h, ROLE_COMPUTE, c->transpose_b ? c->n : c->k, c->transpose_b ? c->k : c->n, c->pad, 1);
    struct pair to = pair_normal(h, c->master ? ROLE_MASTER : ROLE_COMPUTE, c->m, c->n, c->pad, 1);
    struct pair bias = pair_normal(h, ROLE_COMPUTE, 1, c->n, 0, 1);
    struct tensor none = {0};
    struct gemm g = {.a = a.device,
                     .b = b.device,
                     .c = to.device,
                     .transpose_a = c->transpose_a,
                     .transpose_b = c->transpose_b,
                     .alpha = c->alpha,
                     .beta = c->beta,
                     .bias = c->bias ? bias.device : none};
    must(backend_gemm(h->device, &g));
    g.a = a.reference;
    g.b = b.reference;
    g.c = to.reference;
    g.bias = c->bias ? bias.reference : none;
    must(backend_gemm(h->reference, &g));
    double *bound = gemm_bound(h, c, &g, to.before);
    expect_close(h, to, bound, "gemm");
    mem_free(bound);
}

static void test_gemm(void **state) {
    struct harness *h = *state;
    FOR_EACH_DEVICE(h, d) {
        for (int i = 0; i < COUNT_OF(gemm_cases); i++) {
            harness_begin(h, d, (uint64_t)i);
            run_gemm(h, &gemm_cases[i]);
            harness_end(h);
        }
    }
}

/* Where rows are steady, a product of one row or of a few has the bits of the same rows among many. */
static void test_gemm_of_few_rows(void **state) {
    static const int few_rows[] = {1, 2, 3, 4, 5, 6, 14, 15, 48};
    enum { MANY = 61, N = 70, K = 300, LONG = 1101, WAYS = 4 };
    struct harness *h = *state;
    FOR_EACH_DEVICE(h, d) {
        if (!h->device->caps.steady_rows) {
            continue;
        }
        for (int i = 0; i < WAYS * COUNT_OF(few_rows); i++) {
            bool has_bias = i & 1, adds = i & 2;
            int64_t rows = few_rows[i / WAYS], k = i % 3 == 0 ? LONG : K, bytes;
            char many[MANY * N * 4], few[MANY * N * 4];
            harness_begin(h, d, (uint64_t)i);
            struct tensor a = pair_normal(h, ROLE_COMPUTE, MANY, k, 0, 1).device;
            struct tensor b = pair_normal(h, ROLE_COMPUTE, N, k, 0, 1).device;
            struct tensor c = pair_normal(h, ROLE_COMPUTE, MANY, N, 0, 1).device;
            struct tensor part = pair_normal(h, ROLE_COMPUTE, rows, N, 0, 1).device;
            struct tensor bias = pair_normal(h, ROLE_COMPUTE, 1, N, 0, 1).device;
            bytes = rows * N * dtype_size(c.type);
            must(backend_copy(h->device, part.data, c.data, bytes));
            /* an alpha whose product is rounded, as that of adapters may be */
            struct gemm g = {.a = a, .b = b, .c = c, .transpose_b = true, .alpha = -0.3, .beta = adds};
            g.bias = has_bias ? bias : (struct tensor){0};
            must(backend_gemm(h->device, &g));
            g.a.rows = g.c.rows = rows;
            g.c = part;
            must(backend_gemm(h->device, &g));
            must(backend_read(h->device, many, c.data, bytes));
            must(backend_read(h->device, few, part.data, bytes));
            assert_memory_equal(many, few, bytes);
            harness_end(h);
        }
    }
}

/* With beta 0, C is not read: NaN there must not come through. */
static void test_gemm_ignores_old_content(void **state) {
    struct harness *h = *state;
    FOR_EACH_DEVICE(h, d) {
        harness_begin(h, d, 1);
        struct pair a = pair_normal(h, ROLE_COMPUTE, 9, 33, 0, 1);
        struct pair b = pair_normal(h, ROLE_COMPUTE, 33, 12, 0, 1);
        struct pair c = pair_normal(h, ROLE_COMPUTE, 9, 12, 0, NAN);
        must(
            backend_gemm(h->device, &(struct gemm){.a = a.device, .b = b.device, .c = c.device, .alpha = 1}));
        must(backend_gemm(h->reference,
                          &(struct gemm){.a = a.reference, .b = b.reference, .c = c.reference, .alpha = 1}));
        expect_within(h, c, 33 * 4 * sum_error(33), "gemm over NaN");
        harness_end(h);
    }
}

static const int64_t shapes[][3] = {{1, 1, 0}, {7, 13, 3}, {64, 64, 0}, {33, 1030, 1}, {5000, 3, 0}};

static void test_add(void **state) {
    struct harness *h = *state;
    static const enum role roles[] = {ROLE_COMPUTE, ROLE_MASTER};
    FOR_EACH_DEVICE(h, d) {
        for (int i = 0; i < COUNT_OF(shapes) * COUNT_OF(roles); i++) {
            const int64_t *s = shapes[i / COUNT_OF(roles)];
            harness_begin(h, d, (uint64_t)i);
            struct pair to = pair_normal(h, roles[i % COUNT_OF(roles)], s[0], s[1], s[2], 1);
            struct pair from = pair_normal(h, ROLE_COMPUTE, s[0], s[1], 2 * s[2], 1);
            must(backend_add(h->device, to.device, -1.75, from.device));
            must(backend_add(h->reference, to.reference, -1.75, from.reference));
            expect_within(h, to, 16 * 0x1p-24, "add"); /* |normal| < 6 in these: 1.75 * 6 + 6 < 17 */
            harness_end(h);
        }
    }
}

static void test_sum_rows(void **state) {
    struct harness *h = *state;
    FOR_EACH_DEVICE(h, d) {
        for (int i = 0; i < COUNT_OF(shapes); i++) {
            harness_begin(h, d, (uint64_t)i);
            struct pair from = pair_normal(h, ROLE_COMPUTE, shapes[i][0], shapes[i][1], shapes[i][2], 1);
            struct pair to = pair_normal(h, ROLE_MASTER, 1, shapes[i][1], 0, 1);
            must(backend_sum_rows(h->device, to.device, from.device));
            must(backend_sum_rows(h->reference, to.reference, from.reference));
            /* mean |normal| is 0.8; 6 covers one row */
            double magnitude = (double)shapes[i][0] + 6;
            expect_within(h, to, magnitude * sum_error(shapes[i][0]), "sum_rows");
            harness_end(h);
        }
    }
}

/* bf16 of every kind of number: ties go to the even neighbor, as the reference rounds. */
static void test_convert(void **state) {
    struct harness *h = *state;
    static const enum dtype types[] = {DTYPE_F32, DTYPE_BF16, DTYPE_F64};
    static const double awkward[] = {0,   1.00390625,  1.01171875, -1.00390625, 1e-30,   3e38,
                                     -1., 1.001953125, 65504,      1.0 / 3,     1.5e-40, 255.5};
    FOR_EACH_DEVICE(h, d) {
        for (int i = 0; i < 9; i++) {
            harness_begin(h, d, (uint64_t)i);
            struct pair source = pair_normal(h, ROLE_MASTER, 31, 45, 2, 100);
            memcpy(source.before, awkward, sizeof awkward);
            double *values = mem_calloc(31 * 45, sizeof *values);
            assert_non_null(values);
            memcpy(values, source.before, 31 * 45 * sizeof *values);
            pair_set(h, &source, values);
            mem_free(values);
            for (int side = 0; side < 2; side++) {
                struct backend *b = side == 0 ? h->device : h->reference;
                struct tensor master = side == 0 ? source.device : source.reference;
                void *memory;
                must(backend_alloc(b, 2 * 31 * 47 * 8, &memory));
                struct tensor first = tensor_at(memory, 31, 45, types[i / 3]);
                struct tensor second = tensor_at((char *)memory + 31 * 47 * 8, 31, 45, types[i % 3]);
                must(backend_convert(b, first, master));
                must(backend_convert(b, second, first));
                must(backend_convert(b, master, second));
                backend_free(b, memory);
            }
            expect_within(h, source, 0, "convert"); /* exactly the same roundings */
            harness_end(h);
        }
    }
}

struct embed_case {
    int64_t tokens, vocabulary, width, pad;
    double scale;
    bool accumulate;
};
static const struct embed_case embed_cases[] = {
    {1, 1, 1, 0, 1, false},       {50, 7, 33, 3, 1, false},    {50, 7, 33, 0, 1.5, true},
    {600, 3, 16, 0, 1, true},     {40, 1000, 64, 0, 8, false}, {257, 1000, 65, 1, 0.5, true},
    {4000, 20, 128, 0, 1, false},
};

static void run_embed(struct harness *h, const struct embed_case *c) {
    struct pair table = pair_normal(h, ROLE_COMPUTE, c->vocabulary, c->width, c->pad, 1);
    struct pair out = pair_normal(h, ROLE_COMPUTE, c->tokens, c->width, c->pad, 1);
    struct pair ids = pair_indices(h, 1, c->tokens, 0, c->vocabulary);
    struct pair dtable = pair_normal(h, ROLE_MASTER, c->vocabulary, c->width, c->pad, 1);
    struct pair dout = pair_normal(h, ROLE_COMPUTE, c->tokens, c->width, 2 * c->pad, 1);
    must(backend_embed(h->device, out.device, table.device, ids.device, c->scale, c->accumulate));
    must(backend_embed(h->reference, out.reference, table.reference, ids.reference, c->scale, c->accumulate));
    expect_within(h, out, 6 * (1 + c->scale) * 0x1p-24, "embed");
    must(backend_embed_gradient(h->device, dtable.device, dout.device, ids.device, c->scale));
    must(backend_embed_gradient(h->reference, dtable.reference, dout.reference, ids.reference, c->scale));
    /* ids are even: at most about tokens / vocabulary + 5 sigma rows meet in one */
    double rows = (double)c->tokens / (double)c->vocabulary;
    rows += 5 * sqrt(rows) + 5;
    expect_within(h, dtable, (6 + rows) * c->scale * sum_error((int64_t)rows) * 2, "embed_gradient");
}

static void test_embed(void **state) {
    struct harness *h = *state;
    FOR_EACH_DEVICE(h, d) {
        for (int i = 0; i < COUNT_OF(embed_cases); i++) {
            harness_begin(h, d, (uint64_t)i);
            run_embed(h, &embed_cases[i]);
            harness_end(h);
        }
    }
}

static void test_gather_and_scatter(void **state) {
    struct harness *h = *state;
    static const int64_t cases[][4] = {
        {1, 1, 1, 0}, {20, 5, 17, 2}, {3, 200, 64, 0}, {500, 40, 130, 1}}; /* to, from rows, width, pad */
    FOR_EACH_DEVICE(h, d) {
        for (int i = 0; i < COUNT_OF(cases); i++) {
            const int64_t *c = cases[i];
            harness_begin(h, d, (uint64_t)i);
            struct pair few = pair_normal(h, ROLE_COMPUTE, c[0], c[2], c[3], 1);
            struct pair many = pair_normal(h, ROLE_COMPUTE, c[1], c[2], 0, 1);
            struct pair rows = pair_indices(h, 1, c[0], 0, c[1]);
            must(backend_gather(h->device, few.device, many.device, rows.device));
            must(backend_gather(h->reference, few.reference, many.reference, rows.reference));
            expect_within(h, few, 0, "gather");
            must(backend_scatter_add(h->device, many.device, few.device, rows.device));
            must(backend_scatter_add(h->reference, many.reference, few.reference, rows.reference));
            double meet = (double)c[0] / (double)c[1];
            meet += 5 * sqrt(meet) + 5;
            double error = sum_error((int64_t)meet) + meet * (roundoff(many.device.type) - 0x1p-24);
            expect_within(h, many, (12 + 2 * meet) * error, "scatter_add");
            harness_end(h);
        }
    }
}

/* Spans that overlap, of one row and of all rows. */
static void test_pool(void **state) {
    struct harness *h = *state;
    static const int32_t spans[] = {0, 1, 699, 1, 0, 700, 13, 257, 13, 2, 300, 64};
    FOR_EACH_DEVICE(h, d) {
        harness_begin(h, d, 3);
        struct pair from = pair_normal(h, ROLE_COMPUTE, 700, 67, 5, 1);
        struct pair to = pair_normal(h, ROLE_READOUT, 6, 67, 0, 1);
        struct pair where = pair_indices(h, 6, 2, 0, 2);
        pair_set_indices(h, &where, spans);
        must(backend_pool(h->device, to.device, from.device, where.device));
        must(backend_pool(h->reference, to.reference, from.reference, where.reference));
        expect_within(h, to, 6 * sum_error(700), "pool");
        harness_end(h);
    }
}

/* Conditions of many rows, of none, and rows without one; scale and shift side by side, as passes have them.
 */
static void test_film(void **state) {
    struct harness *h = *state;
    static const int64_t cases[][3] = {
        {1, 1, 1}, {7, 3, 5}, {300, 130, 4}, {65, 64, 70}}; /* rows, width, n */
    FOR_EACH_DEVICE(h, d) {
        for (int i = 0; i < COUNT_OF(cases); i++) {
            const int64_t *c = cases[i];
            harness_begin(h, d, (uint64_t)i);
            struct pair x = pair_normal(h, ROLE_COMPUTE, c[0], c[1], 3, 1);
            struct pair y = pair_normal(h, ROLE_COMPUTE, c[0], c[1], 0, 1);
            struct pair both = pair_normal(h, ROLE_COMPUTE, c[2], 2 * c[1], 0, 1);
            struct pair dboth = pair_normal(h, ROLE_COMPUTE, c[2], 2 * c[1], 0, 1);
            struct pair rows = pair_indices(h, 1, c[0], -1, c[2]);
            struct film on_device = {x.device, y.device, tensor_columns(both.device, 0, c[1]),
                                     tensor_columns(both.device, c[1], c[1]), rows.device};
            struct film on_reference = {x.reference, y.reference, tensor_columns(both.reference, 0, c[1]),
                                        tensor_columns(both.reference, c[1], c[1]), rows.reference};
            must(backend_film(h->device, &on_device));
            must(backend_film(h->reference, &on_reference));
            expect_within(h, y, 24 * roundoff(y.device.type), "film");
            struct pair slope = pair_normal(h, ROLE_COMPUTE, c[0], c[1], 1, 1);
            const struct film_gradient of_device = {slope.device, tensor_columns(dboth.device, 0, c[1]),
                                                    tensor_columns(dboth.device, c[1], c[1])};
            const struct film_gradient of_reference = {slope.reference,
                                                       tensor_columns(dboth.reference, 0, c[1]),
                                                       tensor_columns(dboth.reference, c[1], c[1])};
            must(backend_film_gradient(h->device, &on_device, &of_device));
            must(backend_film_gradient(h->reference, &on_reference, &of_reference));
            expect_within(h, slope, 24 * roundoff(slope.device.type), "film_gradient: x");
            /* Sums are in double and rounded once: the largest is of about sqrt(rows) ones, times a few. */
            double largest = 6 * sqrt((double)c[0]) + 20;
            expect_within(h, dboth, largest * roundoff(dboth.device.type), "film_gradient: scale, shift");
            expect_gaps_kept(h, x, "film");
            harness_end(h);
        }
    }
}

static void test_sum_squares(void **state) {
    struct harness *h = *state;
    static const int64_t lengths[] = {1, 63, 4096, 4097, 300001};
    FOR_EACH_DEVICE(h, d) {
        for (int i = 0; i < COUNT_OF(lengths); i++) {
            harness_begin(h, d, (uint64_t)i);
            struct pair x = pair_normal(h, ROLE_MASTER, 1, lengths[i], 0, 1e-3);
            double got;
            double again;
            double wanted;
            must(backend_sum_squares(h->device, x.device, &got));
            must(backend_sum_squares(h->device, x.device, &again));
            must(backend_sum_squares(h->reference, x.reference, &wanted));
            assert_true(got == again);
            /* squares of fp32 are exact in fp64; only the fp64 sums round */
            if (!(fabs(got - wanted) <= wanted * (sqrt((double)lengths[i]) + 4) * 0x1p-53)) {
                FAIL("sum_squares of %lld: %.17g, should be %.17g", (long long)lengths[i], got, wanted);
            }
            harness_end(h);
        }
    }
}

/* The blocks of sum_squares are fixed: any thread count gives the same bits. */
static void test_sum_squares_threads(void **state) {
    struct harness *h = *state;
    if (h->device_count < 2) {
        skip(); /* one device under test: threads are the CPU's affair */
    }
    double sums[3];
    for (int threads = 1; threads <= 3; threads++) {
        struct backend_request request = {
            .device = "cpu", .compute = "fp32", .threads = threads, .device_index = -1};
        char why[256];
        must(backend_open(&request, &h->device, why));
        h->rng = rng_stream(9, RNG_CHECK, 0, 0);
        struct pair x = pair_normal(h, ROLE_MASTER, 1, 123457, 0, 1);
        must(backend_sum_squares(h->device, x.device, &sums[threads - 1]));
        harness_end(h);
        backend_close(h->device);
    }
    assert_true(sums[0] == sums[1] && sums[1] == sums[2]);
}

static void test_memory(void **state) {
    struct harness *h = *state;
    FOR_EACH_DEVICE(h, d) {
        struct backend *b = h->devices[d];
        char out[300];
        char in[300];
        void *first;
        void *second;
        for (int i = 0; i < 300; i++) {
            out[i] = (char)(i * 7);
        }
        must(backend_alloc(b, 300, &first));
        must(backend_alloc(b, 300, &second));
        assert_int_equal((uintptr_t)first % 64, 0);
        assert_int_equal((uintptr_t)second % 64, 0);
        must(backend_write(b, first, out, 300));
        must(backend_zero(b, second, 300));
        must(backend_copy(b, (char *)second + 3, (char *)first + 7, 200));
        must(backend_read(b, in, second, 300));
        for (int i = 0; i < 300; i++) {
            assert_int_equal(in[i], i < 3 || i >= 203 ? 0 : out[i + 4]);
        }
        backend_free(b, first);
        backend_free(b, second);
        backend_free(b, NULL);
    }
}

/* More than caches hold, from an odd address to an odd end: all of it is cleared, and nothing beside it. */
static void test_zero_of_much(void **state) {
    struct harness *h = *state;
    enum { BYTES = (64 << 20) + 5001, BESIDE = 37 };
    const size_t whole = BYTES + 2 * BESIDE;
    char *host = mem_aligned((int64_t)whole, 1);
    assert_non_null(host);
    FOR_EACH_DEVICE(h, d) {
        struct backend *b = h->devices[d];
        void *data;
        must(backend_alloc(b, (int64_t)whole, &data));
        memset(host, 7, whole);
        must(backend_write(b, data, host, (int64_t)whole));
        must(backend_zero(b, (char *)data + BESIDE, BYTES));
        must(backend_read(b, host, data, (int64_t)whole));
        size_t wrong = 0;
        for (size_t i = 0; i < whole; i++) {
            wrong += host[i] != (i < BESIDE || i >= BESIDE + BYTES ? 7 : 0);
        }
        assert_int_equal(wrong, 0);
        backend_free(b, data);
    }
    mem_free(host);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_gemm),
        cmocka_unit_test(test_gemm_of_few_rows),
        cmocka_unit_test(test_gemm_ignores_old_content),
        cmocka_unit_test(test_add),
        cmocka_unit_test(test_sum_rows),
        cmocka_unit_test(test_convert),
        cmocka_unit_test(test_embed),
        cmocka_unit_test(test_gather_and_scatter),
        cmocka_unit_test(test_pool),
        cmocka_unit_test(test_film),
        cmocka_unit_test(test_sum_squares),
        cmocka_unit_test(test_sum_squares_threads),
        cmocka_unit_test(test_memory),
        cmocka_unit_test(test_zero_of_much),
    };
    return cmocka_run_group_tests(tests, harness_setup, harness_teardown);
}
