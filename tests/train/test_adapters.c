/* Adapters against PEFT (fixtures/make_lora_fixtures.py): log-probabilities with and without them, the loss,
 * the gradient of every tensor, five AdamW steps; files written and read again; merging; dropout. */
#include "tests/model_fixture.h"

#include <unistd.h>

#include "store/adapter_folder.h"
#include "tests/backend/reference/reference_backend.h"
#include "train/optimizer.h"
#include "util/rng.h"

enum { STEPS = 5 };
static const char *const language[] = {"llama", "llama-bias", "neox",    "neox-sequential", "gpt2",
                                       "qwen2", "qwen3",      "phi",     "gemma2",          "mistral",
                                       "phi3",  "olmo2",      "granite", "gemma3"};

struct adapted {
    struct fixture f;
    char folder[512]; /* of the adapter */
    json_t *config;
    struct lora *lora;
};

/* The adapter of a fixture on its model, whose base is of this kind; trained. */
static void adapted_open(struct adapted *a, struct backend *b, const char *name, enum arena_kind base,
                         double dropout) {
    struct fixture *f = &a->f;
    struct lora_layout layout;
    char path[600];
    *a = (struct adapted){0};
    snprintf(a->folder, sizeof a->folder, "%s/adapters/%s", fixtures(), name);
    snprintf(path, sizeof path, "%s/expected.json", a->folder);
    MUST(json_load(path, &f->expected));
    snprintf(f->folder, sizeof f->folder, "%s/models/%s", fixtures(),
             json_string_value(json_object_get(f->expected, "model")));
    bool is_score = strstr(name, "-score") != NULL;
    const struct model_folder_options options = {.head = model_head_for(is_score), .kind = base};
    MUST(model_folder_open(world, b, f->folder, &options, &f->model));
    MUST(adapter_config_read(a->folder, &a->config));
    MUST(adapter_config_layout(a->config, a->folder, true, &f->model->config, &layout));
    layout.dropout = dropout;
    MUST(lora_open(f->model, &layout, ARENA_TRAINED, 0, &a->lora));
    lora_layout_free(&layout);
    MUST(adapter_folder_read(a->folder, a->lora));
    MUST(arena_need_gradients(f->model->trained));
    MUST(workspace_open(b, 16 << 20, &f->w));
    f->rows = (int)json_array_size(json_object_get(f->expected, "rows"));
}

static void adapted_close(struct adapted *a) {
    json_decref(a->config);
    fixture_close(&a->f);
}

/* Log-probabilities of a row's response, as PEFT gives them. */
static double wanted_sum(const struct fixture *f, const char *side, int row) {
    const json_t *list = json_array_get(json_object_get(f->expected, side), (size_t)row);
    double sum = 0;
    for (size_t i = 0; i < json_array_size(list); i++) {
        sum += json_number_value(json_array_get(list, i));
    }
    return json_is_array(list) ? sum : json_number_value(list);
}

/* fp32 sums of some thousand products each: 1e-5 is a hundred roundings of a log-probability of size 5. */
static void check_logps(struct fixture *f, const char *name, const char *chosen, const char *rejected) {
    double logps[MOST_READOUTS];
    make_forest(f, 0, f->rows, true);
    logps_of(f, logps);
    for (int i = 0; i < f->rows; i++) {
        const double got[] = {segment_sum(f, f->chosen[i], logps), segment_sum(f, f->rejected[i], logps)};
        const double want[] = {wanted_sum(f, chosen, i), wanted_sum(f, rejected, i)};
        for (int k = 0; k < 2; k++) {
            if (!(fabs(got[k] - want[k]) <= 1e-4)) {
                FAIL("%s: row %d side %d: %.9g, PEFT has %.9g", name, i, k, got[k], want[k]);
            }
        }
    }
}

