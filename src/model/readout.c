/* What is read from the hidden states after the final norm. */
#include <math.h>
#include <string.h>

#include "model/pass_internal.h"
#include "util/mem.h"

enum status pass_active_row(const struct pass *p, int32_t row, int32_t *out) {
    if (!p->is_forward_done || row < 0 || row >= p->n_rows || p->row_of[row] < 0) {
        return fail(ERR_INTERNAL,
                    "pass: row %d of %d was not computed to the end; readouts besides the forest's "
                    "own need a forest without readouts",
                    row, p->n_rows);
    }
    *out = p->row_of[row];
    return OK;
}

/* Active rows of n forest rows, in p->scratch. */
static enum status active_rows(struct pass *p, const int32_t *rows, int32_t n) {
    TRY(GROW_ARRAY(p->scratch, p->cap_scratch, 2 * (int64_t)n));
    for (int32_t i = 0; i < n; i++) {
        TRY(pass_active_row(p, rows[i], &p->scratch[i]));
    }
    return OK;
}

static struct head head_of(const struct pass *p) {
    const struct model *m = p->model;
    const struct linear *w = &m->plan->head;
    return (struct head){
        .hidden = p->score_hidden,
        .weight = place_view(w->weight, w->out, w->in),
        .bias = place_view(w->bias, 1, w->out),
        .targets = p->score_targets,
        .softcap = m->config.logit_softcap,
        .statistics = p->score_statistics,
    };
}

/* t, scaled as the logits are: itself, or a copy. */
static enum status take_scaled(struct pass *p, struct tensor t, struct tensor *out) {
    double scale = p->model->config.logit_scale;
    *out = t;
    if (scale == 1) {
        return OK;
    }
    TRY(pass_take(p, t.rows, t.columns, "readouts", out));
    TRY(backend_zero_tensor(p->w->backend, *out));
    return backend_add(p->w->backend, *out, scale, t);
}

/* (n, 1), in the master type: a gemm's C may be. Left taken. */
static enum status take_column(struct pass *p, int64_t n, struct tensor *out) {
    return workspace_take(p->w, n, 1, p->w->backend->caps.master, "values", out);
}

/* value = hidden . w, on the device. */
static enum status read_values(struct pass *p, double *out) {
    const struct model *m = p->model;
    int64_t n = p->value_input.rows, mark = workspace_mark(p->w);
    if (!m->config.value_head) {
        return fail(ERR_INTERNAL, "pass: values of tokens need a model with a value head");
    }
    struct gemm g = {.a = p->value_input,
                     .b = place_view(m->plan->value, 1, m->config.width),
                     .transpose_b = true,
                     .alpha = 1};
    TRY(take_column(p, n, &g.c));
    TRY(backend_gemm(p->w->backend, &g));
    TRY(backend_read_doubles(p->w->backend, out, g.c));
    workspace_release(p->w, mark);
    return OK;
}

/* d += dv w, dw += dv hidden. */
static enum status token_values_backward(struct pass *p, const double *slopes, struct tensor d) {
    const struct model *m = p->model;
    struct backend *b = p->w->backend;
    struct tensor dv, dw = place_gradient(m->plan->value, 1, m->config.width);
    TRY(pass_take(p, d.rows, 1, "values", &dv));
    TRY(backend_write_doubles(b, dv, slopes));
    const struct gemm back = {
        .a = dv, .b = place_view(m->plan->value, 1, m->config.width), .c = d, .alpha = 1, .beta = 1};
    const struct gemm own = {
        .a = dv, .b = p->value_input, .c = dw, .transpose_a = true, .alpha = 1, .beta = 1};
    TRY(backend_gemm(b, &back));
    return dw.data ? backend_gemm(b, &own) : OK;
}

static void copy_scores(const double *statistics, int32_t n, const struct token_scores *out) {
    for (int32_t i = 0; i < n; i++) {
        const double *row = statistics + (int64_t)i * HEAD_STATISTICS;
        out->logp[i] = row[HEAD_LOGP];
        if (out->entropy) {
            out->entropy[i] = row[HEAD_ENTROPY];
        }
        if (out->mean_logit) {
            out->mean_logit[i] = row[HEAD_MEAN_LOGIT];
        }
        if (out->collision) {
            out->collision[i] = row[HEAD_COLLISION];
        }
        if (out->is_top) {
            out->is_top[i] = row[HEAD_IS_TOP] != 0;
        }
    }
}

