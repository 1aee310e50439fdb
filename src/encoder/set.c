#include "encoder/set.h"

#include <math.h>
#include <string.h>

#include "util/mem.h"
#include "util/rng.h"

enum status set_pass_open(const struct network *m, int64_t users, int64_t items, struct set_pass *out) {
    *out = (struct set_pass){0};
    int64_t h = m->shape.hidden;
    int64_t rows = users * items;
    int64_t pairs = users * m->shape.heads * items * items;
    bool attention = m->shape.aggregate == AGGREGATE_ATTENTION;
    struct {
        double **at;
        int64_t n;
    } arrays[] = {
        {&out->input, rows * 2 * m->shape.width},
        {&out->inner, m->shape.inner_mlp ? rows * h : 0},
        {&out->encoded, rows * h},
        {&out->qkv, attention ? rows * 3 * h : 0},
        {&out->weights, attention ? pairs : 0},
        {&out->kept, attention ? pairs : 0},
        {&out->pooled, users * h},
        {&out->summary, users * h},
        {&out->outer, users * h},
        {&out->out, users * 2 * h},
        {&out->d_rows, rows * h},
        {&out->d_inner, rows * h},
        {&out->d_qkv, attention ? rows * 3 * h : 0},
        {&out->d_pooled, users * h},
        {&out->d_outer, users * h},
        {&out->d_out, users * 2 * h},
    };
    for (int i = 0; i < COUNT_OF(arrays); i++) {
        if (NEW_ARRAY(*arrays[i].at, arrays[i].n) != OK) {
            set_pass_close(out);
            return ERR_SYSTEM;
        }
    }
    return OK;
}

void set_pass_close(struct set_pass *s) {
    double *arrays[] = {s->input,  s->inner,    s->encoded, s->qkv,  s->weights, s->kept,
                        s->pooled, s->summary,  s->outer,   s->out,  s->d_rows,  s->d_inner,
                        s->d_qkv,  s->d_pooled, s->d_outer, s->d_out};
    for (int i = 0; i < COUNT_OF(arrays); i++) {
        mem_free(arrays[i]);
    }
    *s = (struct set_pass){0};
}

/* One head of one user: q, k, v are rows of 3H with this head's part at `at`. */
struct head {
    int64_t items, stride, size;
    double scale;
    double *qkv, *d_qkv;    /* first item's row, at this head's queries; keys H, values 2H further */
    double *weights, *kept; /* items x items */
    double *pooled;         /* size */
};

static struct head head_of(const struct network *m, const struct set_pass *s, int64_t user, int64_t head) {
    int64_t h = m->shape.hidden;
    int64_t size = h / m->shape.heads;
    int64_t map = (user * m->shape.heads + head) * s->items * s->items;
    return (struct head){.items = s->items,
                         .stride = 3 * h,
                         .size = size,
                         .scale = 1 / sqrt((double)size),
                         .qkv = s->qkv + user * s->items * 3 * h + head * size,
                         .d_qkv = s->d_qkv + user * s->items * 3 * h + head * size,
                         .weights = s->weights + map,
                         .kept = s->kept + map,
                         .pooled = s->pooled + user * h + head * size};
}

static double dot(const double *a, const double *b, int64_t n) {
    double sum = 0;
    for (int64_t i = 0; i < n; i++) {
        sum += a[i] * b[i];
    }
    return sum;
}

static void add_scaled(double *to, double factor, const double *from, int64_t n) {
    for (int64_t i = 0; i < n; i++) {
        to[i] += factor * from[i];
    }
}

static void softmax(double *row, int64_t n) {
    double most = row[0];
    double sum = 0;
    for (int64_t j = 1; j < n; j++) {
        most = fmax(most, row[j]);
    }
    for (int64_t j = 0; j < n; j++) {
        row[j] = exp(row[j] - most);
        sum += row[j];
    }
    for (int64_t j = 0; j < n; j++) {
        row[j] /= sum;
    }
}

