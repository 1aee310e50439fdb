/* Five updates against torch.optim in float64 (fixtures/make_optimizer.py), decay on matrices only, and the
 * RMSprop sequence of SPEC's closed form; on the reference in double. */
#include "tests/unit.h"

#include <math.h>
#include <string.h>

#include "tests/backend/reference/reference_backend.h"
#include "train/optimizer.h"
#include "util/json.h"

/* An arena of one matrix (4, 4) and one vector (5). */
enum { MATRIX = 16, VECTOR = 5, VECTOR_AT = 16, ARENA = 32 };

struct toy {
    struct arena arena;
    struct parameter parameters[2];
};

static void toy_open(struct toy *t, struct backend *b) {
    *t = (struct toy){.arena = {.backend = b, .n = 2, .elements = ARENA}};
    t->parameters[0] = (struct parameter){.rows = 4, .columns = 4, .decay = true, .n_dims = 2};
    t->parameters[1] = (struct parameter){.rows = 1, .columns = 5, .offset = VECTOR_AT, .n_dims = 1};
    t->arena.parameters = t->parameters;
    struct tensor *arenas[] = {&t->arena.master, &t->arena.gradients};
    for (int i = 0; i < 2; i++) {
        void *data;
        assert_int_equal(backend_alloc(b, ARENA * dtype_size(b->caps.master), &data), OK);
        *arenas[i] = tensor_at(data, 1, ARENA, b->caps.master);
        assert_int_equal(backend_zero_tensor(b, *arenas[i]), OK);
    }
    t->arena.compute = t->arena.master;
}

static void toy_close(struct toy *t) {
    backend_free(t->arena.backend, t->arena.master.data);
    backend_free(t->arena.backend, t->arena.gradients.data);
}

static double number(const json_t *object, const char *key) {
    double v = NAN;
    assert_int_equal(json_take_number(object, key, "optimizer.json", &v), OK);
    return v;
}

/* Elements [from, from + n) of a JSON array into out. */
static void numbers(const json_t *array, int from, int n, double *out) {
    for (int i = 0; i < n; i++) {
        out[i] = json_number_value(json_array_get(array, (size_t)(from + i)));
    }
}

static enum optimizer_kind kind_of(const char *name) {
    return strncmp(name, "adamw", 5) == 0  ? OPTIMIZER_ADAMW
           : strncmp(name, "adam", 4) == 0 ? OPTIMIZER_ADAM
           : strncmp(name, "rms", 3) == 0  ? OPTIMIZER_RMSPROP
                                           : OPTIMIZER_SGD;
}

/* Gradients go in doubled and are halved by the clipping factor: the same updates. */
static void run_kind(struct backend *b, const json_t *all, const json_t *kind, double tolerance) {
    struct toy t;
    toy_open(&t, b);
    double values[ARENA] = {0}, got[ARENA], want[ARENA] = {0};
    numbers(json_object_get(all, "matrix"), 0, MATRIX, values);
    numbers(json_object_get(all, "vector"), 0, VECTOR, values + VECTOR_AT);
    assert_int_equal(backend_write_doubles(b, t.arena.master, values), OK);
    const char *name = json_string_value(json_object_get(kind, "name"));
    struct optimizer_options options = {.kind = kind_of(name),
                                        .learning_rate = number(all, "learning_rate"),
                                        .weight_decay = number(all, "weight_decay"),
                                        .beta1 = number(kind, "beta1"),
                                        .beta2 = number(kind, "beta2"),
                                        .epsilon = number(kind, "eps"),
                                        .alpha = number(kind, "alpha"),
                                        .momentum = number(kind, "momentum")};
    struct shard_map whole = shard_map_whole(ARENA);
    struct optimizer o;
    assert_int_equal(optimizer_open(&t.arena, &options, &whole, &o), OK);
    for (int step = 0; step < 5; step++) {
        const json_t *g = json_array_get(json_object_get(all, "gradients"), (size_t)step);
        memset(values, 0, sizeof values);
        numbers(g, 0, MATRIX, values);
        numbers(g, MATRIX, VECTOR, values + VECTOR_AT);
        for (int i = 0; i < ARENA; i++) {
            values[i] *= 2;
        }
        assert_int_equal(backend_write_doubles(b, t.arena.gradients, values), OK);
        double rate = json_number_value(json_array_get(json_object_get(all, "rates"), (size_t)step));
        assert_int_equal(optimizer_update(&o, rate, 0.5), OK);
    }
    assert_int_equal(o.updates, 5);
    assert_int_equal(backend_read_doubles(b, got, t.arena.master), OK);
    numbers(json_object_get(kind, "matrix"), 0, MATRIX, want);
    numbers(json_object_get(kind, "vector"), 0, VECTOR, want + VECTOR_AT);
    for (int i = 0; i < ARENA; i++) {
        if (!(fabs(got[i] - want[i]) <= tolerance)) {
            FAIL("%s, element %d: got %.17g, want %.17g", name, i, got[i], want[i]);
        }
    }
    optimizer_close(&o);
    toy_close(&t);
}

static void run_all(struct backend *b, double tolerance) {
    json_t *all, *kind;
    size_t i;
    assert_int_equal(json_load(FIXTURES "/optimizer.json", &all), OK);
    assert_int_equal(json_array_size(json_object_get(all, "kinds")), 6);
    json_array_foreach(json_object_get(all, "kinds"), i, kind) {
        run_kind(b, all, kind, tolerance);
    }
    json_decref(all);
}

static void test_reference(void **state) {
    (void)state;
    struct backend *b;
    assert_int_equal(reference_open(&b), OK);
    run_all(b, 1e-14);
    backend_close(b);
}

/* theta 1, gradient 0.5 for ever, rate 0.01. */
static void test_rmsprop_sequence(void **state) {
    (void)state;
    const double want[] = {.9000000200, .8291119095, .7710870078};
    struct backend *b;
    assert_int_equal(reference_open(&b), OK);
    struct toy t;
    toy_open(&t, b);
    double values[ARENA], gradients[ARENA];
    for (int i = 0; i < ARENA; i++) {
        values[i] = 1;
        gradients[i] = 0.5;
    }
    assert_int_equal(backend_write_doubles(b, t.arena.master, values), OK);
    assert_int_equal(backend_write_doubles(b, t.arena.gradients, gradients), OK);
    struct optimizer_options options = {
        .kind = OPTIMIZER_RMSPROP, .learning_rate = 0.01, .alpha = 0.99, .epsilon = 1e-8};
    struct shard_map whole = shard_map_whole(ARENA);
    struct optimizer o;
    assert_int_equal(optimizer_open(&t.arena, &options, &whole, &o), OK);
    struct tensor tensors[OPTIMIZER_STATES];
    const char *names[OPTIMIZER_STATES];
    assert_int_equal(optimizer_state(&o, tensors, names), 1);
    assert_string_equal(names[0], "second");
    for (int step = 0; step < COUNT_OF(want); step++) {
        uint64_t before = t.arena.revision;
        assert_int_equal(optimizer_update(&o, 1, 1), OK);
        assert_true(t.arena.revision > before);
        assert_int_equal(backend_read_doubles(b, values, t.arena.master), OK);
        if (!(fabs(values[0] - want[step]) < 1e-10)) {
            FAIL("step %d: got %.12g, want %.12g", step, values[0], want[step]);
        }
    }
    optimizer_close(&o);
    toy_close(&t);
    backend_close(b);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_reference),
        cmocka_unit_test(test_rmsprop_sequence),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
