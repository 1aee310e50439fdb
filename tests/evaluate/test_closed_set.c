/* Values of prompts with right and wrong answers: closed forms, equal values, far apart ones; RewardBench 2's
 * Ties. */
#include "tests/unit.h"

#include <math.h>

#include "evaluate/closed_set.h"
#include "evaluate/reward_bench.h"

static void test_values(void **state) {
    (void)state;
    const double logp[] = {-4, -3, -6}, characters[] = {2, 3, 6}, bytes[] = {4, 1, 6};
    const bool right[] = {false, true, true};
    const struct closed_prompt p = {3, 2, logp, characters, bytes, right};
    double v[CLOSED_VALUES];
    closed_set_values(&p, v);
    assert_true(v[CLOSED_ACC] == 1);   /* -3 */
    assert_true(v[CLOSED_NORM] == 1);  /* -2, -1, -1 */
    assert_true(v[CLOSED_BYTES] == 0); /* -1, -3, -1: the first of equals */
    assert_true(v[CLOSED_MC1] == 0);   /* -6 is not above -4 */
    assert_true(fabs(v[CLOSED_MC2] - (exp(-3) + exp(-6)) / (exp(-4) + exp(-3) + exp(-6))) < 1e-15);
}

/* Sums of long choices are far below the smallest double's logarithm. */
static void test_far(void **state) {
    (void)state;
    const double logp[] = {-10000, -10001, -1e6}, ones[] = {1, 1, 1};
    const bool right[] = {true, false, true};
    const struct closed_prompt p = {3, 0, logp, ones, ones, right};
    double v[CLOSED_VALUES];
    closed_set_values(&p, v);
    assert_true(v[CLOSED_MC1] == 1);
    assert_true(fabs(v[CLOSED_MC2] - 1 / (1 + exp(-1))) < 1e-15);
    const double equal[] = {-5, -5, -5};
    const struct closed_prompt q = {3, 0, equal, ones, ones, right};
    closed_set_values(&q, v);
    assert_true(v[CLOSED_ACC] == 1 && v[CLOSED_MC1] == 0);
}

static void test_ties(void **state) {
    (void)state;
    assert_true(isnan(reward_bench_ties(NULL, 0)));
    const struct reward_bench_tie all[] = {
        {1, true, 2, 1},  {1, false, 3, 0},   /* both above the spread: tanh(2/1 - 1) */
        {2, true, 2, 1},  {2, false, 0.5, 0}, /* the reference is not: tanh(.5 - 1) */
        {3, true, 0, 0},  {3, false, 1, 0},   /* 0/0 */
        {4, true, -1, 2},                     /* no reference */
    };
    double expected =
        0.3 * (2.0 / 4) + 0.3 * 1 + 0.2 * (2.0 / 3) + 0.2 * (1.0 / 3) + 0.01 * (tanh(1) + tanh(-0.5) + 0) / 3;
    assert_true(fabs(reward_bench_ties(all, COUNT_OF(all)) - expected) < 1e-15);
    const struct reward_bench_tie endless[] = {{1, true, 1, 0}, {1, false, 1, 0}}; /* 1/0: tanh is 1 */
    assert_true(fabs(reward_bench_ties(endless, 2) - 1.01) < 1e-15);
}

static void test_names(void **state) {
    (void)state;
    struct reward_bench_tie tie;
    assert_true(reward_bench_is_tie("Ties ref:12", &tie) && tie.number == 12 && !tie.is_tied);
    assert_true(reward_bench_is_tie("Ties tied:3", &tie) && tie.number == 3 && tie.is_tied);
    assert_false(reward_bench_is_tie("Ties", &tie) || reward_bench_is_tie("Ties ref:x", &tie) ||
                 reward_bench_is_tie("Ties ref:1 ", &tie) || reward_bench_is_tie("Math", &tie));
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_values), cmocka_unit_test(test_far),
                                       cmocka_unit_test(test_ties), cmocka_unit_test(test_names)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