/* All gradients beside those of the fixture, in the file's order; relative to the tensor's largest. */
static void check_gradients(struct adapted *a, const char *name) {
    struct arena *arena = lora_arena(a->lora);
    struct arena as_values = *arena; /* so that reading undoes the file's order */
    struct safetensors *file;
    char path[600];
    snprintf(path, sizeof path, "%s/gradients.safetensors", a->folder);
    MUST(safetensors_open_file(path, &file));
    assert_int_equal(safetensors_count(file), arena->n);
    as_values.master = arena->gradients;
    for (int i = 0; i < arena->n; i++) {
        const struct stored_tensor *t = safetensors_find(file, arena->parameters[i].name);
        float *got, *want, largest = 0;
        assert_non_null(t);
        MUST(NEW_ARRAY(got, t->elements));
        MUST(NEW_ARRAY(want, t->elements));
        MUST(arena_read(&as_values, i, 0, t->elements, got));
        MUST(safetensors_read(file, t, 0, t->elements, want));
        for (int64_t k = 0; k < t->elements; k++) {
            largest = fmaxf(largest, fabsf(want[k]));
        }
        assert_true(largest > 0);
        for (int64_t k = 0; k < t->elements; k++) {
            if (!(fabsf(got[k] - want[k]) <= 2e-4F * largest + 1e-8F)) {
                FAIL("%s: gradient of %s[%lld]: %.8g, PEFT has %.8g", name, t->name, (long long)k,
                     (double)got[k], (double)want[k]);
            }
        }
        mem_free(got);
        mem_free(want);
    }
    safetensors_close(file);
}

/* sum of -log sigma(chosen - rejected) / rows of a score head, with its gradient. */
static double value_step(struct fixture *f) {
    double values[2 * MOST_ROWS], weights[2 * MOST_ROWS], loss = 0;
    int32_t at[2 * MOST_ROWS];
    struct pass *p;
    forest_clear(&f->forest);
    for (int i = 0; i < f->rows; i++) {
        int32_t prompt = add_segment(f, -1, i, "prompt");
        f->chosen[i] = add_segment(f, prompt, i, "chosen");
        f->rejected[i] = add_segment(f, prompt, i, "rejected");
        const int32_t both[] = {f->chosen[i], f->rejected[i]};
        for (int k = 0; k < 2; k++) {
            const struct segment *s = &f->forest.segments[both[k]];
            at[2 * i + k] = s->first + s->count - 1;
        }
    }
    finish_forest(f);
    MUST(arena_zero_gradients(f->model->trained));
    MUST(pass_open(f->model, &f->w, KEEP_ALL, &p));
    MUST(pass_forward(p, &f->forest));
    MUST(pass_values(p, at, 2 * f->rows, values));
    for (int i = 0; i < f->rows; i++) {
        double h = values[2 * i] - values[2 * i + 1], g = -1 / (1 + exp(h)) / f->rows;
        loss += log1p(exp(-h)) / f->rows;
        weights[2 * i] = g;
        weights[2 * i + 1] = -g;
    }
    MUST(pass_backward(p, &(struct readout_gradients){.values = weights}, NULL, NULL));
    pass_close(p);
    return loss;
}

static double one_step(struct fixture *f, int step) {
    return f->model->config.head == HEAD_SCORE ? value_step(f)
                                               : dpo_step(f, step % 2 ? KEEP_INPUTS : KEEP_ALL, 0, f->rows);
}

static void near_loss(const char *name, int step, double got, double want) {
    if (!(fabs(got - want) <= 2e-5 * (1 + want))) {
        FAIL("%s: loss of step %d: %.9g, PEFT has %.9g", name, step, got, want);
    }
}

static void check_steps(struct adapted *a, const char *name) {
    struct fixture *f = &a->f;
    struct optimizer o;
    const struct optimizer_options options = {.kind = OPTIMIZER_ADAMW,
                                              .learning_rate = number(f, "rate"),
                                              .beta1 = 0.9,
                                              .beta2 = 0.95,
                                              .epsilon = 1e-8,
                                              .weight_decay = number(f, "decay")};
    struct shard_map whole = shard_map_whole(f->model->trained->elements);
    MUST(optimizer_open(f->model->trained, &options, &whole, &o));
    for (int step = 0; step < STEPS; step++) {
        near_loss(name, step, one_step(f, step), element(f, "adamw_losses", step));
        MUST(optimizer_update(&o, 1, 1));
    }
    optimizer_close(&o);
}

