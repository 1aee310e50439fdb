/* Every family against PyTorch and transformers: log-probabilities, losses, every gradient, five AdamW steps;
 * folders written and read back; and a real model where COLLIMATE_DATA has it. */
#include "tests/model_fixture.h"

#include <unistd.h>

#include "objective/reward_loss.h"

static const double TOLERANCE = 1e-4;
static const char *const score_models[] = {"llama-score", "gpt2-score", "llama-score-pad"};

static void check_close(const char *what, const char *name, double got, double expected, double scale) {
    if (!(fabs(got - expected) <= TOLERANCE * scale)) {
        FAIL("%s: %s is %.8g, PyTorch has %.8g", name, what, got, expected);
    }
}

static void check_logps(struct fixture *f, const char *name) {
    double logps[MOST_READOUTS];
    make_forest(f, 0, f->rows, true);
    logps_of(f, logps);
    for (int side = 0; side < 2; side++) {
        const json_t *lists = json_object_get(f->expected, side ? "rejected_logps" : "chosen_logps");
        for (int i = 0; i < f->rows; i++) {
            const json_t *list = json_array_get(lists, (size_t)i);
            size_t n = 0;
            for (int32_t r = 0; r < f->forest.n_readouts; r++) {
                if (f->forest.readout_segment[r] == (side ? f->rejected[i] : f->chosen[i])) {
                    double expected = json_number_value(json_array_get(list, n++));
                    check_close("log-probability", name, logps[r], expected, fmax(1, fabs(expected)));
                }
            }
            assert_int_equal(n, json_array_size(list));
        }
    }
}

/* Norm and sampled entries of each tensor. A tensor whose gradient vanishes (a key bias moves no softmax) is
 * compared on the scale of all gradients' rounding. */
static void check_gradients(struct fixture *f, const char *name, const char *key) {
    const json_t *all = json_object_get(f->expected, key);
    struct arena view = *f->model->base; /* read the gradients as if they were parameters */
    view.master = f->model->trained->gradients;
    double total = 0;
    assert_int_equal(json_object_size(all), f->model->base->n);
    for (int i = 0; i < view.n; i++) {
        const struct parameter *p = &view.parameters[i];
        const json_t *e = json_object_get(all, p->name);
        int64_t n = p->rows * p->columns;
        float *g = mem_calloc(n, sizeof *g);
        assert_non_null(e);
        MUST(arena_read(&view, i, 0, n, g));
        double squares = 0, norm = json_number_value(json_object_get(e, "norm"));
        for (int64_t j = 0; j < n; j++) {
            squares += (double)g[j] * (double)g[j];
        }
        total = fmax(total, norm);
        double floor_ = 1e-2 * TOLERANCE * fmax(total, 1);
        check_close(key, p->name, sqrt(squares), norm, norm + floor_ / TOLERANCE);
        const json_t *at = json_object_get(e, "at"), *values = json_object_get(e, "values");
        for (size_t j = 0; j < json_array_size(at); j++) {
            double expected = json_number_value(json_array_get(values, j));
            double got = (double)g[json_integer_value(json_array_get(at, j))];
            check_close(p->name, name, got, expected, fabs(expected) + norm / sqrt((double)n) + 1e-2);
        }
        mem_free(g);
    }
}

static void check_sft(struct fixture *f, const char *name) {
    double logps[MOST_READOUTS], weights[MOST_READOUTS], loss = 0;
    struct pass *p;
    make_forest(f, 0, f->rows, false);
    MUST(arena_zero_gradients(f->model->trained));
    MUST(pass_open(f->model, &f->w, KEEP_ALL, &p));
    MUST(pass_forward(p, &f->forest));
    MUST(pass_logps(p, &(struct token_scores){.logp = logps}));
    for (int32_t r = 0; r < f->forest.n_readouts; r++) {
        weights[r] = -1.0 / f->forest.n_readouts;
        loss += weights[r] * logps[r];
    }
    MUST(pass_backward(p, &(struct readout_gradients){.logp = weights}, NULL, NULL));
    pass_close(p);
    check_close("SFT loss", name, loss, number(f, "sft_loss"), 1);
    check_gradients(f, name, "sft_gradients");
}

