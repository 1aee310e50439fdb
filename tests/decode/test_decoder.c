/* Decoding: each greedy token is the arg max of a whole forward pass; a row's tokens do not depend on what is
 * decoded beside it, for any batch and order, greedy or sampled. */
#include "tests/unit.h"

#include <math.h>
#include <string.h>

#include "decode/decoder.h"
#include "util/mem.h"
#include "util/rng.h"

enum { VOCABULARY = 211, ROWS = 21, LONGEST = 30, NEW = 12 };

static const char config_text[] =
    "{\"architectures\": [\"LlamaForCausalLM\"], \"model_type\": \"llama\", \"vocab_size\": 211,"
    " \"hidden_size\": 64, \"intermediate_size\": 160, \"num_hidden_layers\": 3, \"num_attention_heads\": 4,"
    " \"num_key_value_heads\": 2, \"max_position_embeddings\": 128, \"rms_norm_eps\": 1e-5,"
    " \"initializer_range\": 0.4, \"rope_theta\": 10000.0, \"hidden_act\": \"silu\"}";

struct world {
    struct backend *backend;
    struct model *model;
    int32_t tokens[ROWS][LONGEST];
    struct prompt prompts[ROWS];
};

static void world_open(struct world *w) {
    char why[256];
    struct model_config config;
    const struct backend_request request = {.device = "cpu", .device_index = -1, .deterministic = true};
    assert_int_equal(backend_open(&request, &w->backend, why), OK);
    assert_int_equal(model_config_parse(config_text, strlen(config_text), "test", &config), OK);
    assert_int_equal(model_open(w->backend, &config, &w->model), OK);
    assert_int_equal(arena_initialize(w->model->base, 3), OK);
    for (int i = 0; i < ROWS; i++) {
        struct rng r = rng_stream(1, RNG_CHECK, i, 0);
        int32_t count = 1 + (int32_t)rng_below(&r, LONGEST);
        for (int t = 0; t < count; t++) {
            w->tokens[i][t] = (int32_t)rng_below(&r, VOCABULARY);
        }
        w->prompts[i] = (struct prompt){.row = i, .tokens = w->tokens[i], .count = count};
    }
}

static void world_close(struct world *w) {
    model_close(w->model);
    backend_close(w->backend);
}

struct responses {
    int32_t tokens[ROWS][NEW];
    struct response_tokens of[ROWS];
};

static void run(struct world *w, struct decoder_options o, const struct prompt *prompts, int n,
                struct response_tokens *out) {
    struct workspace workspace;
    struct decoder *d;
    int64_t bytes;
    o.max_prompt = LONGEST;
    o.max_new_tokens = NEW;
    assert_int_equal(decoder_bytes(&w->model->config, &w->backend->caps, &o, &bytes), OK);
    if (workspace_open(w->backend, bytes, &workspace) != OK) {
        FAIL("%s", status_message()->text);
    }
    if (decoder_open(w->model, &workspace, &o, &d) != OK) {
        FAIL("%s", status_message()->text);
    }
    if (decoder_run(d, prompts, n, out, NULL, NULL) != OK) {
        FAIL("%s", status_message()->text);
    }
    decoder_close(d);
    workspace_close(&workspace);
}

static void responses_init(struct responses *r) {
    for (int i = 0; i < ROWS; i++) {
        r->of[i] = (struct response_tokens){.tokens = r->tokens[i]};
    }
}

/* Logits after a prompt and its response so far, without a cache. */
static void whole_pass(struct world *w, const struct prompt *p, const int32_t *more, int n, float *logits) {
    int64_t bytes;
    struct workspace workspace;
    struct pass *pass;
    struct forest f = {0};
    int32_t ids[LONGEST + NEW], count = p->count + n, segment, at = count - 1;
    memcpy(ids, p->tokens, (size_t)p->count * sizeof *ids);
    memcpy(ids + p->count, more, (size_t)n * sizeof *ids);
    assert_int_equal(pass_bytes(&w->model->config, &w->backend->caps, KEEP_NOTHING, LONGEST + NEW, 1, &bytes),
                     OK);
    assert_int_equal(workspace_open(w->backend, bytes * 2 + (1 << 20), &workspace), OK);
    assert_int_equal(pass_open(w->model, &workspace, KEEP_NOTHING, &pass), OK);
    assert_int_equal(forest_add(&f, -1, ids, count, 0, &segment), OK);
    assert_int_equal(forest_finish(&f, VOCABULARY, 0), OK);
    assert_int_equal(pass_forward(pass, &f), OK);
    assert_int_equal(pass_logits(pass, &at, 1, logits), OK);
    forest_free(&f);
    pass_close(pass);
    workspace_close(&workspace);
}

