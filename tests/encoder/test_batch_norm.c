/* Batch norm: rows of mean 0 and variance 1, running statistics, gradients by finite differences, and batches
 * that are too small. */
#include "tests/unit.h"

#include <math.h>
#include <string.h>

#include "encoder/linear.h"
#include "util/rng.h"

enum { ROWS = 7, WIDTH = 3 };

struct norm {
    struct batch_norm n;
    double weight[WIDTH], bias[WIDTH], d_weight[WIDTH], d_bias[WIDTH], mean[WIDTH], variance[WIDTH];
    double inverse_std[WIDTH], sums[2 * WIDTH + 1];
};

static void fill(struct norm *x, double input[ROWS * WIDTH]) {
    struct rng r = rng_stream(4, RNG_CHECK, 0, 0);
    memset(x, 0, sizeof *x);
    for (int j = 0; j < WIDTH; j++) {
        x->weight[j] = 1 + 0.2 * rng_normal(&r);
        x->bias[j] = 1 + 0.2 * rng_normal(&r);
        x->mean[j] = 0.5;
        x->variance[j] = 2;
    }
    for (int i = 0; i < ROWS * WIDTH; i++) {
        input[i] = 1e3 * (i % WIDTH) + rng_normal(&r);
    }
    x->n = (struct batch_norm){.width = WIDTH,
                               .momentum = 0.1,
                               .weight = x->weight,
                               .bias = x->bias,
                               .d_weight = x->d_weight,
                               .d_bias = x->d_bias,
                               .running_mean = x->mean,
                               .running_variance = x->variance,
                               .inverse_std = x->inverse_std,
                               .sums = x->sums};
}

static double slope(int i) {
    return cos(2.0 + i);
}

/* A linear function of the outputs; leaves the normalized rows in x. */
static double loss_of(struct norm *n, const double *input, double *x, double *y) {
    double sum = 0;
    memcpy(x, input, ROWS * WIDTH * sizeof *x);
    assert_int_equal(batch_norm_train(&n->n, ROWS, x, y), OK);
    for (int i = 0; i < ROWS * WIDTH; i++) {
        sum += slope(i) * y[i];
    }
    return sum;
}

static void expect_near(double got, double expected, double tolerance) {
    if (!(fabs(got - expected) <= tolerance)) {
        FAIL("%.17g, expected %.17g", got, expected);
    }
}

static void test_statistics(void **state) {
    (void)state;
    struct norm n;
    double input[ROWS * WIDTH], x[ROWS * WIDTH], y[ROWS * WIDTH];
    fill(&n, input);
    loss_of(&n, input, x, y);
    for (int j = 0; j < WIDTH; j++) {
        double mean = 0, variance = 0;
        for (int i = 0; i < ROWS; i++) {
            mean += input[i * WIDTH + j] / ROWS;
        }
        for (int i = 0; i < ROWS; i++) {
            double off = input[i * WIDTH + j] - mean;
            variance += off * off;
        }
        for (int i = 0; i < ROWS; i++) {
            double normal = (input[i * WIDTH + j] - mean) / sqrt(variance / ROWS + 1e-5);
            expect_near(x[i * WIDTH + j], normal, 1e-9);
            expect_near(y[i * WIDTH + j], fmax(n.weight[j] * normal + n.bias[j], 0), 1e-9);
        }
        expect_near(n.mean[j], 0.9 * 0.5 + 0.1 * mean, 1e-9);
        expect_near(n.variance[j], 0.9 * 2 + 0.1 * variance / (ROWS - 1), 1e-9);
    }
}

static void test_gradients(void **state) {
    (void)state;
    const double step = 1e-5;
    struct norm n;
    double input[ROWS * WIDTH], x[ROWS * WIDTH], y[ROWS * WIDTH], dy[ROWS * WIDTH];
    double other[ROWS * WIDTH], outputs[ROWS * WIDTH];
    fill(&n, input);
    loss_of(&n, input, x, y);
    for (int i = 0; i < ROWS * WIDTH; i++) {
        dy[i] = slope(i);
    }
    assert_int_equal(batch_norm_backward(&n.n, ROWS, x, y, dy), OK);
    for (int i = 0; i < ROWS * WIDTH + 2 * WIDTH; i++) {
        int j = i - ROWS * WIDTH;
        double *at = j < 0 ? &input[i] : j < WIDTH ? &n.weight[j] : &n.bias[j - WIDTH];
        double got = j < 0 ? dy[i] : j < WIDTH ? n.d_weight[j] : n.d_bias[j - WIDTH];
        double kept = *at;
        *at = kept + step;
        double high = loss_of(&n, input, other, outputs);
        *at = kept - step;
        double low = loss_of(&n, input, other, outputs);
        *at = kept;
        expect_near(got, (high - low) / (2 * step), 1e-6);
    }
}

static void test_few_rows(void **state) {
    (void)state;
    struct norm n;
    double input[ROWS * WIDTH], y[ROWS * WIDTH];
    fill(&n, input);
    assert_int_equal(batch_norm_train(&n.n, 1, input, y), ERR_USAGE);
    assert_int_equal(batch_norm_train(&n.n, 0, input, y), OK);
    assert_int_equal(batch_norm_backward(&n.n, 0, input, y, y), OK);
    for (int j = 0; j < WIDTH; j++) {
        assert_true(n.mean[j] == 0.5 && n.variance[j] == 2 && n.d_weight[j] == 0 && n.d_bias[j] == 0);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_statistics), cmocka_unit_test(test_gradients),
                                       cmocka_unit_test(test_few_rows)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
