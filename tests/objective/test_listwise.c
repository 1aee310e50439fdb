/* Losses on lists: closed forms, finite differences, ranks by scores and by pairs, extremes. */
#include "tests/unit.h"

#include <math.h>

#include "objective/listwise.h"
#include "util/rng.h"

static struct terms terms_of(const char *losses) {
    struct terms t = {.options.beta = .5};
    assert_int_equal(terms_parse(losses, &t), OK);
    return t;
}

static double value_of(const struct terms *t, const struct scored_row *row, double *gradient) {
    const struct denominators d = {1, (double)row->responses[row->target].tokens, NULL};
    const struct slope slope = {.logp = gradient};
    struct sums sums = {0};
    assert_true(objective_row(t, row, &d, &slope, &sums));
    return objective_value(t, &sums);
}

/* s = (-1, -.8, -2), R = (3, 2, 1): only the second beats what is better, by .2. */
static void test_golden(void **state) {
    (void)state;
    const struct response_score r[3] = {{.logp = -2, .tokens = 2, .label = 3},
                                        {.logp = -8, .tokens = 10, .label = 2},
                                        {.logp = -10, .tokens = 5, .label = 1}};
    const struct scored_row row = {.n = 3, .responses = r};
    const struct terms t = terms_of("rrhf"), both = terms_of("100*rrhf+sft");
    double gradient[3];
    struct sums sums = {0};
    const struct denominators d = {1, 2, NULL};
    assert_true(fabs(value_of(&t, &row, gradient) - .2) < 1e-15);
    assert_true(gradient[0] == -.5 && gradient[1] == .1 && gradient[2] == 0);
    assert_true(fabs(value_of(&both, &row, gradient) - (20 + 1)) < 1e-12);
    assert_true(gradient[0] == -50 - .5 && fabs(gradient[1] - 10) < 1e-14);
    assert_true(objective_row(&t, &row, &d, NULL, &sums));
    assert_true(sums.v[SUM_PAIRS] == 3 && sums.v[SUM_ACCURATE] == 2);
    assert_true(sums.v[SUM_TARGET_TOKENS] == 2 && sums.v[SUM_REJECTED_TOKENS] == 15);
}

/* Without scores, or with one only, the pairs say what is better; equal scores say nothing. */
static void test_ranks(void **state) {
    (void)state;
    struct response_score r[3] = {{.logp = -1, .tokens = 1, .label = NAN},
                                  {.logp = -3, .tokens = 1, .label = NAN},
                                  {.logp = -2, .tokens = 1, .label = 5}};
    const struct compared pairs[] = {{1, 0, NAN}, {2, 0, NAN}};
    struct scored_row row = {.n = 3, .n_pairs = 2, .responses = r, .pairs = pairs};
    const struct terms t = terms_of("rrhf");
    assert_true(value_of(&t, &row, NULL) == 2 + 1);
    r[1].label = 5;
    assert_true(value_of(&t, &row, NULL) == 0);
    r[1].label = 6;
    assert_true(value_of(&t, &row, NULL) == 1);
    r[1].label = r[2].label = NAN;
    row.n_pairs = 0;
    assert_true(value_of(&t, &row, NULL) == 0);
}

static void check_gradient(const struct terms *t, const struct scored_row *row, struct response_score *r) {
    enum { N = 6 };
    double gradient[N];
    const double h = 1e-6;
    value_of(t, row, gradient);
    for (int i = 0; i < row->n; i++) {
        double at = r[i].logp;
        r[i].logp = at + h;
        double up = value_of(t, row, NULL);
        r[i].logp = at - h;
        double down = value_of(t, row, NULL);
        r[i].logp = at;
        if (fabs((up - down) / (2 * h) - gradient[i]) > 1e-7) {
            FAIL("response %d: gradient %.12g, difference %.12g", i, gradient[i], (up - down) / (2 * h));
        }
    }
}

static void test_gradient(void **state) {
    (void)state;
    enum { N = 6 };
    static const char *const losses[] = {"2*rrhf+0.3*sft", "pro+0.05*sft", "2*bt_list"};
    const struct compared pairs[] = {{1, 0, NAN}, {2, 0, NAN}, {2, 5, NAN}};
    struct rng rng = rng_stream(3, RNG_CHECK, 0, 0);
    for (int round = 0; round < 60; round++) {
        const struct terms t = terms_of(losses[round % 3]);
        struct response_score r[N];
        for (int i = 0; i < N; i++) {
            r[i] = (struct response_score){.logp = -10 * (1 + rng_uniform(&rng)),
                                           .tokens = 1 + rng_below(&rng, 20),
                                           .reference = -10 * (1 + rng_uniform(&rng)),
                                           .label = round < 30 ? (double)rng_below(&rng, 4) : NAN};
        }
        const struct scored_row row = {.n = N,
                                       .n_pairs = COUNT_OF(pairs),
                                       .target = round % N,
                                       .has_reference = round % 2,
                                       .responses = r,
                                       .pairs = pairs};
        check_gradient(&t, &row, r);
    }
}

