/* Rules against their closed forms: the golden numbers of KL threshold, the ends of every rule, and proxy
 * tuning; KL and log-probabilities of rows, and what a sampler says of its draws. */
#include "tests/unit.h"

#include <math.h>
#include <string.h>

#include "decode/rule.h"
#include "decode/sampler.h"

enum { V = 3, MANY = 1003 };

static const float aligned[V] = {2, 1, 0}, reference[V] = {1, 1, 1};
static const float *const both[VOICES] = {aligned, reference};

static void assert_close(double got, double want, double tolerance) {
    if (!(fabs(got - want) <= tolerance)) {
        FAIL("%.17g, not %.17g", got, want);
    }
}

static const float *apply(struct rule r, const float *const rows[VOICES], int64_t n, int64_t t, float *room) {
    const float *out = NULL;
    assert_int_equal(rule_apply(&r, rows, n, t, room, &out), OK);
    return out;
}

static void assert_probabilities(const float *row, const double *want) {
    struct logits l;
    assert_int_equal(logits_open(row, V, &l), OK);
    for (int i = 0; i < V; i++) {
        assert_close(exp(logits_logp(&l, i)), want[i], 5e-8);
    }
}

static void test_kl_threshold(void **state) {
    (void)state;
    float room[V];
    struct logits d, r;
    assert_int_equal(logits_open(aligned, V, &d), OK);
    assert_int_equal(logits_open(reference, V, &r), OK);
    assert_close(logits_kl(&d, &r), .2662167068281706, 1e-15);
    assert_true(logits_kl(&d, &d) == 0);
    struct rule rule = {.kind = RULE_KL_THRESHOLD, .mix = .5, .threshold = .26};
    assert_ptr_equal(apply(rule, both, V, 0, room), aligned);
    assert_probabilities(aligned, (double[]){.66524096, .24472847, .09003057});
    rule.threshold = .27;
    assert_probabilities(apply(rule, both, V, 0, room), (double[]){.50648039, .30719589, .18632372});
    rule.threshold = INFINITY;
    rule.mix = 0; /* aligned only where it differs */
    assert_ptr_equal(apply(rule, both, V, 0, room), reference);
    rule.mix = 1; /* the threshold does not matter */
    assert_ptr_equal(apply(rule, both, V, 0, room), aligned);
    rule.threshold = -1;
    rule.mix = .3;
    assert_ptr_equal(apply(rule, both, V, 0, room), aligned);
}

static void test_mix_and_length(void **state) {
    (void)state;
    float room[V];
    struct rule rule = {.kind = RULE_MIX, .mix = 0};
    assert_ptr_equal(apply(rule, both, V, 0, room), reference);
    rule.mix = 1;
    assert_ptr_equal(apply(rule, both, V, 0, room), aligned);
    rule.mix = 2;
    const float *row = apply(rule, both, V, 0, room);
    for (int i = 0; i < V; i++) {
        assert_true(row[i] == 3 - 2 * i);
    }
    rule = (struct rule){.kind = RULE_LENGTH_CONTROL, .tokens = 2};
    assert_ptr_equal(apply(rule, both, V, 1, room), aligned);
    assert_ptr_equal(apply(rule, both, V, 2, room), reference);
    rule.tokens = 0;
    assert_ptr_equal(apply(rule, both, V, 0, room), reference);
    assert_ptr_equal(apply((struct rule){.kind = RULE_NONE}, both, V, 7, room), aligned);
}

static void test_proxy(void **state) {
    (void)state;
    const float expert[V] = {3, 0, 1}, antiexpert[V] = {1, .5f, 1}, never[V] = {-INFINITY, 0, 0};
    const float *rows[VOICES] = {aligned, NULL, expert, antiexpert};
    float room[V];
    struct rule rule = {.kind = RULE_PROXY, .mix = 1.5};
    const float *row = apply(rule, rows, V, 0, room);
    assert_true(row[0] == 5 && row[1] == .25f && row[2] == 0);
    rule.mix = 0;
    assert_ptr_equal(apply(rule, rows, V, 0, room), aligned);
    rule.mix = 1;
    rows[VOICE_POLICY] = never; /* what the base never says stays so */
    row = apply(rule, rows, V, 0, room);
    assert_true(row[0] == -INFINITY && row[1] == -.5f && row[2] == 0);
}

/* Rows as a model makes them against plain sums. */
static void test_numbers(void **state) {
    (void)state;
    static float p[MANY], q[MANY];
    static double weights[MANY];
    double zp = 0, zq = 0, kl = 0, sum = 0;
    for (int i = 0; i < MANY; i++) {
        struct rng r = rng_stream(2, RNG_CHECK, i, 0);
        p[i] = (float)(6 * rng_normal(&r));
        q[i] = (float)(6 * rng_normal(&r));
    }
    p[17] = p[400] = -INFINITY;
    q[400] = -2000;
    for (int i = 0; i < MANY; i++) {
        zp += exp((double)p[i]);
        zq += exp((double)q[i]);
    }
    for (int i = 0; i < MANY; i++) {
        double x = exp((double)p[i]) / zp;
        kl += x > 0 ? x * (log(x) - (double)q[i] + log(zq)) : 0;
    }
    struct logits a, b;
    assert_int_equal(logits_open(p, MANY, &a), OK);
    assert_int_equal(logits_open(q, MANY, &b), OK);
    assert_close(a.lse, log(zp), 1e-14 * fabs(log(zp)));
    assert_close(logits_kl(&a, &b), kl, 1e-13 * kl);
    assert_close(logits_weights(p, MANY, a.top, 1.7, weights), 0, INFINITY);
    for (int i = 0; i < MANY; i++) {
        double want = exp(((double)p[i] - (double)p[a.top]) / 1.7);
        sum += want;
        assert_close(weights[i], want, 4e-16 * want);
    }
    assert_close(logits_weights(p, MANY, a.top, 1.7, weights), sum, 1e-13 * sum);
    q[17] = -INFINITY;
    p[17] = 0;
    assert_int_equal(logits_open(p, MANY, &a), OK);
    assert_int_equal(logits_open(q, MANY, &b), OK);
    assert_true(logits_kl(&a, &b) == INFINITY);
}

