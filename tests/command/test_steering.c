/* A policy that follows users against PyTorch (fixtures/make_steer.py): z, log-probabilities, the loss, the
 * gradient of every tensor, five AdamW steps with two rates; its gradients by finite differences in double
 * through encoder, FiLM, decoder and loss; and what must hold whatever the numbers are. */
#include "tests/model_fixture.h"

#include "few_shot/world.h"
#include "steer/steer_source.h"
#include "steer/steering_folder.h"
#include "store/adapter_folder.h"
#include "tests/backend/reference/reference_backend.h"
#include "train/optimizer.h"
#include "util/rng.h"

enum { USERS = 3, CHOICES = 2, STEPS = 5, WIDTH = 5, HIDDEN = 8, ENTRIES = 2 };
static const double STEP = 3e-4, RELATIVE = 1e-7, ABSOLUTE = 1e-9;

struct steered {
    struct fixture f;
    struct steering steering;
    struct lora *lora;
    float choices[USERS * CHOICES * 2 * WIDTH];
};

static void open_set(struct steered *s, struct lora_layout *layout, const struct steering_training *t) {
    MUST(steering_lay_out(&s->steering, t, layout));
    MUST(lora_open(s->f.model, layout, ARENA_TRAINED, 0, &s->lora));
    lora_layout_free(layout);
    steering_bind(&s->steering, lora_arena(s->lora));
    MUST(arena_need_gradients(s->f.model->trained));
    MUST(workspace_open(s->f.model->backend, 16 << 20, &s->f.w));
}

static void steered_close(struct steered *s) {
    steering_close(&s->steering);
    fixture_close(&s->f);
}

/* The fixture of make_steer.py: the adapter of adapters/llama, the steering of steer/. */
static void open_llama(struct steered *s, struct backend *b) {
    struct fixture *f = &s->f;
    struct lora_layout layout;
    json_t *config;
    char path[700], adapter[600], steer[600];
    *s = (struct steered){0};
    snprintf(f->folder, sizeof f->folder, "%s/models/llama", fixtures());
    snprintf(adapter, sizeof adapter, "%s/adapters/llama", fixtures());
    snprintf(steer, sizeof steer, "%s/steer", fixtures());
    snprintf(path, sizeof path, "%s/expected.json", steer);
    MUST(json_load(path, &f->expected));
    const struct model_folder_options options = {.kind = ARENA_FROZEN};
    MUST(model_folder_open(world, b, f->folder, &options, &f->model));
    MUST(adapter_config_read(adapter, &config));
    MUST(adapter_config_layout(config, adapter, true, &f->model->config, &layout));
    json_decref(config);
    layout.dropout = 0;
    MUST(steering_folder_open(steer, &s->steering));
    const struct steering_training t = {.rate = number(f, "steer_rate") / number(f, "rate"), .users = USERS};
    open_set(s, &layout, &t);
    MUST(adapter_folder_read(adapter, s->lora));
    MUST(steering_folder_read(steer, &s->steering));
    f->rows = (int)json_array_size(json_object_get(f->expected, "rows"));
    for (int i = 0; i < COUNT_OF(s->choices); i++) {
        s->choices[i] = (float)element(f, "choices", i);
    }
}

/* Rows under users by turns. */
static void make_trees(struct fixture *f, int first, int last) {
    make_forest(f, first, last, true);
    for (int i = 0; i < f->forest.n_segments; i++) {
        f->forest.segments[i].condition = (int32_t)(f->forest.segments[i].row % USERS);
    }
}

static double run_loss(struct steered *s, struct pass *p, double *weights) {
    double logps[MOST_READOUTS];
    MUST(steering_encode(&s->steering, USERS, CHOICES, s->choices, NULL));
    pass_condition(p, &s->steering.condition);
    MUST(pass_forward(p, &s->f.forest));
    MUST(pass_logps(p, &(struct token_scores){.logp = logps}));
    return dpo_loss(&s->f, 0, s->f.rows, logps, weights);
}