static void test_greedy_is_arg_max(void **state) {
    (void)state;
    static struct world w;
    static struct responses r;
    world_open(&w);
    responses_init(&r);
    run(&w, (struct decoder_options){.sequences = 16}, w.prompts, ROWS, r.of);
    for (int i = 0; i < ROWS; i++) {
        assert_int_equal(r.of[i].count, NEW);
        assert_false(r.of[i].stopped);
        for (int t = 0; t < NEW; t++) {
            float logits[VOCABULARY], largest = -INFINITY;
            whole_pass(&w, &w.prompts[i], r.tokens[i], t, logits);
            for (int v = 0; v < VOCABULARY; v++) {
                largest = fmaxf(largest, logits[v]);
            }
            if (!(logits[r.tokens[i][t]] >= largest - 1e-4f * fabsf(largest))) {
                FAIL("row %d, token %d: %g, the largest logit is %g", i, t, (double)logits[r.tokens[i][t]],
                     (double)largest);
            }
        }
    }
    world_close(&w);
}

static void assert_same(const struct response_tokens *a, const struct response_tokens *b) {
    assert_int_equal(a->count, b->count);
    assert_int_equal(a->stopped, b->stopped);
    assert_memory_equal(a->tokens, b->tokens, (size_t)a->count * sizeof *a->tokens);
}

/* All together, one by one, backwards in two sizes: the same tokens. A stop set makes lengths ragged. */
static void check_company(struct world *w, struct sampling sampling) {
    static struct responses together, alone, backward;
    int32_t stops[24];
    for (int i = 0; i < COUNT_OF(stops); i++) {
        stops[i] = i * 9;
    }
    struct decoder_options o = {
        .sampling = sampling, .seed = 4, .sequences = 16, .stops = stops, .n_stops = COUNT_OF(stops)};
    struct prompt reversed[ROWS];
    struct response_tokens out[ROWS];
    responses_init(&together);
    responses_init(&alone);
    responses_init(&backward);
    run(w, o, w->prompts, ROWS, together.of);
    for (int i = 0; i < ROWS; i++) {
        run(w, o, &w->prompts[i], 1, &alone.of[i]);
        reversed[i] = w->prompts[ROWS - 1 - i];
        out[i] = backward.of[ROWS - 1 - i];
    }
    o.sequences = 17;
    run(w, o, reversed, ROWS, out);
    int stopped = 0;
    for (int i = 0; i < ROWS; i++) {
        assert_same(&together.of[i], &alone.of[i]);
        assert_same(&together.of[i], &out[ROWS - 1 - i]);
        stopped += together.of[i].stopped;
    }
    assert_in_range(stopped, 1, ROWS - 1);
}

static void test_company_does_not_matter(void **state) {
    (void)state;
    static struct world w;
    world_open(&w);
    check_company(&w, (struct sampling){0});
    check_company(&w, (struct sampling){.temperature = 1, .top_p = 1});
    check_company(&w, (struct sampling){.temperature = 1.3, .top_k = 20, .top_p = .9});
    world_close(&w);
}

/* The way of back ends whose rows are not steady: prompts one by one, steps of sixteen. The CPU's rows are,
 * so that it says the same. */
static void test_unsteady(void **state) {
    (void)state;
    static struct world w;
    static struct responses steady, unsteady;
    const struct sampling how = {.temperature = 1, .top_p = 1};
    struct decoder_options o = {.sampling = how, .seed = 4, .sequences = 5};
    world_open(&w);
    responses_init(&steady);
    responses_init(&unsteady);
    assert_true(w.backend->caps.steady_rows);
    run(&w, o, w.prompts, ROWS, steady.of);
    w.backend->caps.steady_rows = false;
    check_company(&w, how);
    o.sequences = 17;
    run(&w, o, w.prompts, ROWS, unsteady.of);
    for (int i = 0; i < ROWS; i++) {
        assert_same(&steady.of[i], &unsteady.of[i]);
    }
    world_close(&w);
}

/* Every second id has no token: none of them comes, and what comes is the likeliest of the others. */
static void test_barred(void **state) {
    (void)state;
    static struct world w;
    static struct responses r;
    bool barred[VOCABULARY];
    const struct sampling how[] = {
        {0}, {.temperature = 2, .top_p = 1}, {.temperature = 2, .top_k = 150, .top_p = 1}};
    world_open(&w);
    for (int v = 0; v < VOCABULARY; v++) {
        barred[v] = v % 2 == 0;
    }
    for (int i = 0; i < COUNT_OF(how); i++) {
        responses_init(&r);
        run(&w, (struct decoder_options){.sampling = how[i], .sequences = 16, .barred = barred}, w.prompts,
            ROWS, r.of);
        for (int row = 0; row < ROWS; row++) {
            float logits[VOCABULARY], largest = -INFINITY;
            whole_pass(&w, &w.prompts[row], r.tokens[row], 0, logits);
            for (int v = 1; v < VOCABULARY; v += 2) {
                largest = fmaxf(largest, logits[v]);
            }
            assert_true(how[i].temperature > 0 ||
                        logits[r.tokens[row][0]] >= largest - 1e-4f * fabsf(largest));
            for (int t = 0; t < r.of[row].count; t++) {
                assert_int_equal(r.tokens[row][t] % 2, 1);
            }
        }
    }
    world_close(&w);
}

