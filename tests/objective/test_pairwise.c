/* What losses of pairs are given of a row, and losses of the batch: TRL's own values and gradients by token,
 * finite differences, closed forms, extremes. */
#include "tests/unit.h"

#include <math.h>
#include <string.h>

#include "objective/pairwise.h"
#include "util/json.h"
#include "util/rng.h"

enum { MOST_PAIRS = 4, MOST_TOKENS = 8, SIDES = 2 };

/* Pairs of responses with their tokens, and what comes back. */
struct world {
    int n;
    int64_t tokens; /* of all responses */
    double policy[MOST_PAIRS][SIDES][MOST_TOKENS], reference[MOST_PAIRS][SIDES][MOST_TOKENS];
    struct response_score scores[MOST_PAIRS][SIDES];
    double by_token[MOST_PAIRS * SIDES * MOST_TOKENS], gradient[MOST_PAIRS][SIDES][MOST_TOKENS];
};

static double sum_of(const double *v, int64_t n) {
    double sum = 0;
    for (int64_t i = 0; i < n; i++) {
        sum += v[i];
    }
    return sum;
}

/* Sums from tokens. */
static void settle(struct world *w) {
    w->tokens = 0;
    for (int i = 0; i < w->n; i++) {
        for (int j = 0; j < SIDES; j++) {
            struct response_score *s = &w->scores[i][j];
            s->first = w->tokens;
            s->token_logp = w->policy[i][j];
            s->token_reference = w->reference[i][j];
            s->logp = sum_of(s->token_logp, s->tokens);
            s->reference = sum_of(s->token_reference, s->tokens);
            w->tokens += s->tokens;
        }
    }
}

static struct scored_row row_of(const struct world *w, int i) {
    return (struct scored_row){.row = i, .n = SIDES, .has_reference = true, .responses = w->scores[i]};
}

/* What the terms are given of the batch: sums, or the count and two sorted columns. */
enum { GIVEN = 1 + 2 * MOST_PAIRS };

static void insert(double *sorted, int n, double x) {
    int i = n;
    for (; i > 0 && sorted[i - 1] > x; i--) {
        sorted[i] = sorted[i - 1];
    }
    sorted[i] = x;
}

static void gather(const struct terms *t, const struct world *w, double *out) {
    struct sums sums = {0};
    for (int i = 0; i < w->n; i++) {
        const struct scored_row row = row_of(w, i);
        double pair[2] = {0, 0};
        objective_gather(t, &row, &sums);
        objective_order(t, &row, pair);
        insert(out + 1, i, pair[0]);
        insert(out + 1 + w->n, i, pair[1]);
    }
    out[0] = w->n;
    for (int k = 0; k < GATHERED && t->scope == SCOPE_BATCH; k++) {
        out[k] = sums.v[SUM_GATHERED + k];
    }
}

/* Value over all pairs and its gradient by token, the batch's numbers held. */
static double value_of(const struct terms *t, struct world *w, const double *gathered) {
    struct sums sums = {0};
    struct denominators d = {w->n, 0, gathered};
    for (int i = 0; i < w->n; i++) {
        d.target_tokens += (double)w->scores[i][0].tokens;
    }
    for (int i = 0; i < w->n; i++) {
        double by_sum[SIDES];
        const struct scored_row row = row_of(w, i);
        const struct slope slope = {.logp = by_sum, .token_logp = w->by_token};
        assert_true(objective_row(t, &row, &d, &slope, &sums));
        for (int j = 0; j < SIDES; j++) {
            for (int64_t k = 0; k < w->scores[i][j].tokens; k++) {
                w->gradient[i][j][k] = by_sum[j] + w->by_token[w->scores[i][j].first + k];
            }
        }
    }
    return objective_value(t, &sums);
}

static void assert_near(double got, double want, double tolerance, const char *what) {
    if (!(fabs(got - want) <= tolerance * fmax(1.0, fabs(want)))) {
        FAIL("%s: got %.17g, want %.17g", what, got, want);
    }
}

static double optional(const json_t *o, const char *key, double otherwise) {
    const json_t *v = json_object_get(o, key);
    return v ? json_number_value(v) : otherwise;
}

