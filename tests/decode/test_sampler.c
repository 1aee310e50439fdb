/* Sampling: greedy and ties, exact supports of top-k and top-p, frequencies against the distribution. */
#include "tests/unit.h"

#include <math.h>
#include <string.h>

#include "decode/sampler.h"

enum { V = 6, DRAWS = 40000 };

static int32_t draw(struct sampler *s, struct sampling how, const float *logits, int64_t row, int64_t step) {
    struct rng r = rng_stream(5, RNG_SAMPLE, row, step);
    int32_t token = -1;
    assert_int_equal(sampler_draw(s, &how, logits, &r, &token), OK);
    return token;
}

static void count(struct sampling how, const float *logits, int64_t *counts) {
    struct sampler *s;
    assert_int_equal(sampler_open(V, &s), OK);
    memset(counts, 0, V * sizeof *counts);
    for (int i = 0; i < DRAWS; i++) {
        counts[draw(s, how, logits, i / 100, i % 100)]++;
    }
    sampler_close(s);
}

/* Within five standard deviations of the expected number; what cannot come has not come. */
static void assert_frequencies(struct sampling how, const float *logits, const double *p) {
    int64_t counts[V];
    count(how, logits, counts);
    for (int i = 0; i < V; i++) {
        double expected = p[i] * DRAWS, deviation = sqrt(DRAWS * p[i] * (1 - p[i]));
        if (fabs((double)counts[i] - expected) > 5 * deviation) {
            FAIL("token %d came %lld times, expected %g +- %g", i, (long long)counts[i], expected, deviation);
        }
    }
}

/* Probabilities .1 .4 .05 .25 .15 .05 */
static void known_logits(float *logits) {
    const double p[V] = {.1, .4, .05, .25, .15, .05};
    for (int i = 0; i < V; i++) {
        logits[i] = (float)(log(p[i]) + 3);
    }
}

static void test_greedy(void **state) {
    (void)state;
    struct sampler *s;
    assert_int_equal(sampler_open(V, &s), OK);
    float logits[V] = {-1, 7, 3, 7, -INFINITY, 7};
    assert_int_equal(draw(s, (struct sampling){0}, logits, 0, 0), 1);
    logits[1] = -INFINITY;
    assert_int_equal(draw(s, (struct sampling){0}, logits, 0, 0), 3);
    /* A temperature near zero is greedy too, and k = 1, and a tiny share; ties to the lowest id. */
    assert_int_equal(draw(s, (struct sampling){.temperature = 1, .top_k = 1, .top_p = 1}, logits, 9, 9), 3);
    assert_int_equal(draw(s, (struct sampling){.temperature = 1, .top_p = 1e-9}, logits, 9, 9), 3);
    assert_int_equal(draw(s, (struct sampling){.temperature = 1, .top_p = 0}, logits, 9, 9), 3);
    logits[3] = 8;
    assert_int_equal(draw(s, (struct sampling){.temperature = 1e-9, .top_p = 1}, logits, 9, 9), 3);
    sampler_close(s);
}

static void test_plain(void **state) {
    (void)state;
    float logits[V];
    known_logits(logits);
    assert_frequencies((struct sampling){.temperature = 1, .top_p = 1}, logits,
                       (double[V]){.1, .4, .05, .25, .15, .05});
    /* Temperature 2 takes square roots. */
    double p[V] = {.1, .4, .05, .25, .15, .05}, sum = 0;
    for (int i = 0; i < V; i++) {
        sum += p[i] = sqrt(p[i]);
    }
    for (int i = 0; i < V; i++) {
        p[i] /= sum;
    }
    assert_frequencies((struct sampling){.temperature = 2, .top_p = 1}, logits, p);
    logits[1] = -INFINITY;
    assert_frequencies((struct sampling){.temperature = 1, .top_p = 1}, logits,
                       (double[V]){.1 / .6, 0, .05 / .6, .25 / .6, .15 / .6, .05 / .6});
}

static void test_top(void **state) {
    (void)state;
    float logits[V];
    known_logits(logits);
    assert_frequencies((struct sampling){.temperature = 1, .top_k = 2, .top_p = 1}, logits,
                       (double[V]){0, .4 / .65, 0, .25 / .65, 0, 0});
    /* .4 < .6 <= .4 + .25 */
    assert_frequencies((struct sampling){.temperature = 1, .top_p = .6}, logits,
                       (double[V]){0, .4 / .65, 0, .25 / .65, 0, 0});
    assert_frequencies((struct sampling){.temperature = 1, .top_p = .7}, logits,
                       (double[V]){0, .4 / .8, 0, .25 / .8, .15 / .8, 0});
    /* The share counts among the top k: .4 / .8 = .5, .65 / .8 = .8125. */
    assert_frequencies((struct sampling){.temperature = 1, .top_k = 3, .top_p = .75}, logits,
                       (double[V]){0, .4 / .65, 0, .25 / .65, 0, 0});
    assert_frequencies((struct sampling){.temperature = 1, .top_k = 3, .top_p = .82}, logits,
                       (double[V]){0, .4 / .8, 0, .25 / .8, .15 / .8, 0});
    assert_frequencies((struct sampling){.temperature = 1, .top_k = 100, .top_p = 1}, logits,
                       (double[V]){.1, .4, .05, .25, .15, .05});
}

static void test_bad_logits(void **state) {
    (void)state;
    struct sampler *s;
    assert_int_equal(sampler_open(V, &s), OK);
    struct rng r = rng_stream(5, RNG_SAMPLE, 0, 0);
    int32_t token = -1;
    struct sampling how = {0};
    float logits[V] = {0, 1, NAN, 0, 0, 0};
    assert_int_equal(sampler_draw(s, &how, logits, &r, &token), ERR_DATA);
    logits[2] = INFINITY;
    assert_int_equal(sampler_draw(s, &how, logits, &r, &token), ERR_DATA);
    for (int i = 0; i < V; i++) {
        logits[i] = -INFINITY;
    }
    assert_int_equal(sampler_draw(s, &how, logits, &r, &token), ERR_DATA);
    assert_int_equal(token, -1);
    sampler_close(s);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_greedy),
        cmocka_unit_test(test_plain),
        cmocka_unit_test(test_top),
        cmocka_unit_test(test_bad_logits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