/* One AdamW update of every parameter, decay on matrices only, as in the script. */
static void adamw(struct fixture *f, struct tensor first, struct tensor second, int step) {
    struct arena *a = f->model->trained;
    for (int i = 0; i < a->n; i++) {
        const struct parameter *q = &a->parameters[i];
        int64_t n = q->rows * q->columns;
        struct optimizer_step s = {
            .kind = OPTIMIZER_ADAMW,
            .learning_rate = 2e-3,
            .beta1 = 0.9,
            .beta2 = 0.999,
            .epsilon = 1e-8,
            .weight_decay = q->decay ? 0.05 : 0,
            .bias_correction1 = 1 - pow(0.9, step),
            .bias_correction2 = 1 - pow(0.999, step),
            .gradient_scale = 1,
            .parameters = tensor_columns(a->master, q->offset, n),
            .gradients = tensor_columns(a->gradients, q->offset, n),
            .first = tensor_columns(first, q->offset, n),
            .second = tensor_columns(second, q->offset, n),
        };
        MUST(backend_optimizer(a->backend, &s));
    }
    MUST(arena_refresh(a));
}

static double reward_step(struct fixture *f);

static void check_steps(struct fixture *f, const char *name, bool scores) {
    struct arena *a = f->model->trained;
    struct workspace state;
    struct tensor first, second;
    MUST(workspace_open(a->backend, 2 * a->elements * dtype_size(a->master.type) + 256, &state));
    MUST(workspace_take(&state, 1, a->elements, a->master.type, "state", &first));
    MUST(workspace_take(&state, 1, a->elements, a->master.type, "state", &second));
    MUST(backend_zero_tensor(a->backend, first));
    MUST(backend_zero_tensor(a->backend, second));
    for (int step = 1; step <= 5; step++) {
        double loss = scores ? reward_step(f) : dpo_step(f, KEEP_ALL, 0, f->rows);
        double expected = element(f, "adamw_losses", step - 1);
        check_close("loss of an AdamW step", name, loss, expected, expected);
        adamw(f, first, second, step);
    }
    workspace_close(&state);
}

static void check_dpo(struct fixture *f, const char *name) {
    double loss = dpo_step(f, KEEP_ALL, 0, f->rows);
    check_close("DPO loss", name, loss, number(f, "dpo_loss"), 1);
    check_gradients(f, name, "dpo_gradients");
}

static void test_language_models(void **state) {
    (void)state;
    const char *names[2];
    for (int d = 0, n = devices(names); d < n; d++) {
        struct backend *b = open_backend(names[d]);
        for (int i = 0; i < COUNT_OF(language_models); i++) {
            struct fixture f;
            fixture_open(&f, b, language_models[i]);
            check_logps(&f, language_models[i]);
            check_sft(&f, language_models[i]);
            check_dpo(&f, language_models[i]);
            check_steps(&f, language_models[i], false);
            fixture_close(&f);
        }
        backend_close(b);
    }
}

/* Mean loss of the values at the responses' last tokens, with the fixture's margins and centering or without;
 * gradients into the arena. */
