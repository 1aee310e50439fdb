/* What a forest must not change: a prompt shared or repeated, trees packed or alone, neighbors, what a pass
 * keeps, decoding on the cache. */
#include "tests/model_fixture.h"

#include "util/rng.h"

/* fp32 sums in another order: 1e-5 of values of order 1 to 10. */
static const double ROUNDING = 2e-5;

static void same(const char *name, const char *what, const double *a, const double *b, int64_t n,
                 double scale) {
    for (int64_t i = 0; i < n; i++) {
        if (!(fabs(a[i] - b[i]) <= ROUNDING * scale * fmax(1, fabs(b[i])))) {
            FAIL("%s: %s differ at %lld: %.9g and %.9g", name, what, (long long)i, a[i], b[i]);
        }
    }
}

/* Adds c a to the log-probabilities' gradients: weights that differ from readout to readout. */
static double weighted_step(struct fixture *f, enum pass_keep keep, const double *weights, double *logps) {
    struct pass *p;
    double loss = 0;
    MUST(pass_open(f->model, &f->w, keep, &p));
    MUST(pass_forward(p, &f->forest));
    MUST(pass_logps(p, &(struct token_scores){.logp = logps}));
    MUST(pass_backward(p, &(struct readout_gradients){.logp = weights}, NULL, NULL));
    pass_close(p);
    for (int32_t i = 0; i < f->forest.n_readouts; i++) {
        loss += weights[i] * logps[i];
    }
    return loss;
}

static void draw_weights(double *weights, int64_t seed) {
    struct rng r = rng_stream(3, RNG_CHECK, seed, 0);
    for (int i = 0; i < MOST_READOUTS; i++) {
        weights[i] = rng_normal(&r);
    }
}

/* One forest of all rows with shared prompts against every response with its own prompt, one by one. */
static void check_sharing(struct fixture *f, const char *name) {
    double weights[MOST_READOUTS], together[MOST_READOUTS], apart[MOST_READOUTS];
    draw_weights(weights, 1);
    make_forest(f, 0, f->rows, true);
    MUST(arena_zero_gradients(f->model->trained));
    weighted_step(f, KEEP_ALL, weights, together);
    double *gradients = all_gradients(f);
    MUST(arena_zero_gradients(f->model->trained));
    int32_t n = 0;
    for (int i = 0; i < f->rows; i++) {
        for (int side = 0; side < 2; side++) {
            forest_clear(&f->forest);
            int32_t prompt = add_segment(f, -1, i, "prompt"), segment;
            add_response(f, prompt, i, side ? "rejected" : "chosen", &segment);
            finish_forest(f);
            weighted_step(f, KEEP_ALL, weights + n, apart + n);
            n += f->forest.n_readouts;
        }
    }
    double *separate = all_gradients(f);
    same(name, "log-probabilities of shared and repeated prompts", together, apart, n, 1);
    same(name, "gradients of shared and repeated prompts", gradients, separate, f->model->trained->elements,
         5);
    mem_free(gradients);
    mem_free(separate);
}

/* Of some tokens alone: the log-probabilities that they have among all, chain. */
static void check_trained(struct fixture *f, const char *name, const int32_t *ids, int32_t n,
                          const double *chain) {
    uint8_t trained[64];
    double some[MOST_READOUTS], expected[MOST_READOUTS];
    int32_t segment, count = 0, unscored = 0;
    for (int32_t i = 0; i < n; i++) {
        trained[i] = i % 3 != 1;
        if (i > 0 && trained[i]) {
            expected[count++] = chain[i - 1];
        }
    }
    forest_clear(&f->forest);
    MUST(forest_add(&f->forest, -1, ids, n, 0, &segment));
    MUST(forest_score_trained(&f->forest, segment, trained, &unscored));
    finish_forest(f);
    assert_int_equal(unscored, 1);
    assert_int_equal(f->forest.n_readouts, count);
    logps_of(f, some);
    same(name, "log-probabilities of some tokens", some, expected, count, 1);
}

