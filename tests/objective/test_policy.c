/* Losses on a policy's own samples: TRL's values, slopes and metrics; closed forms; finite differences;
 * extremes. */
#include "tests/unit.h"

#include <math.h>
#include <string.h>

#include "objective/objective.h"
#include "util/json.h"
#include "util/rng.h"

enum { MOST_RESPONSES = 8, MOST = 8, SPACE = MOST_RESPONSES * MOST };

/* Groups of `samples` responses; arrays are the responses' tokens one behind the other. */
struct world {
    int n, samples;
    double logp[SPACE], old[SPACE], reference[SPACE], advantages[SPACE], value[SPACE], old_value[SPACE],
        returns[SPACE], entropy[SPACE];
    struct response_score r[MOST_RESPONSES];
    bool by_token;
    double logp_slope[SPACE], value_slope[SPACE], by_response[MOST_RESPONSES];
};

static void settle(struct world *w) {
    int64_t first = 0;
    for (int i = 0; i < w->n; i++) {
        struct response_score *r = &w->r[i];
        r->first = first;
        r->token_logp = w->logp + first;
        r->token_old = w->old + first;
        r->token_reference = w->reference + first;
        r->token_advantage = w->by_token ? w->advantages + first : NULL;
        r->token_value = w->value + first;
        r->token_old_value = w->old_value + first;
        r->token_return = w->returns + first;
        r->logp = r->reference = r->entropy = 0;
        for (int64_t k = first; k < first + r->tokens; k++) {
            r->logp += w->logp[k];
            r->reference += w->reference[k];
            r->entropy += w->entropy[k];
        }
        first += r->tokens;
    }
}

static int64_t tokens_of(const struct world *w) {
    return w->r[w->n - 1].first + w->r[w->n - 1].tokens;
}

/* As a step has it: groups a row at a time, denominators of all. */
static double run(const struct terms *t, struct world *w, struct sums *sums, bool *is_finite) {
    settle(w);
    const struct denominators d = {w->n, (double)tokens_of(w), NULL};
    const struct slope slope = {
        .logp = w->by_response, .token_logp = w->logp_slope, .token_value = w->value_slope};
    *sums = (struct sums){0};
    *is_finite = true;
    for (int i = 0; i < w->n; i += w->samples) {
        const struct scored_row row = {.row = i, .n = w->samples, .target = -1, .responses = &w->r[i]};
        struct slope own = slope;
        own.logp += i;
        *is_finite = objective_row(t, &row, &d, &own, sums) && *is_finite;
    }
    return objective_value(t, sums);
}

static struct terms terms_of(const char *loss, struct policy_options options) {
    static const char *const alone[] = {"rloo", "ppo", "nash_md"};
    struct terms t = {.policy = options};
    const char *method = "grpo";
    for (int i = 0; i < COUNT_OF(alone); i++) {
        method = strcmp(loss, alone[i]) == 0 ? alone[i] : method;
    }
    assert_int_equal(policy_terms(method, loss, 0, &t), OK);
    return t;
}

/* The fixture. */

static double number(const json_t *object, const char *key, double otherwise) {
    double v = otherwise;
    assert_int_equal(json_take_number(object, key, "policy.json", &v), OK);
    return v;
}

static void numbers(const json_t *object, const char *key, double *out) {
    size_t i;
    json_t *v;
    json_array_foreach(json_object_get(object, key), i, v) {
        out[i] = json_number_value(v);
    }
}

static void load_world(const json_t *file, struct world *w) {
    json_t *responses = json_object_get(file, "responses"), *r;
    size_t i;
    int64_t at = 0;
    *w = (struct world){.n = (int)json_array_size(responses), .samples = (int)number(file, "samples", 0)};
    json_array_foreach(responses, i, r) {
        w->r[i].tokens = (int64_t)json_array_size(json_object_get(r, "logps"));
        w->r[i].advantage = number(r, "advantage", NAN);
        numbers(r, "logps", w->logp + at);
        numbers(r, "old", w->old + at);
        numbers(r, "reference", w->reference + at);
        numbers(r, "advantages", w->advantages + at);
        numbers(r, "values", w->value + at);
        numbers(r, "old_values", w->old_value + at);
        numbers(r, "returns", w->returns + at);
        numbers(r, "entropies", w->entropy + at);
        at += w->r[i].tokens;
    }
    settle(w);
}

