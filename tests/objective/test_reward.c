/* Reward models' loss: closed forms, far tails, gradients by differences, and prompts with several pairs. */
#include "tests/unit.h"

#include <math.h>

#include "objective/objective.h"
#include "objective/reward_loss.h"

static struct reward_loss loss_of(double chosen, double rejected, double margin, bool use_margin,
                                  double centering) {
    const struct reward_options o = {.use_margin = use_margin, .centering = centering};
    struct reward_loss out;
    reward_loss(chosen, rejected, margin, &o, &out);
    return out;
}

static void close_to(double got, double expected) {
    if (!(fabs(got - expected) <= 1e-14 * fmax(1, fabs(expected)))) {
        FAIL("%.17g, expected %.17g", got, expected);
    }
}

static void test_closed_forms(void **state) {
    (void)state;
    close_to(loss_of(1, .2, NAN, true, 0).value, .3711006659477777); /* published */
    close_to(loss_of(0, 0, NAN, true, 0).value, log(2));
    close_to(loss_of(0, 0, NAN, true, 0).d_chosen, -.5);
    close_to(loss_of(3, 1, 2, true, 0).value, log(2)); /* the margin is what was asked for */
    close_to(loss_of(3, 1, 2, false, 0).value, log1p(exp(-2)));
    close_to(loss_of(1, .2, NAN, true, .01).value, .3711006659477777 + .01 * 1.44);
    close_to(loss_of(-.7, .7, NAN, true, 5).value, log1p(exp(1.4))); /* centered already */
}

static void test_tails(void **state) {
    (void)state;
    struct reward_loss good = loss_of(1e4, -1e4, NAN, true, 0);
    struct reward_loss bad = loss_of(-1e4, 1e4, NAN, true, 0);
    assert_true(good.value == 0 && good.d_chosen == 0 && good.d_rejected == 0);
    assert_true(bad.value == 2e4 && bad.d_chosen == -1 && bad.d_rejected == 1);
    assert_true(loss_of(0, 0, 1e4, true, 0).value == 1e4);
    assert_true(isfinite(loss_of(1e4, 1e4, -1e4, true, .01).value));
}

static void test_gradient(void **state) {
    (void)state;
    const double points[][4] = {{1, .2, NAN, 0}, {-3, 2, .5, .01}, {4, -4, 1, .3}, {0, 0, -2, 0}};
    const double h = 1e-5;
    for (int i = 0; i < COUNT_OF(points); i++) {
        const double *p = points[i];
        struct reward_loss at = loss_of(p[0], p[1], p[2], true, p[3]);
        double chosen = (loss_of(p[0] + h, p[1], p[2], true, p[3]).value -
                         loss_of(p[0] - h, p[1], p[2], true, p[3]).value) /
                        (2 * h);
        double rejected = (loss_of(p[0], p[1] + h, p[2], true, p[3]).value -
                           loss_of(p[0], p[1] - h, p[2], true, p[3]).value) /
                          (2 * h);
        assert_true(fabs(chosen - at.d_chosen) < 1e-8 && fabs(rejected - at.d_rejected) < 1e-8);
    }
}

static void test_check(void **state) {
    (void)state;
    assert_int_equal(reward_check(&(struct reward_options){.centering = .01}), OK);
    assert_int_equal(reward_check(&(struct reward_options){.centering = -1}), ERR_USAGE);
    assert_int_equal(reward_check(&(struct reward_options){.centering = NAN}), ERR_USAGE);
}

/* Two prompts: one pair, and three responses in three pairs, one with a margin. The value is the mean over
 * prompts of the mean over pairs; counts are over pairs and responses. */
static const struct compared one[] = {{.chosen = 1, .rejected = 0, .margin = NAN}};
static const struct compared three[] = {{.chosen = 0, .rejected = 1, .margin = NAN},
                                        {.chosen = 0, .rejected = 2, .margin = .5f},
                                        {.chosen = 1, .rejected = 2, .margin = NAN}};
static const struct scored_row prompts[] = {{.n = 2, .n_pairs = 1, .pairs = one},
                                            {.n = 3, .n_pairs = 3, .pairs = three}};

static double value_of(const double values[5], double gradient[5], struct sums *sums) {
    struct terms t = {.reward = {.use_margin = true, .centering = .02}};
    const struct denominators d = {2, 0, NULL};
    struct response_score scores[5] = {0};
    for (int i = 0; i < 5; i++) {
        scores[i].value = values[i];
    }
    *sums = (struct sums){0};
    terms_one("reward", &t);
    for (int i = 0; i < 2; i++) {
        struct scored_row row = prompts[i];
        const struct slope slope = {.value = gradient ? gradient + 2 * i : NULL};
        row.responses = &scores[2 * i];
        assert_true(objective_row(&t, &row, &d, &slope, sums));
    }
    return objective_value(&t, sums);
}

static void test_prompts(void **state) {
    (void)state;
    double values[5] = {.3, .1, 2, -.5, -.5};
    double gradient[5];
    struct sums sums, ignored;
    double value = value_of(values, gradient, &sums);
    double expected = (loss_of(.1, .3, NAN, true, .02).value +
                       (loss_of(2, -.5, NAN, true, .02).value + loss_of(2, -.5, .5, true, .02).value +
                        loss_of(-.5, -.5, NAN, true, .02).value) /
                           3) /
                      2;
    close_to(value, expected);
    assert_true(sums.v[SUM_ROWS] == 2 && sums.v[SUM_PAIRS] == 4 && sums.v[SUM_RESPONSES] == 5);
    assert_true(sums.v[SUM_ACCURATE] == 2); /* a tie is no success */
    assert_true(sums.lowest == -.5 && sums.highest == 2);
    close_to(sums.v[SUM_VALUES], 1.4);
    for (int i = 0; i < 5; i++) {
        const double h = 1e-5;
        double at = values[i];
        values[i] = at + h;
        double up = value_of(values, NULL, &ignored);
        values[i] = at - h;
        double down = value_of(values, NULL, &ignored);
        values[i] = at;
        if (fabs((up - down) / (2 * h) - gradient[i]) > 1e-8) {
            FAIL("response %d: gradient %.12g, difference %.12g", i, gradient[i], (up - down) / (2 * h));
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_closed_forms), cmocka_unit_test(test_tails),   cmocka_unit_test(test_gradient),
        cmocka_unit_test(test_check),        cmocka_unit_test(test_prompts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
