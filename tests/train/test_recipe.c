/* Recipes: parsing, gradients against finite differences of the value, means over ragged rows, and the sums'
 * tree. */
#include "tests/unit.h"

#include <math.h>
#include <string.h>

#include "train/gradient.h"
#include "train/recipe.h"

static void test_parse(void **state) {
    (void)state;
    struct recipe r = {0};
    assert_int_equal(recipe_parse("sigmoid", &r), OK);
    assert_int_equal(r.n_terms, 1);
    assert_true(r.target_weight == 0);
    assert_int_equal(recipe_parse(" 0.5*ipo + 2e-1*sft+1e+1*hinge ", &r), OK);
    assert_int_equal(r.n_terms, 2);
    assert_string_equal(r.terms[0].objective->name, "ipo");
    assert_true(r.terms[0].weight == 0.5 && r.terms[1].weight == 10 && r.target_weight == 0.2);
    assert_int_equal(recipe_parse("sigmoidd", &r), ERR_USAGE);
    assert_non_null(strstr(status_message()->text, "robust"));
    assert_int_equal(recipe_parse("sft", &r), ERR_USAGE);
    assert_int_equal(recipe_parse("", &r), ERR_USAGE);
    assert_int_equal(recipe_parse("sigmoid+", &r), ERR_USAGE);
    assert_int_equal(recipe_parse("x*sigmoid", &r), ERR_USAGE);
}

enum { ROWS = 3 };

static void ragged_scores(struct response_score scores[ROWS][2], double reference[ROWS][2]) {
    const double logp[ROWS][2] = {{-20, -25}, {-3.5, -1.25}, {-100, -60}};
    const double base[ROWS][2] = {{-21, -24}, {-3, -2}, {-90, -70}};
    const int64_t tokens[ROWS][2] = {{10, 12}, {1, 2}, {50, 31}};
    for (int i = 0; i < ROWS; i++) {
        for (int j = 0; j < 2; j++) {
            scores[i][j] = (struct response_score){.logp = logp[i][j], .tokens = tokens[i][j]};
            reference[i][j] = base[i][j];
        }
    }
}

/* Value over all rows, as a user sees it. */
static double value_of(const struct recipe *r, struct response_score scores[ROWS][2],
                       double reference[ROWS][2], double gradient[ROWS][2]) {
    const struct denominators d = {ROWS, 10 + 1 + 50};
    struct sums sums = {0};
    for (int i = 0; i < ROWS; i++) {
        assert_true(recipe_row(r, &(struct scored_row){NULL, scores[i], reference[i]}, &d,
                               gradient ? gradient[i] : NULL, &sums));
    }
    return recipe_value(r, &sums);
}

static void check_gradient(const struct recipe *r) {
    struct response_score scores[ROWS][2];
    double reference[ROWS][2];
    double gradient[ROWS][2];
    ragged_scores(scores, reference);
    value_of(r, scores, reference, gradient);
    const double h = 1e-4;
    for (int i = 0; i < ROWS; i++) {
        for (int j = 0; j < 2; j++) {
            double at = scores[i][j].logp;
            scores[i][j].logp = at + h;
            double up = value_of(r, scores, reference, NULL);
            scores[i][j].logp = at - h;
            double down = value_of(r, scores, reference, NULL);
            scores[i][j].logp = at;
            double difference = (up - down) / (2 * h);
            if (fabs(difference - gradient[i][j]) > 1e-6 * (1 + fabs(difference))) {
                FAIL("row %d side %d: gradient %.12g, difference %.12g", i, j, gradient[i][j], difference);
            }
        }
    }
}

static void test_gradients(void **state) {
    (void)state;
    static const char *const losses[] = {"sigmoid", "sigmoid+0.1*sft", "0.5*ipo+0.25*robust+0.3*sft",
                                         "sigmoid_norm"};
    for (int i = 0; i < COUNT_OF(losses); i++) {
        struct recipe r = {.kind = RECIPE_PREFERENCE, .has_reference = true, .options = {.beta = .1}};
        assert_int_equal(recipe_parse(losses[i], &r), OK);
        check_gradient(&r);
        r.reference_free = true;
        check_gradient(&r);
    }
    check_gradient(&(struct recipe){0});
    check_gradient(&(struct recipe){.sequence_sum = true});
}

