/* Few-shot reward models beside PyTorch's modules (fixtures/make_np_fixtures.py): outputs, loss, gradients,
 * three Adam steps, batch norm's running statistics. */
#include "tests/unit.h"

#include <math.h>
#include <string.h>

#include "few_shot/train.h"
#include "util/json.h"
#include "util/mem.h"

static void must(enum status st) {
    if (st != OK) {
        FAIL("%s", status_message()->text);
    }
}

static int64_t integer(const json_t *object, const char *key) {
    int64_t v = -1;
    must(json_take_int(object, key, "np.json", &v));
    return v;
}

static double number(const json_t *object, const char *key) {
    double v = NAN;
    must(json_take_number(object, key, "np.json", &v));
    return v;
}

static void read_numbers(const json_t *array, double *to, int64_t n) {
    assert_int_equal(json_array_size(array), n);
    for (int64_t i = 0; i < n; i++) {
        to[i] = json_number_value(json_array_get(array, (size_t)i));
    }
}

static void expect_numbers(const json_t *array, const double *got, int64_t n, const char *what) {
    assert_int_equal(json_array_size(array), n);
    for (int64_t i = 0; i < n; i++) {
        double expected = json_number_value(json_array_get(array, (size_t)i));
        if (!(fabs(expected - got[i]) <= 1e-9 + 1e-8 * fabs(expected))) {
            FAIL("%s, element %d: %.12g, expected %.12g", what, (int)i, got[i], expected);
        }
    }
}

/* Every tensor of the model is in the object, and nothing else. */
static void expect_tensors(const struct network *m, const double *values, const json_t *object) {
    size_t count = 0;
    for (int t = 0; t < NETWORK_TENSORS; t++) {
        const struct network_range *r = &m->tensors[t];
        if (r->rows > 0) {
            const json_t *expected = json_object_get(object, r->name);
            assert_non_null(expected);
            expect_numbers(expected, values + r->offset, r->rows * r->columns, r->name);
            count++;
        }
    }
    assert_int_equal(count, json_object_size(object));
}

static enum network_kind kind_of(const json_t *c) {
    const char *name = json_string_value(json_object_get(c, "kind"));
    return strcmp(name, "btl") == 0 ? NETWORK_BTL : strcmp(name, "dpl") == 0 ? NETWORK_DPL : NETWORK_PROCESS;
}

struct fixture {
    struct network model;
    struct few_shot_pass pass;
    struct few_shot_batch batch;
    double *options, *noise;
    uint8_t choices[64];
    int32_t positions[8];
};

static void read_batch(const json_t *all, const json_t *c, struct fixture *f) {
    const json_t *context = json_object_get(all, "context");
    int64_t users = integer(all, "users");
    int64_t targets = integer(all, "targets");
    int64_t samples = f->model.shape.latent ? integer(all, "samples") : 1;
    int64_t noise = f->model.shape.latent ? samples * users * f->model.shape.hidden : 0;
    double choices[64];
    must(NEW_ARRAY(f->options, users * targets * 2 * f->model.shape.width));
    must(NEW_ARRAY(f->noise, noise));
    read_numbers(json_object_get(c, "pairs"), f->options, users * targets * 2 * f->model.shape.width);
    read_numbers(json_object_get(c, "noise"), f->noise, noise);
    read_numbers(json_object_get(c, "choices"), choices, users * targets);
    for (int64_t i = 0; i < users * targets; i++) {
        f->choices[i] = choices[i] != 0;
    }
    for (size_t i = 0; i < json_array_size(context); i++) {
        f->positions[i] = (int32_t)json_integer_value(json_array_get(context, i));
    }
    f->batch = (struct few_shot_batch){.users = users,
                                       .all_users = users,
                                       .targets = targets,
                                       .context = (int64_t)json_array_size(context),
                                       .options = f->options,
                                       .choices = f->choices,
                                       .context_at = f->positions,
                                       .samples = samples,
                                       .noise = f->noise};
}

static void open_fixture(const json_t *all, const json_t *c, struct fixture *f) {
    const struct network_shape shape = {.kind = kind_of(c),
                                        .width = integer(all, "width"),
                                        .hidden = integer(all, "hidden"),
                                        .heads = integer(all, "heads"),
                                        .inner_mlp = json_is_true(json_object_get(c, "mlp")),
                                        .latent = json_is_true(json_object_get(c, "latent"))};
    const struct few_shot_limits limits = {8, 8, 8, 2};
    must(network_open(&shape, 0, &f->model));
    must(few_shot_pass_open(&f->model, NULL, &limits, &f->pass));
    const json_t *parameters = json_object_get(c, "parameters");
    for (int t = 0; t < NETWORK_TENSORS; t++) {
        const struct network_range *r = &f->model.tensors[t];
        if (r->rows > 0) {
            read_numbers(json_object_get(parameters, r->name), f->model.parameters + r->offset,
                         r->rows * r->columns);
        }
    }
    read_batch(all, c, f);
}

static void check_case(const json_t *all, const json_t *c) {
    struct fixture f;
    open_fixture(all, c, &f);
    const struct adam_options options = {.learning_rate = number(all, "learning_rate"),
                                         .epsilon = number(all, "epsilon")};
    struct adam adam;
    struct few_shot_value value;
    int64_t outputs = (int64_t)json_array_size(json_object_get(c, "outputs"));
    must(adam_open(f.model.count, &adam));
    for (int step = 0; step < 3; step++) {
        must(few_shot_forward(&f.pass, &f.batch, true, FEW_SHOT_CODE));
        must(few_shot_backward(&f.pass, &f.batch, number(all, "beta_kl"), FEW_SHOT_CODE, &value));
        if (step == 0) {
            expect_numbers(json_object_get(c, "outputs"), f.pass.outputs, outputs, "outputs");
            assert_true(fabs(value.nll + number(all, "beta_kl") * value.kl - number(c, "loss")) < 1e-10);
            assert_true(fabs(value.kl - number(c, "kl")) < 1e-10);
            expect_tensors(&f.model, f.model.gradients, json_object_get(c, "gradients"));
        }
        adam_step(&options, &adam, f.model.parameters, f.model.gradients);
    }
    expect_tensors(&f.model, f.model.parameters, json_object_get(c, "after"));
    expect_numbers(json_object_get(c, "running_mean"), f.model.running_mean, f.model.shape.hidden, "mean");
    expect_numbers(json_object_get(c, "running_var"), f.model.running_variance, f.model.shape.hidden,
                   "variance");
    must(few_shot_forward(&f.pass, &f.batch, false, FEW_SHOT_CODE));
    expect_numbers(json_object_get(c, "evaluated"), f.pass.outputs, outputs, "evaluated");
    adam_close(&adam);
    mem_free(f.options);
    mem_free(f.noise);
    few_shot_pass_close(&f.pass);
    network_close(&f.model);
}

static void test_parity(void **state) {
    (void)state;
    json_t *all;
    must(json_load(FIXTURES "/np.json", &all));
    const json_t *cases = json_object_get(all, "cases");
    assert_int_equal(json_array_size(cases), 4);
    for (size_t i = 0; i < json_array_size(cases); i++) {
        check_case(all, json_array_get(cases, i));
    }
    json_decref(all);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_parity)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
