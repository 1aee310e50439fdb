#include "reference_backend.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "reference_internal.h"
#include "util/mem.h"

static enum status reference_alloc(struct backend *b, int64_t bytes, void **out) {
    (void)b;
    int64_t count = bytes / 8 + 1;
    double *data = mem_aligned(count, sizeof *data);
    TRY(mem_ok(data));
    for (int64_t i = 0; i < count; i++) {
        data[i] = NAN;
    }
    *out = data;
    return OK;
}

static void reference_free(struct backend *b, void *data) {
    (void)b;
    mem_free(data);
}

static enum status reference_write(struct backend *b, void *to, const void *host, int64_t bytes) {
    (void)b;
    if (bytes > 0) {
        memcpy(to, host, (size_t)bytes);
    }
    return OK;
}

static enum status reference_read(struct backend *b, void *host, const void *from, int64_t bytes) {
    return reference_write(b, host, from, bytes);
}

static enum status reference_copy(struct backend *b, void *to, const void *from, int64_t bytes) {
    (void)b;
    if (bytes > 0) {
        memmove(to, from, (size_t)bytes);
    }
    return OK;
}

static enum status reference_zero(struct backend *b, void *to, int64_t bytes) {
    (void)b;
    if (bytes > 0) {
        memset(to, 0, (size_t)bytes);
    }
    return OK;
}

static enum status reference_sync(struct backend *b) {
    (void)b;
    return OK;
}

static double load(struct tensor t, int64_t i, int64_t j) {
    int64_t at = i * t.stride + j;
    uint32_t bits;
    float single;
    switch (t.type) {
    case DTYPE_F64:
        return ((const double *)t.data)[at];
    case DTYPE_F32:
        return ((const float *)t.data)[at];
    case DTYPE_BF16:
        bits = (uint32_t)((const uint16_t *)t.data)[at] << 16;
        memcpy(&single, &bits, sizeof single);
        return single;
    case DTYPE_I32:
        return ((const int32_t *)t.data)[at];
    }
    return NAN;
}

/* bf16 is the upper half of a float, rounded to nearest, ties to even. */
static uint16_t bf16_of(double value) {
    float single = (float)value;
    uint32_t bits;
    memcpy(&bits, &single, sizeof bits);
    if (isnan(single)) {
        return (uint16_t)(bits >> 16 | 0x40u);
    }
    return (uint16_t)((bits + 0x7fffu + (bits >> 16 & 1u)) >> 16);
}

static void store(struct tensor t, int64_t i, int64_t j, double value) {
    int64_t at = i * t.stride + j;
    switch (t.type) {
    case DTYPE_F64:
        ((double *)t.data)[at] = value;
        break;
    case DTYPE_F32:
        ((float *)t.data)[at] = (float)value;
        break;
    case DTYPE_BF16:
        ((uint16_t *)t.data)[at] = bf16_of(value);
        break;
    case DTYPE_I32:
        ((int32_t *)t.data)[at] = (int32_t)value;
        break;
    }
}

enum status reference_convert(struct backend *b, const struct convert *call) {
    (void)b;
    struct tensor to = call->to;
    struct tensor from = call->from;
    for (int64_t i = 0; i < to.rows; i++) {
        for (int64_t j = 0; j < to.columns; j++) {
            store(to, i, j, load(from, i, j));
        }
    }
    return OK;
}

enum status reference_gemm(struct backend *b, const struct gemm *g) {
    (void)b;
    int64_t inner = g->transpose_a ? g->a.rows : g->a.columns;
    for (int64_t i = 0; i < g->c.rows; i++) {
        double *c = row_of(g->c, i);
        for (int64_t j = 0; j < g->c.columns; j++) {
            double sum = 0;
            for (int64_t k = 0; k < inner; k++) {
                double left = g->transpose_a ? row_of(g->a, k)[i] : row_of(g->a, i)[k];
                double right = g->transpose_b ? row_of(g->b, j)[k] : row_of(g->b, k)[j];
                sum += left * right;
            }
            c[j] = g->alpha * sum + (g->beta != 0 ? g->beta * c[j] : 0) +
                   (g->bias.data ? row_of(g->bias, 0)[j] : 0);
        }
    }
    return OK;
}

enum status reference_add(struct backend *b, const struct add *call) {
    (void)b;
    struct tensor to = call->to;
    struct tensor from = call->from;
    for (int64_t i = 0; i < to.rows; i++) {
        for (int64_t j = 0; j < to.columns; j++) {
            row_of(to, i)[j] += call->alpha * row_of(from, i)[j];
        }
    }
    return OK;
}

enum status reference_sum_rows(struct backend *b, const struct sum_rows *call) {
    (void)b;
    struct tensor to = call->to;
    struct tensor from = call->from;
    for (int64_t i = 0; i < from.rows; i++) {
        for (int64_t j = 0; j < from.columns; j++) {
            row_of(to, 0)[j] += row_of(from, i)[j];
        }
    }
    return OK;
}

