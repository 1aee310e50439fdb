/* A policy that begins at its reference, and those that do not. */
#include "tests/unit.h"

#include <math.h>
#include <string.h>

#include "train/start.h"

static enum status start(double chosen, double rejected, bool is_coarse) {
    struct sums s = {0};
    s.v[SUM_ROWS] = 4;
    s.v[SUM_TARGET_LOGP] = 4 * -50;
    s.v[SUM_REJECTED_LOGP] = 4 * -60;
    s.v[SUM_REWARD_CHOSEN] = 4 * 0.1 * chosen;
    s.v[SUM_REWARD_REJECTED] = 4 * 0.1 * rejected;
    return start_check(&s, 0.1, is_coarse);
}

static void test_bounds(void **state) {
    (void)state;
    assert_int_equal(start(0, 0, false), OK);
    assert_int_equal(start(1.5e-3, -1.5e-3, false), OK); /* 1e-3 + 1e-5 * 60 */
    assert_int_equal(start(1.7e-3, 0, false), ERR_DATA);
    assert_int_equal(start(0, -1.7e-3, false), ERR_DATA);
    assert_int_equal(start(5, 5, false), ERR_DATA); /* the margin is 0, and the loss log 2, all the same */
    assert_non_null(strstr(status_message()->text, "reference.adapter"));
    assert_int_equal(start(1, -1, true), OK);
    assert_int_equal(start(1.2, 0, true), ERR_DATA);
    assert_int_equal(start(NAN, 0, false), ERR_DATA);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_bounds)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
