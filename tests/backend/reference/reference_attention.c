/* Attention and the head, with whole rows of scores and logits in memory. */
#include <math.h>
#include <string.h>

#include "reference_internal.h"
#include "util/mem.h"

/* Key rows that query i of a span sees, in order of their position; returns their number.
 * Positions are places in the span's concatenated ranges; a query's own position is that of the last key it
 * sees, and a window of w keeps positions > own - w. */
static int64_t visible_keys(const struct attention *a, const struct query_span *span, int32_t i,
                            int32_t *keys, int64_t *positions) {
    int64_t count = 0;
    int64_t position = 0;
    for (int32_t r = span->range_first; r < span->range_first + span->range_count; r++) {
        const struct key_range *range = &a->map->ranges[r];
        for (int32_t k = 0; k < range->count; k++, position++) {
            if (!range->causal || k <= range->count - span->count + i) {
                keys[count] = range->first + k;
                positions[count++] = position;
            }
        }
    }
    int64_t kept = 0;
    int64_t own = count > 0 ? positions[count - 1] : 0;
    for (int64_t k = 0; k < count; k++) {
        if (a->window <= 0 || positions[k] > own - a->window) {
            keys[kept++] = keys[k];
        }
    }
    return kept;
}

struct attention_row {
    int32_t *keys;
    int64_t *positions;
    double *probabilities, *slopes; /* slopes: d capped score / d score */
    int64_t count;
    double lse;
};

static enum status row_open(const struct attention *a, struct attention_row *row) {
    int64_t longest = 1;
    for (int32_t s = 0; s < a->map->span_count; s++) {
        int64_t keys = 0;
        for (int32_t r = 0; r < a->map->spans[s].range_count; r++) {
            keys += a->map->ranges[a->map->spans[s].range_first + r].count;
        }
        longest = keys > longest ? keys : longest;
    }
    *row = (struct attention_row){0};
    TRY(NEW_ARRAY(row->keys, longest));
    TRY(NEW_ARRAY(row->positions, longest));
    TRY(NEW_ARRAY(row->probabilities, longest));
    return NEW_ARRAY(row->slopes, longest);
}

static void row_close(struct attention_row *row) {
    mem_free(row->keys);
    mem_free(row->positions);
    mem_free(row->probabilities);
    mem_free(row->slopes);
}

static double dot(const double *x, const double *y, int64_t n) {
    double sum = 0;
    for (int64_t i = 0; i < n; i++) {
        sum += x[i] * y[i];
    }
    return sum;
}

/* Softmax of a row of scores in place; returns its log-sum-exp. */
static double softmax(double *scores, int64_t n) {
    double most = -INFINITY;
    for (int64_t k = 0; k < n; k++) {
        most = fmax(most, scores[k]);
    }
    double sum = 0;
    for (int64_t k = 0; k < n; k++) {
        sum += exp(scores[k] - most);
    }
    for (int64_t k = 0; k < n; k++) {
        scores[k] = exp(scores[k] - most) / sum;
    }
    return n > 0 ? most + log(sum) : -INFINITY;
}

static double capped(double score, double cap, double *slope) {
    if (cap <= 0) {
        *slope = 1;
        return score;
    }
    double t = tanh(score / cap);
    *slope = 1 - t * t;
    return cap * t;
}

/* Fills row->keys, probabilities and slopes for one query row and head. */
static void attend(const struct attention *a, const struct query_span *span, int32_t i, int h,
                   struct attention_row *row) {
    int64_t at = (int64_t)(h / (a->heads / a->kv_heads)) * a->head_dim;
    const double *q = row_of(a->q, span->first + i) + (int64_t)h * a->head_dim;
    row->count = visible_keys(a, span, i, row->keys, row->positions);
    for (int64_t k = 0; k < row->count; k++) {
        double score = a->scale * dot(q, row_of(a->k, row->keys[k]) + at, a->head_dim);
        row->probabilities[k] = capped(score, a->softcap, &row->slopes[k]);
    }
    row->lse = softmax(row->probabilities, row->count);
}

enum status reference_attention(struct backend *b, const struct attention *a) {
    (void)b;
    struct attention_row row;
    enum status st = row_open(a, &row);
    for (int32_t at = 0; st == OK && at < a->map->span_count * a->heads; at++) {
        const struct query_span *span = &a->map->spans[at / a->heads];
        int h = at % a->heads;
        int64_t kv = (int64_t)(h / (a->heads / a->kv_heads)) * a->head_dim;
        for (int32_t i = 0; i < span->count; i++) {
            double *out = row_of(a->out, span->first + i) + (int64_t)h * a->head_dim;
            attend(a, span, i, h, &row);
            memset(out, 0, (size_t)a->head_dim * sizeof *out);
            for (int64_t k = 0; k < row.count; k++) {
                for (int j = 0; j < a->head_dim; j++) {
                    out[j] += row.probabilities[k] * row_of(a->v, row.keys[k])[kv + j];
                }
            }
            if (a->lse.data) {
                row_of(a->lse, span->first + i)[h] = row.lse;
            }
        }
    }
    row_close(&row);
    return st;
}

