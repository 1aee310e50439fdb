/* Gradients of few-shot reward models by finite differences, for every parameter of every variant, and what
 * must hold of their outputs. */
#include "tests/unit.h"

#include <math.h>

#include "tests/few_shot/few_shot_small.h"

static void must(enum status st) {
    if (st != OK) {
        FAIL("%s", status_message()->text);
    }
}

struct variant {
    const char *name;
    struct network_shape shape;
    int64_t context;
    double dropout, beta_kl;
    enum few_shot_objective objective;
};

#define SHAPE(kind, aggregate, mlp, latent) \
    { kind, SMALL_WIDTH, SMALL_HIDDEN, 2, aggregate, mlp, latent }
static const struct variant variants[] = {
    {"btl", SHAPE(NETWORK_BTL, AGGREGATE_ATTENTION, false, false), 0, 0, 0, FEW_SHOT_CODE},
    {"dpl", SHAPE(NETWORK_DPL, AGGREGATE_ATTENTION, false, false), 0, 0, 0, FEW_SHOT_CODE},
    {"np", SHAPE(NETWORK_PROCESS, AGGREGATE_ATTENTION, false, false), 3, 0.3, 0, FEW_SHOT_CODE},
    {"np mlp", SHAPE(NETWORK_PROCESS, AGGREGATE_ATTENTION, true, false), 5, 0, 0, FEW_SHOT_CODE},
    {"np empty", SHAPE(NETWORK_PROCESS, AGGREGATE_ATTENTION, true, false), 0, 0, 0, FEW_SHOT_CODE},
    {"np mean", SHAPE(NETWORK_PROCESS, AGGREGATE_MEAN, true, false), 2, 0, 0, FEW_SHOT_CODE},
    {"np sum", SHAPE(NETWORK_PROCESS, AGGREGATE_SUM, false, false), 2, 0, 0, FEW_SHOT_CODE},
    {"latent", SHAPE(NETWORK_PROCESS, AGGREGATE_ATTENTION, true, true), 3, 0.3, 0.2, FEW_SHOT_CODE},
    {"latent without kl", SHAPE(NETWORK_PROCESS, AGGREGATE_ATTENTION, true, true), 3, 0, 0, FEW_SHOT_CODE},
    {"latent elbo", SHAPE(NETWORK_PROCESS, AGGREGATE_ATTENTION, false, true), 2, 0.3, 0.2, FEW_SHOT_ELBO},
    {"latent empty", SHAPE(NETWORK_PROCESS, AGGREGATE_SUM, false, true), 0, 0, 0.2, FEW_SHOT_ELBO},
};

/* The loss; gradients are added to the model's. */
static double loss_of(struct few_shot_pass *p, const struct variant *v, const struct few_shot_batch *b) {
    must(few_shot_forward(p, b, true, v->objective));
    struct few_shot_value value;
    must(few_shot_backward(p, b, v->beta_kl, v->objective, &value));
    return value.nll + v->beta_kl * value.kl;
}

static void check_variant(const struct variant *v) {
    struct network m;
    struct few_shot_pass p;
    struct small s;
    must(network_open(&v->shape, 1, &m));
    must(few_shot_pass_open(&m, NULL, &small_limits, &p));
    small_fill(&s, v->context, v->shape.latent);
    s.batch.dropout = v->dropout;
    for (int64_t i = 0; i < m.count; i++) { /* biases and norms away from their starts */
        struct rng r = rng_stream(8, RNG_CHECK, i, 0);
        m.parameters[i] += 0.1 * rng_normal(&r);
    }
    loss_of(&p, v, &s.batch);
    double *gradient = m.gradients;
    double other[8192];
    assert_true(m.count <= 8192);
    m.gradients = other;
    struct few_shot_pass q; /* the first pass points into the first gradients */
    must(few_shot_pass_open(&m, NULL, &small_limits, &q));
    double largest = 0;
    for (int64_t i = 0; i < m.count; i++) {
        const double step = 1e-6;
        double kept = m.parameters[i];
        m.parameters[i] = kept + step;
        double high = loss_of(&q, v, &s.batch);
        m.parameters[i] = kept - step;
        double low = loss_of(&q, v, &s.batch);
        m.parameters[i] = kept;
        double expected = (high - low) / (2 * step);
        largest = fmax(largest, fabs(expected));
        if (fabs(gradient[i] - expected) > 2e-8 + 1e-6 * fabs(expected)) {
            FAIL("%s: parameter %d: gradient %.12g, difference quotient %.12g", v->name, (int)i, gradient[i],
                 expected);
        }
    }
    assert_true(largest > 1e-3);
    m.gradients = gradient;
    few_shot_pass_close(&p);
    few_shot_pass_close(&q);
    network_close(&m);
}