/* What a draw says of itself, for each kind of filter, against the filtered distribution by hand. */
static void test_draws(void **state) {
    (void)state;
    enum { N = 6 };
    const double p[N] = {.1, .4, .05, .25, .15, .05};
    const struct {
        struct sampling how;
        double kept[N];
    } cases[] = {
        {{.temperature = 1, .top_p = 1}, {.1, .4, .05, .25, .15, .05}},
        {{.temperature = 1, .top_p = 1, .min_p = .3}, {0, .4, 0, .25, .15, 0}},
        {{.temperature = 1, .top_p = .7, .min_p = .5}, {0, .4, 0, .25, 0, 0}},
        {{.temperature = 1, .top_k = 4, .top_p = 1, .min_p = .3}, {0, .4, 0, .25, .15, 0}},
        {{.temperature = 1, .top_k = 2, .top_p = 1}, {0, .4, 0, .25, 0, 0}},
        {{.temperature = .5, .top_p = 1}, {.01, .16, .0025, .0625, .0225, .0025}},
        {{.temperature = 0}, {0, 1, 0, 0, 0, 0}},
    };
    float logits[N], uniform[N] = {0};
    struct sampler *s;
    struct logits q;
    for (int i = 0; i < N; i++) {
        logits[i] = (float)log(p[i]);
    }
    assert_int_equal(sampler_open(N, &s), OK);
    assert_int_equal(logits_open(uniform, N, &q), OK);
    for (int c = 0; c < COUNT_OF(cases); c++) {
        double sum = 0, kl = 0;
        for (int i = 0; i < N; i++) {
            sum += cases[c].kept[i];
        }
        for (int i = 0; i < N; i++) {
            double x = cases[c].kept[i] / sum;
            kl += x > 0 ? x * (log(x) + log(N)) : 0;
        }
        for (int i = 0; i < 200; i++) {
            int32_t token;
            struct rng r = rng_stream(3, RNG_SAMPLE, c, i);
            assert_int_equal(sampler_draw(s, &cases[c].how, logits, &r, &token), OK);
            assert_true(cases[c].kept[token] > 0);
            assert_close(sampler_logp(s), log(cases[c].kept[token] / sum), 1e-6);
            assert_close(sampler_kl(s, &q), kl, 1e-6);
        }
    }
    sampler_close(s);
}

/* Selection without sorting: of a large vocabulary, top-k and top-p keep what a sort would keep. */
static void test_selection(void **state) {
    (void)state;
    static float logits[MANY];
    const struct sampling ways[] = {{.temperature = 1, .top_k = 7, .top_p = 1},
                                    {.temperature = 1, .top_k = 40, .top_p = .8},
                                    {.temperature = 1, .top_p = .5}};
    struct sampler *s;
    struct logits l;
    for (int i = 0; i < MANY; i++) {
        struct rng r = rng_stream(9, RNG_CHECK, i, 0);
        logits[i] = (float)(round(4 * rng_normal(&r)) / 2); /* many ties */
    }
    assert_int_equal(logits_open(logits, MANY, &l), OK);
    assert_int_equal(sampler_open(MANY, &s), OK);
    for (int w = 0; w < COUNT_OF(ways); w++) {
        double whole = 0, before;
        int64_t k = ways[w].top_k ? ways[w].top_k : MANY;
        for (int i = 0; i < MANY; i++) {
            int64_t rank = 0;
            for (int j = 0; j < MANY; j++) {
                rank += logits[j] > logits[i] || (logits[j] == logits[i] && j < i);
            }
            whole += rank < k ? exp(logits_logp(&l, i)) : 0;
        }
        for (int draws = 0; draws < 300; draws++) {
            int32_t token;
            struct rng r = rng_stream(3, RNG_SAMPLE, w, draws);
            assert_int_equal(sampler_draw(s, &ways[w], logits, &r, &token), OK);
            before = 0;
            int64_t rank = 0;
            for (int j = 0; j < MANY; j++) {
                bool first = logits[j] > logits[token] || (logits[j] == logits[token] && j < token);
                rank += first;
                before += first ? exp(logits_logp(&l, j)) : 0;
            }
            assert_true(rank < k);
            assert_true(before < ways[w].top_p * whole + 1e-9);
        }
    }
    sampler_close(s);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_kl_threshold), cmocka_unit_test(test_mix_and_length),
        cmocka_unit_test(test_proxy),        cmocka_unit_test(test_numbers),
        cmocka_unit_test(test_draws),        cmocka_unit_test(test_selection),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