enum status pass_logps(struct pass *p, const struct token_scores *out) {
    const struct forest *f = p->forest;
    struct backend *b = p->w->backend;
    if (!p->is_forward_done || p->model->config.head != HEAD_LANGUAGE) {
        return fail(ERR_INTERNAL, "pass: log-probabilities need a forward pass of a language model");
    }
    int32_t n = f->n_readouts;
    if (n == 0) {
        return OK;
    }
    int64_t mark = workspace_mark(p->w);
    TRY(active_rows(p, f->readout_at, n));
    TRY(pass_put_ids(p, p->scratch, n, "readouts", &p->score_rows));
    TRY(pass_put_ids(p, f->readout_target, n, "targets", &p->score_targets));
    TRY(pass_take(p, n, p->model->config.width, "readouts", &p->score_hidden));
    TRY(pass_take_readout(p, n, HEAD_STATISTICS, "readouts", &p->score_statistics));
    TRY(backend_gather(b, p->score_hidden, p->hidden, p->score_rows));
    p->value_input = p->score_hidden;
    TRY(take_scaled(p, p->score_hidden, &p->score_hidden));
    struct head h = head_of(p);
    TRY(backend_head(b, &h));
    TRY(pass_need_numbers(p, (int64_t)n * HEAD_STATISTICS));
    TRY(backend_read_doubles(b, p->numbers, p->score_statistics));
    copy_scores(p->numbers, n, out);
    TRY(out->value ? read_values(p, out->value) : OK);
    p->is_scored = p->keep != KEEP_NOTHING;
    p->diverges_from = NULL;
    if (!p->is_scored) {
        workspace_release(p->w, mark);
    }
    return OK;
}

/* Means over spans of from's rows (pairs first, count), as host doubles. */
static enum status pool(struct pass *p, struct tensor from, const int32_t *spans, int32_t n, double *out) {
    struct backend *b = p->w->backend;
    int64_t mark = workspace_mark(p->w);
    struct tensor pooled, ids;
    TRY(pass_put_ids(p, spans, 2 * n, "spans", &ids));
    ids = tensor_at(ids.data, n, 2, DTYPE_I32);
    TRY(pass_take_readout(p, n, from.columns, "means", &pooled));
    TRY(backend_pool(b, pooled, from, ids));
    TRY(backend_read_doubles(b, out, pooled));
    workspace_release(p->w, mark);
    return OK;
}

/* Score head: value = hidden . w, on the host in double: there is one row a response. */
enum status pass_values(struct pass *p, const int32_t *at, int32_t n, double *out) {
    const struct model *m = p->model;
    int64_t d = m->config.width;
    if (m->config.head != HEAD_SCORE || n < 0) {
        return fail(ERR_INTERNAL, "pass: values need a model with a score head");
    }
    TRY(GROW_ARRAY(p->value_rows, p->cap_values, n));
    TRY(GROW_ARRAY(p->value_hidden, p->cap_value_hidden, n * d));
    TRY(active_rows(p, at, n));
    for (int32_t i = n; i-- > 0;) {
        p->value_rows[i] = p->scratch[i];
        p->scratch[2 * i] = p->value_rows[i];
        p->scratch[2 * i + 1] = 1;
    }
    if (n > 0) {
        TRY(pool(p, p->hidden, p->scratch, n, p->value_hidden));
    }
    TRY(pass_need_numbers(p, d));
    TRY(backend_read_doubles(p->w->backend, p->numbers, place_view(m->plan->head.weight, 1, d)));
    for (int32_t i = 0; i < n; i++) {
        double value = 0;
        for (int64_t j = 0; j < d; j++) {
            value += p->value_hidden[i * d + j] * p->numbers[j];
        }
        out[i] = value;
    }
    p->n_values = n;
    return OK;
}

enum status pass_means(struct pass *p, const int32_t *spans, int32_t n, int layer, float *out) {
    const struct model_config *c = &p->model->config;
    bool inner = layer >= 0 && layer < c->layers;
    if (!p->is_forward_done || layer < -1 || layer > c->layers || (inner && p->keep == KEEP_NOTHING)) {
        return fail(ERR_INTERNAL, "pass: hidden states of layer %d were not kept", layer);
    }
    struct tensor from = inner ? p->layers[layer].x : p->hidden;
    TRY(GROW_ARRAY(p->scratch, p->cap_scratch, 2 * (int64_t)n));
    for (int32_t i = 0; i < n; i++) {
        int32_t first = spans[2 * i], count = spans[2 * i + 1];
        if (count < 1 || first < 0 || first > p->n_rows - count) {
            return fail(ERR_INTERNAL, "pass: a mean over rows %d + %d of %d", first, count, p->n_rows);
        }
        p->scratch[2 * i] = first;
        p->scratch[2 * i + 1] = count;
        if (!inner) { /* active rows of a span lie together if all are there */
            int32_t end;
            TRY(pass_active_row(p, first, &p->scratch[2 * i]));
            TRY(pass_active_row(p, first + count - 1, &end));
            if (end - p->scratch[2 * i] != count - 1) {
                return fail(ERR_INTERNAL, "pass: a mean over rows that were not all computed");
            }
        }
    }
    TRY(pass_need_numbers(p, n * c->width));
    if (n > 0) {
        TRY(pool(p, from, p->scratch, n, p->numbers));
    }
    for (int64_t i = 0; i < n * c->width; i++) {
        out[i] = (float)p->numbers[i];
    }
    return OK;
}

