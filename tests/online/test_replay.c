/* Rollouts of every method that PyTorch took the updates of (fixtures/replay_rollouts.py): here a batch of
 * the same samples goes through the step and the optimizer, and each update's loss and gradient norm are
 * PyTorch's. */
#include "tests/model_fixture.h"

#include "train/step.h"

enum { MOST = 16, MOST_TOKENS = 64, UPDATES = 3 };
static const double TOLERANCE = 1e-4;

static struct backend *backend;

/* A batch of one forest. Arrays are the batch's, as a source would fill them. */
struct rollout_case {
    struct terms terms;
    double rate, clip, temperature;
    int64_t n_updates;
    double loss[UPDATES], norm[UPDATES];
    struct batch batch;
    struct sample samples[MOST];
    struct sample_response responses[MOST];
    struct sample_pair pairs[MOST];
    int32_t prompts[MOST][MOST_TOKENS], tokens[MOST][MOST_TOKENS];
    struct forest_cut cut;
};

static double number_of(const json_t *object, const char *key) {
    return json_number_value(json_object_get(object, key));
}

static int32_t take_ids(const json_t *list, int32_t *out) {
    int32_t n = (int32_t)json_array_size(list);
    assert_true(n <= MOST_TOKENS);
    for (int32_t i = 0; i < n; i++) {
        out[i] = (int32_t)json_integer_value(json_array_get(list, (size_t)i));
    }
    return n;
}

static void take_terms(const json_t *c, struct rollout_case *out) {
    const char *method = json_string_value(json_object_get(c, "method"));
    struct policy_options o = policy_defaults();
    double beta = number_of(c, "beta");
    o.beta =
        strcmp(method, "rloo") == 0 || strcmp(method, "ppo") == 0 ? 0 : beta; /* theirs is in the reward */
    o.clip_low = number_of(c, "clip_low");
    o.clip_high = number_of(c, "clip_high");
    o.sequence_level = json_is_true(json_object_get(c, "sequence"));
    o.max_tokens = (int64_t)number_of(c, "max_tokens");
    o.value_weight = number_of(c, "value_weight");
    o.value_clip = number_of(c, "value_clip");
    out->terms = (struct terms){.policy = o, .options = {.beta = beta}};
    MUST(policy_terms(method, json_string_value(json_object_get(c, "loss")), number_of(c, "alpha"),
                      &out->terms));
    if (out->terms.rows == OVER_PAIRS) {
        MUST(terms_check(&out->terms, 0));
        out->terms.has_reference = true;
    }
}

/* A row: a prompt with those of the responses that the list names, which stand behind the earlier rows'. */
static void take_row(const json_t *row, const json_t *responses, struct rollout_case *out) {
    struct batch *b = &out->batch;
    bool is_paired = out->terms.rows == OVER_PAIRS;
    int64_t i = b->n++, first = b->first[i];
    struct sample *s = &out->samples[i];
    *s = (struct sample){.row = i,
                         .n_responses = (int32_t)json_array_size(row),
                         .n_pairs = is_paired,
                         .target = out->terms.rows == OVER_GROUPS ? -1 : 0,
                         .subset = -1,
                         .prompt = out->prompts[i],
                         .responses = &out->responses[first],
                         .pairs = &out->pairs[i]};
    out->pairs[i] = (struct sample_pair){.chosen = 0, .rejected = 1, .margin = NAN, .label = 1};
    b->first[i + 1] = first + s->n_responses;
    assert_true(b->first[i + 1] <= MOST);
    for (int32_t j = 0; j < s->n_responses; j++) {
        json_int_t k = json_integer_value(json_array_get(row, (size_t)j));
        const json_t *r = json_array_get(responses, (size_t)k);
        s->prompt_count = take_ids(json_object_get(r, "prompt"), out->prompts[i]);
        s->responses[j] = (struct sample_response){.id = k, .tokens = out->tokens[first + j], .score = NAN};
        s->responses[j].count = take_ids(json_object_get(r, "tokens"), out->tokens[first + j]);
    }
}

/* Numbers by token, where the first response has them. */
static void take_numbers(const json_t *responses, const char *key, struct rollout_case *c, double **out) {
    struct batch *b = &c->batch;
    if (!json_object_get(json_array_get(responses, 0), key)) {
        return;
    }
    mem_free(*out);
    MUST(batch_token_array(b, out));
    for (int64_t k = 0; k < b->first[b->n]; k++) {
        const json_t *list = json_object_get(json_array_get(responses, (size_t)c->responses[k].id), key);
        for (int64_t t = b->token_first[k]; t < b->token_first[k + 1]; t++) {
            (*out)[t] = json_number_value(json_array_get(list, (size_t)(t - b->token_first[k])));
        }
    }
}