enum status reference_embed(struct backend *b, const struct embed *call) {
    (void)b;
    struct tensor out = call->out;
    struct tensor table = call->table;
    struct tensor ids = call->ids;
    for (int64_t i = 0; i < out.rows; i++) {
        const double *from = row_of(table, ints_of(ids)[i]);
        double *to = row_of(out, i);
        for (int64_t j = 0; j < out.columns; j++) {
            to[j] = (call->accumulate ? to[j] : 0) + call->scale * from[j];
        }
    }
    return OK;
}

enum status reference_embed_gradient(struct backend *b, const struct embed_gradient *call) {
    (void)b;
    struct tensor dtable = call->dtable;
    struct tensor dout = call->dout;
    struct tensor ids = call->ids;
    for (int64_t i = 0; i < dout.rows; i++) {
        double *to = row_of(dtable, ints_of(ids)[i]);
        for (int64_t j = 0; j < dout.columns; j++) {
            to[j] += call->scale * row_of(dout, i)[j];
        }
    }
    return OK;
}

enum status reference_gather(struct backend *b, const struct gather *call) {
    (void)b;
    struct tensor to = call->to;
    struct tensor from = call->from;
    struct tensor rows = call->rows;
    for (int64_t i = 0; i < to.rows; i++) {
        for (int64_t j = 0; j < to.columns; j++) {
            row_of(to, i)[j] = row_of(from, ints_of(rows)[i])[j];
        }
    }
    return OK;
}

enum status reference_scatter_add(struct backend *b, const struct scatter_add *call) {
    return reference_embed_gradient(
        b, &(struct embed_gradient){.dtable = call->to, .dout = call->from, .ids = call->rows, .scale = 1});
}

enum status reference_film(struct backend *b, const struct film *call) {
    const int32_t *condition = call->conditions.data;
    (void)b;
    for (int64_t i = 0; i < call->x.rows; i++) {
        for (int64_t j = 0; j < call->x.columns; j++) {
            double x = load(call->x, i, j);
            int64_t c = condition[i];
            store(call->y, i, j, c < 0 ? x : load(call->scale, c, j) * x + load(call->shift, c, j));
        }
    }
    return OK;
}

enum status reference_film_gradient(struct backend *b, const struct film_backward *call) {
    const struct film *f = &call->film;
    const struct film_gradient *g = &call->gradient;
    const int32_t *condition = f->conditions.data;
    (void)b;
    for (int64_t j = 0; j < f->x.columns; j++) {
        for (int64_t c = 0; c < f->scale.rows; c++) {
            double scale = 0, shift = 0;
            for (int64_t i = 0; i < f->x.rows; i++) {
                scale += condition[i] == c ? load(f->x, i, j) * load(g->d, i, j) : 0;
                shift += condition[i] == c ? load(g->d, i, j) : 0;
            }
            store(g->dscale, c, j, scale);
            store(g->dshift, c, j, shift);
        }
        for (int64_t i = 0; i < f->x.rows; i++) {
            double factor = condition[i] < 0 ? 1 : load(f->scale, condition[i], j);
            store(g->d, i, j, factor * load(g->d, i, j));
        }
    }
    return OK;
}

enum status reference_pool(struct backend *b, const struct pool *call) {
    (void)b;
    struct tensor to = call->to;
    struct tensor from = call->from;
    struct tensor spans = call->spans;
    for (int64_t i = 0; i < to.rows; i++) {
        const int32_t *span = ints_of(spans) + i * spans.stride;
        for (int64_t j = 0; j < to.columns; j++) {
            double sum = 0;
            for (int64_t k = span[0]; k < span[0] + span[1]; k++) {
                sum += row_of(from, k)[j];
            }
            row_of(to, i)[j] = span[1] > 0 ? sum / span[1] : 0;
        }
    }
    return OK;
}

enum status reference_sum_squares(struct backend *b, const struct sum_squares *call) {
    (void)b;
    struct tensor x = call->x;
    long double sum = 0; /* wider than what it judges */
    for (int64_t i = 0; i < x.rows; i++) {
        for (int64_t j = 0; j < x.columns; j++) {
            sum += (long double)row_of(x, i)[j] * row_of(x, i)[j];
        }
    }
    *call->out = (double)sum;
    return OK;
}

static void *reference_host_address(struct backend *b, void *data) {
    (void)b;
    return data;
}

static void reference_destroy(struct backend *b) {
    mem_free(b);
}

#define ENTRY(name, type) , .name = reference_##name
static const struct backend_ops operations = {
    .api_version = BACKEND_API_VERSION,
    .alloc = reference_alloc,
    .free = reference_free,
    .write = reference_write,
    .read = reference_read,
    .copy = reference_copy,
    .zero = reference_zero,
    .sync = reference_sync,
    .host_address = reference_host_address,
    .destroy = reference_destroy OPERATIONS(ENTRY),
};

enum status reference_open(struct backend **out) {
    struct backend *b;
    TRY(NEW_ARRAY(b, 1));
    b->ops = &operations;
    b->caps = (struct backend_caps){
        .name = "reference",
        .master = DTYPE_F64,
        .compute = DTYPE_F64,
        .readout = DTYPE_F64,
        .deterministic = true,
        .threads = 1,
    };
    snprintf(b->caps.description, sizeof b->caps.description, "double precision, from the formulas");
    *out = b;
    return OK;
}