static void read_tokens(const json_t *pairs, int i, int j, double *out, int64_t *n) {
    const json_t *tokens = json_array_get(json_array_get(pairs, (size_t)i), (size_t)j);
    *n = (int64_t)json_array_size(tokens);
    assert_true(*n > 0 && *n <= MOST_TOKENS);
    for (int64_t k = 0; k < *n; k++) {
        out[k] = json_number_value(json_array_get(tokens, (size_t)k));
    }
}

static void read_world(const json_t *file, struct world *w) {
    const json_t *policy = json_object_get(file, "policy"), *reference = json_object_get(file, "reference");
    w->n = (int)json_array_size(policy);
    assert_int_equal(w->n, MOST_PAIRS);
    for (int i = 0; i < w->n; i++) {
        for (int j = 0; j < SIDES; j++) {
            int64_t n;
            read_tokens(policy, i, j, w->policy[i][j], &w->scores[i][j].tokens);
            read_tokens(reference, i, j, w->reference[i][j], &n);
        }
    }
    settle(w);
}

static struct terms terms_of(const json_t *c) {
    const char *divergence = json_string_value(json_object_get(c, "divergence"));
    struct terms t = {.has_reference = true,
                      .options = {.beta = optional(c, "beta", .1),
                                  .label_smoothing = optional(c, "label_smoothing", 0),
                                  .tau = optional(c, "tau", .05),
                                  .tail_discount = 1 - optional(c, "ld_alpha", 1)}};
    if (divergence) {
        assert_int_equal(divergence_parse(divergence, &t.options.divergence), OK);
    }
    assert_int_equal(terms_parse(json_string_value(json_object_get(c, "loss")), &t), OK);
    assert_int_equal(terms_check(&t, divergence ? TAKES_DIVERGENCE : 0), OK);
    return t;
}

/* fixtures/make_trl_losses.py. The alpha divergence is float32 there. */
static void test_against_trl(void **state) {
    (void)state;
    json_t *file;
    const json_t *c;
    size_t at;
    struct world w = {0};
    assert_int_equal(json_load(FIXTURES "/trl_losses.json", &file), OK);
    read_world(file, &w);
    const json_t *cases = json_object_get(file, "cases");
    assert_true(json_array_size(cases) >= 20);
    json_array_foreach(cases, at, c) {
        const char *loss = json_string_value(json_object_get(c, "loss"));
        const char *divergence = json_string_value(json_object_get(c, "divergence"));
        double tolerance = divergence && strncmp(divergence, "alpha", 5) == 0 ? 1e-6 : 1e-12;
        const struct terms t = terms_of(c);
        double gathered[GIVEN];
        gather(&t, &w, gathered);
        assert_near(value_of(&t, &w, gathered), optional(c, "value", NAN), tolerance, loss);
        for (int i = 0; i < w.n; i++) {
            for (int j = 0; j < SIDES; j++) {
                double want[MOST_TOKENS];
                int64_t n;
                read_tokens(json_object_get(c, "gradient"), i, j, want, &n);
                for (int64_t k = 0; k < n; k++) {
                    assert_near(w.gradient[i][j][k], want[k], tolerance, loss);
                }
            }
        }
    }
    json_decref(file);
}

static void draw(struct rng *r, struct world *w) {
    w->n = MOST_PAIRS;
    for (int i = 0; i < w->n; i++) {
        for (int j = 0; j < SIDES; j++) {
            w->scores[i][j].tokens = 1 + rng_below(r, MOST_TOKENS);
            for (int64_t k = 0; k < w->scores[i][j].tokens; k++) {
                w->policy[i][j][k] = -2 * rng_uniform(r);
                w->reference[i][j][k] = -2 * rng_uniform(r);
            }
        }
    }
    settle(w);
}

static struct terms drawn_terms(struct rng *r, const char *loss, const char *divergence, double discount) {
    struct terms t = {.has_reference = true,
                      .options = {.beta = .1 + rng_uniform(r),
                                  .label_smoothing = .1,
                                  .tau = .5,
                                  .gamma = .5,
                                  .beta_scale = .2,
                                  .tail_discount = discount}};
    assert_int_equal(divergence_parse(divergence, &t.options.divergence), OK);
    assert_int_equal(terms_parse(loss, &t), OK);
    assert_int_equal(terms_check(&t, 0), OK);
    return t;
}

