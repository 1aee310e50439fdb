/* A NaN is never swallowed: where the reference gives one, so does every back end. (A loss that has become
 * NaN must be seen, not turned into a number by a maximum or a clamp.) */
#include "tests/unit.h"

#include <math.h>

#include "reference/harness.h"
#include "util/mem.h"

static const struct tensor none;

static void put(struct harness *h, struct pair *p, int64_t row, int64_t column, double value) {
    double *values = reference_values(*p);
    values[row * p->device.columns + column] = value;
    pair_set(h, p, values);
    mem_free(values);
}

static void expect_nan_kept(struct harness *h, struct pair p, const char *what) {
    double *got = device_values(h, p);
    double *wanted = reference_values(p);
    int count = 0;
    for (int64_t i = 0; i < p.device.rows * p.device.columns; i++) {
        count += isnan(wanted[i]);
        if (isnan(wanted[i]) && !isnan(got[i])) {
            FAIL("%s on %s: element %lld should be NaN and is %g", what, h->device->caps.name, (long long)i,
                 got[i]);
        }
    }
    assert_true(count > 0); /* the case does test something */
    mem_free(got);
    mem_free(wanted);
}

#define SIDES                                                             \
    for (int side = 0; side < 2; side++)                                  \
        for (bool on_device = side == 0, once = true; once; once = false) \
            for (struct backend *b = on_device ? h->device : h->reference; once; once = false)
#define SIDE(pair) (on_device ? (pair).device : (pair).reference)

static void test_linear(void **state) {
    struct harness *h = *state;
    FOR_EACH_DEVICE(h, d) {
        harness_begin(h, d, 1);
        struct pair x = pair_normal(h, ROLE_COMPUTE, 40, 70, 0, 1);
        struct pair w = pair_normal(h, ROLE_COMPUTE, 70, 33, 0, 1);
        struct pair y = pair_normal(h, ROLE_COMPUTE, 40, 33, 0, 1);
        struct pair sums = pair_normal(h, ROLE_MASTER, 1, 70, 0, 1);
        put(h, &x, 17, 65, NAN);
        double squares = 0;
        SIDES {
            must(backend_gemm(b, &(struct gemm){.a = SIDE(x), .b = SIDE(w), .c = SIDE(y), .alpha = 1}));
            must(backend_sum_rows(b, SIDE(sums), SIDE(x)));
            must(backend_sum_squares(b, SIDE(x), &squares));
            assert_true(isnan(squares));
        }
        expect_nan_kept(h, y, "gemm");
        expect_nan_kept(h, sums, "sum_rows");
        harness_end(h);
    }
}

static void test_layer(void **state) {
    struct harness *h = *state;
    FOR_EACH_DEVICE(h, d) {
        for (int kind = 0; kind < 4; kind++) {
            harness_begin(h, d, 2);
            struct pair x = pair_normal(h, ROLE_COMPUTE, 20, 70, 0, 1);
            struct pair y = pair_normal(h, ROLE_COMPUTE, 20, 70, 0, 1);
            struct pair dy = pair_normal(h, ROLE_COMPUTE, 20, 70, 0, 1);
            struct pair dx = pair_normal(h, ROLE_COMPUTE, 20, 70, 0, 1);
            struct pair statistics = pair_normal(h, ROLE_READOUT, 20, 2, 0, 1);
            put(h, &x, 7, 69, NAN);
            SIDES {
                struct activate a = {.kind = (enum activation)kind, .gate = SIDE(x), .y = SIDE(y)};
                struct activate_gradient g = {.dy = SIDE(dy), .dgate = SIDE(dx)};
                must(backend_activate(b, &a));
                must(backend_activate_gradient(b, &a, &g));
            }
            expect_nan_kept(h, y, "activate");
            if (kind != ACTIVATION_RELU) { /* the slope of ReLU at NaN is a choice */
                expect_nan_kept(h, dx, "activate gradient");
            }
            SIDES {
                struct norm n = {.kind = kind % 2 ? NORM_LAYER : NORM_RMS,
                                 .epsilon = 1e-5,
                                 .x = SIDE(x),
                                 .y = SIDE(y),
                                 .statistics = SIDE(statistics)};
                must(backend_norm(b, &n));
                must(backend_norm_gradient(b, &n, &(struct norm_gradient){.dy = SIDE(dy), .dx = SIDE(dx)}));
            }
            expect_nan_kept(h, y, "norm");
            expect_nan_kept(h, dx, "norm gradient");
            harness_end(h);
        }
    }
}