static double value_step(struct fixture *f, bool with_margins) {
    const struct reward_options o = {.use_margin = with_margins,
                                     .centering = with_margins ? number(f, "centering") : 0};
    double values[2 * MOST_ROWS], weights[2 * MOST_ROWS], sum = 0;
    struct pass *p;
    int32_t pad = f->model->config.pad_id;
    forest_clear(&f->forest);
    for (int i = 0; i < f->rows; i++) {
        int32_t prompt = add_segment(f, -1, i, "prompt");
        MUST(forest_value(&f->forest, add_segment(f, prompt, i, "chosen"), pad));
        MUST(forest_value(&f->forest, add_segment(f, prompt, i, "rejected"), pad));
    }
    finish_forest(f);
    MUST(arena_zero_gradients(f->model->trained));
    MUST(pass_open(f->model, &f->w, KEEP_ALL, &p));
    MUST(pass_forward(p, &f->forest));
    MUST(pass_values(p, f->forest.readout_at, f->forest.n_readouts, values));
    for (int i = 0; i < f->rows && with_margins; i++) { /* before any step */
        check_close("value", f->folder, values[2 * i], element(f, "chosen_values", i), 0.1);
        check_close("value", f->folder, values[2 * i + 1], element(f, "rejected_values", i), 0.1);
    }
    for (int i = 0; i < f->rows; i++) {
        struct reward_loss loss;
        reward_loss(values[2 * i], values[2 * i + 1], element(f, "margins", i), &o, &loss);
        sum += loss.value / f->rows;
        weights[2 * i] = loss.d_chosen / f->rows;
        weights[2 * i + 1] = loss.d_rejected / f->rows;
    }
    MUST(pass_backward(p, &(struct readout_gradients){.values = weights}, NULL, NULL));
    pass_close(p);
    return sum;
}

static double reward_step(struct fixture *f) {
    return value_step(f, false);
}

static void test_score_heads(void **state) {
    (void)state;
    const char *names[2];
    for (int d = 0, n = devices(names); d < n; d++) {
        struct backend *b = open_backend(names[d]);
        for (int i = 0; i < COUNT_OF(score_models); i++) {
            const char *name = score_models[i];
            struct fixture f;
            fixture_open(&f, b, name);
            assert_int_equal(f.model->config.head, HEAD_SCORE);
            check_close("reward loss", name, reward_step(&f), number(&f, "reward_loss"), 1);
            check_gradients(&f, name, "reward_gradients");
            check_close("reward loss with margins", name, value_step(&f, true), number(&f, "margin_loss"), 1);
            check_gradients(&f, name, "margin_gradients");
            check_steps(&f, name, true);
            fixture_close(&f);
        }
        backend_close(b);
    }
}

/* What is written is read back to the same bits, and scores alike. COLLIMATE_SAVED names a folder in which to
 * leave it, for `make_model_fixtures.py check FOLDER`. */
static void check_folder(struct fixture *f, const char *name, const char *parent, bool with_source) {
    char folder[512];
    struct model *again, *first = f->model;
    uint64_t before, after;
    snprintf(folder, sizeof folder, "%s/%s%s", parent, name, with_source ? "" : ".bare");
    const struct model_save options = {.source = with_source ? f->folder : NULL};
    MUST(model_folder_save(world, f->model, folder, &options));
    MUST(model_folder_open(world, f->model->backend, folder, NULL, &again));
    MUST(model_folder_hash(f->model, &before));
    MUST(model_folder_hash(again, &after));
    assert_int_equal(before, after);
    f->model = again;
    if (again->config.head == HEAD_LANGUAGE) {
        check_logps(f, name);
    }
    f->model = first;
    model_close(again);
}

static void test_folders(void **state) {
    (void)state;
    struct backend *b = open_backend("cpu");
    char temporary[] = "/tmp/collimate-model-XXXXXX", command[64];
    const char *saved = getenv("COLLIMATE_SAVED");
    assert_non_null(mkdtemp(temporary));
    for (int i = 0; i < COUNT_OF(language_models) + COUNT_OF(score_models); i++) {
        bool language = i < COUNT_OF(language_models);
        const char *name = language ? language_models[i] : score_models[i - COUNT_OF(language_models)];
        struct fixture f;
        fixture_open(&f, b, name);
        check_folder(&f, name, saved ? saved : temporary, false);
        check_folder(&f, name, saved ? saved : temporary, true);
        fixture_close(&f);
    }
    backend_close(b);
    snprintf(command, sizeof command, "rm -rf %s", temporary);
    assert_int_equal(system(command), 0);
}