/* A prompt of two segments, a nested child, an empty root: the same tokens in a row. */
static void check_shapes(struct fixture *f, const char *name) {
    int32_t ids[64], n = 12, segment, child, unscored = 0;
    double chain[MOST_READOUTS], nested[MOST_READOUTS];
    for (int32_t i = 0; i < n; i++) {
        ids[i] = 3 + 7 * i % 90;
    }
    forest_clear(&f->forest);
    MUST(forest_add(&f->forest, -1, ids, n, 0, &segment));
    MUST(forest_score(&f->forest, segment, &unscored));
    finish_forest(f);
    assert_int_equal(unscored, 1);
    assert_int_equal(f->forest.n_readouts, n - 1);
    logps_of(f, chain);
    check_trained(f, name, ids, n, chain);
    forest_clear(&f->forest);
    MUST(forest_add(&f->forest, -1, NULL, 0, 0, &segment)); /* no prompt */
    MUST(forest_add(&f->forest, segment, ids, 5, 0, &child));
    MUST(forest_score(&f->forest, child, &unscored));
    MUST(forest_add(&f->forest, child, ids + 5, 3, 0, &segment));
    MUST(forest_score(&f->forest, segment, &unscored));
    MUST(forest_add(&f->forest, segment, ids + 8, n - 8, 0, &child));
    MUST(forest_score(&f->forest, child, &unscored));
    finish_forest(f);
    assert_int_equal(unscored, 2);
    assert_int_equal(f->forest.n_readouts, n - 1);
    logps_of(f, nested);
    same(name, "log-probabilities of one segment and of nested ones", nested, chain, n - 1, 1);
}

/* Tokens of the other trees change nothing: not a bit. */
static void check_neighbors(struct fixture *f, const char *name) {
    double before[MOST_READOUTS], after[MOST_READOUTS];
    make_forest(f, 0, f->rows, true);
    logps_of(f, before);
    const struct segment *last = &f->forest.segments[f->rejected[0]];
    for (int32_t t = last->first + last->count; t < f->forest.n_tokens; t++) {
        f->forest.tokens[t] = (f->forest.tokens[t] + 11) % 90;
    }
    logps_of(f, after);
    int32_t own = 0;
    for (int32_t i = 0; i < f->forest.n_readouts; i++) {
        bool is_own = f->forest.readout_segment[i] <= f->rejected[0];
        if (is_own && before[i] != after[i]) {
            FAIL("%s: a neighbor changed a log-probability from %.9g to %.9g", name, before[i], after[i]);
        }
        own += is_own;
    }
    assert_true(own > 0 && own < f->forest.n_readouts);
}

/* Recomputed activations give the same bits as kept ones, and so does a pass that keeps nothing. */
static void check_keeping(struct fixture *f, const char *name) {
    double weights[MOST_READOUTS], logps[3][MOST_READOUTS];
    double *gradients[2];
    draw_weights(weights, 2);
    make_forest(f, 0, f->rows, true);
    for (int i = 0; i < 2; i++) {
        MUST(arena_zero_gradients(f->model->trained));
        weighted_step(f, i ? KEEP_INPUTS : KEEP_ALL, weights, logps[i]);
        gradients[i] = all_gradients(f);
    }
    logps_of(f, logps[2]);
    size_t bytes = (size_t)f->forest.n_readouts * sizeof(double);
    if (memcmp(logps[0], logps[1], bytes) != 0 || memcmp(logps[0], logps[2], bytes) != 0 ||
        memcmp(gradients[0], gradients[1], (size_t)f->model->trained->elements * sizeof(double)) != 0) {
        FAIL("%s: what a pass keeps changes its results", name);
    }
    mem_free(gradients[0]);
    mem_free(gradients[1]);
}

struct seen {
    int64_t last;
    int calls;
};
static void note_final(void *context, int64_t first) {
    struct seen *s = context;
    assert_true(first < s->last);
    s->last = first;
    s->calls++;
}

/* Offsets fall from the end to 0. */
static void check_final(struct fixture *f) {
    double weights[MOST_READOUTS], logps[MOST_READOUTS];
    struct seen seen = {.last = f->model->trained->elements};
    struct pass *p;
    draw_weights(weights, 3);
    make_forest(f, 0, 1, true);
    MUST(pass_open(f->model, &f->w, KEEP_ALL, &p));
    MUST(pass_forward(p, &f->forest));
    MUST(pass_logps(p, &(struct token_scores){.logp = logps}));
    MUST(pass_backward(p, &(struct readout_gradients){.logp = weights}, note_final, &seen));
    pass_close(p);
    assert_int_equal(seen.last, 0);
    assert_int_equal(seen.calls, f->model->config.layers + 2);
}

