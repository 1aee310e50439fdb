/* The divergence of two models at each readout: its values from both models' logits, its gradient by finite
 * differences in double precision on the reference back end, softcaps, biases and tied heads included. */
#include "tests/model_fixture.h"

#include "model/divergence.h"
#include "tests/backend/reference/reference_backend.h"
#include "util/rng.h"

static const double STEP = 1e-3;

struct two {
    struct fixture policy, reference;
    double divergence[MOST_READOUTS];
};

static double weight_of(int32_t i) {
    return (i % 3 ? -.5 : 1) * (1 + i % 5);
}

/* sum_i weight_i KL_i, and where asked its gradients. */
static double loss_of(struct two *t, bool backward) {
    struct pass *p, *q;
    double logps[MOST_READOUTS], weights[MOST_READOUTS], loss = 0;
    MUST(pass_open(t->policy.model, &t->policy.w, KEEP_ALL, &p));
    MUST(pass_open(t->reference.model, &t->reference.w, KEEP_INPUTS, &q));
    MUST(pass_forward(p, &t->policy.forest));
    MUST(pass_logps(p, &(struct token_scores){.logp = logps}));
    MUST(pass_forward(q, &t->policy.forest));
    MUST(pass_logps(q, &(struct token_scores){.logp = logps}));
    MUST(pass_divergence(p, q, t->divergence));
    for (int32_t i = 0; i < t->policy.forest.n_readouts; i++) {
        weights[i] = weight_of(i);
        loss += weights[i] * t->divergence[i];
    }
    if (backward) {
        MUST(arena_zero_gradients(t->policy.model->trained));
        MUST(pass_backward(p, &(struct readout_gradients){.divergence = weights}, NULL, NULL));
    }
    pass_close(q);
    pass_close(p);
    return loss;
}

/* All logits of the readouts, to log-probabilities. */
static void whole(struct fixture *f, const struct forest *forest, double *out) {
    int64_t vocabulary = f->model->config.vocabulary;
    float *logits = mem_calloc(forest->n_readouts * vocabulary, sizeof *logits);
    struct pass *p;
    assert_non_null(logits);
    MUST(pass_open(f->model, &f->w, KEEP_NOTHING, &p));
    MUST(pass_forward(p, forest));
    MUST(pass_logits(p, forest->readout_at, forest->n_readouts, logits));
    pass_close(p);
    for (int32_t i = 0; i < forest->n_readouts; i++) {
        double sum = 0;
        for (int64_t v = 0; v < vocabulary; v++) {
            sum += exp((double)logits[i * vocabulary + v]);
        }
        for (int64_t v = 0; v < vocabulary; v++) {
            out[i * vocabulary + v] = (double)logits[i * vocabulary + v] - log(sum);
        }
    }
    mem_free(logits);
}

static void check_values(struct two *t, const char *name) {
    const struct forest *forest = &t->policy.forest;
    int64_t vocabulary = t->policy.model->config.vocabulary, n = forest->n_readouts * vocabulary;
    double *own = mem_calloc(2 * n, sizeof *own), *other = own + n;
    assert_non_null(own);
    whole(&t->policy, forest, own);
    whole(&t->reference, forest, other);
    loss_of(t, false);
    for (int32_t i = 0; i < forest->n_readouts; i++) {
        double want = 0;
        for (int64_t v = 0; v < vocabulary; v++) {
            int64_t at = i * vocabulary + v;
            want += exp(other[at]) * (other[at] - own[at]);
        }
        if (!(fabs(want - t->divergence[i]) <= 1e-5 * (1e-2 + want)) || !(want > 1e-5)) {
            FAIL("%s: readout %d: %g, not %g", name, i, t->divergence[i], want);
        }
    }
    mem_free(own);
}

static void set_entry(struct fixture *f, int64_t at, double value) {
    MUST(backend_write_doubles(f->model->backend, tensor_columns(f->model->trained->master, at, 1), &value));
}

static void check_gradient(struct two *t, const char *name) {
    const struct arena *a = t->policy.model->trained;
    struct rng r = rng_stream(3, RNG_CHECK, 0, 0);
    loss_of(t, true);
    for (int i = 0; i < a->n; i++) {
        const struct parameter *p = &a->parameters[i];
        int64_t at = p->offset + rng_below(&r, p->rows * p->columns);
        double value, gradient, f[4];
        MUST(backend_read_doubles(a->backend, &value, tensor_columns(a->master, at, 1)));
        MUST(backend_read_doubles(a->backend, &gradient, tensor_columns(a->gradients, at, 1)));
        for (int k = 0; k < 4; k++) {
            set_entry(&t->policy, at, value + (k % 2 ? -1 : 1) * (k < 2 ? 1 : 2) * STEP);
            f[k] = loss_of(t, false);
        }
        set_entry(&t->policy, at, value);
        double want = (8 * (f[0] - f[1]) - (f[2] - f[3])) / (12 * STEP);
        if (!(fabs(gradient - want) <= 1e-6 * fabs(want) + 1e-8)) {
            FAIL("%s: %s: gradient %g, finite differences %g", name, p->name, gradient, want);
        }
    }
}

/* The reference: the same model, every parameter moved. */
static void move(struct fixture *f) {
    struct arena *a = f->model->trained;
    struct rng r = rng_stream(4, RNG_CHECK, 0, 0);
    double *values = mem_calloc(a->elements, sizeof *values);
    assert_non_null(values);
    MUST(backend_read_doubles(a->backend, values, a->master));
    for (int64_t i = 0; i < a->elements; i++) {
        values[i] += .05 * rng_normal(&r);
    }
    MUST(backend_write_doubles(a->backend, a->master, values));
    mem_free(values);
}

static void test_divergence(void **state) {
    (void)state;
    static const char *const names[] = {"llama", "phi", "gpt2",
                                        "gemma2"}; /* a head of its own, with a bias; tied; capped */
    struct backend *b;
    MUST(reference_open(&b));
    for (int i = 0; i < COUNT_OF(names); i++) {
        struct two t;
        fixture_open(&t.policy, b, names[i]);
        fixture_open(&t.reference, b, names[i]);
        make_forest(&t.policy, 0, 1, true);
        assert_true(loss_of(&t, false) == 0); /* the same model, to the bit */
        move(&t.reference);
        check_values(&t, names[i]);
        check_gradient(&t, names[i]);
        fixture_close(&t.reference);
        fixture_close(&t.policy);
    }
    backend_close(b);
}

static void test_refusals(void **state) {
    (void)state;
    struct two t;
    struct backend *b;
    struct pass *p;
    double weights[MOST_READOUTS] = {0};
    MUST(reference_open(&b));
    fixture_open(&t.policy, b, "llama");
    make_forest(&t.policy, 0, 1, true);
    MUST(pass_open(t.policy.model, &t.policy.w, KEEP_ALL, &p));
    MUST(pass_forward(p, &t.policy.forest));
    MUST(pass_logps(p, &(struct token_scores){.logp = t.divergence}));
    assert_int_equal(pass_backward(p, &(struct readout_gradients){.divergence = weights}, NULL, NULL),
                     ERR_INTERNAL);
    pass_close(p);
    fixture_close(&t.policy);
    backend_close(b);
}

int main(int argc, char **argv) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_divergence), cmocka_unit_test(test_refusals)};
    if (comm_start(&argc, &argv, &world) != OK) {
        return 1;
    }
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    comm_finish(world);
    return failed;
}
