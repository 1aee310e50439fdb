/* The head (log-probabilities without rows x V in memory) on every back end, against the reference. */
#include "tests/unit.h"

#include <math.h>

#include "reference/harness.h"
#include "util/mem.h"

struct head_case {
    int64_t rows, vocabulary, width, pad;
    bool bias, frozen;
    double softcap, spread;
};

static const struct head_case cases[] = {
    {.rows = 1, .vocabulary = 1, .width = 1, .spread = 1},
    {.rows = 1, .vocabulary = 300, .width = 16, .spread = 1},
    {.rows = 37, .vocabulary = 257, .width = 33, .pad = 3, .bias = true, .spread = 1},
    {.rows = 5, .vocabulary = 9001, .width = 48, .spread = 0.5},
    {.rows = 300, .vocabulary = 259, .width = 64, .spread = 0.3},
    {.rows = 130, .vocabulary = 1030, .width = 65, .softcap = 3, .spread = 0.5, .bias = true},
    {.rows = 40, .vocabulary = 515, .width = 24, .softcap = 30, .spread = 1},
    {.rows = 64, .vocabulary = 2048, .width = 32, .spread = 0.4, .frozen = true},
    {.rows = 33, .vocabulary = 100, .width = 16, .spread = 10}, /* logits of some 400 */
};

struct head_pairs {
    struct pair hidden, weight, bias, targets, statistics, row_weight, dhidden, dweight, dbias;
};

/* What the reference's numbers say about the largest errors. */
struct head_bounds {
    double delta;    /* of a logit */
    double relative; /* of a probability */
    double depth;    /* largest lse - logit */
    double logit;    /* largest |logit| */
    double *masses;  /* per token: sum over rows of |row weight| ([token is target] + p) */
    double *gaps;    /* per row: distance of the target's logit from the best other one */
    double most_hidden, most_weight, most_row;
};

static const struct tensor none;

static double largest(struct pair p) {
    double *x = reference_values(p);
    double most = 0;
    for (int64_t i = 0; i < p.reference.rows * p.reference.columns; i++) {
        most = fmax(most, fabs(x[i]));
    }
    mem_free(x);
    return most;
}

static double logit_of(const struct head *h, int64_t i, int64_t v, double *magnitude) {
    const double *hidden = (const double *)h->hidden.data + i * h->hidden.stride;
    const double *weight = (const double *)h->weight.data + v * h->weight.stride;
    double z = h->bias.data ? ((const double *)h->bias.data)[v] : 0;
    *magnitude = fabs(z);
    for (int64_t j = 0; j < h->hidden.columns; j++) {
        z += hidden[j] * weight[j];
        *magnitude += fabs(hidden[j] * weight[j]);
    }
    return h->softcap > 0 ? h->softcap * tanh(z / h->softcap) : z;
}

/* Run after the reference's forward pass: needs its statistics. */
static struct head_bounds bounds_of(struct harness *t, const struct head *h, const struct head_pairs *p) {
    struct head_bounds b = {.most_hidden = largest(p->hidden),
                            .most_weight = largest(p->weight),
                            .most_row = largest(p->row_weight)};
    b.masses = mem_calloc(h->weight.rows, sizeof *b.masses);
    b.gaps = mem_calloc(h->hidden.rows, sizeof *b.gaps);
    assert_true(b.masses && b.gaps);
    double magnitude = 0;
    for (int64_t i = 0; i < h->hidden.rows; i++) {
        int32_t target = ((const int32_t *)h->targets.data)[i];
        double row = fabs(((const double *)p->row_weight.reference.data)[i]);
        double lse = ((const double *)h->statistics.data)[i * HEAD_STATISTICS + HEAD_LSE];
        double other = -INFINITY;
        double chosen = -INFINITY;
        for (int64_t v = 0; v < h->weight.rows; v++) {
            double size;
            double z = logit_of(h, i, v, &size);
            magnitude = fmax(magnitude, size);
            b.logit = fmax(b.logit, fabs(z));
            b.depth = fmax(b.depth, lse - z);
            b.masses[v] += row * ((v == target) + exp(z - lse));
            if (v == target) {
                chosen = z;
            } else {
                other = fmax(other, z);
            }
        }
        b.gaps[i] = fabs(chosen - other);
    }
    b.delta = magnitude * sum_error(h->hidden.columns) + 8 * 0x1p-24 * b.logit;
    b.relative = 2 * b.delta + sum_error(h->weight.rows) + (roundoff(t->device->caps.compute) - 0x1p-24);
    return b;
}