static struct policy_options options_of(const json_t *c, int64_t max_tokens) {
    struct policy_options o = policy_defaults();
    const char *level = json_string_value(json_object_get(c, "level"));
    const json_t *correction = json_object_get(c, "correction");
    o.max_tokens = max_tokens;
    o.beta = number(c, "beta", 0);
    o.kl_correction = !correction || json_is_true(correction);
    o.clip_low = number(c, "low", .2);
    o.clip_high = number(c, "high", .2);
    o.delta = number(c, "delta", 0);
    o.sequence_level = level && strcmp(level, "sequence") == 0;
    return o;
}

/* Slopes of responses padded to the longest against those of tokens one behind the other. */
static void check_slopes(const struct world *w, const double *own, const json_t *expected) {
    for (int i = 0; i < w->n; i++) {
        for (int64_t k = 0; k < w->r[i].tokens; k++) {
            double slope = json_number_value(json_array_get(json_array_get(expected, (size_t)i), (size_t)k));
            assert_true(fabs(own[w->r[i].first + k] - slope) < 1e-12);
        }
    }
}

struct looked {
    const json_t *shown;
    size_t found;
};
static enum status look(void *context, const char *name, double value) {
    struct looked *l = context;
    const json_t *expected = json_object_get(l->shown, name);
    l->found += expected != NULL;
    if (expected && fabs(value - json_number_value(expected)) > 1e-6) { /* TRL counts in single precision */
        FAIL("%s is %.9g, not %.9g", name, value, json_number_value(expected));
    }
    return OK;
}

static void check_case(struct world *w, const json_t *c, int64_t max_tokens) {
    const char *loss = json_string_value(json_object_get(c, "loss"));
    const struct terms t = terms_of(loss, options_of(c, max_tokens));
    const json_t *values = json_object_get(c, "value_slopes");
    struct looked looked = {.shown = json_object_get(c, "shown")};
    struct sums sums;
    bool is_finite;
    w->by_token = json_is_true(json_object_get(c, "by_token"));
    double value = run(&t, w, &sums, &is_finite), expected = number(c, "value", NAN);
    if (!is_finite || !(fabs(value - expected) < 1e-12)) {
        FAIL("%s: %.15g, not %.15g", loss, value, expected);
    }
    check_slopes(w, w->logp_slope, json_object_get(c, "logp_slopes"));
    if (values) {
        check_slopes(w, w->value_slope, values);
    }
    assert_int_equal(objective_show(&t, &sums, look, &looked), OK);
    assert_int_equal(looked.found, json_object_size(looked.shown));
}

/* Values, slopes and metrics by TRL's own code (fixtures/make_policy.py). */
static void test_against_trl(void **state) {
    (void)state;
    json_t *file, *c;
    assert_int_equal(json_load(FIXTURES "/policy.json", &file), OK);
    struct world w;
    load_world(file, &w);
    size_t i;
    json_t *cases = json_object_get(file, "groups");
    assert_true(json_array_size(cases) > 40);
    json_array_foreach(cases, i, c) {
        check_case(&w, c, (int64_t)number(file, "max_tokens", 0));
    }
    json_decref(file);
}

/* XPO: rows are pairs, of which the reference wrote one. */
static double run_xpo(const struct terms *t, struct world *w, double *slopes) {
    struct sums sums = {0};
    settle(w);
    int64_t rows = w->n / 2;
    for (int64_t i = 0; i < rows; i++) {
        int64_t own = 2 * i, chosen = own + i % 2;
        struct response_score pair[2] = {w->r[chosen], w->r[chosen == own ? own + 1 : own]};
        pair[0].advantage = chosen != own;
        pair[1].advantage = chosen == own;
        const struct scored_row row = {.n = 2, .has_reference = true, .responses = pair};
        const struct denominators d = {(double)rows, 1, NULL};
        double by_response[2];
        const struct slope slope = {.logp = by_response};
        assert_true(objective_row(t, &row, &d, &slope, &sums));
        slopes[chosen] = by_response[0];
        slopes[chosen == own ? own + 1 : own] = by_response[1];
    }
    return objective_value(t, &sums);
}

