/* The model's backward against finite differences, in double precision on the reference back end: entries of
 * every parameter of every family, on DPO-shaped forests with shared prompts.
 *
 * Derivative by the central difference of fourth order, (8 (f(h) - f(-h)) - (f(2h) - f(-2h))) / 12 h. With h
 * 1e-3 its truncation is of order h^4 = 1e-12 of the fifth derivative, its rounding of order 1e-16 / h =
 * 1e-13 of the loss; fifth derivatives of these models stay below some 10^4, hence 1e-7 relative. No
 * activation here has a kink.
 */
#include "tests/model_fixture.h"

#include "tests/backend/reference/reference_backend.h"
#include "util/rng.h"

enum { ENTRIES = 2, FIRST_ROW = 0, LAST_ROW = 2 };
static const double STEP = 1e-3, RELATIVE = 1e-7, ABSOLUTE = 1e-9;

typedef double loss_of(struct fixture *f);

static double preference_loss(struct fixture *f) {
    double logps[MOST_READOUTS], weights[MOST_READOUTS];
    logps_of(f, logps);
    return dpo_loss(f, FIRST_ROW, LAST_ROW, logps, weights);
}

/* sum_i c_i value_i, c = 1, -2, 3, … at the responses' last rows. */
static double values_loss(struct fixture *f, struct pass *p, double *weights) {
    int32_t at[2 * MOST_ROWS], n = 0;
    double values[2 * MOST_ROWS], loss = 0;
    for (int32_t i = 0; i < f->forest.n_segments; i++) {
        const struct segment *s = &f->forest.segments[i];
        if (s->parent >= 0) {
            at[n++] = s->first + s->count - 1;
        }
    }
    MUST(pass_forward(p, &f->forest));
    MUST(pass_values(p, at, n, values));
    for (int32_t i = 0; i < n; i++) {
        weights[i] = (i % 2 ? -1 : 1) * (i + 1);
        loss += weights[i] * values[i];
    }
    return loss;
}

static double score_loss(struct fixture *f) {
    double weights[2 * MOST_ROWS];
    struct pass *p;
    MUST(pass_open(f->model, &f->w, KEEP_NOTHING, &p));
    double loss = values_loss(f, p, weights);
    pass_close(p);
    return loss;
}

static void set_entry(struct fixture *f, int64_t at, double value) {
    MUST(backend_write_doubles(f->model->backend, tensor_columns(f->model->trained->master, at, 1), &value));
}

static double difference(struct fixture *f, loss_of *loss, int64_t at, double value) {
    static const double steps[] = {1, -1, 2, -2}, weights[] = {8, -8, -1, 1};
    double sum = 0;
    for (int i = 0; i < 4; i++) {
        set_entry(f, at, value + steps[i] * STEP);
        sum += weights[i] * loss(f);
    }
    set_entry(f, at, value);
    return sum / (12 * STEP);
}

static void check_parameters(struct fixture *f, const char *name, loss_of *loss) {
    double *gradients = all_gradients(f), value, scale = 0;
    for (int64_t i = 0; i < f->model->trained->elements; i++) {
        scale = fmax(scale, fabs(gradients[i]));
    }
    assert_true(scale > 1e-3);
    for (int i = 0; i < f->model->base->n; i++) {
        const struct parameter *p = &f->model->base->parameters[i];
        struct rng r = rng_stream(11, RNG_CHECK, i, 0);
        double norm = 0;
        for (int64_t j = 0; j < p->rows * p->columns; j++) {
            norm += fabs(gradients[p->offset + j]);
        }
        for (int k = 0; k < ENTRIES; k++) {
            int64_t at = p->offset + rng_below(&r, p->rows * p->columns);
            for (int tries = 0; tries < 50 && norm > 1e-6 && gradients[at] == 0; tries++) {
                at = p->offset + rng_below(&r, p->rows * p->columns); /* a token that is not there */
            }
            MUST(backend_read_doubles(f->model->backend, &value,
                                      tensor_columns(f->model->trained->master, at, 1)));
            double expected = difference(f, loss, at, value);
            if (!(fabs(expected - gradients[at]) <= RELATIVE * fabs(expected) + ABSOLUTE * scale)) {
                FAIL("%s: %s[%lld]: backward %.12g, difference %.12g", name, p->name,
                     (long long)(at - p->offset), gradients[at], expected);
            }
        }
    }
    mem_free(gradients);
}