static void test_gradients(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof variants / sizeof *variants; i++) {
        check_variant(&variants[i]);
    }
}

struct fixed {
    struct network m;
    struct few_shot_pass p;
    struct small s;
};
static void fixed_open(struct fixed *f, int64_t context) {
    static const struct network_shape shape = SHAPE(NETWORK_PROCESS, AGGREGATE_ATTENTION, true, false);
    must(network_open(&shape, 1, &f->m));
    must(few_shot_pass_open(&f->m, NULL, &small_limits, &f->p));
    small_fill(&f->s, context, false);
    must(few_shot_forward(&f->p, &f->s.batch, true, FEW_SHOT_CODE)); /* running statistics off their start */
    must(few_shot_forward(&f->p, &f->s.batch, false, FEW_SHOT_CODE));
}
static void fixed_close(struct fixed *f) {
    few_shot_pass_close(&f->p);
    network_close(&f->m);
}

static void expect_near(const double *x, const double *y, int64_t n, double tolerance) {
    for (int64_t i = 0; i < n; i++) {
        if (!(fabs(x[i] - y[i]) <= tolerance)) {
            FAIL("element %d: %.17g and %.17g", (int)i, x[i], y[i]);
        }
    }
}

/* z depends on the context as a set, and on a choice only by who is the chosen one. */
static void test_invariances(void **state) {
    (void)state;
    enum { N = SMALL_USERS * SMALL_HIDDEN };
    struct fixed f;
    double z[N];
    fixed_open(&f, 3);
    memcpy(z, f.p.z, sizeof z);
    int32_t first = f.s.positions[0];
    f.s.positions[0] = f.s.positions[2];
    f.s.positions[2] = first;
    must(few_shot_forward(&f.p, &f.s.batch, false, FEW_SHOT_CODE));
    expect_near(z, f.p.z, N, 1e-14);
    f.s.choices[f.s.positions[1]] ^= 1;
    must(few_shot_forward(&f.p, &f.s.batch, false, FEW_SHOT_CODE));
    assert_true(fabs(z[0] - f.p.z[0]) > 1e-6); /* the context is looked at */
    for (int i = 0; i < SMALL_WIDTH; i++) {
        double *a = f.s.options + f.s.positions[1] * 2 * SMALL_WIDTH + i;
        double kept = a[0];
        a[0] = a[SMALL_WIDTH];
        a[SMALL_WIDTH] = kept;
    }
    must(few_shot_forward(&f.p, &f.s.batch, false, FEW_SHOT_CODE));
    expect_near(z, f.p.z, N, 1e-14);
    fixed_close(&f);
}

static void test_empty_context(void **state) {
    (void)state;
    struct fixed f;
    fixed_open(&f, 0);
    for (int user = 1; user < SMALL_USERS; user++) {
        expect_near(f.p.z, f.p.z + user * SMALL_HIDDEN, SMALL_HIDDEN, 0);
    }
    fixed_close(&f);
}

/* In evaluation a user's outputs are the same without the users beside. */
static void test_batch_independence(void **state) {
    (void)state;
    enum { EACH = SMALL_TARGETS * 2 };
    struct fixed f;
    double outputs[SMALL_USERS * EACH];
    fixed_open(&f, 3);
    memcpy(outputs, f.p.outputs, sizeof outputs);
    for (int user = 0; user < SMALL_USERS; user++) {
        struct few_shot_batch one = f.s.batch;
        one.users = one.all_users = 1;
        one.options += user * EACH * SMALL_WIDTH;
        one.choices += user * SMALL_TARGETS;
        must(few_shot_forward(&f.p, &one, false, FEW_SHOT_CODE));
        expect_near(outputs + user * EACH, f.p.outputs, EACH, 1e-13);
    }
    must(few_shot_forward(&f.p, &f.s.batch, true, FEW_SHOT_CODE));
    assert_true(fabs(outputs[0] - f.p.outputs[0]) > 1e-6); /* but not in training */
    fixed_close(&f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_gradients),
        cmocka_unit_test(test_invariances),
        cmocka_unit_test(test_empty_context),
        cmocka_unit_test(test_batch_independence),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