enum { DECODED = 9 };

/* Logits after each of a sequence's tokens, from whole passes without readouts. */
static void whole_logits(struct fixture *f, const int32_t *ids, int32_t n, int32_t from, double *out) {
    int64_t v = f->model->config.vocabulary;
    struct pass *p;
    int32_t segment, at[64];
    float *logits = mem_calloc((n - from) * v, sizeof *logits);
    forest_clear(&f->forest);
    MUST(forest_add(&f->forest, -1, ids, n, 0, &segment));
    finish_forest(f);
    for (int32_t i = from; i < n; i++) {
        at[i - from] = i;
    }
    MUST(pass_open(f->model, &f->w, KEEP_NOTHING, &p));
    MUST(pass_forward(p, &f->forest));
    MUST(pass_logits(p, at, n - from, logits));
    pass_close(p);
    for (int64_t i = 0; i < (n - from) * v; i++) {
        out[i] = (double)logits[i];
    }
    mem_free(logits);
}

/* The same where angles depend on a sequence's length: each from a pass over the tokens so far. */
static void logits_so_far(struct fixture *f, const int32_t *ids, int32_t n, int32_t from, double *out) {
    int64_t v = f->model->config.vocabulary;
    if (n <= model_rope_break(&f->model->config)) {
        whole_logits(f, ids, n, from, out);
        return;
    }
    for (int32_t i = from; i < n; i++) {
        whole_logits(f, ids, i + 1, i, out + (i - from) * v);
    }
}

/* Three prompts prefilled together, then tokens one at a time, sequence 1 every second time. */
static void check_cache(struct fixture *f, const char *name) {
    int64_t v = f->model->config.vocabulary;
    int32_t ids[3][64], tokens[192], offsets[4] = {0}, lengths[3];
    struct cache *c;
    float *logits = mem_calloc(3 * v, sizeof *logits);
    double *whole[3], *step = mem_calloc(v, sizeof *step);
    for (int s = 0; s < 3; s++) {
        lengths[s] = row_ids(f, s, "prompt", ids[s]);
        memcpy(tokens + offsets[s], ids[s], (size_t)lengths[s] * sizeof(int32_t));
        offsets[s + 1] = offsets[s] + lengths[s];
        for (int i = 0; i < DECODED; i++) {
            ids[s][lengths[s] + i] = 3 + (17 * i + 29 * s) % 90;
        }
        whole[s] = mem_calloc((DECODED + 1) * v, sizeof(double));
        logits_so_far(f, ids[s], lengths[s] + DECODED, lengths[s] - 1, whole[s]);
    }
    MUST(cache_open(f->model, &f->w, 4, 24, &c));
    for (int again = 0; again < 2; again++) { /* a cache is used again and again */
        MUST(cache_prefill(c, tokens, offsets, 3, logits));
        int32_t done[3] = {0};
        for (int t = 0; t <= DECODED; t++) {
            int32_t sequences[3], next[3], n = 0;
            for (int s = 0; s < 3; s++) {
                if (t > 0 && (s != 1 || t % 2)) {
                    sequences[n] = s;
                    next[n++] = ids[s][lengths[s] + done[s]++];
                } else if (t == 0) {
                    sequences[n++] = s;
                }
            }
            MUST(t > 0 ? cache_step(c, sequences, next, n, logits) : OK);
            for (int i = 0; i < n; i++) {
                for (int64_t j = 0; j < v; j++) {
                    step[j] = (double)logits[i * v + j];
                }
                same(name, "logits of the cache and of a whole pass", step,
                     whole[sequences[i]] + done[sequences[i]] * v, v, 1);
            }
        }
    }
    cache_close(c);
    mem_free(step);
    mem_free(logits);
    for (int s = 0; s < 3; s++) {
        mem_free(whole[s]);
    }
}

