/* Terms: parsing, gradients against finite differences of the value, means over ragged rows, scopes. */
#include "tests/unit.h"

#include <math.h>
#include <string.h>

#include "objective/objective.h"

static void test_parse(void **state) {
    (void)state;
    struct terms r = {0};
    assert_int_equal(terms_parse("sigmoid", &r), OK);
    assert_int_equal(r.n, 1);
    assert_true(r.target_weight == 0);
    assert_int_equal(terms_parse(" 0.5*ipo + 2e-1*sft+1e+1*hinge ", &r), OK);
    assert_int_equal(r.n, 2);
    assert_string_equal(r.list[0].objective->name, "ipo");
    assert_true(r.list[0].weight == 0.5 && r.list[1].weight == 10 && r.target_weight == 0.2);
    assert_int_equal(terms_parse("sigmoidd", &r), ERR_USAGE);
    assert_non_null(strstr(status_message()->text, "robust"));
    assert_int_equal(terms_parse("sft", &r), OK); /* no term; rows are pairs */
    assert_true(r.n == 0 && r.target_weight == 1 && r.rows == OVER_PAIRS && r.reads == READS_LOGP);
    static const char *const absent[] = {"wpo"};
    for (int i = 0; i < COUNT_OF(absent); i++) {
        assert_int_equal(terms_parse(absent[i], &r), ERR_USAGE);
        assert_non_null(strstr(status_message()->text, "is not there: it "));
    }
    assert_int_equal(terms_parse("", &r), ERR_USAGE);
    assert_int_equal(terms_parse("sigmoid+", &r), ERR_USAGE);
    assert_int_equal(terms_parse("x*sigmoid", &r), ERR_USAGE);
    assert_int_equal(terms_parse("reward", &r), ERR_USAGE);
    assert_int_equal(terms_parse("sigmoid+rrhf", &r), ERR_USAGE); /* pairs and lists */
    assert_int_equal(terms_parse("sigmoid+kto", &r), ERR_USAGE);
    assert_non_null(strstr(status_message()->text, "kto single labelled responses"));
    assert_int_equal(terms_parse("sigmoid+slic", &r), OK);
    assert_true(r.rows == OVER_PAIRS && r.reads == (READS_LOGP | READS_REFERENCE));
    assert_int_equal(terms_parse("100*rrhf+sft", &r), OK);
    assert_true(r.rows == OVER_LISTS && r.reads == (READS_LOGP | READS_LABELS) && r.target_weight == 1);
}

enum { ROWS = 3 };

static void ragged_scores(struct response_score scores[ROWS][2]) {
    const double logp[ROWS][2] = {{-20, -25}, {-3.5, -1.25}, {-100, -60}};
    const double base[ROWS][2] = {{-21, -24}, {-3, -2}, {-90, -70}};
    const int64_t tokens[ROWS][2] = {{10, 12}, {1, 2}, {50, 31}};
    for (int i = 0; i < ROWS; i++) {
        for (int j = 0; j < 2; j++) {
            scores[i][j] =
                (struct response_score){.logp = logp[i][j], .tokens = tokens[i][j], .reference = base[i][j]};
        }
    }
}

static struct scored_row row_of(const struct terms *t, const struct response_score *scores) {
    return (struct scored_row){
        .n = t->rows == OVER_SEQUENCES ? 1 : 2, .has_reference = true, .responses = scores};
}

/* Value over all rows, as a user sees it. */
static double value_of(const struct terms *t, struct response_score scores[ROWS][2],
                       double gradient[ROWS][2]) {
    const struct denominators d = {ROWS, 10 + 1 + 50, NULL};
    struct sums sums = {0};
    for (int i = 0; i < ROWS; i++) {
        const struct scored_row row = row_of(t, scores[i]);
        const struct slope slope = {.logp = gradient ? gradient[i] : NULL};
        assert_true(objective_row(t, &row, &d, gradient ? &slope : NULL, &sums));
    }
    return objective_value(t, &sums);
}