/* The loss and all gradients. */
static double whole_step(struct steered *s, enum pass_keep keep) {
    double weights[MOST_READOUTS];
    struct pass *p;
    make_trees(&s->f, 0, s->f.rows);
    MUST(arena_zero_gradients(s->f.model->trained));
    MUST(pass_open(s->f.model, &s->f.w, keep, &p));
    double loss = run_loss(s, p, weights);
    MUST(pass_backward(p, &(struct readout_gradients){.logp = weights}, NULL, NULL));
    pass_close(p);
    MUST(steering_backward(&s->steering));
    return loss;
}

static void near(const char *what, int at, double got, double want, double bound) {
    if (!(fabs(got - want) <= bound * (1 + fabs(want)))) {
        FAIL("%s %d: %.12g, PyTorch has %.12g", what, at, got, want);
    }
}

static void check_gradients(const struct steered *s) {
    struct arena as_values = *lora_arena(s->lora);
    struct safetensors *file;
    char path[600];
    snprintf(path, sizeof path, "%s/steer/gradients.safetensors", fixtures());
    MUST(safetensors_open_file(path, &file));
    assert_int_equal(safetensors_count(file), as_values.n);
    as_values.master = as_values.gradients;
    for (int i = 0; i < as_values.n; i++) {
        const struct stored_tensor *t = safetensors_find(file, as_values.parameters[i].name);
        float *got, *want, largest = 0;
        assert_non_null(t);
        MUST(NEW_ARRAY(got, t->elements));
        MUST(NEW_ARRAY(want, t->elements));
        MUST(arena_read(&as_values, i, 0, t->elements, got));
        MUST(safetensors_read(file, t, 0, t->elements, want));
        for (int64_t k = 0; k < t->elements; k++) {
            largest = fmaxf(largest, fabsf(want[k]));
        }
        for (int64_t k = 0; k < t->elements; k++) {
            if (!(fabsf(got[k] - want[k]) <= 1e-4F * largest + 1e-8F)) {
                FAIL("gradient of %s[%lld]: %.8g, PyTorch has %.8g", t->name, (long long)k, (double)got[k],
                     (double)want[k]);
            }
        }
        mem_free(got);
        mem_free(want);
    }
    safetensors_close(file);
}

static void check_steps(struct steered *s) {
    struct fixture *f = &s->f;
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
        double loss = whole_step(s, step % 2 ? KEEP_INPUTS : KEEP_ALL);
        near("loss of step", step, loss, element(f, "adamw_losses", step), 1e-4);
        MUST(optimizer_update(&o, 1, 1));
    }
    optimizer_close(&o);
}

static void test_parity(void **state) {
    const char *names[2];
    (void)state;
    for (int d = 0, n = devices(names); d < n; d++) {
        struct backend *b = open_backend(names[d]);
        struct steered s;
        open_llama(&s, b);
        MUST(steering_encode(&s.steering, USERS, 0, NULL, NULL));
        for (int i = 0; i < USERS * HIDDEN; i++) {
            near("z without choices", i, s.steering.z[i], element(&s.f, "z_without", i % HIDDEN), 1e-9);
        }
        near("loss", 0, whole_step(&s, KEEP_ALL), number(&s.f, "loss"), 2e-5);
        for (int i = 0; i < USERS * HIDDEN; i++) {
            near("z", i, s.steering.z[i], element(&s.f, "z", i), 1e-9);
        }
        check_gradients(&s);
        near("loss", 1, whole_step(&s, KEEP_INPUTS), number(&s.f, "loss"), 2e-5);
        check_gradients(&s);
        check_steps(&s);
        steered_close(&s);
        backend_close(b);
    }
}