/* Published pair: DPO .5981388693815918, reference-free .4740769841801067, rewards +-.1. */
static void test_golden_pair(void **state) {
    (void)state;
    struct response_score scores[ROWS][2];
    double reference[ROWS][2];
    ragged_scores(scores, reference);
    struct recipe r = {.kind = RECIPE_PREFERENCE, .has_reference = true, .options = {.beta = .1}};
    const struct denominators d = {1, 10};
    struct sums sums = {0};
    double gradient[2];
    assert_int_equal(recipe_parse("sigmoid", &r), OK);
    assert_true(recipe_row(&r, &(struct scored_row){NULL, scores[0], reference[0]}, &d, gradient, &sums));
    assert_true(fabs(recipe_value(&r, &sums) - .5981388693815918) < 1e-14);
    assert_true(fabs(gradient[0] + .045016600268752205) < 1e-15);
    assert_true(fabs(sums.v[SUM_REWARD_CHOSEN] - .1) < 1e-15 &&
                fabs(sums.v[SUM_REWARD_REJECTED] + .1) < 1e-15);
    assert_true(sums.v[SUM_ACCURATE] == 1);
    r.reference_free = true;
    sums = (struct sums){0};
    assert_true(recipe_row(&r, &(struct scored_row){NULL, scores[0], reference[0]}, &d, gradient, &sums));
    assert_true(fabs(recipe_value(&r, &sums) - .4740769841801067) < 1e-14);
    assert_true(fabs(sums.v[SUM_REWARD_CHOSEN] - .1) < 1e-15); /* rewards keep the true reference */
}

/* SFT's token mean is one ratio over all rows, not a mean of rows' means. */
static void test_token_mean(void **state) {
    (void)state;
    struct response_score scores[ROWS][2];
    double reference[ROWS][2];
    ragged_scores(scores, reference);
    double value = value_of(&(struct recipe){0}, scores, reference, NULL);
    assert_true(fabs(value - (20 + 3.5 + 100) / 61.0) < 1e-15);
    value = value_of(&(struct recipe){.sequence_sum = true}, scores, reference, NULL);
    assert_true(fabs(value - (20 + 3.5 + 100) / 3.0) < 1e-13);
}

static void test_not_finite(void **state) {
    (void)state;
    struct response_score scores[2] = {{.logp = NAN, .tokens = 3}, {.logp = -1, .tokens = 3}};
    struct recipe r = {0};
    const struct denominators d = {1, 3};
    struct sums sums = {0};
    double gradient[2];
    assert_false(recipe_row(&r, &(struct scored_row){NULL, scores, NULL}, &d, gradient, &sums));
}

/* Eight leaves as one, two or four subtrees: the same bits, which plain summation in order does not give. */
static void test_tree(void **state) {
    (void)state;
    const double leaf[8] = {1e16, 1, -1e16, 1, 3e15, 1e-3, 7, -2.5};
    double whole = 0;
    for (int parts = 1; parts <= 8; parts *= 2) {
        double level[8];
        for (int p = 0; p < parts; p++) {
            struct sums_tree t;
            sums_tree_begin(&t, true);
            for (int i = p * 8 / parts; i < (p + 1) * 8 / parts; i++) {
                struct sums s = {.v = {leaf[i]}};
                sums_tree_push(&t, &s);
            }
            level[p] = t.total.v[0];
        }
        for (int n = parts; n > 1; n /= 2) {
            for (int i = 0; i < n / 2; i++) {
                level[i] = level[2 * i] + level[2 * i + 1];
            }
        }
        whole = parts == 1 ? level[0] : whole;
        assert_memory_equal(&level[0], &whole, sizeof whole);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_parse),       cmocka_unit_test(test_gradients),
        cmocka_unit_test(test_golden_pair), cmocka_unit_test(test_token_mean),
        cmocka_unit_test(test_not_finite),  cmocka_unit_test(test_tree),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
