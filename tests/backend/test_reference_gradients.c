/* The reference's gradient operations against finite differences of its forward operations, so that the
 * formulas which everything else is compared with are proved, not believed.
 *
 * L(x) = sum of R_i y_i(x) with random R; a 4-point central difference,
 *     L'(x) = (8 (L(x+e) - L(x-e)) - (L(x+2e) - L(x-2e))) / (12 e) + O(e^4),
 * errs by about e^4 |L^(5)| / 30 + 1e-16 |L| / e; with e = 1e-3, L of order 10 and fifth derivatives up to
 * 1e3 that is 3e-11 and 1e-12. 1e-8 (1 + |gradient|) is asked for.
 */
#include "tests/unit.h"

#include <math.h>
#include <string.h>

#include "reference/harness.h"
#include "reference/reference_backend.h"
#include "util/mem.h"

enum { TENSORS = 12 };

/* An operation on the reference: inputs with respect to which it is differentiated, outputs, and two calls.
 */
struct differentiable {
    const char *name;
    struct backend *b;
    struct rng rng;
    struct tensor inputs[4], gradients[4]; /* gradients[i].data NULL: not asked for */
    const char *input_names[4];
    struct tensor output, weights; /* weights: R, the output's gradient */
    void *operation;               /* struct norm, attention, ... */
    enum status (*forward)(struct backend *b, const void *operation);
    void *memory[4 * TENSORS];
    int memory_count;
};

static struct tensor fresh(struct differentiable *d, int64_t rows, int64_t columns, double spread) {
    void *data;
    must(backend_alloc(d->b, rows * columns * 8, &data));
    d->memory[d->memory_count++] = data;
    for (int64_t i = 0; i < rows * columns; i++) {
        ((double *)data)[i] = spread * rng_normal(&d->rng);
    }
    return tensor_at(data, rows, columns, DTYPE_F64);
}

static void open_case(struct differentiable *d, struct backend *b, const char *name, uint64_t seed) {
    *d = (struct differentiable){.name = name, .b = b, .rng = rng_stream(seed, RNG_CHECK, 1, 0)};
}

static void close_case(struct differentiable *d) {
    for (int i = 0; i < d->memory_count; i++) {
        backend_free(d->b, d->memory[i]);
    }
}

static double loss(struct differentiable *d) {
    must(d->forward(d->b, d->operation));
    double sum = 0;
    for (int64_t i = 0; i < d->output.rows; i++) {
        for (int64_t j = 0; j < d->output.columns; j++) {
            sum += ((double *)d->output.data)[i * d->output.stride + j] *
                   ((double *)d->weights.data)[i * d->weights.stride + j];
        }
    }
    return sum;
}

static double slope(struct differentiable *d, double *x) {
    static const double e = 1e-3;
    static const double at[] = {1, -1, 2, -2};
    static const double factor[] = {8, -8, -1, 1};
    double old = *x;
    double sum = 0;
    for (int i = 0; i < 4; i++) {
        *x = old + at[i] * e;
        sum += factor[i] * loss(d);
    }
    *x = old;
    return sum / (12 * e);
}

static void check_slopes(struct differentiable *d) {
    for (int i = 0; i < COUNT_OF(d->inputs); i++) {
        double *x = d->inputs[i].data;
        const double *gradient = d->gradients[i].data;
        for (int64_t j = 0; gradient && j < d->inputs[i].rows * d->inputs[i].columns; j++) {
            double wanted = slope(d, &x[j]);
            if (!(fabs(gradient[j] - wanted) <= 1e-8 * (1 + fabs(wanted)))) {
                FAIL("%s: d %s [%lld] is %.12g, finite differences give %.12g", d->name, d->input_names[i],
                     (long long)j, gradient[j], wanted);
            }
        }
    }
}

static void input(struct differentiable *d, int at, const char *name, struct tensor t,
                  struct tensor gradient) {
    d->inputs[at] = t;
    d->gradients[at] = gradient;
    d->input_names[at] = name;
}

/* Fresh memory of zeros, for a gradient that is added to. */
static struct tensor zeros(struct differentiable *d, int64_t rows, int64_t columns) {
    return fresh(d, rows, columns, 0);
}

static enum status norm_forward(struct backend *b, const void *n) {
    return backend_norm(b, n);
}