/* One sequence of the real model against its golden object; the largest differences. */
struct differences {
    double logp, sum, hidden;
};
static void check_real(struct model *m, struct workspace *w, const json_t *golden,
                       struct differences *worst) {
    const json_t *ids = json_object_get(golden, "ids"), *first = json_object_get(golden, "first8_logp");
    int32_t n = (int32_t)json_array_size(ids), segment;
    int32_t *tokens = mem_calloc(n, sizeof *tokens);
    double *got = mem_calloc(n, sizeof *got), sum = 0;
    float hidden[2][128];
    struct forest f = {0};
    struct pass *p;
    for (int32_t i = 0; i < n; i++) {
        tokens[i] = (int32_t)json_integer_value(json_array_get(ids, (size_t)i));
    }
    MUST(forest_add(&f, -1, tokens, n, 0, &segment));
    MUST(forest_finish(&f, m->config.vocabulary, 0));
    MUST(pass_open(m, w, KEEP_NOTHING, &p));
    MUST(pass_forward(p, &f));
    MUST(pass_means(p, (int32_t[]){n - 1, 1, 0, n}, 2, -1, hidden[0]));
    MUST(forest_score(&f, segment, NULL));
    MUST(pass_forward(p, &f));
    MUST(pass_logps(p, &(struct token_scores){.logp = got}));
    assert_int_equal(f.n_readouts, n - 1);
    for (int32_t i = 0; i < n - 1; i++) {
        sum += got[i];
    }
    worst->sum =
        fmax(worst->sum, fabs(sum - json_number_value(json_object_get(golden, "sum_logp_after_bos"))));
    const json_t *last = json_object_get(golden, "last_hidden_first8");
    const json_t *mean = json_object_get(golden, "mean_hidden_first8");
    for (size_t i = 0; i < 8; i++) {
        worst->logp = fmax(worst->logp, fabs(got[i] - json_number_value(json_array_get(first, i))));
        worst->hidden =
            fmax(worst->hidden, fabs((double)hidden[0][i] - json_number_value(json_array_get(last, i))));
        worst->hidden =
            fmax(worst->hidden, fabs((double)hidden[1][i] - json_number_value(json_array_get(mean, i))));
    }
    pass_close(p);
    forest_free(&f);
    mem_free(tokens);
    mem_free(got);
}

/* Four real pairs under a real model, from an independent double-precision implementation. */
static void test_real_model(void **state) {
    (void)state;
    const char *data = getenv("COLLIMATE_DATA");
    if (!data) {
        skip();
    }
    char path[512];
    json_t *golden;
    const json_t *pair;
    size_t at;
    const char *names[2];
    snprintf(path, sizeof path, "%s/models/goldens-656k-dev-4pairs.json", data);
    MUST(json_load(path, &golden));
    for (int d = 0, n = devices(names); d < n; d++) {
        struct backend *b = open_backend(names[d]);
        struct model *m;
        struct workspace w;
        struct differences worst = {0};
        snprintf(path, sizeof path, "%s/models/tinystories-656k", data);
        MUST(model_folder_open(world, b, path, NULL, &m));
        MUST(workspace_open(b, 256 << 20, &w));
        json_array_foreach(json_object_get(golden, "pairs"), at, pair) {
            check_real(m, &w, json_object_get(pair, "chosen"), &worst);
            check_real(m, &w, json_object_get(pair, "rejected"), &worst);
        }
        print_message(
            "%s: largest difference %.3g of a log-probability, %.3g of a sum, %.3g of a hidden state\n",
            names[d], worst.logp, worst.sum, worst.hidden);
        assert_true(worst.logp < 1e-4 && worst.sum < 1e-2 && worst.hidden < 1e-4);
        workspace_close(&w);
        model_close(m);
        backend_close(b);
    }
    json_decref(golden);
}

int main(int argc, char **argv) {
    if (comm_start(&argc, &argv, &world) != OK) {
        return 1;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_language_models),
        cmocka_unit_test(test_score_heads),
        cmocka_unit_test(test_folders),
        cmocka_unit_test(test_real_model),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    comm_finish(world);
    return failed;
}
