/* Adam against its definition: moments as sums over all gradients so far, each weighted by its age. */
#include "tests/unit.h"

#include <math.h>

#include "encoder/adam.h"

enum { COUNT = 3, STEPS = 6 };

static double gradient_at(int i, int step) {
    return sin(1.0 + 3 * i + step) * (i == 2 ? 1e-6 : 1);
}

/* (1 - b) sum over s <= t of b^(t - s) g_s^power, and the same with 1 for g^power: the correction 1 - b^t. */
static double corrected_moment(int i, int t, double beta, int power) {
    double sum = 0, weights = 0;
    for (int s = 0; s <= t; s++) {
        double weight = pow(beta, t - s);
        sum += weight * pow(gradient_at(i, s), power);
        weights += weight;
    }
    return sum / weights;
}

static void check(const struct adam_options *o) {
    struct adam a;
    double parameters[COUNT] = {1, -2, 0.5}, expected[COUNT] = {1, -2, 0.5}, gradients[COUNT];
    assert_int_equal(adam_open(COUNT, &a), OK);
    for (int t = 0; t < STEPS; t++) {
        for (int i = 0; i < COUNT; i++) {
            gradients[i] = gradient_at(i, t);
            double root = sqrt(corrected_moment(i, t, 0.999, 2));
            expected[i] -= o->learning_rate * o->weight_decay * expected[i];
            expected[i] -= o->learning_rate * corrected_moment(i, t, 0.9, 1) / (root + o->epsilon);
        }
        adam_step(o, &a, parameters, gradients);
        for (int i = 0; i < COUNT; i++) {
            if (!(fabs(parameters[i] - expected[i]) <= 1e-13)) {
                FAIL("update %d, parameter %d: %.17g, expected %.17g", t, i, parameters[i], expected[i]);
            }
            assert_true(gradients[i] == 0);
        }
        assert_int_equal(a.step, t + 1);
    }
    adam_close(&a);
}

static void test_definition(void **state) {
    (void)state;
    check(&(struct adam_options){.learning_rate = 0.1, .epsilon = 1e-8});
    check(&(struct adam_options){.learning_rate = 0.01, .epsilon = 3e-5, .weight_decay = 0.1});
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_definition)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