static void test_norm(void **state) {
    struct backend *b = *state;
    for (int c = 0; c < 6; c++) {
        struct differentiable d;
        open_case(&d, b, c % 2 ? "LayerNorm" : "RMSNorm", (uint64_t)c);
        int64_t columns = c < 4 ? 5 : 2;
        struct norm n = {.kind = c % 2 ? NORM_LAYER : NORM_RMS,
                         .epsilon = c < 2 ? 1e-5 : 0.3,
                         .weight_offset = c > 2 ? 1 : 0,
                         .x = fresh(&d, 3, columns, 1),
                         .y = fresh(&d, 3, columns, 1),
                         .weight = fresh(&d, 1, columns, 1),
                         .bias = c % 3 ? fresh(&d, 1, columns, 1) : (struct tensor){0},
                         .statistics = fresh(&d, 3, 2, 1)};
        struct norm_gradient g = {.dy = fresh(&d, 3, columns, 1),
                                  .dx = zeros(&d, 3, columns),
                                  .dweight = zeros(&d, 1, columns),
                                  .dbias = c % 3 ? zeros(&d, 1, columns) : (struct tensor){0}};
        must(backend_norm(b, &n));
        must(backend_norm_gradient(b, &n, &g));
        input(&d, 0, "x", n.x, g.dx);
        input(&d, 1, "weight", n.weight, g.dweight);
        input(&d, 2, "bias", n.bias, g.dbias);
        d.output = n.y;
        d.weights = g.dy;
        d.operation = &n;
        d.forward = norm_forward;
        check_slopes(&d);
        close_case(&d);
    }
}

static enum status activate_forward(struct backend *b, const void *a) {
    return backend_activate(b, a);
}

/* ReLU's kink at 0 is kept out of reach of the steps. */
static void keep_from_zero(struct tensor t) {
    double *x = t.data;
    for (int64_t i = 0; i < t.rows * t.columns; i++) {
        x[i] += x[i] > 0 ? 0.01 : -0.01;
    }
}

static void test_activate(void **state) {
    struct backend *b = *state;
    for (int c = 0; c < 8; c++) {
        struct differentiable d;
        open_case(&d, b, "activation", (uint64_t)c);
        struct activate a = {.kind = (enum activation)(c % 4),
                             .gate = fresh(&d, 4, 6, 2),
                             .up = c < 4 ? fresh(&d, 4, 6, 1) : (struct tensor){0},
                             .y = fresh(&d, 4, 6, 1)};
        keep_from_zero(a.gate);
        struct activate_gradient g = {.dy = fresh(&d, 4, 6, 1),
                                      .dgate = fresh(&d, 4, 6, 1),
                                      .dup = c < 4 ? fresh(&d, 4, 6, 1) : (struct tensor){0}};
        must(backend_activate_gradient(b, &a, &g));
        input(&d, 0, "gate", a.gate, g.dgate);
        input(&d, 1, "up", a.up, g.dup);
        d.output = a.y;
        d.weights = g.dy;
        d.operation = &a;
        d.forward = activate_forward;
        check_slopes(&d);
        close_case(&d);
    }
}

static enum status attention_forward(struct backend *b, const void *a) {
    return backend_attention(b, a);
}