static void test_bad_token(void **state) {
    (void)state;
    static struct world w;
    static struct responses r;
    world_open(&w);
    responses_init(&r);
    w.tokens[2][0] = VOCABULARY;
    struct decoder_options o = {.sequences = 16, .max_prompt = LONGEST, .max_new_tokens = NEW};
    struct workspace workspace;
    struct decoder *d;
    int64_t bytes;
    assert_int_equal(decoder_bytes(&w.model->config, &w.backend->caps, &o, &bytes), OK);
    assert_int_equal(workspace_open(w.backend, bytes, &workspace), OK);
    assert_int_equal(decoder_open(w.model, &workspace, &o, &d), OK);
    assert_int_equal(decoder_run(d, w.prompts, ROWS, r.of, NULL, NULL), ERR_DATA);
    assert_non_null(strstr(status_message()->text, "row 2"));
    decoder_close(d);
    workspace_close(&workspace);
    world_close(&w);
}

/* A token whose embedding is not a number breaks the responses that meet it, and no others. */
static void test_broken(void **state) {
    (void)state;
    static struct world w;
    static struct responses sound, some;
    float nan[64];
    int broken = 0;
    world_open(&w);
    responses_init(&sound);
    responses_init(&some);
    run(&w, (struct decoder_options){.sequences = 16}, w.prompts, ROWS, sound.of);
    for (int j = 0; j < COUNT_OF(nan); j++) {
        nan[j] = NAN;
    }
    int32_t token = w.tokens[3][0];
    assert_string_equal(w.model->base->parameters[0].name, "model.embed_tokens.weight");
    assert_int_equal(arena_write(w.model->base, 0, token * COUNT_OF(nan), COUNT_OF(nan), nan), OK);
    assert_int_equal(arena_refresh(w.model->base), OK);
    run(&w, (struct decoder_options){.sequences = 16}, w.prompts, ROWS, some.of);
    assert_true(some.of[3].broken);
    assert_int_equal(some.of[3].count, 0);
    for (int i = 0; i < ROWS; i++) {
        broken += some.of[i].broken;
        assert_memory_equal(sound.tokens[i], some.tokens[i], (size_t)some.of[i].count * sizeof(int32_t));
        assert_true(some.of[i].broken || some.of[i].count == NEW);
    }
    assert_in_range(broken, 1, ROWS - 1);
    world_close(&w);
}

/* Each token of prompt and response is divided or multiplied by the penalty once. */
static void test_penalty(void **state) {
    (void)state;
    static struct world w;
    static struct responses r;
    const float penalty = 1.7f;
    world_open(&w);
    responses_init(&r);
    run(&w, (struct decoder_options){.sequences = 5, .repetition_penalty = 1.7}, w.prompts, ROWS, r.of);
    for (int i = 0; i < ROWS; i++) {
        for (int t = 0; t < NEW; t++) {
            float logits[VOCABULARY], largest = -INFINITY;
            bool seen[VOCABULARY] = {0};
            whole_pass(&w, &w.prompts[i], r.tokens[i], t, logits);
            for (int k = 0; k < w.prompts[i].count + t; k++) {
                int32_t id = k < w.prompts[i].count ? w.tokens[i][k] : r.tokens[i][k - w.prompts[i].count];
                logits[id] = seen[id]         ? logits[id]
                             : logits[id] > 0 ? logits[id] / penalty
                                              : logits[id] * penalty;
                seen[id] = true;
            }
            for (int v = 0; v < VOCABULARY; v++) {
                largest = fmaxf(largest, logits[v]);
            }
            assert_true(logits[r.tokens[i][t]] >= largest - 1e-4f * fabsf(largest));
        }
    }
    world_close(&w);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_greedy_is_arg_max), cmocka_unit_test(test_company_does_not_matter),
        cmocka_unit_test(test_unsteady),          cmocka_unit_test(test_barred),
        cmocka_unit_test(test_bad_token),         cmocka_unit_test(test_broken),
        cmocka_unit_test(test_penalty),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