static void test_language_models(void **state) {
    (void)state;
    struct backend *b;
    MUST(reference_open(&b));
    for (int i = 0; i < COUNT_OF(language_models); i++) {
        struct fixture f;
        fixture_open(&f, b, language_models[i]);
        dpo_step(&f, i % 2 ? KEEP_ALL : KEEP_INPUTS, FIRST_ROW, LAST_ROW);
        check_parameters(&f, language_models[i], preference_loss);
        fixture_close(&f);
    }
    backend_close(b);
}

static void test_score_head(void **state) {
    (void)state;
    struct backend *b;
    struct fixture f;
    struct pass *p;
    double weights[2 * MOST_ROWS];
    MUST(reference_open(&b));
    fixture_open(&f, b, "llama-score");
    forest_clear(&f.forest);
    for (int i = FIRST_ROW; i < LAST_ROW; i++) {
        int32_t prompt = add_segment(&f, -1, i, "prompt");
        add_segment(&f, prompt, i, "chosen");
        add_segment(&f, prompt, i, "rejected");
    }
    finish_forest(&f);
    MUST(pass_open(f.model, &f.w, KEEP_ALL, &p));
    values_loss(&f, p, weights);
    MUST(arena_zero_gradients(f.model->trained));
    MUST(pass_backward(p, &(struct readout_gradients){.values = weights}, NULL, NULL));
    pass_close(p);
    check_parameters(&f, "llama-score", score_loss);
    fixture_close(&f);
    backend_close(b);
}

/* A value head beside the language head, one pass and one way back: the DPO loss plus sum_i c_i value_i^2
 * over the readouts, in full and with adapters beside a frozen base. Value slopes are those of the values at
 * the point. */
static double both_losses(struct fixture *f, struct pass *p, double *weights, double *slopes) {
    double logps[MOST_READOUTS], values[MOST_READOUTS];
    MUST(pass_forward(p, &f->forest));
    MUST(pass_logps(p, &(struct token_scores){.logp = logps, .value = values}));
    double loss = dpo_loss(f, FIRST_ROW, LAST_ROW, logps, weights);
    for (int32_t i = 0; i < f->forest.n_readouts; i++) {
        double c = .1 * (i % 3 - 1) + .05;
        loss += c * values[i] * values[i];
        slopes[i] = 2 * c * values[i];
    }
    return loss;
}

static double loss_with_values(struct fixture *f) {
    double weights[MOST_READOUTS], slopes[MOST_READOUTS];
    struct pass *p;
    MUST(pass_open(f->model, &f->w, KEEP_NOTHING, &p));
    double loss = both_losses(f, p, weights, slopes);
    pass_close(p);
    return loss;
}

static void with_value_head(struct fixture *f, struct backend *b, const char *name) {
    const struct model_folder_options options = {.value_head = true, .kind = ARENA_TRAINED};
    fixture_open(f, b, name);
    model_close(f->model);
    MUST(model_folder_open(world, b, f->folder, &options, &f->model));
    MUST(arena_need_gradients(f->model->trained));
    const struct parameter *head = arena_find(f->model->base, VALUE_HEAD);
    assert_non_null(head);
    assert_ptr_equal(head, &f->model->base->parameters[f->model->base->n - 1]);
    for (int64_t k = 0; k < head->columns; k++) {
        double value = .3 * sin((double)k + 1);
        MUST(backend_write_doubles(b, tensor_columns(f->model->base->master, head->offset + k, 1), &value));
    }
    make_forest(f, FIRST_ROW, LAST_ROW, true);
}

static void backward_with_values(struct fixture *f, enum pass_keep keep) {
    double weights[MOST_READOUTS], slopes[MOST_READOUTS];
    struct pass *p;
    MUST(arena_zero_gradients(f->model->trained));
    MUST(pass_open(f->model, &f->w, keep, &p));
    both_losses(f, p, weights, slopes);
    const struct readout_gradients g = {.logp = weights, .token_values = slopes};
    MUST(pass_backward(p, &g, NULL, NULL));
    pass_close(p);
}

static void test_value_head(void **state) {
    (void)state;
    static const char *const names[] = {"llama", "gpt2", "gemma2",
                                        "cohere"}; /* tied; with a cap; scaled logits */
    struct backend *b;
    MUST(reference_open(&b));
    for (int i = 0; i < COUNT_OF(names); i++) {
        struct fixture f;
        with_value_head(&f, b, names[i]);
        backward_with_values(&f, i % 2 ? KEEP_ALL : KEEP_INPUTS);
        check_parameters(&f, names[i], loss_with_values);
        fixture_close(&f);
    }
    backend_close(b);
}

int main(int argc, char **argv) {
    if (comm_start(&argc, &argv, &world) != OK) {
        return 1;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_language_models),
        cmocka_unit_test(test_score_head),
        cmocka_unit_test(test_value_head),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    comm_finish(world);
    return failed;
}