static void check_gradient(const struct terms *t) {
    struct response_score scores[ROWS][2];
    double gradient[ROWS][2] = {{0}};
    ragged_scores(scores);
    value_of(t, scores, gradient);
    const double h = 1e-4;
    for (int i = 0; i < ROWS; i++) {
        for (int j = 0; j < (t->rows == OVER_SEQUENCES ? 1 : 2); j++) {
            double at = scores[i][j].logp;
            scores[i][j].logp = at + h;
            double up = value_of(t, scores, NULL);
            scores[i][j].logp = at - h;
            double down = value_of(t, scores, NULL);
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
    static const char *const losses[] = {"sigmoid",      "sigmoid+0.1*sft", "0.5*ipo+0.25*robust+0.3*sft",
                                         "sigmoid_norm", "slic+0.5*sft",    "2*sft"};
    struct terms sft = {0}, sums = {.sequence_sum = true};
    terms_one("sft", &sft);
    terms_one("sft", &sums);
    for (int i = 0; i < COUNT_OF(losses); i++) {
        struct terms r = {.has_reference = true, .options = {.beta = .1, .margin = 1}};
        assert_int_equal(terms_parse(losses[i], &r), OK);
        check_gradient(&r);
        r.reference_free = true;
        check_gradient(&r);
    }
    check_gradient(&sft);
    check_gradient(&sums);
}

/* Published pair: DPO .5981388693815918, reference-free .4740769841801067, rewards +-.1. */
static void test_golden_pair(void **state) {
    (void)state;
    struct response_score scores[ROWS][2];
    ragged_scores(scores);
    struct terms r = {.has_reference = true, .options = {.beta = .1}};
    const struct denominators d = {1, 10, NULL};
    struct sums sums = {0};
    double gradient[2];
    const struct slope slope = {.logp = gradient};
    assert_int_equal(terms_parse("sigmoid", &r), OK);
    const struct scored_row row = row_of(&r, scores[0]);
    assert_true(objective_row(&r, &row, &d, &slope, &sums));
    assert_true(fabs(objective_value(&r, &sums) - .5981388693815918) < 1e-14);
    assert_true(fabs(gradient[0] + .045016600268752205) < 1e-15);
    assert_true(fabs(sums.v[SUM_REWARD_CHOSEN] - .1) < 1e-15 &&
                fabs(sums.v[SUM_REWARD_REJECTED] + .1) < 1e-15);
    assert_true(sums.v[SUM_ACCURATE] == 1);
    r.reference_free = true;
    sums = (struct sums){0};
    assert_true(objective_row(&r, &row, &d, &slope, &sums));
    assert_true(fabs(objective_value(&r, &sums) - .4740769841801067) < 1e-14);
    assert_true(fabs(sums.v[SUM_REWARD_CHOSEN] - .1) < 1e-15); /* rewards keep the true reference */
}

/* SFT's token mean is one ratio over all rows, not a mean of rows' means. */
static void test_token_mean(void **state) {
    (void)state;
    struct response_score scores[ROWS][2];
    struct terms t = {0};
    ragged_scores(scores);
    terms_one("sft", &t);
    double value = value_of(&t, scores, NULL);
    assert_true(fabs(value - (20 + 3.5 + 100) / 61.0) < 1e-15);
    t.sequence_sum = true;
    value = value_of(&t, scores, NULL);
    assert_true(fabs(value - (20 + 3.5 + 100) / 3.0) < 1e-13);
}

/* A term that sees the batch, as beta-DPO does: weight exp(gap - mean gap), the mean held. Reads tokens too.
 */
static void gather_gap(const struct objective *o, const struct terms *t, const struct scored_row *row,
                       double *gathered) {
    (void)o, (void)t;
    gathered[0] += row->responses[0].logp - row->responses[1].logp;
    gathered[1] += 1;
}

static double over_batch(const struct objective *o, const struct terms *t, const struct scored_row *row,
                         const double *gathered, double weight, const struct slope *slope) {
    (void)o, (void)t;
    const struct response_score *a = &row->responses[0], *b = &row->responses[1];
    double value = exp(.01 * (a->logp - b->logp - gathered[0] / gathered[1]));
    slope->logp[0] += weight * .01 * value;
    slope->logp[1] -= weight * .01 * value;
    for (int64_t i = 0; i < a->tokens; i++) {
        value += a->token_logp[i] * a->token_logp[i];
        if (slope->token_logp) {
            slope->token_logp[a->first + i] += weight * 2 * a->token_logp[i];
        }
    }
    return value;
}

static void test_batch_scope(void **state) {
    (void)state;
    const struct objective row = *objective_find("sigmoid");
    struct objective o = row;
    o.scope = SCOPE_BATCH;
    o.loss = over_batch;
    o.gather = gather_gap;
    const struct terms t = {.rows = OVER_PAIRS,
                            .scope = SCOPE_BATCH,
                            .n = 2,
                            .list = {{&o, 3}, {&row, .5}},
                            .has_reference = true,
                            .options = {.beta = .1}};
    const double tokens[5] = {NAN, -1, -2, -.5, NAN}; /* response 0's are the middle ones */
    double by_token[5] = {7, 7, 7, 7, 7}, gradient[2];
    struct response_score scores[ROWS][2];
    struct sums gathered = {0}, sums = {0};
    ragged_scores(scores);
    for (int i = 0; i < ROWS; i++) {
        scores[i][0].first = 1;
        scores[i][0].tokens = 3;
        scores[i][0].token_logp = tokens + 1;
        scores[i][1].tokens = 0;
        const struct scored_row r = row_of(&t, scores[i]);
        objective_gather(&t, &r, &gathered);
    }
    double mean = (5 - 2.25 - 40) / 3;
    assert_true(fabs(gathered.v[SUM_GATHERED] - 3 * mean) < 1e-13 && gathered.v[SUM_GATHERED + 1] == 3);
    const struct denominators d = {ROWS, 61, &gathered.v[SUM_GATHERED]};
    const struct slope slope = {.logp = gradient, .token_logp = by_token};
    const struct scored_row r = row_of(&t, scores[0]);
    assert_true(objective_row(&t, &r, &d, &slope, &sums));
    double part = exp(.01 * (5 - mean)), dpo = .045016600268752205;
    assert_true(fabs(sums.v[SUM_LOSS] - (3 * (part + 5.25) + .5 * .5981388693815918)) < 1e-13);
    assert_true(fabs(gradient[0] - (.03 * part - .5 * dpo) / ROWS) < 1e-15);
    assert_true(fabs(gradient[1] + (.03 * part - .5 * dpo) / ROWS) < 1e-15);
    for (int i = 0; i < 5; i++) { /* another response's places stay as they were */
        assert_true(i == 0 || i == 4 ? by_token[i] == 7 : fabs(by_token[i] - 6 * tokens[i] / ROWS) < 1e-15);
    }
}

static void test_not_finite(void **state) {
    (void)state;
    struct response_score scores[2] = {{.logp = NAN, .tokens = 3}, {.logp = -1, .tokens = 3}};
    struct terms t = {0};
    terms_one("sft", &t);
    const struct denominators d = {1, 3, NULL};
    const struct scored_row row = {.n = 1, .responses = scores};
    struct sums sums = {0};
    double gradient[2];
    assert_false(objective_row(&t, &row, &d, &(struct slope){.logp = gradient}, &sums));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_parse),       cmocka_unit_test(test_gradients),
        cmocka_unit_test(test_golden_pair), cmocka_unit_test(test_token_mean),
        cmocka_unit_test(test_batch_scope), cmocka_unit_test(test_not_finite),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