static void check_adapter(struct backend *b, const char *name) {
    struct adapted a;
    uint64_t before, after;
    adapted_open(&a, b, name, ARENA_FROZEN, 0);
    struct fixture *f = &a.f;
    MUST(arena_hash(f->model->base, &before));
    if (f->model->config.head == HEAD_LANGUAGE) {
        check_logps(f, name, "chosen", "rejected");
        lora_use(f->model, NULL);
        assert_null(f->model->trained);
        check_logps(f, name, "reference_chosen", "reference_rejected");
        lora_use(f->model, a.lora);
    }
    near_loss(name, -1, one_step(f, 0), number(f, "loss"));
    check_gradients(&a, name);
    near_loss(name, -2, one_step(f, 1), number(f, "loss")); /* activations made anew */
    check_gradients(&a, name);
    check_steps(&a, name);
    MUST(arena_hash(f->model->base, &after));
    assert_true(before == after);
    assert_null(f->model->base->gradients.data);
    adapted_close(&a);
}

static void test_parity(void **state) {
    (void)state;
    const char *names[2];
    int n = devices(names);
    for (int i = 0; i < n; i++) {
        struct backend *b = open_backend(names[i]);
        for (int k = 0; k < COUNT_OF(language); k++) {
            check_adapter(b, language[k]);
        }
        check_adapter(b, "llama-score");
        backend_close(b);
    }
}

/* Written and read again: the same bits, the same modules. */
static void test_files(void **state) {
    (void)state;
    struct backend *b = open_backend("cpu");
    for (int k = 0; k < COUNT_OF(language); k++) {
        struct adapted a;
        struct lora_layout layout;
        struct lora *again;
        json_t *config;
        uint64_t hashes[2];
        char folder[] = "/tmp/adapterXXXXXX", path[64];
        assert_non_null(mkdtemp(folder));
        adapted_open(&a, b, language[k], ARENA_FROZEN, 0);
        const struct adapter_save save = {.config = a.config, .type = STORED_F32};
        MUST(adapter_folder_save(world, a.lora, folder, &save));
        MUST(adapter_config_read(folder, &config));
        MUST(adapter_config_layout(config, folder, true, &a.f.model->config, &layout));
        MUST(lora_open(a.f.model, &layout, ARENA_TRAINED, 0, &again));
        MUST(adapter_folder_read(folder, again));
        MUST(adapter_hash(a.lora, &hashes[0]));
        MUST(adapter_hash(again, &hashes[1]));
        assert_true(hashes[0] == hashes[1]);
        check_logps(&a.f, language[k], "chosen", "rejected");
        lora_layout_free(&layout);
        json_decref(config);
        adapted_close(&a);
        const char *const files[] = {"adapter_config.json", "adapter_model.safetensors"};
        for (int i = 0; i < COUNT_OF(files); i++) {
            snprintf(path, sizeof path, "%s/%s", folder, files[i]);
            assert_int_equal(unlink(path), 0);
        }
        assert_int_equal(rmdir(folder), 0);
    }
    backend_close(b);
}

/* The base with the adapters in its weights says what both say together. */
static void test_merge(void **state) {
    (void)state;
    struct backend *b = open_backend("cpu");
    for (int k = 0; k < COUNT_OF(language); k++) {
        struct adapted a;
        adapted_open(&a, b, language[k], ARENA_TRAINED, 0);
        MUST(lora_merge(a.f.model, a.lora));
        lora_use(a.f.model, NULL);
        check_logps(&a.f, language[k], "chosen", "rejected");
        adapted_close(&a);
    }
    backend_close(b);
}

/* Loss with dropout on. gradients: also into the arena. */
static double dropped_loss(struct fixture *f, int64_t step, bool gradients) {
    double logps[MOST_READOUTS], weights[MOST_READOUTS];
    struct pass *p;
    MUST(arena_zero_gradients(f->model->trained));
    MUST(pass_open(f->model, &f->w, KEEP_INPUTS, &p));
    pass_drop(p, 3, step);
    MUST(pass_forward(p, &f->forest));
    MUST(pass_logps(p, &(struct token_scores){.logp = logps}));
    double loss = dpo_loss(f, 0, f->rows, logps, weights);
    if (gradients) {
        MUST(pass_backward(p, &(struct readout_gradients){.logp = weights}, NULL, NULL));
    }
    pass_close(p);
    return loss;
}

