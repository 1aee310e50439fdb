/* Preference losses: closed forms, finite differences, symmetries, limits, PyTorch's values. */
#include "tests/unit.h"

#include <math.h>
#include <string.h>

#include "objective/objective.h"
#include "util/json.h"
#include "util/rng.h"

static struct pair_loss run(const char *name, struct pair_scores s, double beta, double smoothing) {
    const struct objective *p = objective_find(name);
    assert_non_null(p);
    struct preference_options o = {
        .beta = beta, .label_smoothing = smoothing, .margin = 1, .gamma = .5, .tau = .05};
    struct pair_loss out;
    p->pair(&s, &o, &out);
    return out;
}

static void assert_near(double got, double want, double tolerance) {
    if (!(fabs(got - want) <= tolerance * fmax(1.0, fabs(want)))) {
        FAIL("got %.17g, want %.17g", got, want);
    }
}

static const struct pair_scores golden = {-20, -25, -21, -24, 10, 20};

/* Closed forms for a = 1, b = -1, beta 0.1; computed in double elsewhere. */
static void test_golden(void **state) {
    (void)state;
    struct pair_loss l = run("sigmoid", golden, 0.1, 0);
    assert_near(l.value, 0.5981388693815918, 1e-15);
    assert_near(l.d_chosen, -0.045016600268752205, 1e-15);
    assert_near(l.d_rejected, 0.045016600268752205, 1e-15);
    assert_near(run("cdpo", golden, 0.1, 0.1).value, 0.6181388693815918, 1e-15);
    assert_near(run("ipo_sum", golden, 0.1, 0).value, 9.0, 1e-14);
    assert_near(run("hinge", golden, 0.1, 0).value, 0.8, 1e-15);
    struct pair_scores free_of_reference = golden;
    free_of_reference.reference_chosen = free_of_reference.reference_rejected = 0;
    assert_near(run("sigmoid", free_of_reference, 0.1, 0).value, 0.4740769841801067, 1e-15);
    /* ipo: (1/10 + 1/20 - 5)^2 */
    assert_near(run("ipo", golden, 0.1, 0).value, 4.85 * 4.85, 1e-14);
    double s1 = 1 / (1 + exp(-0.1)), s2 = 1 / (1 + exp(-0.2));
    assert_near(run("apo_zero", golden, 0.1, 0).value, 2 * (1 - s1), 1e-15);
    assert_near(run("apo_down", golden, 0.1, 0).value, s1 + 1 - s2, 1e-15);
    assert_near(run("sigmoid_norm", golden, 0.1, 0).value, log1p(exp(-0.1 * 0.15)), 1e-15);
}

/* Policy = reference. */
static void test_at_equality(void **state) {
    (void)state;
    struct pair_scores s = {-20, -35, -20, -35, 7, 9};
    double beta = 0.3;
    assert_near(run("sigmoid", s, beta, 0).value, log(2), 1e-16);
    assert_near(run("sigmoid", s, beta, 0.2).value, log(2), 1e-16);
    assert_near(run("robust", s, beta, 0.2).value, log(2), 1e-15);
    assert_near(run("sigmoid_norm", s, beta, 0).value, log(2), 1e-16);
    assert_near(run("hinge", s, beta, 0).value, 1, 0);
    assert_near(run("ipo", s, beta, 0).value, 1 / (4 * beta * beta), 1e-15);
    assert_near(run("ipo_sum", s, beta, 0).value, 1 / (4 * beta * beta), 1e-15);
    assert_near(run("apo_zero", s, beta, 0).value, 1, 1e-16);
    assert_near(run("apo_down", s, beta, 0).value, 1, 1e-16);
}