/* Sums of the batch are held; its order is not. */
static double moved_value(const struct terms *t, struct world *w, double *gathered) {
    settle(w);
    if (t->scope == SCOPE_ORDER) {
        gather(t, w, gathered);
    }
    return value_of(t, w, gathered);
}

/* Every token's slope against a central difference. */
static void check_differences(const struct terms *t, struct world *w, const char *name) {
    const double h = 1e-5;
    double gathered[GIVEN];
    gather(t, w, gathered);
    value_of(t, w, gathered);
    struct world at = *w;
    for (int i = 0; i < w->n; i++) {
        for (int j = 0; j < SIDES; j++) {
            for (int64_t k = 0; k < w->scores[i][j].tokens; k++) {
                w->policy[i][j][k] = at.policy[i][j][k] + h;
                double up = moved_value(t, w, gathered);
                w->policy[i][j][k] = at.policy[i][j][k] - h;
                double down = moved_value(t, w, gathered);
                w->policy[i][j][k] = at.policy[i][j][k];
                assert_near(at.gradient[i][j][k], (up - down) / (2 * h), 1e-7, name);
            }
        }
    }
    settle(w);
}

static void test_finite_differences(void **state) {
    (void)state;
    static const struct {
        const char *loss, *divergence;
        double discount;
    } cases[] = {
        {"bco", "reverse_kl", 0},          {"bco+0.5*sigmoid", "reverse_kl", .75},
        {"cpo+sft", "reverse_kl", 0},      {"2*bco+sft", "reverse_kl", 1},
        {"sigmoid", "forward_kl", .5},     {"robust", "js", 0},
        {"discopop", "alpha:0.5", 0},      {"exo_pair", "alpha:2", .5},
        {"sigmoid_norm", "alpha:-1", .25}, {"cpo+simpo+orpo", "reverse_kl", 0},
        {"aot", "reverse_kl", .5},         {"aot_unpaired+sft", "reverse_kl", 0},
    };
    struct rng r = rng_stream(5, RNG_CHECK, 0, 0);
    for (int i = 0; i < COUNT_OF(cases); i++) {
        for (int round = 0; round < 5; round++) {
            struct world w = {0};
            draw(&r, &w);
            const struct terms t = drawn_terms(&r, cases[i].loss, cases[i].divergence, cases[i].discount);
            check_differences(&t, &w, cases[i].loss);
        }
    }
}

/* beta_dpo holds beta and weight: the slope by a token is that of w times DPO's loss at b, by what the token
 * counts. */
static void test_held(void **state) {
    (void)state;
    struct rng r = rng_stream(7, RNG_CHECK, 0, 0);
    const struct terms t = drawn_terms(&r, "beta_dpo", "reverse_kl", .25);
    struct world w = {0};
    double gathered[GIVEN];
    double gap[MOST_PAIRS], mean = 0, variance = 0;
    draw(&r, &w);
    for (int i = 0; i < w.n; i++) {
        int64_t shared =
            w.scores[i][0].tokens < w.scores[i][1].tokens ? w.scores[i][0].tokens : w.scores[i][1].tokens;
        gap[i] = 0;
        for (int j = 0; j < SIDES; j++) {
            for (int64_t k = 0; k < w.scores[i][j].tokens; k++) {
                gap[i] +=
                    (j == 0 ? 1 : -1) * (k < shared ? 1 : .75) * (w.policy[i][j][k] - w.reference[i][j][k]);
            }
        }
        mean += gap[i] / w.n;
    }
    for (int i = 0; i < w.n; i++) {
        variance += (gap[i] - mean) * (gap[i] - mean) / w.n;
    }
    gather(&t, &w, gathered);
    value_of(&t, &w, gathered);
    for (int i = 0; i < w.n; i++) {
        double off = gap[i] - mean, beta = t.options.beta * fmax(1e-3, 1 + t.options.beta_scale * off);
        double slope = -exp(-off * off / (2 * variance)) * beta / (1 + exp(beta * gap[i])) / w.n;
        assert_near(w.gradient[i][0][0], slope, 1e-13, "chosen");
        assert_near(w.gradient[i][1][0], -slope, 1e-13, "rejected");
    }
}

/* One token a response, the reference at 0: sums are the numbers given. */
static struct world plain(int n, const double logp[][SIDES]) {
    struct world w = {.n = n};
    for (int i = 0; i < n; i++) {
        for (int j = 0; j < SIDES; j++) {
            w.scores[i][j].tokens = 1;
            w.policy[i][j][0] = logp[i][j];
        }
    }
    return w;
}