static struct head_pairs head_pairs(struct harness *h, const struct head_case *c) {
    struct head_pairs p = {
        .hidden = pair_normal(h, ROLE_COMPUTE, c->rows, c->width, c->pad, c->spread),
        .weight = pair_normal(h, ROLE_COMPUTE, c->vocabulary, c->width, c->pad, c->spread),
        .bias = pair_normal(h, ROLE_COMPUTE, 1, c->vocabulary, 0, 1),
        .targets = pair_indices(h, 1, c->rows, -1, c->vocabulary),
        .statistics = pair_normal(h, ROLE_READOUT, c->rows, HEAD_STATISTICS, 0, 1),
        .row_weight = pair_normal(h, ROLE_READOUT, 1, c->rows, 0, 1),
        .dhidden = pair_normal(h, ROLE_COMPUTE, c->rows, c->width, c->pad, 1),
        .dweight = pair_normal(h, ROLE_MASTER, c->vocabulary, c->width, c->pad, 1),
        .dbias = pair_normal(h, ROLE_MASTER, 1, c->vocabulary, 0, 1),
    };
    double *rows = reference_values(p.row_weight);
    for (int64_t i = 0; i < c->rows; i += 5) {
        rows[i] = 0; /* rows whose loss has no slope */
    }
    pair_set(h, &p.row_weight, rows);
    mem_free(rows);
    if (c->rows > 3) { /* some rows for certain without a target */
        int32_t *targets = mem_calloc(c->rows, sizeof *targets);
        assert_non_null(targets);
        must(backend_read(h->reference, targets, p.targets.reference.data, c->rows * 4));
        targets[1] = -1;
        targets[c->rows - 1] = -1;
        pair_set_indices(h, &p.targets, targets);
        mem_free(targets);
    }
    return p;
}

#define SIDE(pair) (on_device ? (pair).device : (pair).reference)

static struct head head_of(const struct head_case *c, const struct head_pairs *p, bool on_device) {
    return (struct head){.hidden = SIDE(p->hidden),
                         .weight = SIDE(p->weight),
                         .bias = c->bias ? SIDE(p->bias) : none,
                         .targets = SIDE(p->targets),
                         .softcap = c->softcap,
                         .statistics = SIDE(p->statistics)};
}

static void expect_statistics(struct harness *h, const struct head_pairs *p, const struct head_bounds *b,
                              int64_t vocabulary) {
    double sum = sum_error(vocabulary);
    int64_t rows = p->statistics.device.rows;
    struct pair s = p->statistics;
    expect_within(h, pair_columns(s, HEAD_LOGP, 1), 2 * b->delta + sum, "head log-probability");
    expect_within(h, pair_columns(s, HEAD_LSE, 1), b->delta + sum, "head log-sum-exp");
    expect_within(h, pair_columns(s, HEAD_ENTROPY, 1), (b->depth + 1) * b->relative + 2 * b->delta,
                  "head entropy");
    expect_within(h, pair_columns(s, HEAD_MEAN_LOGIT, 1), b->delta + b->logit * sum, "head mean logit");
    expect_within(h, pair_columns(s, HEAD_COLLISION, 1), 4 * b->delta + 4 * sum, "head collision");
    double *bound = mem_calloc(rows, sizeof *bound);
    assert_non_null(bound);
    for (int64_t i = 0; i < rows; i++) {
        bound[i] = b->gaps[i] > 2 * b->delta ? 0 : 1; /* too close to call in this type */
    }
    expect_close(h, pair_columns(s, HEAD_IS_TOP, 1), bound, "head top");
    mem_free(bound);
}

