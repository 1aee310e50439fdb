/* One forward: the log-probability that a token was drawn with, the one that scoring gives for the same
 * tokens, and the one that a training step computes are the same bits, for every family, batch and thread
 * count, in fp32 and (COLLIMATE_TEST_COMPUTE, _PRODUCTS) in bf16; so are those of the reference beside it,
 * and rules at their ends are the voices themselves. */
#include "tests/model_fixture.h"

#include <string.h>

#include "decode/decoder.h"
#include "score/scorer.h"

enum { PROMPTS = 5, SAMPLES = 3, ROWS = PROMPTS * SAMPLES, LONGEST = 150, NEW = 9 };

struct drawn_text {
    int32_t tokens[ROWS][NEW];
    struct token_numbers numbers[ROWS][NEW];
    struct response_tokens of[ROWS];
};

static int32_t prompts[PROMPTS][LONGEST], counts[PROMPTS];

/* One of more than a tile of keys, one of a single token. */
static void make_prompts(int64_t vocabulary, int64_t positions) {
    static const int32_t lengths[PROMPTS] = {140, 1, 17, 30, 8};
    for (int i = 0; i < PROMPTS; i++) {
        counts[i] = positions > 0 && lengths[i] + NEW > positions ? (int32_t)positions - NEW : lengths[i];
        for (int t = 0; t < counts[i]; t++) {
            struct rng r = rng_stream(6, RNG_CHECK, i, t);
            prompts[i][t] = (int32_t)rng_below(&r, vocabulary);
        }
    }
}

static void decode(struct model *m, struct model *reference, struct rule rule, int sequences,
                   struct drawn_text *out) {
    const struct decoder_options o = {.sampling = {.temperature = 1, .top_p = 1},
                                      .rule = rule,
                                      .voices = {[VOICE_REFERENCE] = reference},
                                      .seed = 3,
                                      .sequences = sequences,
                                      .max_prompt = counts[0],
                                      .max_new_tokens = NEW};
    struct prompt in[ROWS];
    struct workspace w;
    struct decoder *d;
    int64_t bytes;
    for (int i = 0; i < ROWS; i++) {
        int p = i / SAMPLES;
        in[i] = (struct prompt){.row = p, .sample = i % SAMPLES, .tokens = prompts[p], .count = counts[p]};
        out->of[i] = (struct response_tokens){.tokens = out->tokens[i], .numbers = out->numbers[i]};
    }
    MUST(decoder_bytes(&m->config, &m->backend->caps, &o, &bytes));
    MUST(workspace_open(m->backend, bytes, &w));
    MUST(decoder_open(m, &w, &o, &d));
    MUST(decoder_run(d, in, ROWS, out->of, NULL, NULL));
    decoder_close(d);
    workspace_close(&w);
}

/* Prompts [first, last) with their responses in one forest; the logps of their tokens, NEW apart. */
static void score(struct model *m, enum pass_keep keep, int first, int last, const struct drawn_text *text,
                  double *logps) {
    struct sample samples[PROMPTS];
    struct sample_response responses[ROWS];
    struct workspace w;
    struct scorer s;
    int64_t bytes;
    int32_t tokens = 0;
    for (int p = first; p < last; p++) {
        for (int j = 0; j < SAMPLES; j++) {
            responses[p * SAMPLES + j] =
                (struct sample_response){.tokens = text->tokens[p * SAMPLES + j], .count = NEW};
        }
        samples[p] = (struct sample){.row = p,
                                     .n_responses = SAMPLES,
                                     .prompt = prompts[p],
                                     .prompt_count = counts[p],
                                     .responses = responses + p * SAMPLES};
        tokens += counts[p] + SAMPLES * NEW;
    }
    MUST(arena_need_gradients(m->trained));
    MUST(pass_bytes(&m->config, &m->backend->caps, keep, tokens, tokens, &bytes));
    MUST(workspace_open(m->backend, bytes, &w));
    MUST(scorer_open(m, &w, keep, &s));
    MUST(scorer_run(&s, samples + first, last - first));
    for (int64_t i = 0; i < s.forest.n_readouts; i++) {
        logps[first * SAMPLES * NEW + i] = s.tokens.logp[i];
    }
    scorer_close(&s);
    workspace_close(&w);
}

static void assert_same_logps(const char *name, const char *what, const struct drawn_text *text,
                              const double *want, bool of_reference) {
    for (int i = 0; i < ROWS; i++) {
        for (int t = 0; t < NEW; t++) {
            const struct token_numbers *n = &text->numbers[i][t];
            double got = of_reference ? n->reference_logp : n->logp;
            if (got != want[i * NEW + t]) {
                FAIL("%s, %s: row %d, token %d: drawn with %.9g, not %.9g", name, what, i, t, got,
                     want[i * NEW + t]);
            }
        }
    }
}

/* All of what is drawn has the same bits. */
static void assert_same_text(const char *name, const struct drawn_text *a, const struct drawn_text *b) {
    for (int i = 0; i < ROWS; i++) {
        assert_int_equal(a->of[i].count, NEW);
        if (memcmp(a->tokens[i], b->tokens[i], sizeof a->tokens[i]) != 0 ||
            memcmp(a->numbers[i], b->numbers[i], sizeof a->numbers[i]) != 0) {
            FAIL("%s: row %d was decoded otherwise in other company", name, i);
        }
    }
}

static double logps[ROWS * NEW];
static struct drawn_text text, other;