/* Central differences; steps of 1e-4 leave an error near 1e-8 in the second-order term. */
static void test_finite_differences(void **state) {
    (void)state;
    int count;
    const struct objective *table = objective_table(&count);
    struct rng r = rng_stream(1, RNG_CHECK, 0, 0);
    const double h = 1e-4;
    for (int i = 0; i < count; i++) {
        for (int k = 0; k < 50 && table[i].pair; k++) {
            struct pair_scores s = {4 * rng_normal(&r) - 30, 4 * rng_normal(&r) - 30, -30, -30,
                                    1 + rng_below(&r, 40),   1 + rng_below(&r, 40)};
            struct preference_options o = {
                .beta = 0.05 + rng_uniform(&r), .margin = 1, .gamma = .5, .tau = .5};
            o.label_smoothing = table[i].takes & TAKES_SMOOTHING ? 0.01 + 0.4 * rng_uniform(&r) : 0;
            struct pair_loss at, up, down;
            table[i].pair(&s, &o, &at);
            struct pair_scores plus = s, minus = s;
            plus.chosen += h, minus.chosen -= h;
            table[i].pair(&plus, &o, &up);
            table[i].pair(&minus, &o, &down);
            bool has_kink = table[i].pair == preference_hinge || table[i].pair == preference_slic;
            bool kink = has_kink && (up.value == 0) != (down.value == 0);
            if (kink) {
                continue;
            }
            assert_near(at.d_chosen, (up.value - down.value) / (2 * h), 1e-7);
            plus = minus = s;
            plus.rejected += h, minus.rejected -= h;
            table[i].pair(&plus, &o, &up);
            table[i].pair(&minus, &o, &down);
            assert_near(at.d_rejected, (up.value - down.value) / (2 * h), 1e-7);
        }
    }
}

/* The golden pair's rewards are u = .1 and v = -.1. */
static void test_more_closed_forms(void **state) {
    (void)state;
    const double s1 = 1 / (1 + exp(-.1)), s2 = 1 / (1 + exp(-.2)), e = .3;
    assert_near(run("nca_pair", golden, .1, 0).value, -1.5 * log(s1) - .5 * log(1 - s1), 1e-15);
    assert_near(run("bco_pair", golden, .1, 0).value, -2 * log(s1), 1e-15);
    assert_near(run("sppo_hard", golden, .1, 0).value, 2 * 16, 1e-14);
    assert_near(run("exo_pair", golden, .1, e).value, s2 * log(s2 / (1 - e)) + (1 - s2) * log((1 - s2) / e),
                1e-15);
    double m = 1 / (1 + exp(-.2 / .05));
    assert_near(run("discopop", golden, .1, 0).value, m * exp(-.2) - (1 - m) * log(s2), 1e-15);
    /* log p -20 and -25, of 10 and 20 tokens. */
    assert_near(run("cpo", golden, .1, 0).value, log1p(exp(-.5)), 1e-15);
    assert_near(run("cpo", golden, .1, e).value, (1 - e) * log1p(exp(-.5)) + e * log1p(exp(.5)), 1e-15);
    assert_near(run("simpo", golden, 2, 0).value, log1p(exp(2 * .75 + .5)), 1e-15);
    double odds = (exp(-2) / (1 - exp(-2))) / (exp(-1.25) / (1 - exp(-1.25)));
    assert_near(run("orpo", golden, .1, 0).value, .1 * log1p(1 / odds), 1e-15);
}

/* What would be 0 times infinity, or the logarithm of 0. */
static void test_more_limits(void **state) {
    (void)state;
    struct pair_scores won = {1e4, -1e4, 0, 0, 1, 1}, lost = {-1e4, 1e4, 0, 0, 1, 1},
                       sure = {0, -1, 0, 0, 1, 1};
    assert_near(run("discopop", won, 1, 0).value, 0, 0);
    assert_near(run("discopop", lost, 1, 0).value, 2e4, 1e-15);
    assert_near(run("discopop", lost, 1, 0).d_chosen, -1, 1e-15);
    assert_near(run("exo_pair", won, 1, .1).value, -log(.9), 1e-15);
    assert_near(run("exo_pair", lost, 1, .1).value, -log(.1), 1e-15);
    assert_near(run("nca_pair", lost, 1, 0).value, 1.5e4, 1e-15);
    assert_near(run("bco_pair", lost, 1, 0).value, 2e4, 1e-15);
    assert_near(run("sppo_hard", won, .5, 0).value, 2 * 9999.0 * 9999.0, 1e-15);
    assert_near(run("cpo", lost, 1, 0).value, 2e4, 1e-15);
    assert_near(run("simpo", lost, 1, 0).value, 20000.5, 1e-15);
    struct pair_loss l = run("orpo", sure, 1, 0); /* a response of probability 1 */
    assert_true(l.value >= 0 && l.value < 1e-11 && isfinite(l.d_chosen) && l.d_rejected >= 0);
}

