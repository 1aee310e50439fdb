/* Schedules against the published multipliers and their limits. */
#include "tests/unit.h"

#include <math.h>

#include "train/optimizer.h"

static void assert_near(double got, double want, double tolerance) {
    if (!(fabs(got - want) <= tolerance)) {
        FAIL("got %.17g, want %.17g", got, want);
    }
}

/* The DPO authors' warm-up over 150 updates. */
static void test_constant(void **state) {
    (void)state;
    assert_near(schedule_multiplier(SCHEDULE_CONSTANT, 0, 150, 0), .0066225, 5e-8);
    assert_near(schedule_multiplier(SCHEDULE_CONSTANT, 149, 150, 0), .9933775, 5e-8);
    assert_near(schedule_multiplier(SCHEDULE_CONSTANT, 150, 150, 0), 1, 0);
    assert_near(schedule_multiplier(SCHEDULE_CONSTANT, 1000000, 150, 10), 1, 0);
    assert_near(schedule_multiplier(SCHEDULE_CONSTANT, 0, 0, 0), 1, 0);
}

/* transformers' cosine, 50 of 750 updates of warm-up; clamped past the end. */
static void test_cosine(void **state) {
    (void)state;
    assert_near(schedule_multiplier(SCHEDULE_COSINE, 0, 50, 750), 0, 0);
    assert_near(schedule_multiplier(SCHEDULE_COSINE, 25, 50, 750), .5, 0);
    assert_near(schedule_multiplier(SCHEDULE_COSINE, 50, 50, 750), 1, 0);
    assert_near(schedule_multiplier(SCHEDULE_COSINE, 400, 50, 750), .5, 1e-15);
    assert_near(schedule_multiplier(SCHEDULE_COSINE, 750, 50, 750), 0, 1e-15);
    assert_near(schedule_multiplier(SCHEDULE_COSINE, 1000, 50, 750), 0, 1e-15);
}

static void test_linear(void **state) {
    (void)state;
    assert_near(schedule_multiplier(SCHEDULE_LINEAR, 0, 4, 10), 0, 0);
    assert_near(schedule_multiplier(SCHEDULE_LINEAR, 2, 4, 10), .5, 0);
    assert_near(schedule_multiplier(SCHEDULE_LINEAR, 4, 4, 10), 1, 0);
    assert_near(schedule_multiplier(SCHEDULE_LINEAR, 7, 4, 10), .5, 1e-15);
    assert_near(schedule_multiplier(SCHEDULE_LINEAR, 10, 4, 10), 0, 0);
    assert_near(schedule_multiplier(SCHEDULE_LINEAR, 50, 4, 10), 0, 0);
    assert_near(schedule_multiplier(SCHEDULE_LINEAR, 0, 0, 0), 1, 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_constant),
        cmocka_unit_test(test_cosine),
        cmocka_unit_test(test_linear),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