/* Scores 3, 1, 0 with log p -1, -2, -4 of one token: T = 2, 3 and 1. */
static void test_contrasts(void **state) {
    (void)state;
    struct response_score r[3] = {{.logp = -2, .tokens = 1, .label = 1, .reference = -1},
                                  {.logp = -1, .tokens = 1, .label = 3, .reference = -3},
                                  {.logp = -4, .tokens = 1, .label = 0, .reference = -2}};
    const struct compared pairs[] = {{1, 0, NAN}, {1, 2, NAN}, {0, 2, NAN}};
    struct scored_row row = {.n = 3, .n_pairs = 3, .responses = r, .pairs = pairs};
    const struct terms pro = terms_of("pro"), list = terms_of("bt_list");
    double want = log(exp(-3) + exp(-4) + exp(-12)) + 3 + log(exp(-2) + exp(-4)) + 2;
    assert_true(fabs(value_of(&pro, &row, NULL) - want) < 1e-14);
    want = log(exp(-.5) + exp(-1) + exp(-2)) + .5 + log(exp(-1) + exp(-2)) + 1;
    assert_true(fabs(value_of(&list, &row, NULL) - want) < 1e-14);
    row.has_reference = true; /* log-ratios -1, 2, -2 */
    want = log(exp(1) + exp(-.5) + exp(-1)) - 1 + log(exp(-.5) + exp(-1)) + .5;
    assert_true(fabs(value_of(&list, &row, NULL) - want) < 1e-14);
    r[0].label = r[1].label = r[2].label = NAN; /* the pairs tell the same order, without gaps */
    assert_true(fabs(value_of(&list, &row, NULL) - want) < 1e-14);
    want = log(exp(-1) + exp(-2) + exp(-4)) + 1 + log(exp(-2) + exp(-4)) + 2;
    assert_true(fabs(value_of(&pro, &row, NULL) - want) < 1e-14);
    /* Two responses: Bradley and Terry's. */
    row.n_pairs = 1;
    assert_true(fabs(value_of(&list, &row, NULL) - log1p(exp(-1.5))) < 1e-15);
    /* Equal scores do not compete: 3 against 1 and 1. */
    r[1].label = 3, r[0].label = r[2].label = 1;
    want = log(exp(1) + exp(-.5) + exp(-1)) - 1;
    assert_true(fabs(value_of(&list, &row, NULL) - want) < 1e-14);
}

static void test_contrast_extremes(void **state) {
    (void)state;
    struct response_score r[2] = {{.logp = -1e4, .tokens = 1, .label = 1},
                                  {.logp = 1e4, .tokens = 1, .label = 0}};
    const struct scored_row row = {.n = 2, .responses = r};
    const struct terms pro = terms_of("pro"), list = terms_of("bt_list");
    double gradient[2];
    assert_true(value_of(&pro, &row, gradient) == 2e4 && gradient[0] == -1 && gradient[1] == 1);
    assert_true(value_of(&list, &row, gradient) == 1e4 && gradient[0] == -.5 && gradient[1] == .5);
    r[0].logp = 1e4, r[1].logp = -1e4;
    assert_true(value_of(&pro, &row, gradient) == 0 && gradient[0] == 0 && gradient[1] == 0);
    assert_true(value_of(&list, &row, gradient) == 0 && gradient[0] == 0 && gradient[1] == 0);
}

static void test_extremes(void **state) {
    (void)state;
    struct response_score r[2] = {{.logp = -1e4, .tokens = 1, .label = 1},
                                  {.logp = 1e4, .tokens = 1, .label = 0}};
    struct scored_row row = {.n = 2, .responses = r};
    const struct terms t = terms_of("rrhf");
    const struct denominators d = {1, 1, NULL};
    struct sums sums = {0};
    double gradient[2];
    assert_true(value_of(&t, &row, gradient) == 2e4 && gradient[0] == -1 && gradient[1] == 1);
    r[0].logp = 1e4, r[1].logp = -1e4;
    assert_true(value_of(&t, &row, gradient) == 0 && gradient[0] == 0 && gradient[1] == 0);
    r[0].tokens = r[1].tokens = 0; /* empty responses do not divide by 0 */
    r[0].logp = r[1].logp = 0;
    assert_true(value_of(&t, &row, gradient) == 0);
    r[1].logp = NAN;
    assert_false(objective_row(&t, &row, &d, NULL, &sums));
    row.n = 0; /* a prompt without responses */
    sums = (struct sums){0};
    assert_true(objective_row(&t, &row, &d, NULL, &sums));
    assert_true(objective_value(&t, &sums) == 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_golden),
        cmocka_unit_test(test_ranks),
        cmocka_unit_test(test_gradient),
        cmocka_unit_test(test_contrasts),
        cmocka_unit_test(test_contrast_extremes),
        cmocka_unit_test(test_extremes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