static void test_xpo(void **state) {
    (void)state;
    json_t *file, *c;
    assert_int_equal(json_load(FIXTURES "/policy.json", &file), OK);
    struct world w;
    load_world(file, &w);
    size_t i;
    json_array_foreach(json_object_get(file, "xpo"), i, c) {
        struct terms t = {.has_reference = true, .options = {.beta = number(c, "beta", 0)}};
        const char *loss = json_string_value(json_object_get(c, "loss"));
        assert_int_equal(policy_terms("xpo", loss, number(c, "alpha", 0), &t), OK);
        double slopes[MOST_RESPONSES];
        assert_true(fabs(run_xpo(&t, &w, slopes) - number(c, "value", NAN)) < 1e-12);
        for (int k = 0; k < w.n; k++) {
            const json_t *expected = json_array_get(json_object_get(c, "logp_slopes"), (size_t)k);
            assert_true(fabs(slopes[k] - json_number_value(json_array_get(expected, 0))) < 1e-12);
        }
    }
    assert_int_equal(i, 2);
    json_decref(file);
}

/* By hand: two responses, ratios 1.5 and 1, .5. */
static struct world small(void) {
    struct world w = {.n = 2, .samples = 2};
    w.r[0] = (struct response_score){.tokens = 1, .advantage = 2};
    w.r[1] = (struct response_score){.tokens = 2, .advantage = -1};
    w.logp[0] = log(.6), w.old[0] = log(.4);
    w.logp[1] = w.old[1] = log(.25);
    w.logp[2] = log(.1), w.old[2] = log(.2);
    w.reference[0] = log(.3), w.reference[1] = log(.25), w.reference[2] = log(.1);
    return w;
}

static void test_by_hand(void **state) {
    (void)state;
    struct policy_options o = policy_defaults();
    o.max_tokens = 5;
    static const struct {
        const char *loss;
        double value, slopes[3];
    } cases[] = {
        /* -1.2 * 2 held; 1 * 1; .8 held */
        {"grpo", (-2.4 + (1 + .8) / 2) / 2, {0, .25, 0}},
        {"dapo", (-2.4 + 1 + .8) / 3, {0, 1. / 3, 0}},
        {"dr_grpo", (-2.4 + 1 + .8) / 10, {0, .1, 0}},
        {"luspo", (-2.4 + 1 + .8) / 2, {0, .5, 0}},
        /* ratios 1.5 and .5 of the whole responses */
        {"rloo", (-2.4 + .8) / 2, {0, 0, 0}},
    };
    for (int i = 0; i < COUNT_OF(cases); i++) {
        struct world w = small();
        const struct terms t = terms_of(cases[i].loss, o);
        struct sums sums;
        bool is_finite;
        assert_true(fabs(run(&t, &w, &sums, &is_finite) - cases[i].value) < 1e-15 && is_finite);
        for (int k = 0; k < 3; k++) {
            assert_true(fabs(w.logp_slope[k] - cases[i].slopes[k]) < 1e-15);
        }
        assert_true(sums.v[SUM_ROWS] == 1 && sums.v[SUM_RESPONSES] == 2 && sums.v[SUM_TARGET_TOKENS] == 3);
        bool by_response = strcmp(cases[i].loss, "rloo") == 0;
        assert_true(sums.v[SUM_RATIOS] == (by_response ? 2 : 3) && sums.v[SUM_CLIPPED] == 2);
        assert_true(sums.v[SUM_CLIPPED_LOW] == 1 && sums.lowest == 0 && sums.highest == 1);
        assert_true(fabs(sums.drift - log(2)) < 1e-15);
    }
}

