/* Who came last, what that cost the others, and what is counted over steps: closed forms. */
#include "tests/unit.h"

#include <math.h>

#include "train/straggler.h"

static void assert_near(double value, double expected, double bound) {
    assert_true(fabs(value - expected) <= bound);
}

static void test_steps(void **state) {
    (void)state;
    struct lateness ranks[4] = {{0}};
    struct stragglers s = {.size = 4, .ranks = ranks};
    const double first[4] = {1, 2, 5, 4}; /* the others wait 4, 3, 1 for rank 2 */
    struct straggler out = stragglers_add(&s, first, 1);
    assert_int_equal(out.rank, 2);
    assert_near(out.late_s, 8. / 3, 1e-15);
    assert_near(out.mean_wait_s, 2, 1e-15);
    assert_near(out.most_wait_s, 4, 0);
    assert_near(out.imbalance, 5. / 3, 1e-15);
    const double second[4] = {3, 3, 3, 3};
    out = stragglers_add(&s, second, 2);
    assert_int_equal(out.rank, 0);
    assert_near(out.late_s, 0, 0);
    assert_near(out.most_wait_s, 0, 0);
    assert_near(out.imbalance, 1, 0);
    const double third[4] = {0, 0, 6, 0};
    out = stragglers_add(&s, third, 3);
    assert_int_equal(out.rank, 2);
    assert_near(out.late_s, 6, 1e-15);
    assert_int_equal(s.steps, 3);
    assert_near(s.waited_s, 2 + 4.5, 1e-15);
    assert_int_equal(ranks[2].times, 2);
    assert_near(ranks[2].total_s, 8. / 3 + 6, 1e-15);
    assert_near(ranks[2].worst_s, 6, 0);
    assert_int_equal(ranks[2].worst_step, 3);
    assert_int_equal(ranks[0].times, 1);
    assert_int_equal(ranks[1].times + ranks[3].times, 0);
}

static void test_alone(void **state) {
    (void)state;
    struct lateness rank = {0};
    struct stragglers s = {.size = 1, .ranks = &rank};
    const double arrival = 7;
    struct straggler out = stragglers_add(&s, &arrival, 1);
    assert_int_equal(out.rank, 0);
    assert_near(out.late_s, 0, 0);
    assert_near(out.mean_wait_s, 0, 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_steps),
        cmocka_unit_test(test_alone),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
