/* What losses of a pair read at each token beside log-probabilities: TDPO's divergences, WPO's weights; and
 * what is shown of losses without a reference. Closed forms, finite differences, extremes. */
#include "tests/unit.h"

#include <math.h>
#include <string.h>

#include "objective/pairwise.h"

enum { TOKENS = 2, SIDES = 2 };

struct pair_world {
    double divergence[SIDES][TOKENS], by_token[SIDES * TOKENS], by_sum[SIDES];
    struct response_score scores[SIDES];
};

/* Log-ratios 1 and -1, divergences 1.5 and 2.5: the numbers of the formula's own example. */
static struct pair_world example(void) {
    return (struct pair_world){.divergence = {{1, .5}, {.75, 1.75}},
                               .scores = {{.logp = -4, .reference = -5, .collision = -3, .tokens = TOKENS},
                                          {.logp = -6, .reference = -5, .collision = -2, .tokens = TOKENS}}};
}

static struct terms terms_of(const char *loss, bool weighting) {
    struct terms t = {.has_reference = true,
                      .options = {.beta = .1, .tdpo_alpha = .5, .gamma = .5, .weighting = weighting}};
    assert_int_equal(terms_parse(loss, &t), OK);
    assert_int_equal(terms_check(&t, weighting ? TAKES_WEIGHTING : 0), OK);
    return t;
}

static double run(const struct terms *t, struct pair_world *w, struct sums *sums) {
    for (int j = 0; j < SIDES; j++) {
        w->scores[j].first = j * TOKENS;
        w->scores[j].token_divergence = w->divergence[j];
    }
    const struct scored_row row = {.n = SIDES, .has_reference = t->has_reference, .responses = w->scores};
    const struct denominators d = {1, TOKENS, NULL};
    const struct slope slope = {.logp = w->by_sum, .token_divergence = w->by_token};
    *sums = (struct sums){0};
    assert_true(objective_row(t, &row, &d, &slope, sums));
    return objective_value(t, sums);
}

static void test_tdpo(void **state) {
    (void)state;
    struct sums sums, unread;
    struct pair_world w = example();
    struct terms t = terms_of("tdpo1", false);
    assert_true(fabs(run(&t, &w, &sums) - .6443966600735709) < 1e-15);
    assert_true(fabs(sums.v[SUM_REWARD_CHOSEN] - .25) < 1e-15 &&
                fabs(sums.v[SUM_REWARD_REJECTED] - .15) < 1e-15);
    double slope = -.1 / (1 + exp(.1));
    assert_true(fabs(w.by_token[0] - slope) < 1e-15 && fabs(w.by_token[3] + slope) < 1e-15);
    t = terms_of("tdpo", false); /* tdpo2 */
    assert_true(fabs(run(&t, &w, &sums) - .6209570477895321) < 1e-15);
    assert_true(w.by_token[0] == 0 && w.by_token[1] == 0);
    for (int k = 0; k < TOKENS; k++) { /* the chosen's is held, the rejected's is not */
        double at = w.divergence[1][k], slope_there = w.by_token[TOKENS + k], h = 1e-5;
        struct pair_world moved = w;
        moved.divergence[1][k] = at + h;
        double up = run(&t, &moved, &unread);
        moved.divergence[1][k] = at - h;
        double down = run(&t, &moved, &unread);
        assert_true(fabs(slope_there - (up - down) / (2 * h)) < 1e-10);
    }
    for (int sign = -1; sign <= 1; sign += 2) { /* margins far out */
        struct pair_world far = example();
        far.scores[0].logp = sign * 1e5;
        t = terms_of("tdpo1+tdpo2", false);
        double value = run(&t, &far, &sums);
        assert_true(isfinite(value) && (sign > 0 ? value < 1e-12 : value > 1e4));
    }
    assert_int_equal(terms_parse("tdpo", &t), OK);
    assert_true(t.reads & READS_DIVERGENCE);
}

/* Weights exp((-4 + 3) / 2) and exp((-6 + 2) / 2), held. */
static void test_weighting(void **state) {
    (void)state;
    struct sums sums;
    struct pair_world w = example();
    struct terms plain = terms_of("sigmoid", false), weighted = terms_of("sigmoid", true);
    double value = run(&plain, &w, &sums), slope = w.by_sum[0], share = exp(-.5 - 2);
    assert_true(fabs(run(&weighted, &w, &sums) - share * value) < 1e-15);
    assert_true(fabs(w.by_sum[0] - share * slope) < 1e-15 && fabs(w.by_sum[1] + share * slope) < 1e-15);
    assert_true(sums.v[SUM_REWARD_CHOSEN] == .1 && sums.v[SUM_REWARD_REJECTED] == -.1);
    weighted.options = plain.options;
    assert_int_equal(terms_parse("aot", &weighted), OK);
    assert_int_equal(terms_check(&weighted, TAKES_WEIGHTING), ERR_USAGE);
}

static enum status keep(void *context, const char *name, double value) {
    double *out = context;
    out[0] = strcmp(name, "rewards/margins") == 0 ? value : out[0];
    out[1] = strcmp(name, "log_odds_chosen") == 0 ? value : out[1];
    out[2] = strcmp(name, "log_odds_ratio") == 0 ? value : out[2];
    return OK;
}

/* beta times sums for cpo, beta times means for the others; none for slic. */
static void test_rewards_without_reference(void **state) {
    (void)state;
    static const char *const losses[] = {"cpo", "simpo", "orpo", "slic"};
    static const double margins[] = {.2, .1, .1, 9};
    double odds = log(exp(-2) / (1 - exp(-2))) - log(exp(-3) / (1 - exp(-3)));
    for (int i = 0; i < COUNT_OF(losses); i++) {
        struct sums sums;
        struct pair_world w = example();
        struct terms t = terms_of(losses[i], false);
        double shown[3] = {9, 9, 9};
        t.has_reference = false;
        run(&t, &w, &sums);
        assert_int_equal(objective_show(&t, &sums, keep, shown), OK);
        bool has_odds = strcmp(losses[i], "orpo") == 0;
        assert_true(fabs(shown[0] - margins[i]) < 1e-15);
        assert_true(fabs(shown[1] - (has_odds ? odds : 9)) < 1e-14);
        assert_true(fabs(shown[2] - (has_odds ? -log1p(exp(-odds)) : 9)) < 1e-14);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_tdpo), cmocka_unit_test(test_weighting),
                                       cmocka_unit_test(test_rewards_without_reference)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