/* A model of models/ with new steering, all of whose parameters are random where `random`. */
static void open_shaped(struct steered *s, struct backend *b, const char *name, enum steering_start start,
                        bool random, bool bounded) {
    struct lora_layout layout = {0};
    const struct steering_shape shape = {
        .width = WIDTH, .hidden = HIDDEN, .heads = 2, .layers = 1, .bounded = bounded};
    const struct steering_training t = {.start = start, .deviation = 0.3, .rate = 1, .users = USERS};
    struct fixture *f = &s->f;
    char path[600];
    *s = (struct steered){0};
    snprintf(f->folder, sizeof f->folder, "%s/models/%s", fixtures(), name);
    snprintf(path, sizeof path, "%s/expected.json", f->folder);
    MUST(json_load(path, &f->expected));
    const struct model_folder_options options = {.kind = ARENA_FROZEN};
    MUST(model_folder_open(world, b, f->folder, &options, &f->model));
    MUST(steering_open(&shape, 3, &s->steering));
    open_set(s, &layout, &t);
    MUST(lora_initialize(s->lora, 7));
    MUST(steering_start(&s->steering, &t));
    f->rows = 2;
    struct rng r = rng_stream(5, RNG_CHECK, 0, 0);
    for (int i = 0; i < COUNT_OF(s->choices); i++) {
        s->choices[i] = (float)rng_normal(&r);
    }
    struct arena *a = lora_arena(s->lora);
    for (int64_t i = 0; i < a->elements && random; i++) {
        double value = 0.3 * rng_normal(&r) + 0.1;
        MUST(backend_write_doubles(b, tensor_columns(a->master, i, 1), &value));
    }
    MUST(arena_refresh(a));
}

static void open_new(struct steered *s, struct backend *b, const char *name, enum steering_start start,
                     bool random) {
    open_shaped(s, b, name, start, random, false);
}

static double loss_of(struct steered *s) {
    double weights[MOST_READOUTS];
    struct pass *p;
    MUST(pass_open(s->f.model, &s->f.w, KEEP_NOTHING, &p));
    double loss = run_loss(s, p, weights);
    pass_close(p);
    return loss;
}

static double difference(struct steered *s, int64_t at, double value) {
    static const double steps[] = {1, -1, 2, -2}, weights[] = {8, -8, -1, 1};
    struct arena *a = lora_arena(s->lora);
    double sum = 0;
    for (int i = 0; i <= COUNT_OF(steps); i++) {
        double now = i < COUNT_OF(steps) ? value + steps[i] * STEP : value;
        MUST(backend_write_doubles(a->backend, tensor_columns(a->master, at, 1), &now));
        MUST(arena_refresh(a));
        sum += i < COUNT_OF(steps) ? weights[i] * loss_of(s) : 0;
    }
    return sum / (12 * STEP);
}

/* Entries of every parameter against central differences of fourth order (store/test_gradcheck.c); the
 * encoder's ReLU has a kink, which random inputs keep away from. */
static void check_differences(struct steered *s, const char *name) {
    struct arena *a = lora_arena(s->lora);
    double *gradients = all_gradients(&s->f), scale = 0;
    for (int64_t i = 0; i < a->elements; i++) {
        scale = fmax(scale, fabs(gradients[i]));
    }
    assert_true(scale > 1e-3);
    for (int i = 0; i < a->n; i++) {
        const struct parameter *p = &a->parameters[i];
        struct rng r = rng_stream(11, RNG_CHECK, i, 0);
        for (int k = 0; k < ENTRIES; k++) {
            int64_t at = p->offset + rng_below(&r, p->rows * p->columns);
            double value;
            MUST(backend_read_doubles(a->backend, &value, tensor_columns(a->master, at, 1)));
            double expected = difference(s, at, value);
            if (!(fabs(expected - gradients[at]) <= RELATIVE * fabs(expected) + ABSOLUTE * scale)) {
                FAIL("%s: %s[%lld]: backward %.12g, difference %.12g", name, p->name,
                     (long long)(at - p->offset), gradients[at], expected);
            }
        }
    }
    mem_free(gradients);
}

static void test_differences(void **state) {
    static const char *const families[] = {"llama", "neox", "gemma2", "gpt2"};
    struct backend *b;
    (void)state;
    MUST(reference_open(&b));
    for (int i = 0; i < COUNT_OF(families); i++) {
        struct steered s;
        open_shaped(&s, b, families[i], START_ENCODER, true, i < 2);
        whole_step(&s, i % 2 ? KEEP_INPUTS : KEEP_ALL);
        check_differences(&s, families[i]);
        steered_close(&s);
    }
    backend_close(b);
}

