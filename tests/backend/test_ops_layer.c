/* Norms, rotary embedding and activations on every back end, against the reference. */
#include "tests/unit.h"

#include <math.h>

#include "reference/harness.h"
#include "util/mem.h"

static const struct tensor none;

struct norm_case {
    enum norm_kind kind;
    int64_t rows, columns, pad;
    double offset, spread, shift;
    bool weight, bias;
};

static const struct norm_case norm_cases[] = {
    {NORM_RMS, 1, 1, 0, 0, 1, 0, true, false},       {NORM_RMS, 5, 64, 0, 0, 1, 0, true, false},
    {NORM_RMS, 37, 129, 3, 1, 1, 0, true, false},    {NORM_RMS, 130, 48, 0, 0, 1, 0, false, false},
    {NORM_RMS, 300, 33, 1, 0, 1e3, 0, true, true},   {NORM_RMS, 3, 4096, 0, 0, 1e-3, 0, true, false},
    {NORM_LAYER, 1, 2, 0, 0, 1, 0, true, true},      {NORM_LAYER, 37, 129, 3, 0, 1, 0, true, true},
    {NORM_LAYER, 300, 64, 0, 0, 1, 10, true, false}, {NORM_LAYER, 9, 1030, 2, 0, 1, -3, false, false},
    {NORM_LAYER, 520, 96, 0, 1, 5, 0, true, true},
};

/* How much x hat is off, relative to its typical size: sums over a row, and the cancellation x - mean. */
static double norm_error(const struct norm_case *c) {
    return sum_error(c->columns) * (2 + fabs(c->shift) / c->spread);
}

static double largest(const double *x, int64_t n) {
    double most = 0;
    for (int64_t i = 0; i < n; i++) {
        most = fmax(most, fabs(x[i]));
    }
    return most;
}

struct norm_pairs {
    struct pair x, y, weight, bias, statistics, dy, dx, dweight, dbias;
};

static struct norm norm_of(const struct norm_case *c, const struct norm_pairs *p, bool on_device) {
#define SIDE(pair) (on_device ? (pair).device : (pair).reference)
    return (struct norm){.kind = c->kind,
                         .epsilon = 1e-5,
                         .weight_offset = c->offset,
                         .x = SIDE(p->x),
                         .y = SIDE(p->y),
                         .weight = c->weight ? SIDE(p->weight) : none,
                         .bias = c->bias ? SIDE(p->bias) : none,
                         .statistics = SIDE(p->statistics)};
}

static struct norm_gradient norm_gradient_of(const struct norm_case *c, const struct norm_pairs *p,
                                             bool on_device) {
    return (struct norm_gradient){.dy = SIDE(p->dy),
                                  .dx = SIDE(p->dx),
                                  .dweight = c->weight ? SIDE(p->dweight) : none,
                                  .dbias = c->bias ? SIDE(p->dbias) : none};
}

static struct norm_pairs norm_pairs(struct harness *h, const struct norm_case *c) {
    struct norm_pairs p = {
        .x = pair_normal(h, ROLE_COMPUTE, c->rows, c->columns, c->pad, c->spread),
        .y = pair_normal(h, ROLE_COMPUTE, c->rows, c->columns, c->pad, 1),
        .weight = pair_normal(h, ROLE_COMPUTE, 1, c->columns, 0, 1),
        .bias = pair_normal(h, ROLE_COMPUTE, 1, c->columns, 0, 1),
        .statistics = pair_normal(h, ROLE_READOUT, c->rows, 2, 0, 1),
        .dy = pair_normal(h, ROLE_COMPUTE, c->rows, c->columns, 2 * c->pad, 1),
        .dx = pair_normal(h, ROLE_COMPUTE, c->rows, c->columns, c->pad, 1),
        .dweight = pair_normal(h, ROLE_MASTER, 1, c->columns, 0, 1),
        .dbias = pair_normal(h, ROLE_MASTER, 1, c->columns, 0, 1),
    };
    if (c->shift != 0) {
        double *x = reference_values(p.x);
        for (int64_t i = 0; i < c->rows * c->columns; i++) {
            x[i] += c->shift;
        }
        pair_set(h, &p.x, x);
        mem_free(x);
    }
    return p;
}

