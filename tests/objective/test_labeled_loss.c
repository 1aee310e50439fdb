/* Losses on labelled responses: closed forms, what is held, extremes, finite differences. */
#include "tests/unit.h"

#include <math.h>
#include <string.h>

#include "objective/labeled_loss.h"
#include "util/rng.h"

enum { ROWS = 5 };

static struct terms terms_of(const char *losses, double desirable, double undesirable) {
    struct terms t = {
        .has_reference = true,
        .options = {.beta = .5, .desirable_weight = desirable, .undesirable_weight = undesirable}};
    assert_int_equal(terms_parse(losses, &t), OK);
    assert_int_equal(terms_check(&t, TAKES_DESIRABLE_WEIGHT | TAKES_UNDESIRABLE_WEIGHT), OK);
    return t;
}

static struct scored_row row_of(const struct response_score *r, bool is_desirable) {
    return (struct scored_row){.n = 2,
                               .target = is_desirable ? 0 : -1,
                               .has_reference = true,
                               .is_desirable = is_desirable,
                               .responses = r};
}

/* Value over rows; gathered as a step gathers it, or as it was before. */
static double value_of(const struct terms *t, struct response_score r[ROWS][2], double gathered[GATHERED],
                       bool gathers, double gradient[ROWS][2]) {
    struct sums sums = {0}, first = {0};
    int64_t tokens = 0;
    for (int i = 0; i < ROWS; i++) {
        const struct scored_row row = row_of(r[i], i % 2 == 0);
        objective_gather(t, &row, &first);
        tokens += row.is_desirable ? r[i][0].tokens : 0;
    }
    for (int k = 0; k < GATHERED && gathers; k++) {
        gathered[k] = first.v[SUM_GATHERED + k];
    }
    const struct denominators d = {ROWS, (double)tokens, gathered};
    for (int i = 0; i < ROWS; i++) {
        const struct scored_row row = row_of(r[i], i % 2 == 0);
        const struct slope slope = {.logp = gradient[i]};
        assert_true(objective_row(t, &row, &d, &slope, &sums));
    }
    return objective_value(t, &sums);
}

static double logistic_of(double x) {
    return 1 / (1 + exp(-x));
}

/* Log-ratios 1 and -2; those of the mismatched .5 and 1.5, or -1 and -2. */
static void test_golden(void **state) {
    (void)state;
    struct response_score r[2][2] = {
        {{.logp = -3, .reference = -4, .tokens = 2}, {.logp = -1, .reference = -1.5}},
        {{.logp = -9, .reference = -7, .tokens = 3}, {.logp = -1, .reference = -2.5}}};
    const struct terms t = terms_of("kto", 2, .25);
    struct sums sums = {0};
    for (int round = 0; round < 2; round++) {
        double kl = round == 0 ? 1 : 0; /* (.5 + 1.5) / 2; below 0: 0 */
        struct sums first = {0};
        double slope_of[2] = {9, 9};
        const struct slope slope = {.logp = slope_of};
        for (int i = 0; i < 2; i++) {
            r[i][1].reference += round == 0 ? 0 : 5;
            const struct scored_row row = row_of(r[i], i == 0);
            objective_gather(&t, &row, &first);
        }
        assert_true(fabs(labeled_kl(&first.v[SUM_GATHERED]) - kl) < 1e-15);
        const struct denominators d = {2, 2, &first.v[SUM_GATHERED]};
        const struct scored_row good = row_of(r[0], true), bad = row_of(r[1], false);
        sums = (struct sums){0};
        assert_true(objective_row(&t, &good, &d, &slope, &sums));
        double s = logistic_of(.5 * (1 - kl));
        assert_true(fabs(sums.v[SUM_LOSS] - 2 * (1 - s)) < 1e-15);
        assert_true(fabs(slope_of[0] + 2 * .5 * s * (1 - s) / 2) < 1e-15 && slope_of[1] == 0);
        assert_true(objective_row(&t, &bad, &d, &slope, &sums));
        s = logistic_of(.5 * (kl + 2));
        assert_true(fabs(slope_of[0] - .25 * .5 * s * (1 - s) / 2) < 1e-15 && slope_of[1] == 0);
        assert_true(sums.v[SUM_KL] == 2 * kl && sums.v[SUM_DESIRABLE] == 1 && sums.v[SUM_UNDESIRABLE] == 1);
        assert_true(sums.v[SUM_REWARD_CHOSEN] == .5 && sums.v[SUM_REWARD_REJECTED] == -1);
        assert_true(sums.v[SUM_TARGET_TOKENS] == 2 && sums.v[SUM_REJECTED_TOKENS] == 3);
    }
}