/* A KL of k3 = e^(log .5) - log .5 - 1 at the first token, 0 elsewhere; a cap of 1.25 on the ratio 1.5. */
static void test_kl_and_cap(void **state) {
    (void)state;
    struct policy_options o = policy_defaults();
    o.beta = .5;
    o.kl_correction = false;
    struct world w = small();
    struct terms t = terms_of("dapo", o);
    struct sums sums;
    bool is_finite;
    double kl = .5 + log(2) - 1;
    assert_true(t.reads & READS_TOKEN_REFERENCE && t.has_reference);
    assert_true(fabs(run(&t, &w, &sums, &is_finite) - (-.6 + .5 * kl) / 3) < 1e-15);
    assert_true(fabs(w.logp_slope[0] - .5 * .5 / 3) < 1e-15 && fabs(sums.v[SUM_KL] - kl) < 1e-15);
    o.beta = 0;
    o.importance_cap = 1.25;
    t = terms_of("dapo", o);
    assert_false(t.reads & READS_TOKEN_REFERENCE);
    assert_true(fabs(run(&t, &w, &sums, &is_finite) - (-2.4 * 1.25 / 1.5 + 1.8) / 3) < 1e-15);
}

/* Without an old policy the ratio is 1, whatever the log-probabilities, and the slope the policy gradient's.
 */
static void test_first_update(void **state) {
    (void)state;
    static const char *const losses[] = {"grpo", "dapo", "luspo", "sapo", "rloo", "ppo"};
    for (int i = 0; i < COUNT_OF(losses); i++) {
        struct world w = small();
        memcpy(w.old, w.logp, sizeof w.old);
        const struct terms t = terms_of(losses[i], policy_defaults());
        struct sums sums;
        bool is_finite;
        run(&t, &w, &sums, &is_finite);
        assert_true(sums.v[SUM_RATIO] == sums.v[SUM_RATIOS] && sums.drift == 0 && sums.v[SUM_CLIPPED] == 0);
        double weight = strcmp(losses[i], "luspo") == 0                                   ? .5
                        : strcmp(losses[i], "dapo") == 0 || strcmp(losses[i], "ppo") == 0 ? 1. / 3
                        : strcmp(losses[i], "rloo") == 0                                  ? .5
                                                                                          : .25;
        assert_true(fabs(w.logp_slope[2] - weight) < 1e-15);
    }
}

static void draw(struct rng *g, struct world *w) {
    *w = (struct world){.n = 6, .samples = 3, .by_token = rng_below(g, 2)};
    for (int i = 0; i < w->n; i++) {
        w->r[i].tokens = rng_below(g, 5); /* 0: a response of which nothing is scored */
        w->r[i].advantage = 3 * rng_uniform(g) - 1.5;
    }
    for (int k = 0; k < SPACE; k++) {
        w->old[k] = -3 * rng_uniform(g);
        w->logp[k] = w->old[k] + rng_uniform(g) - .5;
        w->reference[k] = w->old[k] + rng_uniform(g) - .5;
        w->advantages[k] = 3 * rng_uniform(g) - 1.5;
        w->old_value[k] = rng_uniform(g);
        w->value[k] = w->old_value[k] + rng_uniform(g) - .5;
        w->returns[k] = 2 * rng_uniform(g);
    }
    settle(w);
}

static void check_differences(const struct terms *t, struct world *w, double *at, const double *slopes,
                              const char *name) {
    const double h = 1e-6;
    struct sums sums;
    bool is_finite;
    run(t, w, &sums, &is_finite);
    double expected[SPACE];
    memcpy(expected, slopes, sizeof expected);
    for (int64_t k = 0; k < tokens_of(w); k++) {
        double here = at[k];
        at[k] = here + h;
        double up = run(t, w, &sums, &is_finite);
        at[k] = here - h;
        double down = run(t, w, &sums, &is_finite);
        at[k] = here;
        if (!(fabs(expected[k] - (up - down) / (2 * h)) < 1e-7)) {
            FAIL("%s: token %d: slope %g, difference %g", name, (int)k, expected[k], (up - down) / (2 * h));
        }
    }
}