static void test_attention(void **state) {
    struct backend *b = *state;
    /* a root of 3, its children of 2 and 3, a grandchild of 2, and a root alone */
    static const struct query_span spans[] = {
        {0, 3, 0, 1}, {3, 2, 1, 2}, {5, 3, 3, 2}, {8, 2, 5, 3}, {10, 1, 8, 1}};
    static const struct key_range ranges[] = {{0, 3, true},  {0, 3, false}, {3, 2, true},
                                              {0, 3, false}, {5, 3, true},  {0, 3, false},
                                              {5, 3, false}, {8, 2, true},  {10, 1, true}};
    static const struct attention_map map = {7, COUNT_OF(spans), COUNT_OF(ranges), spans, ranges};
    static const struct {
        int heads, kv_heads, window;
        double softcap;
    } cases[] = {{1, 1, 0, 0}, {4, 2, 0, 0}, {2, 1, 3, 0}, {2, 2, 0, 1.5}, {3, 1, 2, 4}};
    for (int c = 0; c < COUNT_OF(cases); c++) {
        struct differentiable d;
        open_case(&d, b, "attention", (uint64_t)c);
        int64_t q = 3 * cases[c].heads;
        int64_t kv = 3 * cases[c].kv_heads;
        struct attention a = {.map = &map,
                              .heads = cases[c].heads,
                              .kv_heads = cases[c].kv_heads,
                              .head_dim = 3,
                              .window = cases[c].window,
                              .softcap = cases[c].softcap,
                              .scale = 0.7,
                              .q = fresh(&d, 11, q, 1),
                              .k = fresh(&d, 11, kv, 1),
                              .v = fresh(&d, 11, kv, 1),
                              .out = fresh(&d, 11, q, 1),
                              .lse = fresh(&d, 11, cases[c].heads, 1)};
        struct attention_gradient g = {.dout = fresh(&d, 11, q, 1),
                                       .dq = fresh(&d, 11, q, 1),
                                       .dk = fresh(&d, 11, kv, 1),
                                       .dv = fresh(&d, 11, kv, 1)};
        must(backend_attention(b, &a));
        must(backend_attention_gradient(b, &a, &g));
        input(&d, 0, "q", a.q, g.dq);
        input(&d, 1, "k", a.k, g.dk);
        input(&d, 2, "v", a.v, g.dv);
        d.output = a.out;
        d.weights = g.dout;
        d.operation = &a;
        d.forward = attention_forward;
        check_slopes(&d);
        close_case(&d);
    }
}

static enum status head_forward(struct backend *b, const void *h) {
    return backend_head(b, h);
}

static void test_head(void **state) {
    struct backend *b = *state;
    for (int c = 0; c < 4; c++) {
        struct differentiable d;
        open_case(&d, b, "head", (uint64_t)c);
        int32_t targets[] = {3, -1, 0, 3, 6};
        struct head h = {.hidden = fresh(&d, 5, 4, 1),
                         .weight = fresh(&d, 7, 4, 1),
                         .bias = c % 2 ? fresh(&d, 1, 7, 1) : (struct tensor){0},
                         .targets = tensor_at(targets, 1, 5, DTYPE_I32),
                         .softcap = c > 1 ? 2 : 0,
                         .statistics = fresh(&d, 5, HEAD_STATISTICS, 1)};
        struct head_gradient g = {.row_weight = fresh(&d, 1, 5, 1),
                                  .dhidden = fresh(&d, 5, 4, 1),
                                  .dweight = zeros(&d, 7, 4),
                                  .dbias = c % 2 ? zeros(&d, 1, 7) : (struct tensor){0}};
        must(backend_head(b, &h));
        must(backend_head_gradient(b, &h, &g));
        input(&d, 0, "hidden", h.hidden, g.dhidden);
        input(&d, 1, "weight", h.weight, g.dweight);
        input(&d, 2, "bias", h.bias, g.dbias);
        d.output = tensor_columns(h.statistics, HEAD_LOGP, 1);
        d.weights = tensor_at(g.row_weight.data, 5, 1, DTYPE_F64);
        d.operation = &h;
        d.forward = head_forward;
        check_slopes(&d);
        close_case(&d);
    }
}

/* Linear operations: the gradient is the transpose, so <R, A x> = <A' R, x> exactly (to roundings). */
static void test_transposes(void **state) {
    struct backend *b = *state;
    struct differentiable d;
    open_case(&d, b, "transposes", 1);
    int32_t ids[] = {2, 0, 2, 4, 2, 1};
    struct tensor where = tensor_at(ids, 1, 6, DTYPE_I32);
    struct tensor table = fresh(&d, 5, 3, 1);
    struct tensor out = fresh(&d, 6, 3, 1);
    struct tensor r = fresh(&d, 6, 3, 1);
    struct tensor dtable = zeros(&d, 5, 3);
    must(backend_embed(b, out, table, where, 1.5, false));
    must(backend_embed_gradient(b, dtable, r, where, 1.5));
    double left = 0;
    double right = 0;
    for (int i = 0; i < 18; i++) {
        left += ((double *)out.data)[i] * ((double *)r.data)[i];
        right += i < 15 ? ((double *)table.data)[i] * ((double *)dtable.data)[i] : 0;
    }
    assert_true(fabs(left - right) < 1e-13);
    must(backend_gather(b, out, table, where));
    must(backend_zero_tensor(b, dtable));
    must(backend_scatter_add(b, dtable, r, where));
    left = right = 0;
    for (int i = 0; i < 18; i++) {
        left += ((double *)out.data)[i] * ((double *)r.data)[i];
        right += i < 15 ? ((double *)table.data)[i] * ((double *)dtable.data)[i] : 0;
    }
    assert_true(fabs(left - right) < 1e-13);
    close_case(&d);
}