/* The central difference of fourth order at one entry of the adapters. */
static double difference(struct fixture *f, int64_t at) {
    static const double steps[] = {1, -1, 2, -2}, weights[] = {8, -8, -1, 1}, h = 1e-3;
    struct tensor entry = tensor_columns(f->model->trained->master, at, 1);
    double value, sum = 0;
    MUST(backend_read_doubles(f->model->backend, &value, entry));
    for (int i = 0; i < 4; i++) {
        double moved = value + steps[i] * h;
        MUST(backend_write_doubles(f->model->backend, entry, &moved));
        sum += weights[i] * dropped_loss(f, 7, false);
    }
    MUST(backend_write_doubles(f->model->backend, entry, &value));
    return sum / (12 * h);
}

/* In double, with and without dropout: entries of every tensor. */
static void test_differences(void **state) {
    (void)state;
    static const char *const some[] = {"llama", "neox", "gpt2", "phi3", "gemma2", "mistral", "olmo2"};
    struct backend *b;
    MUST(reference_open(&b));
    for (int k = 0; k < COUNT_OF(some); k++) {
        struct adapted a;
        adapted_open(&a, b, some[k], ARENA_FROZEN, k % 3 == 0 ? 0 : 0.4);
        struct fixture *f = &a.f;
        make_forest(f, 0, f->rows, true);
        dropped_loss(f, 7, true);
        double *gradients = all_gradients(f);
        for (int i = 0; i < f->model->trained->n; i++) {
            const struct parameter *p = &f->model->trained->parameters[i];
            struct rng r = rng_stream(11, RNG_CHECK, i, 0);
            for (int n = 0; n < 2; n++) {
                int64_t at = p->offset + rng_below(&r, p->rows * p->columns);
                double want = difference(f, at);
                if (!(fabs(want - gradients[at]) <= 1e-7 * fabs(want) + 1e-9)) {
                    FAIL("%s: %s[%lld]: backward %.12g, difference %.12g", some[k], p->name,
                         (long long)(at - p->offset), gradients[at], want);
                }
            }
        }
        mem_free(gradients);
        adapted_close(&a);
    }
    backend_close(b);
}

/* The DPO loss of all rows, a forest each. */
static double in_parts(struct fixture *f, int64_t step) {
    double parts = 0;
    int rows = f->rows;
    for (int i = rows; i-- > 0;) {
        double logps[MOST_READOUTS], weights[MOST_READOUTS];
        struct pass *p;
        make_forest(f, i, i + 1, true);
        MUST(pass_open(f->model, &f->w, KEEP_NOTHING, &p));
        pass_drop(p, 3, step);
        MUST(pass_forward(p, &f->forest));
        MUST(pass_logps(p, &(struct token_scores){.logp = logps}));
        parts += dpo_loss(f, i, i + 1, logps, weights) / rows;
        pass_close(p);
    }
    return parts;
}

/* What is dropped is a function of row, place and step: the same in forests of any rows, another in another
 * step. Inputs keep their mean, so that over many steps the loss is near the one without. */
static void test_dropout(void **state) {
    (void)state;
    static const double rates[] = {0.25, 0, 0.05};
    struct backend *b;
    MUST(reference_open(&b));
    for (int i = 0; i < COUNT_OF(rates); i++) {
        struct adapted a;
        adapted_open(&a, b, "llama", ARENA_FROZEN, rates[i]);
        struct fixture *f = &a.f;
        double none = number(f, "loss"), mean = 0;
        make_forest(f, 0, f->rows, true);
        double all = dropped_loss(f, 2, false);
        assert_true(all == dropped_loss(f, 2, false));
        assert_true(rates[i] == 0 ? fabs(all - none) < 1e-5 : fabs(all - dropped_loss(f, 3, false)) > 1e-6);
        for (int step = 0; step < 100; step++) {
            mean += dropped_loss(f, step, false) / 100;
        }
        assert_true(rates[i] > 0.1 || fabs(mean - none) < 0.03);
        assert_true(fabs(all - in_parts(f, 2)) < 1e-12);
        adapted_close(&a);
    }
    backend_close(b);
}

int main(int argc, char **argv) {
    if (comm_start(&argc, &argv, &world) != OK) {
        return 1;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_parity),      cmocka_unit_test(test_files),   cmocka_unit_test(test_merge),
        cmocka_unit_test(test_differences), cmocka_unit_test(test_dropout),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    comm_finish(world);
    return failed;
}