/* The outputs of a head are summed over its queries, so a value counts by the sum of its column. */
static void head_forward(const struct head *a) {
    const double *keys = a->qkv + a->stride / 3;
    const double *values = keys + a->stride / 3;
    memset(a->pooled, 0, (size_t)a->size * sizeof *a->pooled);
    for (int64_t i = 0; i < a->items; i++) {
        double *row = a->weights + i * a->items;
        for (int64_t j = 0; j < a->items; j++) {
            row[j] = a->scale * dot(a->qkv + i * a->stride, keys + j * a->stride, a->size);
        }
        softmax(row, a->items);
        for (int64_t j = 0; j < a->items; j++) {
            add_scaled(a->pooled, row[j] * a->kept[i * a->items + j], values + j * a->stride, a->size);
        }
    }
}

static void head_backward(const struct head *a, const double *d_pooled) {
    int64_t h = a->stride / 3;
    for (int64_t j = 0; j < a->items; j++) {
        memset(a->d_qkv + j * a->stride, 0, (size_t)a->size * sizeof *a->d_qkv);
        memset(a->d_qkv + j * a->stride + h, 0, (size_t)a->size * sizeof *a->d_qkv);
        memset(a->d_qkv + j * a->stride + 2 * h, 0, (size_t)a->size * sizeof *a->d_qkv);
    }
    for (int64_t i = 0; i < a->items; i++) {
        const double *weights = a->weights + i * a->items;
        const double *kept = a->kept + i * a->items;
        double mean = 0;
        for (int64_t j = 0; j < a->items; j++) {
            double d = kept[j] * dot(d_pooled, a->qkv + j * a->stride + 2 * h, a->size);
            mean += weights[j] * d;
            add_scaled(a->d_qkv + j * a->stride + 2 * h, weights[j] * kept[j], d_pooled, a->size);
        }
        for (int64_t j = 0; j < a->items; j++) {
            double d = kept[j] * dot(d_pooled, a->qkv + j * a->stride + 2 * h, a->size);
            double d_score = a->scale * weights[j] * (d - mean);
            add_scaled(a->d_qkv + i * a->stride, d_score, a->qkv + j * a->stride + h, a->size);
            add_scaled(a->d_qkv + j * a->stride + h, d_score, a->qkv + i * a->stride, a->size);
        }
    }
}

static void draw_kept(const struct network *m, const struct set_pass *s, int64_t user) {
    int64_t n = m->shape.heads * s->items * s->items;
    double *kept = s->kept + user * n;
    struct rng r = rng_stream(s->seed, RNG_DROPOUT, s->first_user + user, s->step);
    for (int64_t i = 0; i < n; i++) {
        kept[i] = s->dropout == 0 ? 1 : (rng_uniform(&r) >= s->dropout ? 1 / (1 - s->dropout) : 0);
    }
}

static void attention_forward(const struct network *m, const struct set_pass *s) {
    int64_t h = m->shape.hidden;
    struct linear_layer in = network_layer(m, NETWORK_ATTENTION_IN);
    struct linear_layer out = network_layer(m, NETWORK_ATTENTION_OUT);
    linear_forward(&in, s->users * s->items, s->encoded, false, s->qkv);
#pragma omp parallel for
    for (int64_t user = 0; user < s->users; user++) {
        draw_kept(m, s, user);
        for (int64_t head = 0; head < m->shape.heads; head++) {
            struct head a = head_of(m, s, user, head);
            head_forward(&a);
        }
    }
    const double *bias = out.bias;
    out.bias = NULL; /* added once an item */
    linear_forward(&out, s->users, s->pooled, false, s->summary);
    for (int64_t i = 0; i < s->users; i++) {
        add_scaled(s->summary + i * h, (double)s->items, bias, h);
    }
}