/* Logits on the device to the host, as floats. */
static enum status fetch_logits(struct pass *p, struct tensor logits, float *out) {
    struct backend *b = p->w->backend;
    int64_t values = logits.rows * logits.columns;
    if (logits.type == DTYPE_F32) {
        return backend_read(b, out, logits.data, values * (int64_t)sizeof *out);
    }
    TRY(pass_need_numbers(p, values));
    TRY(backend_read_doubles(b, p->numbers, logits));
    for (int64_t i = 0; i < values; i++) {
        out[i] = (float)p->numbers[i];
    }
    return OK;
}

/* The head's own way over logits on the device: its call. */
static enum status take_read(struct pass *p, struct tensor logits, const int32_t *targets, double softcap,
                             struct read_logits *out) {
    *out = (struct read_logits){.logits = logits, .softcap = softcap};
    TRY(pass_put_ids(p, targets, (int32_t)logits.rows, "targets", &out->targets));
    return pass_take_readout(p, logits.rows, HEAD_STATISTICS, "readouts", &out->statistics);
}

/* Soft caps of logits that are on the host or (CPU) on the device. */
static enum status cap_logits(struct pass *p, struct tensor logits, float *out) {
    double cap = p->model->config.logit_softcap;
    struct read_logits call;
    if (cap > 0) {
        TRY(GROW_ARRAY(p->scratch, p->cap_scratch, logits.rows));
        for (int32_t i = 0; i < logits.rows; i++) {
            p->scratch[i] = -1;
        }
        TRY(take_read(p, logits, p->scratch, cap, &call));
    }
    if (cap > 0 && backend_reads_logits(p->w->backend)) {
        TRY(backend_read_logits(p->w->backend, &call));
        cap = 0;
    }
    TRY(fetch_logits(p, logits, out));
    for (int64_t i = 0; cap > 0 && i < logits.rows * logits.columns; i++) {
        out[i] = (float)(cap * tanh((double)out[i] / cap));
    }
    return OK;
}

enum status pass_active_logits(struct pass *p, const int32_t *active, int32_t n, float *out) {
    const struct model *m = p->model;
    const struct linear *w = &m->plan->head;
    struct backend *b = p->w->backend;
    int64_t mark = workspace_mark(p->w);
    struct tensor rows, hidden, logits;
    if (n == 0) {
        return OK;
    }
    TRY(pass_put_ids(p, active, n, "rows", &rows));
    TRY(pass_take(p, n, w->in, "rows", &hidden));
    TRY(workspace_take(p->w, n, w->out, b->caps.master, "logits", &logits));
    TRY(backend_gather(b, hidden, p->hidden, rows));
    TRY(take_scaled(p, hidden, &hidden));
    struct gemm g = {
        .a = hidden,
        .b = place_view(w->weight, w->out, w->in),
        .c = logits,
        .transpose_b = true,
        .alpha = 1,
        .bias = place_view(w->bias, 1, w->out),
    };
    TRY(backend_gemm(b, &g));
    TRY(cap_logits(p, logits, out));
    workspace_release(p->w, mark);
    return OK;
}

enum status pass_logits(struct pass *p, const int32_t *at, int32_t n, float *out) {
    if (p->model->config.head != HEAD_LANGUAGE) {
        return fail(ERR_INTERNAL, "pass: logits need a language model");
    }
    TRY(active_rows(p, at, n));
    return pass_active_logits(p, p->scratch, n, out);
}

/* On the host in double, where the back end has no way of the head's. */
static double host_logp(const float *row, int64_t n, int32_t target) {
    double largest = -INFINITY, sum = 0;
    for (int64_t i = 0; i < n; i++) {
        largest = (double)row[i] > largest ? (double)row[i] : largest;
    }
    for (int64_t i = 0; i < n; i++) {
        sum += exp((double)row[i] - largest);
    }
    return (double)row[target] - largest - log(sum);
}