static enum status run_film(struct backend *b, const void *operation) {
    return backend_film(b, operation);
}

static void test_film(void **state) {
    struct backend *b = *state;
    struct differentiable d;
    int32_t conditions[] = {2, 0, -1, 2, 0, -1};
    open_case(&d, b, "film", 3);
    struct film f = {.x = fresh(&d, 6, 3, 1),
                     .y = fresh(&d, 6, 3, 1),
                     .scale = fresh(&d, 3, 3, 1),
                     .shift = fresh(&d, 3, 3, 1),
                     .conditions = tensor_at(conditions, 1, 6, DTYPE_I32)};
    struct film_gradient g = {
        .d = fresh(&d, 6, 3, 1), .dscale = fresh(&d, 3, 3, 1), .dshift = fresh(&d, 3, 3, 1)};
    d.output = f.y;
    d.weights = fresh(&d, 6, 3, 1);
    d.operation = &f;
    d.forward = run_film;
    must(backend_copy(b, g.d.data, d.weights.data, 18 * 8)); /* it becomes the gradient of x */
    must(backend_film_gradient(b, &f, &g));
    input(&d, 0, "x", f.x, g.d);
    input(&d, 1, "scale", f.scale, g.dscale);
    input(&d, 2, "shift", f.shift, g.dshift);
    check_slopes(&d);
    close_case(&d);
}

/* A rotation: lengths stay, the inverse undoes it, and only differences of positions count. */
static void test_rope(void **state) {
    struct backend *b = *state;
    for (int interleaved = 0; interleaved < 2; interleaved++) {
        struct differentiable d;
        open_case(&d, b, "rope", 2);
        struct tensor x = fresh(&d, 4, 6, 1);
        struct tensor table = fresh(&d, 4, 4, 1);
        double *t = table.data;
        double *v = x.data;
        double angles[] = {0.3, 0.7}; /* per position; rows stand at 0, 2, 5 and 7 */
        static const int positions[] = {0, 2, 5, 7};
        for (int i = 0; i < 4; i++) {
            for (int j = 0; j < 2; j++) {
                t[4 * i + j] = cos(angles[j] * positions[i]);
                t[4 * i + 2 + j] = sin(angles[j] * positions[i]);
            }
            memcpy(v + 6 * i, i % 2 ? v + 6 : v, 6 * sizeof *v); /* rows 0, 2 and 1, 3 are equal */
        }
        double old[24];
        memcpy(old, v, sizeof old);
        struct rope r = {x, table, 1, 6, 4, interleaved, false};
        must(backend_rope(b, &r));
        double dots[2] = {0, 0}; /* rows (0, 1): 2 apart, and (2, 3): 2 apart */
        double length = 0;
        for (int j = 0; j < 6; j++) {
            dots[0] += v[j] * v[6 + j];
            dots[1] += v[12 + j] * v[18 + j];
            length += v[6 + j] * v[6 + j] - old[6 + j] * old[6 + j];
        }
        assert_true(fabs(dots[0] - dots[1]) < 1e-14 && fabs(length) < 1e-14);
        assert_true(v[4] == old[4] && v[23] == old[23]); /* past rotary_dim */
        int partner = interleaved ? 1 : 2;
        assert_true(fabs(v[6] - (old[6] * cos(0.6) - old[6 + partner] * sin(0.6))) < 1e-15);
        r.inverse = true;
        must(backend_rope(b, &r));
        for (int j = 0; j < 24; j++) {
            assert_true(fabs(v[j] - old[j]) < 1e-14);
        }
        close_case(&d);
    }
}

static int setup(void **state) {
    struct backend *b;
    must(reference_open(&b));
    *state = b;
    return 0;
}

static int teardown(void **state) {
    backend_close(*state);
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_norm), cmocka_unit_test(test_activate),   cmocka_unit_test(test_attention),
        cmocka_unit_test(test_head), cmocka_unit_test(test_transposes), cmocka_unit_test(test_film),
        cmocka_unit_test(test_rope),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
