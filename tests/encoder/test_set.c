/* The context encoder alone: its gradients by finite differences for every way of encoding a set, that the
 * order of items means nothing, and that a set's vector does not depend on the sets beside it. */
#include "tests/unit.h"

#include <math.h>
#include <string.h>

#include "encoder/set.h"
#include "util/rng.h"

static void must(enum status st) {
    if (st != OK) {
        FAIL("%s", status_message()->text);
    }
}

enum { USERS = 3, ITEMS = 4, WIDTH = 3, HIDDEN = 4, HEADS = 2 };

static const struct network_shape shapes[] = {
    {NETWORK_PROCESS, WIDTH, HIDDEN, HEADS, AGGREGATE_ATTENTION, false, false},
    {NETWORK_PROCESS, WIDTH, HIDDEN, HEADS, AGGREGATE_ATTENTION, true, true},
    {NETWORK_PROCESS, WIDTH, HIDDEN, HEADS, AGGREGATE_MEAN, true, false},
    {NETWORK_PROCESS, WIDTH, HIDDEN, HEADS, AGGREGATE_SUM, false, true},
};

struct sets {
    struct network m;
    struct set_pass s;
    int64_t outputs; /* of all users */
};

static void open_sets(const struct network_shape *shape, int64_t items, struct sets *out) {
    must(network_open(shape, 1, &out->m));
    must(set_pass_open(&out->m, USERS, ITEMS, &out->s));
    struct rng r = rng_stream(2, RNG_CHECK, 0, 0);
    for (int64_t i = 0; i < out->m.count; i++) { /* biases off zero */
        out->m.parameters[i] += 0.1 * rng_normal(&r);
    }
    for (int64_t i = 0; i < USERS * ITEMS * 2 * WIDTH; i++) {
        out->s.input[i] = rng_normal(&r);
    }
    out->s.users = USERS;
    out->s.items = items;
    out->s.seed = 5;
    out->outputs = USERS * HIDDEN * (shape->latent ? 2 : 1);
}
static void close_sets(struct sets *x) {
    set_pass_close(&x->s);
    network_close(&x->m);
}

/* A linear function of the outputs, no two of which count the same. */
static double weight_of(int64_t i) {
    return cos(1.0 + (double)i);
}
static double loss_of(struct sets *x) {
    double sum = 0;
    set_pass_forward(&x->m, &x->s);
    for (int64_t i = 0; i < x->outputs; i++) {
        sum += weight_of(i) * x->s.out[i];
    }
    return sum;
}

static void check_gradients(const struct network_shape *shape, int64_t items, double dropout) {
    const double step = 1e-6;
    struct sets x;
    double largest = 0;
    open_sets(shape, items, &x);
    x.s.dropout = dropout;
    loss_of(&x);
    for (int64_t i = 0; i < x.outputs; i++) {
        x.s.d_out[i] = weight_of(i);
    }
    set_pass_backward(&x.m, &x.s);
    for (int64_t i = 0; i < x.m.count; i++) {
        double kept = x.m.parameters[i];
        x.m.parameters[i] = kept + step;
        double high = loss_of(&x);
        x.m.parameters[i] = kept - step;
        double expected = (high - loss_of(&x)) / (2 * step);
        x.m.parameters[i] = kept;
        largest = fmax(largest, fabs(expected));
        if (fabs(x.m.gradients[i] - expected) > 1e-8 + 1e-6 * fabs(expected)) {
            FAIL("parameter %d: gradient %.12g, difference quotient %.12g", (int)i, x.m.gradients[i],
                 expected);
        }
    }
    assert_true(largest > 1e-3);
    close_sets(&x);
}

static void test_gradients(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        check_gradients(&shapes[i], ITEMS, 0);
        check_gradients(&shapes[i], 0, 0);
    }
    check_gradients(&shapes[0], ITEMS, 0.3);
}

static void expect_near(const double *x, const double *y, int64_t n) {
    for (int64_t i = 0; i < n; i++) {
        if (!(fabs(x[i] - y[i]) <= 1e-14)) {
            FAIL("element %d: %.17g and %.17g", (int)i, x[i], y[i]);
        }
    }
}

static void test_order_and_neighbors(void **state) {
    (void)state;
    enum { ROW = 2 * WIDTH, SET = ITEMS * ROW };
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        struct sets x;
        double before[USERS * 2 * HIDDEN], row[ROW];
        open_sets(&shapes[i], ITEMS, &x);
        set_pass_forward(&x.m, &x.s);
        memcpy(before, x.s.out, (size_t)x.outputs * sizeof *before);
        memcpy(row, x.s.input, sizeof row); /* the first set's first and last item change places */
        memcpy(x.s.input, x.s.input + SET - ROW, sizeof row);
        memcpy(x.s.input + SET - ROW, row, sizeof row);
        set_pass_forward(&x.m, &x.s);
        expect_near(before, x.s.out, x.outputs);
        x.s.input[0] += 1; /* of the first set alone */
        set_pass_forward(&x.m, &x.s);
        assert_true(fabs(before[0] - x.s.out[0]) > 1e-6);
        int64_t each = x.outputs / USERS;
        expect_near(before + each, x.s.out + each, x.outputs - each);
        close_sets(&x);
    }
}

/* The published sizes: embeddings of width 4096, hidden 256. */
static void test_parameter_counts(void **state) {
    (void)state;
    struct network m;
    must(network_open(
        &(struct network_shape){NETWORK_PROCESS, 4096, 256, 8, AGGREGATE_ATTENTION, false, false}, 0, &m));
    assert_int_equal(m.count, 2097408 + 263168 + 131584 + 1114624 + 131840);
    network_close(&m);
    must(network_open(&(struct network_shape){NETWORK_BTL, 4096, 256, 8, AGGREGATE_ATTENTION, false, false},
                      0, &m));
    assert_int_equal(m.count, 1114624 + 256 * 256 + 2 * 256 + 256);
    network_close(&m);
    assert_int_equal(network_open(&(struct network_shape){NETWORK_BTL, 8, 10, 3, 0, false, false}, 0, &m),
                     ERR_USAGE);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_gradients),
                                       cmocka_unit_test(test_order_and_neighbors),
                                       cmocka_unit_test(test_parameter_counts)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