/* One query row and head: dV += p dout; dp = dout v; ds = p (dp - sum p dp) * slope; dq, dk from ds. */
static void attend_gradient(const struct attention *a, const struct attention_gradient *g, int64_t q_row,
                            int h, const struct attention_row *row) {
    int64_t at = (int64_t)h * a->head_dim;
    int64_t kv = (int64_t)(h / (a->heads / a->kv_heads)) * a->head_dim;
    const double *dout = row_of(g->dout, q_row) + at;
    double mean = 0;
    for (int64_t k = 0; k < row->count; k++) {
        mean += row->probabilities[k] * dot(dout, row_of(a->v, row->keys[k]) + kv, a->head_dim);
    }
    for (int64_t k = 0; k < row->count; k++) {
        double p = row->probabilities[k];
        double dp = dot(dout, row_of(a->v, row->keys[k]) + kv, a->head_dim);
        double ds = p * (dp - mean) * row->slopes[k] * a->scale;
        for (int j = 0; j < a->head_dim; j++) {
            row_of(g->dv, row->keys[k])[kv + j] += p * dout[j];
            row_of(g->dq, q_row)[at + j] += ds * row_of(a->k, row->keys[k])[kv + j];
            row_of(g->dk, row->keys[k])[kv + j] += ds * row_of(a->q, q_row)[at + j];
        }
    }
}

static void clear(struct tensor t) {
    for (int64_t i = 0; i < t.rows; i++) {
        memset(row_of(t, i), 0, (size_t)t.columns * sizeof(double));
    }
}

enum status reference_attention_gradient(struct backend *b, const struct attention_backward *call) {
    (void)b;
    const struct attention *a = &call->attention;
    const struct attention_gradient *g = &call->gradient;
    struct attention_row row;
    enum status st = row_open(a, &row);
    if (st == OK) {
        clear(g->dq);
        clear(g->dk);
        clear(g->dv);
    }
    for (int32_t at = 0; st == OK && at < a->map->span_count * a->heads; at++) {
        const struct query_span *span = &a->map->spans[at / a->heads];
        for (int32_t i = 0; i < span->count; i++) {
            attend(a, span, i, at % a->heads, &row);
            attend_gradient(a, g, span->first + i, at % a->heads, &row);
        }
    }
    row_close(&row);
    return st;
}

/* Logits of one row, and the slope of each with respect to hidden W^T + bias. */
static void logits_of(const struct head *h, int64_t i, double *logits, double *slopes) {
    for (int64_t v = 0; v < h->weight.rows; v++) {
        double z = dot(row_of(h->hidden, i), row_of(h->weight, v), h->hidden.columns);
        z += h->bias.data ? row_of(h->bias, 0)[v] : 0;
        logits[v] = capped(z, h->softcap, &slopes[v]);
    }
}

enum status reference_head(struct backend *b, const struct head *h) {
    (void)b;
    int64_t vocabulary = h->weight.rows;
    double *logits;
    double *work;
    TRY(NEW_ARRAY(logits, 2 * vocabulary));
    work = logits + vocabulary;
    for (int64_t i = 0; i < h->hidden.rows; i++) {
        double *out = row_of(h->statistics, i);
        int32_t target = ints_of(h->targets)[i];
        logits_of(h, i, logits, work);
        memcpy(work, logits, (size_t)vocabulary * sizeof *work);
        out[HEAD_LSE] = softmax(work, vocabulary);
        out[HEAD_ENTROPY] = out[HEAD_MEAN_LOGIT] = 0;
        int64_t top = 0;
        double squares = 0;
        for (int64_t v = 0; v < vocabulary; v++) {
            squares += work[v] * work[v];
            out[HEAD_ENTROPY] += work[v] * (out[HEAD_LSE] - logits[v]);
            out[HEAD_MEAN_LOGIT] += logits[v] / (double)vocabulary;
            top = logits[v] > logits[top] ? v : top;
        }
        out[HEAD_COLLISION] = log(squares);
        out[HEAD_LOGP] = target >= 0 ? logits[target] - out[HEAD_LSE] : 0;
        out[HEAD_IS_TOP] = target >= 0 && logits[target] >= logits[top]; /* ties count */
    }
    mem_free(logits);
    return OK;
}

/* d logp / d logit_v = [v = target] - softmax_v. */
enum status reference_head_gradient(struct backend *b, const struct head_backward *call) {
    (void)b;
    const struct head *h = &call->head;
    const struct head_gradient *g = &call->gradient;
    int64_t vocabulary = h->weight.rows;
    int64_t d = h->hidden.columns;
    double *p;
    TRY(NEW_ARRAY(p, 2 * vocabulary));
    double *slopes = p + vocabulary;
    clear(g->dhidden);
    for (int64_t i = 0; i < h->hidden.rows; i++) {
        int32_t target = ints_of(h->targets)[i];
        double weight = target >= 0 ? row_of(g->row_weight, 0)[i] : 0;
        logits_of(h, i, p, slopes);
        softmax(p, vocabulary);
        for (int64_t v = 0; v < vocabulary; v++) {
            double dz = weight * ((v == target) - p[v]) * slopes[v];
            for (int64_t j = 0; j < d; j++) {
                row_of(g->dhidden, i)[j] += dz * row_of(h->weight, v)[j];
                if (g->dweight.data) {
                    row_of(g->dweight, v)[j] += dz * row_of(h->hidden, i)[j];
                }
            }
            if (g->dbias.data) {
                row_of(g->dbias, 0)[v] += dz;
            }
        }
    }
    mem_free(p);
    return OK;
}