static void attention_backward(const struct network *m, const struct set_pass *s) {
    int64_t h = m->shape.hidden;
    struct linear_layer in = network_layer(m, NETWORK_ATTENTION_IN);
    struct linear_layer out = network_layer(m, NETWORK_ATTENTION_OUT);
    for (int64_t i = 0; i < s->users; i++) {
        add_scaled(out.d_bias, (double)s->items, s->d_outer + i * h, h);
    }
    out.d_bias = NULL;
    linear_backward(&out, s->users, s->pooled, s->d_outer, s->d_pooled);
#pragma omp parallel for
    for (int64_t user = 0; user < s->users; user++) {
        for (int64_t head = 0; head < m->shape.heads; head++) {
            struct head a = head_of(m, s, user, head);
            head_backward(&a, s->d_pooled + user * h + head * a.size);
        }
    }
    linear_backward(&in, s->users * s->items, s->encoded, s->d_qkv, s->d_rows);
}

static double plain_weight(const struct network *m, const struct set_pass *s) {
    return m->shape.aggregate == AGGREGATE_MEAN ? 1 / (double)s->items : 1;
}

void set_pass_forward(const struct network *m, struct set_pass *s) {
    int64_t h = m->shape.hidden;
    int64_t rows = s->users * s->items;
    memset(s->summary, 0, (size_t)(s->users * h) * sizeof *s->summary);
    if (s->items > 0) {
        struct linear_layer first = network_layer(m, NETWORK_INNER_0);
        double *to = m->shape.inner_mlp ? s->inner : s->encoded;
        linear_forward(&first, rows, s->input, m->shape.inner_mlp, to);
        if (m->shape.inner_mlp) {
            struct linear_layer second = network_layer(m, NETWORK_INNER_1);
            linear_forward(&second, rows, s->inner, false, s->encoded);
        }
    }
    if (s->items > 0 && m->shape.aggregate == AGGREGATE_ATTENTION) {
        attention_forward(m, s);
    } else {
        for (int64_t i = 0; i < rows; i++) {
            add_scaled(s->summary + i / s->items * h, plain_weight(m, s), s->encoded + i * h, h);
        }
    }
    struct linear_layer outer = network_layer(m, NETWORK_OUTER_0);
    struct linear_layer last = network_layer(m, NETWORK_OUTER_1);
    linear_forward(&outer, s->users, s->summary, true, s->outer);
    linear_forward(&last, s->users, s->outer, false, s->out);
}

void set_pass_backward(const struct network *m, struct set_pass *s) {
    int64_t h = m->shape.hidden;
    int64_t rows = s->users * s->items;
    struct linear_layer outer = network_layer(m, NETWORK_OUTER_0);
    struct linear_layer last = network_layer(m, NETWORK_OUTER_1);
    double *d_summary = s->d_pooled;
    linear_backward(&last, s->users, s->outer, s->d_out, s->d_outer);
    relu_backward(s->users * h, s->outer, s->d_outer);
    linear_backward(&outer, s->users, s->summary, s->d_outer, d_summary);
    if (s->items == 0) {
        return;
    }
    if (m->shape.aggregate == AGGREGATE_ATTENTION) {
        memcpy(s->d_outer, d_summary, (size_t)(s->users * h) * sizeof *d_summary);
        attention_backward(m, s);
    } else {
        memset(s->d_rows, 0, (size_t)(rows * h) * sizeof *s->d_rows);
        for (int64_t i = 0; i < rows; i++) {
            add_scaled(s->d_rows + i * h, plain_weight(m, s), d_summary + i / s->items * h, h);
        }
    }
    struct linear_layer first = network_layer(m, NETWORK_INNER_0);
    double *d_first = s->d_rows;
    if (m->shape.inner_mlp) {
        struct linear_layer second = network_layer(m, NETWORK_INNER_1);
        linear_backward(&second, rows, s->inner, s->d_rows, s->d_inner);
        relu_backward(rows * h, s->inner, s->d_inner);
        d_first = s->d_inner;
    }
    linear_backward(&first, rows, s->input, d_first, NULL);
}