static double plain_value(const char *loss, int n, const double logp[][SIDES]) {
    struct terms t = {.has_reference = true, .options = {.beta = .5, .beta_scale = .6}};
    struct world w = plain(n, logp);
    double gathered[GIVEN];
    assert_int_equal(terms_parse(loss, &t), OK);
    assert_int_equal(terms_check(&t, 0), OK);
    settle(&w);
    gather(&t, &w, gathered);
    return value_of(&t, &w, gathered);
}

static void test_closed_forms(void **state) {
    (void)state;
    /* bco: rewards 1, 0 and 2, 3 have the mean 1.5. */
    const double two[2][SIDES] = {{2, 0}, {4, 6}};
    double want = log1p(exp(.5)) + log1p(exp(-1.5)) + log1p(exp(-.5)) + log1p(exp(1.5));
    assert_near(plain_value("bco", 2, two), want / 2, 1e-15, "bco");
    /* beta_dpo: gaps 2 and -2, mean 0, variance 4: beta .5 * 2.2 and .5 * 1e-3, weights e^(-1/2). */
    want = exp(-.5) * (log1p(exp(-2.2)) + log1p(exp(.5e-3 * 2)));
    assert_near(plain_value("beta_dpo", 2, two), want / 2, 1e-15, "beta_dpo");
    /* Pairs that are all alike are DPO's. */
    const double alike[2][SIDES] = {{1, -1}, {0, -2}};
    assert_near(plain_value("beta_dpo", 2, alike), log1p(exp(-1)), 1e-15, "beta_dpo");
    const double one[1][SIDES] = {{1, -1}};
    assert_near(plain_value("bco", 1, one), 2 * log1p(exp(-.5)), 1e-15, "bco");
    assert_near(plain_value("bco_pair", 2, alike),
                (log1p(exp(-.5)) + log1p(exp(-.5)) + log(2) + log1p(exp(-1))) / 2, 1e-15, "bco_pair");
}

/* Quantiles: pairs in the order of policy and reference; equal ones share their places. */
static void test_quantiles(void **state) {
    (void)state;
    /* aot, beta .5, the reference at 0: every margin alone. */
    const double two[2][SIDES] = {{3, 1}, {0, 4}};
    assert_near(plain_value("aot", 2, two), (log1p(exp(-1)) + log1p(exp(2))) / 2, 1e-15, "aot");
    /* aot_unpaired: 0 < 3 against 1 < 4, though pairs are (3, 1) and (0, 4). */
    assert_near(plain_value("aot_unpaired", 2, two), 2 * log1p(exp(.5)) / 2, 1e-15, "aot_unpaired");
    /* Chosen 1, 1, 2 against 0, 3, 5: the equal ones have 0 and 3 between them, and slopes alike. */
    const double ties[3][SIDES] = {{1, 5}, {1, 3}, {2, 0}};
    double want = log1p(exp(-.5)) + log1p(exp(1)) + log1p(exp(1.5));
    assert_near(plain_value("aot_unpaired", 3, ties), want / 3, 1e-15, "aot_unpaired");
    struct terms t = {.has_reference = true, .options = {.beta = .5}};
    struct world w = plain(3, ties);
    double gathered[GIVEN];
    assert_int_equal(terms_parse("aot_unpaired", &t), OK);
    settle(&w);
    gather(&t, &w, gathered);
    value_of(&t, &w, gathered);
    double slope = -.5 * (1 / (1 + exp(.5)) + 1 / (1 + exp(-1))) / 2 / 3;
    assert_near(w.gradient[0][0][0], slope, 1e-15, "chosen");
    assert_near(w.gradient[1][0][0], slope, 1e-15, "chosen");
    assert_near(w.gradient[0][1][0], .5 / (1 + exp(-1.5)) / 3, 1e-15, "rejected");
}