static void conditioned_logps(struct steered *s, const struct condition *c, double *logps) {
    struct pass *p;
    MUST(pass_open(s->f.model, &s->f.w, KEEP_NOTHING, &p));
    pass_condition(p, c);
    MUST(pass_forward(p, &s->f.forest));
    MUST(pass_logps(p, &(struct token_scores){.logp = logps}));
    pass_close(p);
}

/* In either beginning the policy is the base to the bit, whatever the context; and so are rows without one.
 */
static void test_identity(void **state) {
    struct backend *b = open_backend("cpu");
    (void)state;
    for (int i = 0; i < 3; i++) {
        struct steered s;
        double base[MOST_READOUTS], steered[MOST_READOUTS];
        open_new(&s, b, "llama", i == 1 ? START_FILM : START_ENCODER, i == 2);
        make_trees(&s.f, 0, 2);
        MUST(steering_encode(&s.steering, USERS, CHOICES, s.choices, NULL));
        for (int k = 0; k < s.f.forest.n_segments && i == 2; k++) {
            s.f.forest.segments[k].condition = -1;
        }
        conditioned_logps(&s, &s.steering.condition, steered);
        lora_use(s.f.model, NULL);
        conditioned_logps(&s, NULL, base);
        assert_memory_equal(base, steered, (size_t)s.f.forest.n_readouts * sizeof *base);
        steered_close(&s);
    }
    backend_close(b);
}

/* The encoder has a gradient in the first update where its last layer is what is zero, none as published. */
static void test_first_gradient(void **state) {
    struct backend *b = open_backend("cpu");
    (void)state;
    for (int start = START_ENCODER; start <= START_FILM; start++) {
        struct steered s;
        int64_t encoder;
        double sum = 0;
        open_new(&s, b, "llama", (enum steering_start)start, false);
        whole_step(&s, KEEP_ALL);
        double *gradients = all_gradients(&s.f);
        (void)steering_tensors(&s.steering, &encoder);
        for (int64_t i = 0; i < encoder; i++) {
            sum += fabs(gradients[i]);
        }
        assert_true((sum > 0) == (start == START_ENCODER));
        mem_free(gradients);
        steered_close(&s);
    }
    backend_close(b);
}

/* Choices are a set; a user without any is every user without any; a pair told the other way round, with its
 * label, is the same choice. */
static void test_invariants(void **state) {
    struct backend *b = open_backend("cpu");
    struct steered s;
    double z[USERS * HIDDEN];
    (void)state;
    open_new(&s, b, "llama", START_FILM, true);
    MUST(steering_encode(&s.steering, 1, CHOICES, s.choices, NULL));
    memcpy(z, s.steering.z, HIDDEN * sizeof *z);
    float turned[CHOICES * 2 * WIDTH];
    memcpy(turned, s.choices + 2 * WIDTH, 2 * WIDTH * sizeof *turned);
    memcpy(turned + 2 * WIDTH, s.choices, 2 * WIDTH * sizeof *turned);
    MUST(steering_encode(&s.steering, 1, CHOICES, turned, NULL));
    for (int i = 0; i < HIDDEN; i++) {
        assert_true(fabs(z[i] - s.steering.z[i]) <= 1e-12 * (1 + fabs(z[i])));
    }
    MUST(steering_encode(&s.steering, USERS, 0, NULL, NULL));
    assert_memory_equal(s.steering.z, s.steering.z + HIDDEN, HIDDEN * sizeof *z);
    assert_memory_equal(s.steering.z, s.steering.z + 2 * HIDDEN, HIDDEN * sizeof *z);
    steered_close(&s);
    backend_close(b);

    float values[] = {1, 2, 3, 4}, one[4], other[4];
    int64_t a = 0, c = 1, pair = 0;
    uint8_t choice = 1, opposite = 0;
    struct world w = {.rows = 2,
                      .width = 2,
                      .values = values,
                      .pairs = 1,
                      .labels = 1,
                      .a = &a,
                      .b = &c,
                      .choices = &choice};
    steer_choices(&w, 0, &pair, 1, one);
    w.a = &c;
    w.b = &a;
    w.choices = &opposite;
    steer_choices(&w, 0, &pair, 1, other);
    assert_memory_equal(one, other, sizeof one);
    assert_true(one[0] == 3 && one[2] == 1);
}