static void draw(struct rng *g, struct response_score r[ROWS][2]) {
    for (int i = 0; i < ROWS; i++) {
        for (int j = 0; j < 2; j++) {
            r[i][j] = (struct response_score){
                .logp = -9 * rng_uniform(g), .reference = -9 * rng_uniform(g), .tokens = 1 + rng_below(g, 5)};
        }
    }
}

/* The batch's zero is held. */
static void test_finite_differences(void **state) {
    (void)state;
    static const char *const losses[] = {"kto", "apo_zero_unpaired", "kto+0.5*apo_zero_unpaired+0.25*sft"};
    struct rng g = rng_stream(7, RNG_CHECK, 0, 0);
    for (int k = 0; k < 3 * 9; k++) {
        const struct terms t = terms_of(losses[k % 3], 1.5, .75);
        struct response_score r[ROWS][2];
        double gathered[GATHERED], gradient[ROWS][2], unread[ROWS][2];
        const double h = 1e-5;
        draw(&g, r);
        value_of(&t, r, gathered, true, gradient);
        for (int i = 0; i < ROWS; i++) {
            double at = r[i][0].logp;
            r[i][0].logp = at + h;
            double up = value_of(&t, r, gathered, false, unread);
            r[i][0].logp = at - h;
            double down = value_of(&t, r, gathered, false, unread);
            r[i][0].logp = at;
            assert_true(fabs(gradient[i][0] - (up - down) / (2 * h)) < 1e-8 && gradient[i][1] == 0);
        }
    }
}

static void test_extremes(void **state) {
    (void)state;
    for (int sign = -1; sign <= 1; sign += 2) {
        struct response_score r[2] = {{.logp = sign * 1e4, .tokens = 1}, {.logp = sign * 1e4, .tokens = 1}};
        const struct terms t = terms_of("kto+apo_zero_unpaired", 1, 1);
        const struct scored_row good = row_of(r, true), bad = row_of(r, false);
        double slope_of[2];
        const struct slope slope = {.logp = slope_of};
        const double far[GATHERED] = {-sign * 1e4, 1};
        const struct denominators d = {1, 1, far};
        struct sums sums = {0};
        assert_true(objective_row(&t, &good, &d, &slope, &sums) && slope_of[0] == 0);
        assert_true(sums.v[SUM_LOSS] == (sign > 0 ? 0 : 2));
        assert_true(objective_row(&t, &bad, &d, &slope, &sums) && slope_of[0] == 0);
        assert_true(sums.v[SUM_LOSS] == 2); /* what one label calls a loss of 1 the other calls 0 */
    }
    /* A zero that is no number is no 0. */
    const double lost[GATHERED] = {NAN, 1};
    assert_true(isnan(labeled_kl(lost)) && labeled_kl(NULL) == 0);
}

/* What a side without rows would show is left out, as in TRL. */
static enum status seen(void *context, const char *name, double value) {
    char *names = context;
    (void)value;
    strcat(names, name);
    strcat(names, " ");
    return OK;
}

static void test_shown(void **state) {
    (void)state;
    const struct terms t = terms_of("kto", 1, 1);
    const struct response_score r[2] = {{.logp = -1, .tokens = 1}, {.logp = -1}};
    const struct scored_row bad = row_of(r, false);
    const double gathered[GATHERED] = {1, 1};
    const struct denominators d = {1, 0, gathered};
    struct sums sums = {0};
    char names[512] = "";
    assert_true(objective_row(&t, &bad, &d, NULL, &sums));
    assert_int_equal(objective_show(&t, &sums, seen, names), OK);
    assert_string_equal(names, "loss kl rewards/rejected logps/rejected logits/rejected entropy ");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_golden),
        cmocka_unit_test(test_finite_differences),
        cmocka_unit_test(test_extremes),
        cmocka_unit_test(test_shown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