static void expect_gradients(struct harness *h, const struct head_case *c, const struct head_pairs *p,
                             const struct head_bounds *b) {
    double slope = c->softcap > 0 ? 8 * 0x1p-24 + 2 * b->delta / c->softcap : 0;
    double dz = b->relative + slope;
    double sums = sum_error(c->vocabulary);
    expect_within(h, p->dhidden, 2 * b->most_row * b->most_weight * (dz + sums), "head dhidden");
    double *bound = mem_calloc(c->vocabulary * c->width, sizeof *bound);
    assert_non_null(bound);
    double rounding = 6 * 0x1p-24; /* of what was there before */
    double along = sum_error(c->rows);
    for (int64_t i = 0; i < c->vocabulary * c->width; i++) {
        bound[i] = b->masses[i / c->width] * b->most_hidden * (dz + along) + rounding;
    }
    expect_close(h, p->dweight, bound, "head dweight");
    for (int64_t v = 0; v < c->vocabulary; v++) {
        bound[v] = b->masses[v] * (dz + along) + rounding;
    }
    expect_close(h, p->dbias, bound, "head dbias");
    mem_free(bound);
}

static void run_head(struct harness *h, const struct head_case *c) {
    struct head_pairs p = head_pairs(h, c);
    for (int side = 0; side < 2; side++) {
        bool on_device = side == 0;
        struct backend *b = on_device ? h->device : h->reference;
        struct head head = head_of(c, &p, on_device);
        struct head_gradient g = {.row_weight = SIDE(p.row_weight),
                                  .dhidden = SIDE(p.dhidden),
                                  .dweight = c->frozen ? none : SIDE(p.dweight),
                                  .dbias = c->bias && !c->frozen ? SIDE(p.dbias) : none};
        must(backend_head(b, &head));
        must(backend_head_gradient(b, &head, &g));
    }
    struct head reference = head_of(c, &p, false);
    struct head_bounds b = bounds_of(h, &reference, &p);
    expect_statistics(h, &p, &b, c->vocabulary);
    expect_gradients(h, c, &p, &b);
    mem_free(b.masses);
    mem_free(b.gaps);
}

static void test_head(void **state) {
    struct harness *h = *state;
    FOR_EACH_DEVICE(h, d) {
        for (int i = 0; i < COUNT_OF(cases); i++) {
            harness_begin(h, d, (uint64_t)i);
            run_head(h, &cases[i]);
            harness_end(h);
        }
    }
}

/* Rows without a target and rows of weight 0 add nothing, exactly. */
static void test_rows_without_gradient(void **state) {
    struct harness *h = *state;
    FOR_EACH_DEVICE(h, d) {
        harness_begin(h, d, 4);
        struct head_case c = {.rows = 2, .vocabulary = 70, .width = 12, .spread = 1};
        struct head_pairs p = head_pairs(h, &c);
        pair_set_indices(h, &p.targets, (const int32_t[]){-1, 3});
        pair_set(h, &p.row_weight, (const double[]){1, 0});
        struct head head = head_of(&c, &p, true);
        struct head_gradient g = {
            .row_weight = p.row_weight.device, .dhidden = p.dhidden.device, .dweight = p.dweight.device};
        must(backend_head(h->device, &head));
        must(backend_head_gradient(h->device, &head, &g));
        double *dhidden = device_values(h, p.dhidden);
        double *dweight = device_values(h, p.dweight);
        double *before = reference_values(p.dweight);
        double *statistics = device_values(h, p.statistics);
        for (int i = 0; i < 24; i++) {
            assert_true(dhidden[i] == 0);
        }
        for (int i = 0; i < 70 * 12; i++) {
            assert_true(dweight[i] == before[i]);
        }
        assert_true(statistics[HEAD_LOGP] == 0 && statistics[HEAD_IS_TOP] == 0);
        mem_free(dhidden);
        mem_free(dweight);
        mem_free(before);
        mem_free(statistics);
        harness_end(h);
    }
}