/* +-1e4: numbers, whatever the divergence. */
static void test_extremes(void **state) {
    (void)state;
    static const char *const divergences[] = {"reverse_kl", "forward_kl", "js", "alpha:0.5", "alpha:3"};
    const double logp[2][SIDES] = {{1e4, -1e4}, {-1e4, 1e4}};
    struct rng r = rng_stream(6, RNG_CHECK, 0, 0);
    int count;
    const struct objective *table = objective_table(&count);
    for (int i = 0; i < count; i++) {
        for (int k = 0; k < COUNT_OF(divergences) && table[i].pair; k++) {
            struct terms t = drawn_terms(&r, table[i].name, divergences[k], 0);
            struct world w = plain(2, logp);
            double gathered[GIVEN];
            settle(&w);
            gather(&t, &w, gathered);
            assert_true(isfinite(value_of(&t, &w, gathered)));
        }
    }
    assert_near(plain_value("beta_dpo", 2, logp), exp(-.5) * log1p(exp(10)) / 2, 1e-12, "beta_dpo");
    assert_near(plain_value("bco", 2, logp), 5e3, 1e-12, "bco");
}

static void test_divergences(void **state) {
    (void)state;
    struct divergence d;
    double slope;
    assert_int_equal(divergence_parse("kl", &d), ERR_USAGE);
    assert_int_equal(divergence_parse("alpha:", &d), ERR_USAGE);
    assert_int_equal(divergence_parse("alpha:x", &d), ERR_USAGE);
    assert_int_equal(divergence_parse("alpha:1 ", &d), ERR_USAGE);
    assert_int_equal(divergence_parse("alpha:inf", &d), ERR_USAGE);
    /* alpha 1 is the reverse KL, alpha 0 the forward; f'(1) = 0 and f''(1) = 1 but for Jensen-Shannon's half.
     */
    assert_int_equal(divergence_parse("alpha:1", &d), OK);
    assert_true(divergence_score(&d, -3.5, &slope) == -3.5 && slope == 1);
    assert_int_equal(divergence_parse("alpha:0", &d), OK);
    assert_near(divergence_score(&d, .75, &slope), 1 - exp(-.75), 1e-15, "forward");
    assert_near(slope, exp(-.75), 1e-15, "forward");
    assert_int_equal(divergence_parse("js", &d), OK);
    assert_near(divergence_score(&d, 0, &slope), 0, 1e-15, "js");
    assert_near(slope, .5, 0, "js");
    assert_near(divergence_score(&d, 1, &slope), log(2 * exp(1) / (exp(1) + 1)), 1e-15, "js");
    assert_int_equal(divergence_parse("forward_kl", &d), OK);
    divergence_score(&d, -100, &slope); /* past the last exponent */
    assert_true(slope == 0);
}

static enum status given(const char *loss, unsigned takes) {
    struct terms t = {.options = {.beta = .1, .label_smoothing = .1, .tau = .05}};
    assert_int_equal(terms_parse(loss, &t), OK);
    return terms_check(&t, takes);
}

/* A divergence and ld_alpha are of the pair: every loss of the sum reads them, or none may. */
static void test_options(void **state) {
    (void)state;
    assert_int_equal(given("sigmoid+ipo", TAKES_DIVERGENCE), OK);
    assert_int_equal(given("sigmoid+sft", TAKES_DIVERGENCE), OK);
    assert_int_equal(given("sigmoid+nca_pair", TAKES_DIVERGENCE), ERR_USAGE);
    assert_non_null(strstr(status_message()->text, "discopop"));
    assert_int_equal(given("nca_pair", TAKES_LD_ALPHA), OK);
    assert_int_equal(given("nca_pair+cpo", TAKES_LD_ALPHA), ERR_USAGE);
    assert_int_equal(given("sigmoid", TAKES_GAMMA), ERR_USAGE);
    assert_int_equal(given("simpo", TAKES_GAMMA), OK);
    assert_int_equal(given("beta_dpo", TAKES_BETA_SCALE), OK);
    struct terms t = {.options = {.beta = .1, .tail_discount = .5}};
    assert_int_equal(terms_parse("sigmoid", &t), OK);
    assert_int_equal(terms_check(&t, TAKES_LD_ALPHA), OK);
    assert_true(t.reads == (READS_LOGP | READS_REFERENCE | READS_TOKENS | READS_TOKEN_REFERENCE));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_against_trl), cmocka_unit_test(test_finite_differences),
        cmocka_unit_test(test_held),        cmocka_unit_test(test_closed_forms),
        cmocka_unit_test(test_quantiles),   cmocka_unit_test(test_extremes),
        cmocka_unit_test(test_divergences), cmocka_unit_test(test_options),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