static void check_policy(struct model *m, const char *name) {
    decode(m, NULL, (struct rule){0}, 16, &text);
    static const int batches[] = {1, 2, 5, 7, 64};
    for (int i = 0; i < COUNT_OF(batches); i++) {
        decode(m, NULL, (struct rule){0}, batches[i], &other);
        assert_same_text(name, &text, &other);
    }
    score(m, KEEP_NOTHING, 0, PROMPTS, &text, logps);
    assert_same_logps(name, "scored together", &text, logps, false);
    for (int p = 0; p < PROMPTS; p++) {
        score(m, KEEP_NOTHING, p, p + 1, &text, logps);
    }
    assert_same_logps(name, "scored one by one", &text, logps, false);
    score(m, KEEP_ALL, 0, 2, &text, logps);
    score(m, KEEP_INPUTS, 2, PROMPTS, &text, logps);
    assert_same_logps(name, "in training steps", &text, logps, false);
}

static void check_reference(struct model *m, struct model *reference, const char *name) {
    const struct rule half = {.kind = RULE_MIX, .mix = .5}, off = {.kind = RULE_MIX, .mix = 0};
    decode(m, reference, half, 6, &text);
    score(reference, KEEP_NOTHING, 0, PROMPTS, &text, logps);
    assert_same_logps(name, "the reference", &text, logps, true);
    for (int i = 0; i < ROWS; i++) {
        for (int t = 0; t < NEW; t++) {
            const struct token_numbers *n = &text.numbers[i][t];
            assert_true(n->drawn_logp == n->logp && n->kl > 0);
        }
    }
    /* All of the way to the reference: its own text, KL 0. */
    decode(m, reference, off, 16, &text);
    decode(reference, NULL, (struct rule){0}, 16, &other);
    for (int i = 0; i < ROWS; i++) {
        assert_memory_equal(text.tokens[i], other.tokens[i], sizeof text.tokens[i]);
        for (int t = 0; t < NEW; t++) {
            const struct token_numbers *n = &text.numbers[i][t];
            assert_true(n->kl == 0 && n->drawn_logp == n->reference_logp);
        }
    }
}

static struct backend *with_threads(int threads) {
    char why[256];
    struct backend *b;
    const char *compute = getenv("COLLIMATE_TEST_COMPUTE"), *products = getenv("COLLIMATE_TEST_PRODUCTS");
    const struct backend_request request = {.device = "cpu",
                                            .compute = compute ? compute : "fp32",
                                            .device_index = -1,
                                            .threads = threads,
                                            .products = products,
                                            .deterministic = true};
    MUST(backend_open(&request, &b, why));
    return b;
}

/* m, and the same model on one thread. */
static void check_both(struct model *m, struct model *again, const char *name) {
    static struct drawn_text with_one;
    struct model *reference;
    /* Dynamic and longrope turn by the length of the whole sequence, which a decoder does not know before its
     * end. */
    int64_t most = model_rope_break(&m->config);
    make_prompts(m->config.vocabulary, most < INT64_MAX ? most : model_positions(&m->config));
    check_policy(m, name);
    decode(again, NULL, (struct rule){0}, 3, &with_one);
    decode(m, NULL, (struct rule){0}, 16, &text);
    assert_same_text(name, &text, &with_one);
    MUST(model_open(m->backend, &m->config, &reference));
    MUST(arena_initialize(reference->base, 11));
    check_reference(m, reference, name);
    model_close(reference);
}

static void test_families(void **state) {
    (void)state;
    struct backend *one = with_threads(1), *three = with_threads(3);
    for (int i = 0; i < COUNT_OF(language_models); i++) {
        char folder[512];
        struct model *m, *again;
        snprintf(folder, sizeof folder, "%s/models/%s", fixtures(), language_models[i]);
        MUST(model_folder_open(world, three, folder, NULL, &m));
        MUST(model_folder_open(world, one, folder, NULL, &again));
        check_both(m, again, language_models[i]);
        model_close(again);
        model_close(m);
    }
    backend_close(one);
    backend_close(three);
}

/* More than one piece of a product's inner dimension, more than one slab of logits, odd numbers of them. */
static void test_large(void **state) {
    (void)state;
    static const char text_of[] =
        "{\"architectures\": [\"LlamaForCausalLM\"], \"model_type\": \"llama\", \"vocab_size\": 4103,"
        " \"hidden_size\": 330, \"intermediate_size\": 601, \"num_hidden_layers\": 1,"
        " \"num_attention_heads\": 5, \"head_dim\": 66, \"num_key_value_heads\": 1,"
        " \"max_position_embeddings\": 256, \"rms_norm_eps\": 1e-5, \"initializer_range\": 0.1,"
        " \"rope_theta\": 10000.0, \"hidden_act\": \"silu\"}";
    struct backend *one = with_threads(1), *three = with_threads(3);
    struct model *m, *again;
    struct model_config config;
    MUST(model_config_parse(text_of, strlen(text_of), "test", &config));
    MUST(model_open(three, &config, &m));
    MUST(model_open(one, &config, &again));
    MUST(arena_initialize(m->base, 5));
    MUST(arena_initialize(again->base, 5));
    check_both(m, again, "large");
    model_close(again);
    model_close(m);
    backend_close(one);
    backend_close(three);
}

int main(int argc, char **argv) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_families), cmocka_unit_test(test_large)};
    if (comm_start(&argc, &argv, &world) != OK) {
        return 1;
    }
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    comm_finish(world);
    return failed;
}
