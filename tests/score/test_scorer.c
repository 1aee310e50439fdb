/* Scores of samples: the same alone and beside others in a forest, terms that add up to the sum, the first
 * token of a response without a prompt unscored, pairs in their places, tokens outside the vocabulary
 * refused. */
#include "tests/unit.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "score/scorer.h"
#include "store/model_folder.h"
#include "util/json.h"
#include "util/rng.h"

enum { VOCABULARY = 97, MOST = 24 };

static struct comm *comm;
static struct backend *backend;
static struct model *model;
static struct workspace workspace;
static int32_t tokens[4][MOST]; /* [0]: prompts */

static int open_all(void **state) {
    const struct backend_request request = {.device = test_device(), .compute = "fp32", .threads = 1};
    char path[4096], why[256];
    (void)state;
    struct rng r = rng_stream(3, RNG_SYNTH, 0, 0);
    for (int i = 0; i < 4; i++) {
        for (int k = 0; k < MOST; k++) {
            tokens[i][k] = (int32_t)rng_below(&r, VOCABULARY);
        }
    }
    snprintf(path, sizeof path, "%s/models/llama", fixtures());
    return comm_start(&(int){0}, &(char **){NULL}, &comm) != OK ||
           backend_open(&request, &backend, why) != OK ||
           model_folder_open(comm, backend, path, NULL, &model) != OK ||
           workspace_open(backend, 16 << 20, &workspace) != OK;
}

static int close_all(void **state) {
    (void)state;
    workspace_close(&workspace);
    model_close(model);
    backend_close(backend);
    comm_finish(comm);
    return 0;
}

/* Three responses to one prompt, one response to another, one to none. */
static struct sample_response responses[] = {{.id = 0, .tokens = tokens[1], .count = 5},
                                             {.id = 1, .tokens = tokens[2], .count = 1},
                                             {.id = 2, .tokens = tokens[3], .count = MOST},
                                             {.id = 3, .tokens = tokens[2], .count = 9},
                                             {.id = 4, .tokens = tokens[3], .count = 6}};
static struct sample_pair pairs[] = {{.chosen = 2, .rejected = 0, .margin = 0.5f},
                                     {.chosen = 1, .rejected = 2}};
static const struct sample samples[] = {
    {.row = 10,
     .n_responses = 3,
     .n_pairs = 2,
     .prompt = tokens[0],
     .prompt_count = 7,
     .responses = responses,
     .pairs = pairs},
    {.row = 11, .n_responses = 1, .prompt = tokens[0] + 7, .prompt_count = 4, .responses = responses + 3},
    {.row = 12, .n_responses = 1, .responses = responses + 4}};

static void test_alone(void **state) {
    struct scorer s;
    struct response_score together[5];
    (void)state;
    assert_int_equal(scorer_open(model, &workspace, KEEP_NOTHING, &s), OK);
    assert_int_equal(scorer_run(&s, samples, 3), OK);
    assert_int_equal(s.n_samples, 3);
    memcpy(together, s.scores, sizeof together);
    assert_true(s.first[0] == 0 && s.first[1] == 3 && s.first[2] == 4 && s.first[3] == 5);
    for (int i = 0; i < 5; i++) {
        const struct response_score *r = &together[i];
        double sum = 0;
        assert_int_equal(r->tokens, responses[i].count - (i == 4)); /* the first one has nothing before it */
        for (int64_t t = 0; t < r->tokens; t++) {
            assert_true(s.tokens.logp[r->first + t] < 0);
            sum += s.tokens.logp[r->first + t];
        }
        assert_true(sum == r->logp);
        assert_true(r->top >= 0 && r->top <= r->tokens);
    }
    for (int i = 0; i < 5; i++) {
        struct sample one = samples[i < 3 ? 0 : i - 2];
        one.n_responses = 1;
        one.n_pairs = 0;
        one.responses = &responses[i];
        assert_int_equal(scorer_run(&s, &one, 1), OK);
        assert_int_equal(s.scores[0].tokens, together[i].tokens);
        assert_true(fabs(s.scores[0].logp - together[i].logp) <= 1e-5 * fabs(together[i].logp));
    }
    scorer_close(&s);
}