/* What is bounded is the tanh of what is not. */
static void test_bound(void **state) {
    struct backend *b = open_backend("cpu");
    struct steered s;
    double z[USERS * HIDDEN];
    (void)state;
    open_shaped(&s, b, "llama", START_ENCODER, true, false);
    MUST(steering_encode(&s.steering, USERS, CHOICES, s.choices, NULL));
    memcpy(z, s.steering.z, sizeof z);
    steered_close(&s);
    open_shaped(&s, b, "llama", START_ENCODER, true, true);
    MUST(steering_encode(&s.steering, USERS, CHOICES, s.choices, NULL));
    for (int i = 0; i < USERS * HIDDEN; i++) {
        assert_true(fabs(s.steering.z[i] - tanh(z[i])) < 1e-15 && fabs(z[i]) > 1e-3);
    }
    steered_close(&s);
    backend_close(b);
}

/* A cache under conditions says what a pass says; its copies of a prompt keep the condition. */
static void test_decoding(void **state) {
    struct backend *b = open_backend("cpu");
    struct steered s;
    struct cache *cache;
    struct pass *p;
    enum { SEQUENCES = 2, VOCABULARY = 97 };
    static float logits[SEQUENCES][VOCABULARY], wanted[SEQUENCES][VOCABULARY];
    int32_t ids[64], offsets[] = {0, 0, 0}, both[128], at[SEQUENCES];
    (void)state;
    open_new(&s, b, "llama", START_ENCODER, true);
    MUST(steering_encode(&s.steering, USERS, CHOICES, s.choices, NULL));
    int32_t n = row_ids(&s.f, 0, "prompt", ids);
    forest_clear(&s.f.forest);
    for (int i = 0; i < SEQUENCES; i++) {
        int32_t segment;
        MUST(forest_add(&s.f.forest, -1, ids, n, i, &segment));
        s.f.forest.segments[segment].condition = i;
        memcpy(both + i * (n - 1), ids, (size_t)(n - 1) * sizeof *ids);
        offsets[i + 1] = (i + 1) * (n - 1);
        at[i] = (i + 1) * n - 1;
    }
    finish_forest(&s.f);
    MUST(pass_open(s.f.model, &s.f.w, KEEP_NOTHING, &p));
    pass_condition(p, &s.steering.condition);
    MUST(pass_forward(p, &s.f.forest));
    MUST(pass_logits(p, at, SEQUENCES, wanted[0]));
    pass_close(p);
    assert_int_equal(s.f.model->config.vocabulary, VOCABULARY);
    assert_memory_not_equal(wanted[0], wanted[1], sizeof wanted[0]);
    MUST(cache_open(s.f.model, &s.f.w, 3, 32, &cache));
    cache_condition(cache, &s.steering.condition);
    cache_set_condition(cache, 0, 0);
    cache_set_condition(cache, 1, 1);
    MUST(cache_prefill(cache, both, offsets, SEQUENCES, logits[0]));
    MUST(cache_copy_prompt(cache, 1, 2));
    const int32_t sequences[] = {0, 2}, last[] = {ids[n - 1], ids[n - 1]};
    MUST(cache_step(cache, sequences, last, SEQUENCES, logits[0]));
    for (int i = 0; i < SEQUENCES; i++) {
        for (int k = 0; k < VOCABULARY; k++) {
            assert_true(fabsf(logits[i][k] - wanted[i][k]) <= 1e-5F * (1 + fabsf(wanted[i][k])));
        }
    }
    cache_close(cache);
    steered_close(&s);
    backend_close(b);
}

int main(int argc, char **argv) {
    if (comm_start(&argc, &argv, &world) != OK) {
        return 1;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_parity),     cmocka_unit_test(test_differences),
        cmocka_unit_test(test_identity),   cmocka_unit_test(test_first_gradient),
        cmocka_unit_test(test_invariants), cmocka_unit_test(test_bound),
        cmocka_unit_test(test_decoding),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    comm_finish(world);
    return failed;
}