/* Of what is not held: weights of cispo, vespo, nash_md and caps are (test_against_trl has their slopes). */
static void test_finite_differences(void **state) {
    (void)state;
    static const char *const losses[] = {"grpo", "bnpo", "dr_grpo", "dapo", "luspo", "sapo", "rloo", "ppo"};
    struct rng g = rng_stream(3, RNG_CHECK, 0, 0);
    for (int i = 0; i < 10 * COUNT_OF(losses); i++) {
        struct world w;
        struct policy_options o = policy_defaults();
        draw(&g, &w);
        o.max_tokens = 5;
        o.beta = i % 3 == 0 ? 0 : .4;
        o.kl_correction = i % 2 == 0;
        o.sequence_level = i % 5 < 2;
        o.delta = i % 4 == 0 ? 1.3 : 0;
        o.value_weight = .7;
        const struct terms t = terms_of(losses[i % COUNT_OF(losses)], o);
        check_differences(&t, &w, w.logp, w.logp_slope, losses[i % COUNT_OF(losses)]);
        if (t.reads & READS_TOKEN_VALUE) {
            check_differences(&t, &w, w.value, w.value_slope, "ppo's values");
        }
    }
}

/* Ratios past all bounds give finite numbers; what is no number is said. */
static void test_extremes(void **state) {
    (void)state;
    int count;
    const struct objective *table = objective_table(&count);
    struct sums sums;
    bool is_finite;
    for (int i = 0; i < count; i++) {
        for (int k = 0; k < 16 && table[i].rows == OVER_GROUPS; k++) {
            struct policy_options o = policy_defaults();
            struct world w = small();
            o.max_tokens = 5;
            o.beta = k & 1 ? .1 : 0;
            o.sequence_level = k & 2 && strcmp(table[i].name, "vespo") != 0;
            w.logp[k & 4 ? 0 : 2] = k & 8 ? -1e4 : -1e-4;
            w.old[k & 4 ? 0 : 2] = k & 8 ? -1e-4 : -1e4;
            w.reference[1] = k & 4 ? -1e4 : 0;
            w.value[0] = 1e4;
            const struct terms t = terms_of(table[i].name, o);
            double value = run(&t, &w, &sums, &is_finite);
            if (!is_finite || !isfinite(value)) {
                FAIL("%s, case %d: %g", table[i].name, k, value);
            }
            w.logp[1] = NAN;
            run(&t, &w, &sums, &is_finite);
            assert_false(is_finite);
        }
    }
}

static enum status asked(const char *method, const char *loss, struct policy_options o) {
    struct terms t = {.options = {.beta = .1}, .policy = o};
    return policy_terms(method, loss, 1e-5, &t);
}

static void test_terms(void **state) {
    (void)state;
    struct policy_options o = policy_defaults(), far = o, sequence = o;
    far.clip_low = NAN;
    sequence.sequence_level = true;
    struct terms t = {.policy = o};
    assert_int_equal(policy_terms("grpo", NULL, 0, &t), OK);
    assert_string_equal(t.list[0].objective->name, "dapo");
    assert_int_equal(policy_terms("raft", "", 0, &t), OK);
    assert_true(t.rows == OVER_SEQUENCES);
    assert_int_equal(policy_terms("xpo", NULL, 1e-3, &t), OK);
    assert_true(t.n == 2 && t.list[1].weight == 1e-3 && t.reads & READS_ADVANTAGE);
    assert_int_equal(policy_terms("nash_md", NULL, 0, &t), OK);
    assert_true(t.reads & READS_TOKEN_REFERENCE);
    assert_int_equal(asked("online_dpo", "ipo", o), OK);
    assert_int_equal(asked("grpo", "ppo", o), ERR_USAGE);
    assert_int_equal(asked("rloo", "grpo", o), ERR_USAGE);
    assert_int_equal(asked("reinforce", NULL, o), ERR_USAGE);
    assert_int_equal(asked("online_dpo", "rrhf", o), ERR_USAGE);
    assert_int_equal(asked("grpo", "dr_grpo", o), ERR_USAGE); /* without max_tokens */
    assert_int_equal(asked("grpo", NULL, far), ERR_USAGE);
    assert_int_equal(asked("grpo", "vespo", sequence), ERR_USAGE);
    assert_int_equal(terms_parse("grpo", &t), ERR_USAGE); /* none of dpo's */
    assert_int_equal(terms_parse("sigmoid+xpo", &t), ERR_USAGE);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_against_trl),  cmocka_unit_test(test_xpo),
        cmocka_unit_test(test_by_hand),      cmocka_unit_test(test_kl_and_cap),
        cmocka_unit_test(test_first_update), cmocka_unit_test(test_finite_differences),
        cmocka_unit_test(test_extremes),     cmocka_unit_test(test_terms),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