/* Logits of exactly +-1e4 (one hidden value of 100, weights of +-100), all equal, and one winner. */
static void test_extreme_logits(void **state) {
    struct harness *h = *state;
    enum { V = 600 };
    FOR_EACH_DEVICE(h, d) {
        harness_begin(h, d, 6);
        struct head_case c = {.rows = 3, .vocabulary = V, .width = 1, .spread = 1};
        struct head_pairs p = head_pairs(h, &c);
        double weights[V];
        for (int v = 0; v < V; v++) {
            weights[v] = v == 77 ? 100 : -100;
        }
        pair_set(h, &p.weight, weights);
        pair_set(h, &p.hidden, (const double[]){100, -100, 0});
        pair_set_indices(h, &p.targets, (const int32_t[]){77, 77, 77});
        pair_set(h, &p.row_weight, (const double[]){1, 1, 1});
        struct head head = head_of(&c, &p, true);
        struct head_gradient g = {.row_weight = p.row_weight.device, .dhidden = p.dhidden.device};
        must(backend_head(h->device, &head));
        must(backend_head_gradient(h->device, &head, &g));
        double *s = device_values(h, p.statistics);
        double *dhidden = device_values(h, p.dhidden);
        static const int N = HEAD_STATISTICS;
        assert_true(s[HEAD_LOGP] == 0 && s[HEAD_LSE] == 1e4 && s[HEAD_IS_TOP] == 1);
        assert_true(s[HEAD_ENTROPY] == 0 && s[HEAD_COLLISION] == 0);
        assert_true(fabs(s[2 * N + HEAD_COLLISION] + log(V)) <= 8 * 0x1p-24 * log(V) + sum_error(V));
        double lse = 1e4 + log(V - 1);
        assert_true(fabs(s[N + HEAD_LSE] - lse) <= 2 * 0x1p-24 * lse);
        assert_true(fabs(s[N + HEAD_LOGP] + 1e4 + lse) <= 4 * 0x1p-24 * lse);
        assert_true(s[N + HEAD_IS_TOP] == 0);
        assert_true(fabs(s[N + HEAD_ENTROPY] - log(V - 1)) <= 4 * 0x1p-24 * lse);
        assert_true(fabs(s[2 * N + HEAD_LOGP] + log(V)) <= 8 * 0x1p-24 * log(V));
        assert_true(fabs(s[2 * N + HEAD_ENTROPY] - log(V)) <= 8 * 0x1p-24 * log(V) + sum_error(V));
        assert_true(s[2 * N + HEAD_MEAN_LOGIT] == 0 && s[2 * N + HEAD_IS_TOP] == 1);
        /* row 0 is certain: no slope; row 1: W_77 - mean of the others = 200; row 2: (1 - 1/V) 200, a sum of
         * equal terms, whose roundings may all go the same way: V of them at worst */
        assert_true(fabs(dhidden[0]) <= 200 * 0x1p-24);
        assert_true(fabs(dhidden[1] - 200) <= 200 * (8 * 0x1p-24 * lse + sum_error(V)));
        assert_true(fabs(dhidden[2] - 200 * (1 - 1.0 / V)) <=
                    200 * (2 * roundoff(p.dhidden.device.type) + V * 0x1p-24));
        mem_free(s);
        mem_free(dhidden);
        harness_end(h);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_head),
        cmocka_unit_test(test_rows_without_gradient),
        cmocka_unit_test(test_extreme_logits),
    };
    return cmocka_run_group_tests(tests, harness_setup, harness_teardown);
}