enum status pass_token_logps(struct pass *p, const float *logits, const int32_t *targets, int32_t n,
                             double *out) {
    struct backend *b = p->w->backend;
    int64_t vocabulary = p->model->config.vocabulary, mark = workspace_mark(p->w);
    if (!backend_reads_logits(b)) {
        for (int32_t i = 0; i < n; i++) {
            out[i] = host_logp(logits + i * vocabulary, vocabulary, targets[i]);
        }
        return OK;
    }
    struct tensor rows;
    struct read_logits call;
    if (n == 0) {
        return OK;
    }
    TRY(workspace_take(p->w, n, vocabulary, b->caps.readout, "logits", &rows));
    TRY(backend_write(b, rows.data, logits, n * vocabulary * (int64_t)sizeof *logits));
    TRY(take_read(p, rows, targets, 0, &call));
    TRY(backend_read_logits(b, &call));
    TRY(pass_need_numbers(p, (int64_t)n * HEAD_STATISTICS));
    TRY(backend_read_doubles(b, p->numbers, call.statistics));
    for (int32_t i = 0; i < n; i++) {
        out[i] = p->numbers[(int64_t)i * HEAD_STATISTICS + HEAD_LOGP];
    }
    workspace_release(p->w, mark);
    return OK;
}

static enum status logps_backward(struct pass *p, const double *weights, const double *values,
                                  struct tensor dhidden) {
    const struct model *m = p->model;
    const struct linear *w = &m->plan->head;
    struct backend *b = p->w->backend;
    int32_t n = p->forest->n_readouts;
    struct tensor row_weight, d;
    if (!p->is_scored) {
        return fail(ERR_INTERNAL, "pass: a gradient of log-probabilities that were not read out");
    }
    int64_t mark = workspace_mark(p->w);
    TRY(pass_take_readout(p, 1, n, "readouts", &row_weight));
    TRY(backend_write_doubles(b, row_weight, weights));
    TRY(pass_take(p, n, m->config.width, "readouts", &d));
    struct head h = head_of(p);
    struct head_gradient g = {
        .row_weight = row_weight,
        .dhidden = d,
        .dweight = place_gradient(w->weight, w->out, w->in),
        .dbias = place_gradient(w->bias, 1, w->out),
    };
    TRY(backend_head_gradient(b, &h, &g));
    TRY(take_scaled(p, d, &d));
    TRY(values ? token_values_backward(p, values, d) : OK);
    TRY(backend_scatter_add(b, dhidden, d, p->score_rows));
    workspace_release(p->w, mark);
    return OK;
}

/* d value / d hidden = w, d value / d w = hidden. */
static enum status values_backward(struct pass *p, const double *weights, struct tensor dhidden) {
    const struct model *m = p->model;
    struct backend *b = p->w->backend;
    int64_t d = m->config.width, n = p->n_values, mark = workspace_mark(p->w);
    struct tensor rows, d_rows, d_weight, weight = place_view(m->plan->head.weight, 1, d);
    struct tensor gradient = place_gradient(m->plan->head.weight, 1, d);
    if (n == 0) {
        return fail(ERR_INTERNAL, "pass: a gradient of values that were not read out");
    }
    TRY(pass_need_numbers(p, (n + 2) * d));
    double *w = p->numbers, *dw = w + d, *dh = dw + d;
    TRY(backend_read_doubles(b, w, weight));
    memset(dw, 0, (size_t)d * sizeof *dw);
    for (int64_t i = 0; i < n; i++) {
        for (int64_t j = 0; j < d; j++) {
            dh[i * d + j] = weights[i] * w[j];
            dw[j] += weights[i] * p->value_hidden[i * d + j];
        }
    }
    TRY(pass_put_ids(p, p->value_rows, p->n_values, "values", &rows));
    TRY(pass_take(p, n, d, "values", &d_rows));
    TRY(backend_write_doubles(b, d_rows, dh));
    TRY(backend_scatter_add(b, dhidden, d_rows, rows));
    if (gradient.data) {
        TRY(workspace_take(p->w, 1, d, gradient.type, "values", &d_weight));
        TRY(backend_write_doubles(b, d_weight, dw));
        TRY(backend_add(b, gradient, 1, d_weight));
    }
    workspace_release(p->w, mark);
    return OK;
}

enum status readouts_backward(struct pass *p, const struct readout_gradients *g, struct tensor dhidden) {
    if (g->logp && p->forest->n_readouts > 0) {
        TRY(logps_backward(p, g->logp, g->token_values, dhidden));
    }
    if (g->divergence && p->forest->n_readouts > 0) {
        TRY(divergence_backward(p, g->divergence, dhidden));
    }
    return g->values ? values_backward(p, g->values, dhidden) : OK;
}
