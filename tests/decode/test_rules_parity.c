/* Rules, exact KL, its Monte-Carlo sum, and draws through all filters beside PyTorch's numbers
 * (make_rules.py). */
#include "tests/unit.h"

#include <math.h>
#include <string.h>

#include "decode/rule.h"
#include "decode/sampler.h"
#include "util/json.h"

enum { STEPS = 6, V = 13, DRAWS = 60 };

static float rows[VOICES][STEPS][V];

static double number(const json_t *object, const char *key) {
    return json_number_value(json_object_get(object, key));
}
static const json_t *list(const json_t *object, const char *key, int64_t step) {
    return json_array_get(json_object_get(object, key), (size_t)step);
}
static void assert_close(double got, double want, double tolerance) {
    if (!(fabs(got - want) <= tolerance)) {
        FAIL("%.17g, not %.17g", got, want);
    }
}

static struct rule rule_of(const json_t *c) {
    static const char *const names[] = {"none", "mix", "length_control", "kl_threshold", "proxy"};
    struct rule r = {.mix = number(c, "mix"),
                     .threshold = number(c, "threshold"),
                     .tokens = json_integer_value(json_object_get(c, "tokens"))};
    while (strcmp(names[r.kind], json_string_value(json_object_get(c, "name"))) != 0) {
        r.kind++;
    }
    return r;
}

/* Draws say the warped distribution's numbers. */
static void check_draws(const json_t *c, int64_t t, const float *row, const struct logits *reference,
                        struct sampler *s) {
    const struct sampling how = {.temperature = 0.7, .top_k = 9, .top_p = 0.9, .min_p = 0.03};
    const json_t *warped = list(c, "warped", t);
    for (int i = 0; i < DRAWS; i++) {
        int32_t token;
        struct rng r = rng_stream(1, RNG_SAMPLE, t, i);
        assert_int_equal(sampler_draw(s, &how, row, &r, &token), OK);
        assert_true(json_is_number(json_array_get(warped, (size_t)token)));
        assert_close(sampler_logp(s), json_number_value(json_array_get(warped, (size_t)token)), 2e-6);
        assert_close(sampler_kl(s, reference), json_number_value(list(c, "warped_kls", t)), 4e-6);
    }
}

static void check_rule(const json_t *c, const json_t *tokens, struct sampler *s) {
    struct rule rule = rule_of(c);
    double kl = 0, kl_mc = 0;
    for (int64_t t = 0; t < STEPS; t++) {
        const float *const voices[VOICES] = {rows[0][t], rows[1][t], rows[2][t], rows[3][t]};
        int32_t token = (int32_t)json_integer_value(json_array_get(tokens, (size_t)t));
        float room[V];
        const float *row;
        struct logits q, reference;
        assert_int_equal(rule_apply(&rule, voices, V, t, room, &row), OK);
        assert_int_equal(logits_open(row, V, &q), OK);
        assert_int_equal(logits_open(voices[VOICE_REFERENCE], V, &reference), OK);
        for (int32_t i = 0; i < V; i++) {
            assert_close(logits_logp(&q, i),
                         json_number_value(json_array_get(list(c, "logps", t), (size_t)i)), 2e-6);
        }
        assert_close(logits_kl(&q, &reference), json_number_value(list(c, "kls", t)), 4e-6);
        kl += logits_kl(&q, &reference);
        kl_mc += logits_logp(&q, token) - logits_logp(&reference, token);
        check_draws(c, t, row, &reference, s);
    }
    assert_close(kl, number(c, "kl"), 1e-5);
    assert_close(kl_mc, number(c, "kl_mc"), 1e-5);
}

static void test_rules(void **state) {
    (void)state;
    static const char *const names[VOICES] = {"policy", "reference", "expert", "antiexpert"};
    json_t *all;
    struct sampler *s;
    size_t k;
    const json_t *c;
    assert_int_equal(json_load(FIXTURES "/rules.json", &all), OK);
    for (int v = 0; v < VOICES; v++) {
        for (int64_t t = 0; t < STEPS; t++) {
            for (size_t i = 0; i < V; i++) {
                rows[v][t][i] = (float)json_number_value(json_array_get(list(all, names[v], t), i));
            }
        }
    }
    assert_int_equal(sampler_open(V, &s), OK);
    json_array_foreach(json_object_get(all, "rules"), k, c) {
        check_rule(c, json_object_get(all, "tokens"), s);
    }
    assert_int_equal(k, 17);
    sampler_close(s);
    json_decref(all);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_rules)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