static void take_batch(const json_t *c, struct rollout_case *out) {
    const json_t *responses = json_object_get(c, "responses"), *row;
    struct batch *b = &out->batch;
    size_t i;
    *b = (struct batch){.samples = out->samples, .cuts = &out->cut, .n_cuts = 1};
    MUST(NEW_ARRAY(b->first, MOST + 1));
    json_array_foreach(json_object_get(c, "rows"), i, row) {
        take_row(row, responses, out);
    }
    int64_t n = b->first[b->n];
    MUST(batch_place_tokens(b));
    take_numbers(responses, "old", out, &b->token_old);
    take_numbers(responses, "reference", out, &b->token_reference);
    take_numbers(responses, "advantages", out, &b->token_advantage);
    take_numbers(responses, "values", out, &b->token_old_value);
    take_numbers(responses, "returns", out, &b->token_return);
    MUST(NEW_ARRAY(b->advantage, n));
    MUST(NEW_ARRAY(b->reference, n));
    for (int64_t k = 0; k < n; k++) {
        b->advantage[k] = number_of(json_array_get(responses, (size_t)out->responses[k].id), "advantage");
        for (int64_t t = b->token_first[k]; t < b->token_first[k + 1]; t++) {
            b->reference[k] += b->token_reference[t];
        }
    }
    bool is_group = out->terms.rows == OVER_GROUPS;
    b->global_responses = (double)n;
    b->place.count = b->n;
    for (int64_t k = 0; k < b->n; k++) {
        b->target_tokens += is_group ? 0 : sample_scored(&out->samples[k], 0);
    }
    b->global_target_tokens = (double)(is_group ? b->token_first[n] : b->target_tokens);
    out->cut = (struct forest_cut){.last = b->n};
}

static void case_free(struct rollout_case *c) {
    c->batch.samples = NULL; /* the case's own */
    c->batch.cuts = NULL;
    batch_free(&c->batch);
}

static void take_case(const json_t *c, struct rollout_case *out) {
    const json_t *updates = json_object_get(c, "updates");
    *out = (struct rollout_case){.rate = number_of(c, "rate"),
                                 .clip = number_of(c, "clip_norm"),
                                 .temperature = number_of(c, "temperature"),
                                 .n_updates = (int64_t)json_array_size(updates)};
    assert_true(out->n_updates >= 1 && out->n_updates <= UPDATES);
    for (int64_t i = 0; i < out->n_updates; i++) {
        const json_t *update = json_array_get(updates, (size_t)i);
        out->loss[i] = json_number_value(json_array_get(update, 0));
        out->norm[i] = json_number_value(json_array_get(update, 1));
    }
    take_terms(c, out);
    take_batch(c, out);
}

static void compare(const char *name, int64_t update, const char *what, double own, double expected) {
    if (!(fabs(own - expected) <= TOLERANCE * fmax(.1, fabs(expected)))) {
        FAIL("%s, update %d: %s %.9g, PyTorch's %.9g", name, (int)update + 1, what, own, expected);
    }
}

static void run_case(const char *name, struct rollout_case *c) {
    char path[600];
    struct model *m;
    struct workspace w;
    struct optimizer optimizer;
    struct step step;
    const struct model_folder_options options = {.value_head = c->terms.reads & READS_TOKEN_VALUE};
    snprintf(path, sizeof path, "%s/dpo_steps/model", fixtures());
    MUST(model_folder_open(world, backend, path, &options, &m));
    m->config.logit_scale /= c->terms.rows == OVER_GROUPS ? c->temperature : 1;
    MUST(arena_need_gradients(m->trained));
    MUST(workspace_open(backend, 32 << 20, &w));
    struct shard_map whole = shard_map_whole(m->trained->elements);
    const struct optimizer_options adam = {
        .kind = OPTIMIZER_ADAMW, .learning_rate = c->rate, .beta1 = .9, .beta2 = .999, .epsilon = 1e-8};
    MUST(optimizer_open(m->trained, &adam, &whole, &optimizer));
    const struct step_parts parts = {world, &w, m, &optimizer, &c->terms};
    const struct step_options how = {
        .slots = 1, .deterministic = true, .keep = KEEP_ALL, .bucket_bytes = 1 << 20, .clip = c->clip};
    MUST(step_open(&parts, &how, &step));
    for (int64_t i = 0; i < c->n_updates; i++) {
        struct verdict v;
        c->batch.step = i;
        MUST(step_run(&step, &c->batch, &(struct wish){0}, &v));
        compare(name, i, "loss", objective_value(&c->terms, &v.sums), c->loss[i]);
        compare(name, i, "gradient norm", v.grad_norm, c->norm[i]);
        MUST(step_update(&step, &v, 1));
    }
    step_close(&step);
    optimizer_close(&optimizer);
    workspace_close(&w);
    model_close(m);
}

static void test_replays(void **state) {
    (void)state;
    static char line[1 << 17];
    char path[600];
    int cases = 0;
    snprintf(path, sizeof path, "%s/replay.jsonl", fixtures());
    FILE *file = fopen(path, "r");
    assert_non_null(file);
    while (fgets(line, sizeof line, file)) {
        struct rollout_case c;
        json_t *object;
        MUST(json_parse(line, strlen(line), "replay.jsonl", &object));
        take_case(object, &c);
        run_case(json_string_value(json_object_get(object, "name")), &c);
        case_free(&c);
        json_decref(object);
        cases++;
    }
    fclose(file);
    assert_true(cases >= 16);
}

int main(int argc, char **argv) {
    if (comm_start(&argc, &argv, &world) != OK) {
        return 1;
    }
    backend = open_backend(test_device());
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_replays)};
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    backend_close(backend);
    comm_finish(world);
    return failed;
}
