/* The CPU kernels' fp32 functions against libm in double, over their range, and at the ends. */
#include "tests/unit.h"

#include <math.h>

#include "backend/cpu/cpu_math.h"

/* Largest relative error on [low, high] in steps of 1/4096 (exact in fp32), below `bound`. */
static void expect_relative(const char *name, float (*f)(float), double (*exact)(double), double low,
                            double high, double bound) {
    double worst = 0.0;
    double at = low;
    for (double x = low; x <= high; x += 0x1p-12) {
        double wanted = exact(x);
        double error = fabs((double)f((float)x) - wanted);
        if (!(error <= worst * fabs(wanted)) && wanted != 0.0) {
            worst = error / fabs(wanted);
            at = x;
        }
    }
    if (!(worst < bound)) {
        FAIL("%s: relative error %g at %g, allowed %g", name, worst, at, bound);
    }
}

static double exact_sigmoid(double x) {
    return 1.0 / (1.0 + exp(-x));
}
static float rest_of(float x) {
    float rest;
    cpu_logistic(x, &rest);
    return rest;
}
static double exact_rest(double x) {
    return 1.0 / (1.0 + exp(x));
}
static float tail_of(float x) {
    float tail;
    float density;
    cpu_normal(x, &tail, &density);
    return tail;
}
static double exact_tail(double x) {
    return 0.5 * erfc(fabs(x) / sqrt(2.0));
}

static void test_errors(void **state) {
    (void)state;
    expect_relative("exp", cpu_exp, exp, -87, 88, 1.2e-7);
    expect_relative("exp of negatives", cpu_exp_negative, exp, -87, 0, 1.2e-7);
    expect_relative("tanh", cpu_tanh, tanh, -10, 10, 3e-7);
    expect_relative("sigmoid", cpu_sigmoid, exact_sigmoid, -87, 87, 3e-7);
    expect_relative("1 - sigmoid", rest_of, exact_rest, -80, 80, 4e-7);
    /* x^2 / 2 is rounded before it is the exponent: its error grows with it */
    expect_relative("normal tail", tail_of, exact_tail, -4, 4, 1.5e-6);
}

static void test_ends(void **state) {
    (void)state;
    assert_true(cpu_exp(-INFINITY) == 0.0f && cpu_exp(INFINITY) == INFINITY && cpu_exp(0.0f) == 1.0f);
    assert_true(cpu_exp(89.0f) == INFINITY && cpu_exp(-104.0f) == 0.0f);
    assert_true(isnan(cpu_exp(NAN)) && isnan(cpu_exp_negative(NAN)) && isnan(cpu_tanh(NAN)));
    assert_true(isnan(cpu_sigmoid(NAN)) && isnan(rest_of(NAN)) && isnan(tail_of(NAN)));
    assert_true(cpu_exp_negative(-INFINITY) == 0.0f && cpu_exp_negative(0.0f) == 1.0f);
    assert_true(cpu_tanh(INFINITY) == 1.0f && cpu_tanh(-INFINITY) == -1.0f && cpu_tanh(0.0f) == 0.0f);
    assert_true(cpu_sigmoid(INFINITY) == 1.0f && cpu_sigmoid(-INFINITY) == 0.0f);
    assert_true(fabsf(rest_of(-INFINITY) - 1.0f) < 1e-6f && rest_of(INFINITY) == 0.0f);
    assert_true(tail_of(INFINITY) == 0.0f && fabsf(tail_of(0.0f) - 0.5f) < 1e-6f);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_errors), cmocka_unit_test(test_ends)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