static struct pair_scores swapped(struct pair_scores s) {
    return (struct pair_scores){s.rejected,         s.chosen,          s.reference_rejected,
                                s.reference_chosen, s.rejected_tokens, s.chosen_tokens};
}

static void test_symmetries(void **state) {
    (void)state;
    /* Half the labels wrong: the order tells nothing. */
    struct pair_loss l = run("sigmoid", golden, 0.7, 0.5), m = run("sigmoid", swapped(golden), 0.7, 0.5);
    assert_near(l.value, m.value, 1e-15);
    assert_near(l.d_chosen, m.d_rejected, 1e-15);
    /* Smoothing e is a mixture of the two orders; robust undoes it. */
    double e = 0.3, beta = 0.7;
    double right = run("sigmoid", golden, beta, 0).value,
           wrong = run("sigmoid", swapped(golden), beta, 0).value;
    assert_near(run("sigmoid", golden, beta, e).value, (1 - e) * right + e * wrong, 1e-14);
    double kept = run("robust", golden, beta, e).value,
           flipped = run("robust", swapped(golden), beta, e).value;
    assert_near((1 - e) * kept + e * flipped, right, 1e-14);
    /* p(a > b) + p(b > a) = 1 */
    assert_near(exp(-right) + exp(-wrong), 1, 1e-15);
    /* One token each: means are sums. */
    struct pair_scores one = golden;
    one.chosen_tokens = one.rejected_tokens = 1;
    assert_near(run("ipo", one, beta, 0).value, run("ipo_sum", one, beta, 0).value, 0);
    assert_near(run("sigmoid_norm", one, beta, 0).value, right, 1e-15);
}

static void test_limits(void **state) {
    (void)state;
    int count;
    const struct objective *table = objective_table(&count);
    for (int i = 0; i < count; i++) {
        for (int sign = -1; sign <= 1 && table[i].pair; sign += 2) {
            struct pair_scores s = {sign * 1e4, -sign * 1e4, 0, 0, 1, 1};
            struct pair_loss l = run(table[i].name, s, 1.0, table[i].pair == preference_exo_pair ? 1e-3 : 0);
            assert_true(isfinite(l.value) && isfinite(l.d_chosen) && isfinite(l.d_rejected));
        }
    }
    struct pair_scores won = {1e4, -1e4, 0, 0, 1, 1}, lost = {-1e4, 1e4, 0, 0, 1, 1};
    assert_near(run("sigmoid", won, 1, 0).value, 0, 0);
    assert_near(run("sigmoid", lost, 1, 0).value, 2e4, 1e-15);
    assert_near(run("sigmoid", lost, 1, 0).d_chosen, -1, 1e-15);
    assert_near(run("hinge", won, 1, 0).value, 0, 0);
    assert_near(run("apo_zero", won, 1, 0).value, 0, 0);
    assert_near(run("apo_zero", lost, 1, 0).value, 2, 0);
    /* A small margin keeps its relative precision in the tail: -log s(40) = exp(-40) to rounding. */
    struct pair_scores far = {40, 0, 0, 0, 1, 1};
    assert_true(fabs(run("sigmoid", far, 1, 0).value / exp(-40) - 1) < 1e-14);
}

static enum status checked(const char *loss, double beta, double smoothing, double margin) {
    struct terms t = {
        .options = {.beta = beta, .label_smoothing = smoothing, .margin = margin, .tau = .05},
    };
    assert_int_equal(terms_parse(loss, &t), OK);
    return terms_check(&t, (smoothing != 0 ? TAKES_SMOOTHING : 0) | (margin != 1 ? TAKES_MARGIN : 0));
}