/* In turn one element of q, of k and of v. */
static void test_attention(void **state) {
    struct harness *h = *state;
    static const struct query_span spans[] = {{0, 80, 0, 1}, {80, 70, 1, 2}};
    static const struct key_range ranges[] = {{0, 80, true}, {0, 80, false}, {80, 70, true}};
    static const struct attention_map map = {5, 2, 3, spans, ranges};
    FOR_EACH_DEVICE(h, d) {
        for (int where = 0; where < 6; where++) {
            harness_begin(h, d, 3);
            struct pair p[9]; /* q, k, v, out, dout, dq, dk, dv; lse */
            for (int i = 0; i < 9; i++) {
                p[i] = pair_normal(h, i < 8 ? ROLE_COMPUTE : ROLE_READOUT, 150, i < 8 ? 16 : 1, 0, 1);
            }
            put(h, &p[where % 3], where < 3 ? 79 : 0, 15, NAN);
            SIDES {
                struct attention a = {.map = &map,
                                      .heads = 1,
                                      .kv_heads = 1,
                                      .head_dim = 16,
                                      .scale = 0.25,
                                      .softcap = where % 2 ? 5 : 0,
                                      .q = SIDE(p[0]),
                                      .k = SIDE(p[1]),
                                      .v = SIDE(p[2]),
                                      .out = SIDE(p[3]),
                                      .lse = SIDE(p[8])};
                struct attention_gradient g = {SIDE(p[4]), SIDE(p[5]), SIDE(p[6]), SIDE(p[7])};
                must(backend_attention(b, &a));
                must(backend_attention_gradient(b, &a, &g));
            }
            expect_nan_kept(h, p[3], "attention");
            expect_nan_kept(h, p[5], "attention dq");
            expect_nan_kept(h, p[6], "attention dk");
            if (where % 3 != 2) {
                expect_nan_kept(h, p[8], "attention lse");
                expect_nan_kept(h, p[7], "attention dv");
            }
            harness_end(h);
        }
    }
}

/* In turn one element of hidden and of the weight; an early and a late token. */
static void test_head(void **state) {
    struct harness *h = *state;
    FOR_EACH_DEVICE(h, d) {
        for (int where = 0; where < 6; where++) {
            harness_begin(h, d, 4);
            struct pair hidden = pair_normal(h, ROLE_COMPUTE, 9, 24, 0, 0.5);
            struct pair weight = pair_normal(h, ROLE_COMPUTE, 5003, 24, 0, 0.5);
            struct pair targets = pair_indices(h, 1, 9, 0, 5003);
            struct pair statistics = pair_normal(h, ROLE_READOUT, 9, HEAD_STATISTICS, 0, 1);
            struct pair rows = pair_normal(h, ROLE_READOUT, 1, 9, 0, 1);
            struct pair dhidden = pair_normal(h, ROLE_COMPUTE, 9, 24, 0, 1);
            put(h, where % 3 == 0 ? &hidden : &weight,
                where % 3 == 1   ? 3
                : where % 3 == 2 ? 5001
                                 : 4,
                23, NAN);
            SIDES {
                struct head head = {.hidden = SIDE(hidden),
                                    .weight = SIDE(weight),
                                    .bias = none,
                                    .targets = SIDE(targets),
                                    .softcap = where < 3 ? 0 : 4,
                                    .statistics = SIDE(statistics)};
                must(backend_head(b, &head));
                must(backend_head_gradient(
                    b, &head, &(struct head_gradient){.row_weight = SIDE(rows), .dhidden = SIDE(dhidden)}));
            }
            expect_nan_kept(h, pair_columns(statistics, HEAD_LOGP, 2), "head log-probability, log-sum-exp");
            expect_nan_kept(h, dhidden, "head dhidden");
            harness_end(h);
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_linear),
        cmocka_unit_test(test_layer),
        cmocka_unit_test(test_attention),
        cmocka_unit_test(test_head),
    };
    return cmocka_run_group_tests(tests, harness_setup, harness_teardown);
}