static void run_norm(struct harness *h, const struct norm_case *c) {
    struct norm_pairs p = norm_pairs(h, c);
    struct norm device = norm_of(c, &p, true);
    struct norm reference = norm_of(c, &p, false);
    must(backend_norm(h->device, &device));
    must(backend_norm(h->reference, &reference));
    double error = norm_error(c);
    double *weight = reference_values(p.weight);
    double *statistics = reference_values(p.statistics);
    double *x = reference_values(p.x);
    double scale = c->weight ? largest(weight, c->columns) + c->offset : 1;
    double spread = largest(x, c->rows * c->columns);
    double inverse = 0;
    for (int64_t i = 0; i < c->rows; i++) {
        inverse = fmax(inverse, statistics[2 * i + 1]);
    }
    expect_within(h, p.y, (spread * inverse * scale + 5) * error, "norm");
    expect_within(h, pair_columns(p.statistics, 0, 1), spread * sum_error(c->columns), "norm mean");
    expect_within(h, pair_columns(p.statistics, 1, 1), inverse * 2 * error, "norm 1 / std");
    struct norm_gradient device_gradient = norm_gradient_of(c, &p, true);
    struct norm_gradient reference_gradient = norm_gradient_of(c, &p, false);
    must(backend_norm_gradient(h->device, &device, &device_gradient));
    must(backend_norm_gradient(h->reference, &reference, &reference_gradient));
    /* terms of dx are at most (|u| + |hat| mean|u hat|) / std with |u| <= 6 scale, |hat| <= spread / std */
    double hat = fmin(spread * inverse, sqrt((double)c->columns));
    expect_within(h, p.dx, inverse * 6 * scale * (1 + hat) * 3 * error + 6 * 0x1p-24, "norm dx");
    double rows = (double)c->rows + 6;
    expect_within(h, p.dweight, rows * hat * (sum_error(c->rows) + error), "norm dweight");
    expect_within(h, p.dbias, rows * sum_error(c->rows), "norm dbias");
    mem_free(weight);
    mem_free(statistics);
    mem_free(x);
}

static void test_norm(void **state) {
    struct harness *h = *state;
    FOR_EACH_DEVICE(h, d) {
        for (int i = 0; i < COUNT_OF(norm_cases); i++) {
            harness_begin(h, d, (uint64_t)i);
            run_norm(h, &norm_cases[i]);
            harness_end(h);
        }
    }
}

/* Rows of equal numbers: LayerNorm gives the bias, RMSNorm gives one sign. Rows of zeros: nothing divides. */
static void test_norm_extremes(void **state) {
    struct harness *h = *state;
    FOR_EACH_DEVICE(h, d) {
        harness_begin(h, d, 5);
        static const double rows[] = {0, 0, 0, 0, 3, 3, 3, 3, -1e4, -1e4, -1e4, -1e4};
        struct norm_case c = {NORM_LAYER, 3, 4, 0, 0, 1, 0, true, true};
        struct norm_pairs p = norm_pairs(h, &c);
        pair_set(h, &p.x, rows);
        for (int kind = 0; kind < 2; kind++) {
            c.kind = kind == 0 ? NORM_LAYER : NORM_RMS;
            struct norm device = norm_of(&c, &p, true);
            struct norm reference = norm_of(&c, &p, false);
            must(backend_norm(h->device, &device));
            must(backend_norm(h->reference, &reference));
            expect_within(h, p.y, 12 * sum_error(4), "norm of equal numbers");
        }
        harness_end(h);
    }
}

struct rope_case {
    int64_t tokens, pad;
    int heads, head_dim, rotary_dim;
    bool interleaved;
};
static const struct rope_case rope_cases[] = {
    {1, 0, 1, 2, 2, false},   {33, 5, 3, 16, 16, false},  {33, 0, 3, 16, 4, false}, {70, 1, 2, 64, 64, true},
    {17, 0, 4, 20, 10, true}, {300, 0, 8, 64, 16, false}, {4, 0, 1, 80, 32, false},
};

static void run_rope(struct harness *h, const struct rope_case *c) {
    struct pair x = pair_normal(h, ROLE_COMPUTE, c->tokens, (int64_t)c->heads * c->head_dim, c->pad, 1);
    struct pair table = pair_normal(h, ROLE_READOUT, c->tokens, c->rotary_dim, 0, 1);
    double *angles = mem_calloc(c->tokens * c->rotary_dim, sizeof *angles);
    double *old = reference_values(x);
    assert_non_null(angles);
    int half = c->rotary_dim / 2;
    for (int64_t i = 0; i < c->tokens * half; i++) {
        double angle = (double)(i / half) * pow(10000, -(double)(i % half) / half);
        angles[i / half * c->rotary_dim + i % half] = cos(angle);
        angles[i / half * c->rotary_dim + half + i % half] = sin(angle);
    }
    pair_set(h, &table, angles);
    struct rope r = {.heads = c->heads,
                     .head_dim = c->head_dim,
                     .rotary_dim = c->rotary_dim,
                     .interleaved = c->interleaved};
    for (int back = 0; back < 2; back++) {
        r.inverse = back;
        r.x = x.device;
        r.table = table.device;
        must(backend_rope(h->device, &r));
        r.x = x.reference;
        r.table = table.reference;
        must(backend_rope(h->reference, &r));
        double rounding = 0x1p-24 + roundoff(x.device.type);
        expect_within(h, x, 6 * 3 * (back + 1) * rounding, back ? "rope there and back" : "rope");
    }
    double *now = reference_values(x);
    for (int64_t i = 0; i < c->tokens * c->heads * c->head_dim; i++) {
        assert_true(fabs(now[i] - old[i]) < 1e-5); /* the fp32 table is a rotation to fp32 */
    }
    mem_free(now);
    mem_free(old);
    mem_free(angles);
}

