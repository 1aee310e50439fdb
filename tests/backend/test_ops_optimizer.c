/* Optimizer steps: the reference against PyTorch, closed forms, and every back end against the reference. */
#include "tests/unit.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "reference/harness.h"
#include "util/json.h"
#include "util/mem.h"

static const struct tensor none;

static enum optimizer_kind kind_of(const char *name) {
    static const char *const names[] = {"sgd", "rmsprop", "adam", "adamw"};
    for (int i = 0; i < COUNT_OF(names); i++) {
        if (strcmp(name, names[i]) == 0) {
            return (enum optimizer_kind)i;
        }
    }
    FAIL("no optimizer %s", name);
    return OPTIMIZER_SGD;
}

static double number(const json_t *object, const char *key) {
    double value = NAN;
    must(json_take_number(object, key, "optimizer_steps.json", &value));
    return value;
}

static void numbers(const json_t *array, double *out) {
    size_t i;
    json_t *value;
    json_array_foreach(array, i, value) {
        out[i] = json_number_value(value);
    }
}

static struct optimizer_step step_of(const json_t *c) {
    const char *kind = "";
    must(json_take_string(c, "kind", "optimizer_steps.json", &kind));
    return (struct optimizer_step){.kind = kind_of(kind),
                                   .learning_rate = number(c, "learning_rate"),
                                   .beta1 = number(c, "beta1"),
                                   .beta2 = number(c, "beta2"),
                                   .epsilon = number(c, "epsilon"),
                                   .weight_decay = number(c, "weight_decay"),
                                   .momentum = number(c, "momentum"),
                                   .alpha = number(c, "alpha"),
                                   .gradient_scale = number(c, "gradient_scale")};
}

/* One step on one back end; p, g and the states are that back end's tensors. */
static void step(struct backend *b, struct optimizer_step s, int t, const struct tensor tensors[5]) {
    bool adam = s.kind == OPTIMIZER_ADAM || s.kind == OPTIMIZER_ADAMW;
    s.bias_correction1 = adam ? 1 - pow(s.beta1, t) : 1;
    s.bias_correction2 = adam ? 1 - pow(s.beta2, t) : 1;
    s.parameters = tensors[0];
    s.gradients = tensors[1];
    s.first = adam || s.momentum != 0 ? tensors[2] : none;
    s.second = s.kind != OPTIMIZER_SGD ? tensors[3] : none;
    s.copy = b->caps.compute != b->caps.master ? tensors[4] : none;
    must(backend_optimizer(b, &s));
}

static void run_fixture(struct harness *h, const json_t *c) {
    enum { N = 7, STEPS = 5 };
    struct optimizer_step s = step_of(c);
    struct pair p[5];
    for (int i = 0; i < 5; i++) {
        p[i] = pair_normal(h, i == 4 ? ROLE_COMPUTE : ROLE_MASTER, 1, N, 0, 0);
    }
    double *in_reference = p[0].reference.data;
    double *gradients = p[1].reference.data;
    struct tensor device[5];
    struct tensor reference[5];
    for (int i = 0; i < 5; i++) {
        device[i] = p[i].device;
        reference[i] = p[i].reference;
    }
    double wanted[N];
    numbers(json_object_get(c, "start"), wanted);
    must(backend_write_doubles(h->device, device[0], wanted));
    memcpy(in_reference, wanted, sizeof wanted);
    for (int t = 0; t < STEPS; t++) {
        numbers(json_array_get(json_object_get(c, "gradients"), (size_t)t), gradients);
        must(backend_write_doubles(h->device, device[1], gradients));
        step(h->reference, s, t + 1, reference);
        step(h->device, s, t + 1, device);
        numbers(json_array_get(json_object_get(c, "after"), (size_t)t), wanted);
        double got[N];
        must(backend_read_doubles(h->device, got, device[0]));
        for (int i = 0; i < N; i++) {
            assert_true(fabs(in_reference[i] - wanted[i]) <= 1e-13);
            /* the gradient's and each step's roundings; a step is at most 10 lr (RMSprop) over momentum */
            double size = fabs(wanted[i]) + 10 * s.learning_rate / (1 - s.momentum);
            if (fabs(got[i] - wanted[i]) > 8 * (t + 1) * 0x1p-24 * size) {
                FAIL("optimizer %d on %s, step %d: %.9g, torch %.9g", (int)s.kind, h->device->caps.name, t,
                     got[i], wanted[i]);
            }
        }
    }
}