/* What is predicted holds what is taken, and not much more. */
static void check_memory(struct fixture *f, const char *name) {
    const struct backend_caps *caps = &f->model->backend->caps;
    double weights[MOST_READOUTS], logps[MOST_READOUTS];
    static const enum pass_keep keeps[] = {KEEP_ALL, KEEP_INPUTS};
    draw_weights(weights, 4);
    make_forest(f, 0, f->rows, true);
    for (int i = 0; i < COUNT_OF(keeps); i++) {
        int64_t bytes;
        MUST(pass_bytes(&f->model->config, caps, keeps[i], f->forest.n_tokens, f->forest.n_readouts, &bytes));
        f->w.peak = 0;
        weighted_step(f, keeps[i], weights, logps);
        if (f->w.peak > bytes || (double)f->w.peak < 0.7 * (double)bytes) {
            FAIL("%s: %lld bytes predicted, %lld taken", name, (long long)bytes, (long long)f->w.peak);
        }
    }
    int64_t bytes;
    MUST(cache_bytes(&f->model->config, caps, 4, 24, &bytes));
    MUST(cache_bytes(&f->model->config, caps, 3, 7, &bytes));
}

/* Hidden states: the mean over a span is the mean of single rows, at every depth. */
static void check_means(struct fixture *f, const char *name) {
    int64_t d = f->model->config.width;
    int32_t ids[64], segment, n = row_ids(f, 2, "prompt", ids), spans[2 * 64] = {2, 5};
    float *means = mem_calloc(6 * d, sizeof *means);
    double *mean = mem_calloc(d, sizeof *mean), *sum = mem_calloc(d, sizeof *sum);
    struct pass *p;
    forest_clear(&f->forest);
    MUST(forest_add(&f->forest, -1, ids, n, 0, &segment));
    finish_forest(f);
    for (int i = 0; i < 5; i++) {
        spans[2 + 2 * i] = 2 + i;
        spans[3 + 2 * i] = 1;
    }
    MUST(pass_open(f->model, &f->w, KEEP_INPUTS, &p));
    MUST(pass_forward(p, &f->forest));
    for (int layer = -1; layer < f->model->config.layers; layer++) {
        MUST(pass_means(p, spans, 6, layer, means));
        for (int64_t j = 0; j < d; j++) {
            mean[j] = (double)means[j];
            sum[j] = 0;
            for (int i = 1; i < 6; i++) {
                sum[j] += (double)means[i * d + j] / 5;
            }
        }
        same(name, "means and sums of hidden states", mean, sum, d, 1);
    }
    pass_close(p);
    mem_free(means);
    mem_free(mean);
    mem_free(sum);
}

static void test_properties(void **state) {
    (void)state;
    const char *names[2];
    for (int d = 0, n = devices(names); d < n; d++) {
        struct backend *b = open_backend(names[d]);
        for (int i = 0; i < COUNT_OF(language_models); i++) {
            const char *name = language_models[i];
            struct fixture f;
            fixture_open(&f, b, name);
            check_sharing(&f, name);
            check_shapes(&f, name);
            check_neighbors(&f, name);
            check_keeping(&f, name);
            check_final(&f);
            check_cache(&f, name);
            check_means(&f, name);
            check_memory(&f, name);
            fixture_close(&f);
        }
        backend_close(b);
    }
}

static void expect(enum status st, enum status code, const char *part) {
    assert_int_equal(st, code);
    if (!strstr(status_message()->text, part)) {
        FAIL("\"%s\" is not in \"%s\"", part, status_message()->text);
    }
    status_clear();
}

/* Wrong forests are refused with a message. */
static void test_refusals(void **state) {
    (void)state;
    struct forest f = {0};
    int32_t segment, ids[] = {1, 2, 99}, negative[] = {-1};
    MUST(forest_add(&f, -1, ids, 3, 41, &segment));
    expect(forest_finish(&f, 97, 0), ERR_DATA, "row 41: token id 99");
    expect(forest_finish(&f, 100, 2), ERR_DATA, "row 41: 3 tokens");
    expect(forest_add(&f, 5, ids, 1, 0, &segment), ERR_INTERNAL, "parent 5");
    expect(forest_add(&f, 0, ids, 0, 0, &segment), ERR_INTERNAL, "0 tokens");
    expect(forest_score(&f, 9, NULL), ERR_INTERNAL, "segment 9");
    forest_clear(&f);
    MUST(forest_add(&f, -1, negative, 1, 5, &segment));
    expect(forest_finish(&f, 97, 0), ERR_DATA, "row 5: token id -1");
    forest_free(&f);
}

int main(int argc, char **argv) {
    if (comm_start(&argc, &argv, &world) != OK) {
        return 1;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_properties),
        cmocka_unit_test(test_refusals),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    comm_finish(world);
    return failed;
}