static void test_rope(void **state) {
    struct harness *h = *state;
    FOR_EACH_DEVICE(h, d) {
        for (int i = 0; i < COUNT_OF(rope_cases); i++) {
            harness_begin(h, d, (uint64_t)i);
            run_rope(h, &rope_cases[i]);
            harness_end(h);
        }
    }
}

struct activate_case {
    enum activation kind;
    int64_t rows, columns, pad;
    bool up, in_place;
    double spread;
};
static const struct activate_case activate_cases[] = {
    {ACTIVATION_SILU, 1, 1, 0, true, false, 1},          {ACTIVATION_SILU, 37, 129, 3, true, true, 3},
    {ACTIVATION_SILU, 64, 512, 0, false, false, 30},     {ACTIVATION_GELU, 37, 129, 3, false, true, 3},
    {ACTIVATION_GELU, 20, 600, 0, true, false, 30},      {ACTIVATION_GELU_TANH, 37, 129, 0, true, true, 3},
    {ACTIVATION_GELU_TANH, 200, 64, 1, false, false, 9}, {ACTIVATION_RELU, 37, 129, 0, false, true, 1},
    {ACTIVATION_RELU, 5, 77, 2, true, false, 1},         {ACTIVATION_SILU, 3, 50, 0, true, true, 1e4},
    {ACTIVATION_GELU, 3, 50, 0, true, true, 1e4},        {ACTIVATION_GELU_TANH, 3, 50, 0, true, false, 1e4},
};

/* Roundings of act'(x). |act(x)| <= |x| and |act'(x)| <= 1.2; exp, erf and tanh of a back end are good to 8
 * roundings, and their argument's rounding moves them by |x| slope(x) <= 2 roundings more. The tanh form has
 * x / 2 (1 - tanh^2) inner'(x), in which 1 - tanh^2 cancels (4 roundings of 1) until tanh is 1 in fp32. */
static double slope_roundings(enum activation kind, double x) {
    double inner_slope = sqrt(2 / 3.14159265358979323846) * (1 + 3 * 0.044715 * x * x);
    return 16 + (kind == ACTIVATION_GELU_TANH && fabs(x) < 6 ? 4 * 0.5 * fabs(x) * inner_slope : 0);
}

static void run_activate(struct harness *h, const struct activate_case *c) {
    struct pair gate = pair_normal(h, ROLE_COMPUTE, c->rows, c->columns, c->pad, c->spread);
    struct pair up = pair_normal(h, ROLE_COMPUTE, c->rows, c->columns, c->pad, 1);
    struct pair y = pair_normal(h, ROLE_COMPUTE, c->rows, c->columns, c->pad, 1);
    struct pair dy = pair_normal(h, ROLE_COMPUTE, c->rows, c->columns, 2 * c->pad, 1);
    struct pair dgate = c->in_place ? gate : pair_normal(h, ROLE_COMPUTE, c->rows, c->columns, c->pad, 1);
    struct pair dup = c->in_place ? up : pair_normal(h, ROLE_COMPUTE, c->rows, c->columns, c->pad, 1);
    double *x = reference_values(gate);
    double *times = reference_values(up);
    double *slope = reference_values(dy);
    int64_t n = c->rows * c->columns;
    double *of_y = mem_calloc(3 * n, sizeof *of_y);
    assert_non_null(of_y);
    for (int64_t i = 0; i < n; i++) {
        double by = c->up ? fabs(times[i]) : 1;
        of_y[i] = 10 * 0x1p-24 * (fabs(x[i]) + 0.1) * by;
        of_y[n + i] = slope_roundings(c->kind, x[i]) * 0x1p-24 * by * fabs(slope[i]);
        of_y[2 * n + i] = 10 * 0x1p-24 * (fabs(x[i]) + 0.1) * fabs(slope[i]);
    }
    for (int side = 0; side < 2; side++) {
        bool on_device = side == 0;
        struct backend *b = on_device ? h->device : h->reference;
        struct activate a = {
            .kind = c->kind, .gate = SIDE(gate), .up = c->up ? SIDE(up) : none, .y = SIDE(y)};
        struct activate_gradient g = {.dy = SIDE(dy), .dgate = SIDE(dgate), .dup = c->up ? SIDE(dup) : none};
        must(backend_activate(b, &a));
        must(backend_activate_gradient(b, &a, &g));
    }
    expect_close(h, y, of_y, "activate");
    expect_close(h, dgate, of_y + n, "activate dgate");
    if (c->up) {
        expect_close(h, dup, of_y + 2 * n, "activate dup");
    }
    mem_free(of_y);
    mem_free(x);
    mem_free(times);
    mem_free(slope);
}

static void test_activate(void **state) {
    struct harness *h = *state;
    FOR_EACH_DEVICE(h, d) {
        for (int i = 0; i < COUNT_OF(activate_cases); i++) {
            harness_begin(h, d, (uint64_t)i);
            run_activate(h, &activate_cases[i]);
            harness_end(h);
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_norm),
        cmocka_unit_test(test_norm_extremes),
        cmocka_unit_test(test_rope),
        cmocka_unit_test(test_activate),
    };
    return cmocka_run_group_tests(tests, harness_setup, harness_teardown);
}