/* A log-probability of each next token of a vocabulary adds up to one. */
static void test_normalized(void **state) {
    struct scorer s;
    int32_t each[VOCABULARY];
    struct sample_response all[VOCABULARY];
    struct sample sample = {
        .n_responses = VOCABULARY, .prompt = tokens[0], .prompt_count = 9, .responses = all};
    double sum = 0;
    (void)state;
    for (int32_t i = 0; i < VOCABULARY; i++) {
        each[i] = i;
        all[i] = (struct sample_response){.id = i, .tokens = &each[i], .count = 1};
    }
    assert_int_equal(scorer_open(model, &workspace, KEEP_NOTHING, &s), OK);
    assert_int_equal(scorer_run(&s, &sample, 1), OK);
    int64_t top = 0;
    for (int i = 0; i < VOCABULARY; i++) {
        sum += exp(s.scores[i].logp);
        top += s.scores[i].top;
    }
    assert_true(fabs(sum - 1) <= 1e-5);
    assert_int_equal(top, 1);
    assert_true(scorer_flops(&s) > 0);
    scorer_close(&s);
}

static void test_refused(void **state) {
    struct scorer s;
    int32_t outside[] = {1, VOCABULARY};
    struct sample_response response = {.id = 0, .tokens = outside, .count = 2};
    const struct sample bad = {
        .row = 77, .n_responses = 1, .prompt = tokens[0], .prompt_count = 2, .responses = &response};
    (void)state;
    assert_int_equal(scorer_open(model, &workspace, KEEP_NOTHING, &s), OK);
    assert_int_equal(scorer_run(&s, &bad, 1), ERR_DATA);
    assert_non_null(strstr(status_message()->text, "77"));
    status_clear();
    assert_int_equal(scorer_run(&s, samples, 3), OK); /* it can be used on */
    scorer_close(&s);
}

/* Responses of a row of a score fixture, as transformers values them. */
static void value_row(struct scorer *s, const json_t *expected, size_t row) {
    static const char *const sides[] = {"chosen", "rejected"};
    static const char *const values[] = {"chosen_values", "rejected_values"};
    int32_t ids[3][MOST];
    const json_t *lists = json_array_get(json_object_get(expected, "rows"), row);
    struct sample_response two[2] = {{.id = 0, .tokens = ids[1]}, {.id = 1, .tokens = ids[2]}};
    struct sample sample = {.row = (int64_t)row, .n_responses = 2, .prompt = ids[0], .responses = two};
    for (int k = 0; k < 3; k++) {
        const json_t *list = json_object_get(lists, k == 0 ? "prompt" : sides[k - 1]);
        int32_t n = (int32_t)json_array_size(list);
        assert_in_range(n, 1, MOST);
        for (int32_t i = 0; i < n; i++) {
            ids[k][i] = (int32_t)json_integer_value(json_array_get(list, (size_t)i));
        }
        *(k == 0 ? &sample.prompt_count : &two[k - 1].count) = n;
    }
    assert_int_equal(scorer_run(s, &sample, 1), OK);
    for (int k = 0; k < 2; k++) {
        double want = json_number_value(json_array_get(json_object_get(expected, values[k]), row));
        assert_true(fabs(s->scores[k].value - want) <= 1e-5);
    }
}

/* The pad token is the end token: values are read at the token before it, in the prompt where a response is
 * nothing else, and at the first where there is no other at all. */
static void test_pad_is_end(void **state) {
    static int32_t ends[] = {2, 2, 2};
    char path[4096];
    json_t *expected;
    struct model *m;
    struct scorer s;
    (void)state;
    snprintf(path, sizeof path, "%s/models/llama-score-pad", fixtures());
    assert_int_equal(model_folder_open(comm, backend, path, NULL, &m), OK);
    snprintf(path, sizeof path, "%s/models/llama-score-pad/expected.json", fixtures());
    assert_int_equal(json_load(path, &expected), OK);
    assert_int_equal(scorer_open(m, &workspace, KEEP_NOTHING, &s), OK);
    for (size_t row = 0; row < json_array_size(json_object_get(expected, "rows")); row++) {
        value_row(&s, expected, row);
    }
    struct sample_response three[] = {{.id = 0, .tokens = ends, .count = 1},
                                      {.id = 1, .tokens = ends, .count = 3},
                                      {.id = 2, .tokens = ends, .count = 0}};
    struct sample same = {.n_responses = 3, .prompt = tokens[0] + 1, .prompt_count = 1, .responses = three};
    assert_int_not_equal(tokens[0][1], 2);
    assert_int_equal(scorer_run(&s, &same, 1), OK);
    assert_true(s.scores[0].value == s.scores[1].value && s.scores[1].value == s.scores[2].value);
    same.prompt = ends;
    assert_int_equal(scorer_run(&s, &same, 1), OK);
    assert_true(s.scores[0].value == s.scores[1].value && s.scores[1].value == s.scores[2].value);
    scorer_close(&s);
    json_decref(expected);
    model_close(m);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_alone), cmocka_unit_test(test_normalized),
                                       cmocka_unit_test(test_refused), cmocka_unit_test(test_pad_is_end)};
    return cmocka_run_group_tests(tests, open_all, close_all);
}