static void test_torch(void **state) {
    struct harness *h = *state;
    json_t *file;
    char path[512];
    snprintf(path, sizeof path, "%s/optimizer_steps.json", fixtures());
    must(json_load(path, &file));
    json_t *cases = json_object_get(file, "cases");
    assert_true(json_array_size(cases) >= 14);
    FOR_EACH_DEVICE(h, d) {
        for (size_t i = 0; i < json_array_size(cases); i++) {
            harness_begin(h, d, i);
            run_fixture(h, json_array_get(cases, i));
            harness_end(h);
        }
    }
    json_decref(file);
}

/* Hand-computed: theta 1, g 0.5 constant, lr 0.01. */
static void test_closed_forms(void **state) {
    struct harness *h = *state;
    /* RMSprop: v_t = 0.25 (1 - 0.99^t). Adam: m and v hats are constant, so each step is lr. */
    static const double rmsprop[] = {0.9000000200, 0.8291119095, 0.7710870078};
    FOR_EACH_DEVICE(h, d) {
        for (int kind = OPTIMIZER_SGD; kind <= OPTIMIZER_ADAMW; kind++) {
            harness_begin(h, d, 0);
            struct tensor t[5];
            for (int i = 0; i < 5; i++) {
                t[i] = pair_normal(h, i == 4 ? ROLE_COMPUTE : ROLE_MASTER, 1, 1, 0, 0).device;
            }
            struct optimizer_step s = {.kind = (enum optimizer_kind)kind,
                                       .learning_rate = 0.01,
                                       .beta1 = 0.9,
                                       .beta2 = 0.999,
                                       .epsilon = 1e-8,
                                       .alpha = 0.99,
                                       .weight_decay = kind == OPTIMIZER_ADAMW ? 0.1 : 0,
                                       .gradient_scale = 0.5};
            must(backend_write_doubles(h->device, t[0], (const double[]){1}));
            must(backend_write_doubles(h->device, t[1], (const double[]){1}));
            double theta = 1;
            for (int i = 0; i < 3; i++) {
                step(h->device, s, i + 1, t);
                double got;
                must(backend_read_doubles(h->device, &got, t[0]));
                theta = kind == OPTIMIZER_ADAMW ? theta * (1 - 0.001) - 0.01 : theta - 0.01;
                double wanted = kind == OPTIMIZER_SGD       ? 1 - 0.005 * (i + 1)
                                : kind == OPTIMIZER_RMSPROP ? rmsprop[i]
                                                            : theta;
                assert_true(fabs(got - wanted) < 4e-7);
            }
            harness_end(h);
        }
    }
}

/* Long ranges, so that every block, thread and tail of a kernel takes part; the compute copy follows. */
static void run_long(struct harness *h, const struct optimizer_step *s, int64_t n) {
    struct pair p[] = {pair_normal(h, ROLE_MASTER, 1, n, 0, 1), pair_normal(h, ROLE_MASTER, 1, n, 0, 1),
                       pair_normal(h, ROLE_MASTER, 1, n, 0, 0), pair_normal(h, ROLE_MASTER, 1, n, 0, 0),
                       pair_normal(h, ROLE_COMPUTE, 1, n, 0, 0)};
    struct tensor device[5];
    struct tensor reference[5];
    for (int i = 0; i < 5; i++) {
        device[i] = p[i].device;
        reference[i] = p[i].reference;
    }
    for (int t = 1; t <= 2; t++) {
        step(h->device, *s, t, device);
        step(h->reference, *s, t, reference);
    }
    double size = 6 + 10 * s->learning_rate / (1 - s->momentum);
    expect_within(h, p[0], 16 * 0x1p-24 * size, "optimizer, long");
    if (h->device->caps.compute != h->device->caps.master) {
        memcpy(p[4].reference.data, p[0].reference.data, (size_t)n * sizeof(double));
        expect_within(h, p[4], 16 * 0x1p-24 * size, "optimizer, compute copy");
    }
}

static void test_long(void **state) {
    struct harness *h = *state;
    static const int64_t lengths[] = {1, 17, 4099, 100003};
    FOR_EACH_DEVICE(h, d) {
        for (int i = 0; i < 4 * COUNT_OF(lengths); i++) {
            struct optimizer_step s = {.kind = (enum optimizer_kind)(i % 4),
                                       .learning_rate = 0.01,
                                       .beta1 = 0.9,
                                       .beta2 = 0.99,
                                       .epsilon = 1e-6,
                                       .alpha = 0.98,
                                       .weight_decay = 0.05,
                                       .momentum = i % 4 == OPTIMIZER_SGD ? 0.9 : 0,
                                       .gradient_scale = 0.8};
            harness_begin(h, d, (uint64_t)i);
            run_long(h, &s, lengths[i / 4]);
            harness_end(h);
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_torch),
        cmocka_unit_test(test_closed_forms),
        cmocka_unit_test(test_long),
    };
    return cmocka_run_group_tests(tests, harness_setup, harness_teardown);
}