static void test_names(void **state) {
    (void)state;
    assert_null(objective_find("sigmoi"));
    assert_null(objective_find(""));
    assert_null(objective_find("dpo cdpo"));
    assert_ptr_equal(objective_find("dpo"), objective_find("sigmoid"));
    assert_int_equal(checked("hinge", .1, .1, 1), ERR_USAGE);
    assert_int_equal(checked("robust", .1, .1, 1), OK);
    assert_int_equal(checked("robust", .1, .5, 1), ERR_USAGE);
    assert_int_equal(checked("sigmoid", .1, .5, 1), OK);
    assert_int_equal(checked("sigmoid", 0, 0, 1), ERR_USAGE);
    assert_int_equal(checked("sigmoid", NAN, 0, 1), ERR_USAGE);
    assert_int_equal(checked("sigmoid", .1, 0, 2), ERR_USAGE);
    assert_int_equal(checked("exo_pair", .1, 0, 1), ERR_USAGE);
    assert_int_equal(checked("exo_pair", .1, 1e-3, 1), OK);
    assert_int_equal(checked("cpo", 0, 0, 1), ERR_USAGE);
    assert_int_equal(checked("slic", .1, 0, 2), OK);
    assert_int_equal(checked("slic", .1, 0, -1), ERR_USAGE);
    assert_int_equal(checked("slic", .1, 0, INFINITY), ERR_USAGE);
}

/* Every row says what it is called once, and has what its scope needs. */
static void test_table(void **state) {
    (void)state;
    int count;
    const struct objective *table = objective_table(&count);
    for (int i = 0; i < count; i++) {
        const struct objective *o = &table[i];
        assert_ptr_equal(objective_find(o->name), o);
        assert_true((o->scope != SCOPE_ROW) == (o->gather != NULL));
        assert_true((o->pair != NULL) ==
                    (o->rows == OVER_PAIRS && o->scope == SCOPE_ROW && !(o->reads & READS_ADVANTAGE)));
        assert_true(o->shown->n > 0);
    }
}

/* SLiC: delta - log p(chosen) + log p(rejected) where that is positive, whatever the reference. */
static void test_slic(void **state) {
    (void)state;
    struct pair_scores s = {-20, -20.25, -100, 100, 3, 9};
    struct pair_loss l = run("slic", s, .1, 0);
    assert_near(l.value, .75, 0);
    assert_near(l.d_chosen, -1, 0);
    assert_near(l.d_rejected, 1, 0);
    s.rejected = -21; /* the kink */
    l = run("slic", s, .1, 0);
    assert_true(l.value == 0 && l.d_chosen == 0 && l.d_rejected == 0);
    struct pair_scores won = {1e4, -1e4, 0, 0, 1, 1}, lost = {-1e4, 1e4, 0, 0, 1, 1};
    assert_near(run("slic", won, 1, 0).value, 0, 0);
    assert_near(run("slic", lost, 1, 0).value, 20001, 0);
}

static double number(const json_t *row, const char *key) {
    double v = NAN;
    assert_int_equal(json_take_number(row, key, "objective.json", &v), OK);
    return v;
}

/* Values and gradients by PyTorch's autograd in float64 (fixtures/make_objective.py). */
static void test_against_torch(void **state) {
    (void)state;
    json_t *rows;
    assert_int_equal(json_load(FIXTURES "/objective.json", &rows), OK);
    size_t i;
    json_t *row;
    assert_true(json_array_size(rows) > 100);
    json_array_foreach(rows, i, row) {
        struct pair_scores s = {number(row, "chosen"),
                                number(row, "rejected"),
                                number(row, "reference_chosen"),
                                number(row, "reference_rejected"),
                                (int64_t)number(row, "chosen_tokens"),
                                (int64_t)number(row, "rejected_tokens")};
        const char *name = json_string_value(json_object_get(row, "loss"));
        struct pair_loss l = run(name, s, number(row, "beta"), number(row, "label_smoothing"));
        assert_near(l.value, number(row, "value"), 1e-12);
        assert_near(l.d_chosen, number(row, "d_chosen"), 1e-12);
        assert_near(l.d_rejected, number(row, "d_rejected"), 1e-12);
    }
    json_decref(rows);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_golden),
        cmocka_unit_test(test_more_closed_forms),
        cmocka_unit_test(test_more_limits),
        cmocka_unit_test(test_at_equality),
        cmocka_unit_test(test_finite_differences),
        cmocka_unit_test(test_symmetries),
        cmocka_unit_test(test_limits),
        cmocka_unit_test(test_names),
        cmocka_unit_test(test_table),
        cmocka_unit_test(test_slic),
        cmocka_unit_test(test_against_torch),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
