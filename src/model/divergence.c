/* How far two models' next-token distributions are apart at the readouts, and the slope of that: chunks of a
 * few rows' logits under both, reduced on the host in double, and forgotten. */
#include "model/divergence.h"

#include <math.h>

#include "model/pass_internal.h"
#include "util/mem.h"

enum { CHUNK_LOGITS = 1 << 19 }; /* of a model, at most, but for one row */

/* Logits of rows [first, first + m) of p's readouts, without softcap, into p->divergence.logits and to the
 * host. */
static enum status read_logits(struct pass *p, struct workspace *w, int64_t first, int64_t m,
                               struct tensor *logits, double *out) {
    const struct linear *head = &p->model->plan->head;
    struct backend *b = p->w->backend;
    TRY(workspace_take(w, m, head->out, b->caps.compute, "a chunk's logits", logits));
    struct gemm g = {.a = tensor_rows(p->score_hidden, first, m),
                     .b = place_view(head->weight, head->out, head->in),
                     .c = *logits,
                     .transpose_b = true,
                     .alpha = 1,
                     .bias = place_view(head->bias, 1, head->out)};
    TRY(backend_gemm(b, &g));
    return backend_read_doubles(b, out, *logits);
}

/* Raw logits of a row become log-probabilities; slopes (NULL: not wanted): of each capped logit by the raw
 * one. */
static void log_softmax(double *x, int64_t n, double cap, double *slopes) {
    double largest = -INFINITY, sum = 0;
    for (int64_t v = 0; v < n; v++) {
        double ratio = cap > 0 ? tanh(x[v] / cap) : 0;
        x[v] = cap > 0 ? cap * ratio : x[v];
        largest = x[v] > largest ? x[v] : largest;
        if (slopes) {
            slopes[v] = 1 - ratio * ratio;
        }
    }
    for (int64_t v = 0; v < n; v++) {
        sum += exp(x[v] - largest);
    }
    double lse = largest + log(sum);
    for (int64_t v = 0; v < n; v++) {
        x[v] -= lse;
    }
}

/* KL(reference || policy) of log-probabilities. */
static double divergence_of(const double *policy, const double *reference, int64_t n) {
    double sum = 0;
    for (int64_t v = 0; v < n; v++) {
        sum += exp(reference[v]) * (reference[v] - policy[v]);
    }
    return sum;
}

struct chunks {
    struct pass *policy, *reference;
    struct workspace store;
    double *own, *other, *slopes; /* host: a chunk's rows x vocabulary; slopes of one row */
    int64_t rows, vocabulary;     /* of a chunk at most */
};

static void chunks_close(struct chunks *c) {
    workspace_close(&c->store);
    mem_free(c->own);
    mem_free(c->other);
    mem_free(c->slopes);
}

/* Room for both models' logits of a chunk. */
static enum status chunks_open(struct pass *policy, struct pass *reference, struct chunks *c) {
    int64_t n = policy->forest->n_readouts, vocabulary = policy->model->plan->head.out;
    *c = (struct chunks){.policy = policy, .reference = reference, .vocabulary = vocabulary};
    if (!policy->is_scored || !reference->is_scored || reference->forest->n_readouts != n ||
        reference->model->plan->head.out != vocabulary) {
        return fail(ERR_INTERNAL,
                    "pass: a divergence needs the same readouts of two models of one vocabulary, both kept");
    }
    c->rows = CHUNK_LOGITS / vocabulary > 0 ? CHUNK_LOGITS / vocabulary : 1;
    c->rows = c->rows < n ? c->rows : n;
    int64_t bytes;
    TRY(size_mul(2 * c->rows * vocabulary, dtype_size(policy->w->backend->caps.compute), "chunks of logits",
                 &bytes));
    TRY(NEW_ARRAY(c->own, c->rows * vocabulary));
    TRY(NEW_ARRAY(c->other, c->rows * vocabulary));
    TRY(NEW_ARRAY(c->slopes, vocabulary));
    return workspace_open(policy->w->backend, bytes + 4096, &c->store);
}

/* Log-probabilities of a chunk under both. logits: the policy's, on the device. */
static enum status read_chunk(struct chunks *c, int64_t first, int64_t m, struct tensor *logits) {
    struct tensor others;
    workspace_release(&c->store, 0);
    TRY(read_logits(c->policy, &c->store, first, m, logits, c->own));
    TRY(read_logits(c->reference, &c->store, first, m, &others, c->other));
    for (int64_t i = 0; i < m; i++) {
        log_softmax(c->other + i * c->vocabulary, c->vocabulary, c->reference->model->config.logit_softcap,
                    NULL);
    }
    return OK;
}

enum status pass_divergence(struct pass *policy, struct pass *reference, double *out) {
    int64_t n = policy->forest->n_readouts;
    struct chunks c = {0};
    struct tensor logits;
    policy->diverges_from = reference;
    enum status st = n > 0 ? chunks_open(policy, reference, &c) : OK;
    for (int64_t first = 0; first < n && st == OK; first += c.rows) {
        int64_t m = n - first < c.rows ? n - first : c.rows;
        st = read_chunk(&c, first, m, &logits);
        for (int64_t i = 0; i < m && st == OK; i++) {
            double *own = c.own + i * c.vocabulary;
            log_softmax(own, c.vocabulary, policy->model->config.logit_softcap, NULL);
            out[first + i] = divergence_of(own, c.other + i * c.vocabulary, c.vocabulary);
        }
    }
    chunks_close(&c);
    return st;
}

/* d KL / d logit = p_policy - p_reference: a chunk's rows, times their weights, on the device. */
static enum status write_slopes(struct chunks *c, int64_t m, const double *weights, struct tensor logits) {
    for (int64_t i = 0; i < m; i++) {
        double *own = c->own + i * c->vocabulary;
        const double *other = c->other + i * c->vocabulary;
        log_softmax(own, c->vocabulary, c->policy->model->config.logit_softcap, c->slopes);
        for (int64_t v = 0; v < c->vocabulary; v++) {
            own[v] = weights[i] * (exp(own[v]) - exp(other[v])) * c->slopes[v];
        }
    }
    return backend_write_doubles(c->policy->w->backend, logits, c->own);
}

static enum status chunk_backward(struct chunks *c, int64_t first, int64_t m, const double *weights,
                                  struct tensor d) {
    struct pass *p = c->policy;
    const struct linear *head = &p->model->plan->head;
    struct backend *b = p->w->backend;
    struct tensor logits, dweight = place_gradient(head->weight, head->out, head->in),
                          dbias = place_gradient(head->bias, 1, head->out);
    TRY(read_chunk(c, first, m, &logits));
    TRY(write_slopes(c, m, weights + first, logits));
    struct gemm to_hidden = {.a = logits,
                             .b = place_view(head->weight, head->out, head->in),
                             .c = tensor_rows(d, first, m),
                             .alpha = 1};
    TRY(backend_gemm(b, &to_hidden));
    if (dweight.data) {
        struct gemm to_weight = {.a = logits,
                                 .b = tensor_rows(p->score_hidden, first, m),
                                 .c = dweight,
                                 .transpose_a = true,
                                 .alpha = 1,
                                 .beta = 1};
        TRY(backend_gemm(b, &to_weight));
    }
    return dbias.data ? backend_sum_rows(b, dbias, logits) : OK;
}

enum status divergence_backward(struct pass *p, const double *weights, struct tensor dhidden) {
    int64_t n = p->forest->n_readouts, mark = workspace_mark(p->w);
    struct chunks c = {0};
    struct tensor d;
    if (!p->diverges_from) {
        return fail(ERR_INTERNAL, "pass: a gradient of divergences that were not read out");
    }
    TRY(pass_take(p, n, p->model->config.width, "readouts", &d));
    enum status st = chunks_open(p, p->diverges_from, &c);
    for (int64_t first = 0; first < n && st == OK; first += c.rows) {
        st = chunk_backward(&c, first, n - first < c.rows ? n - first : c.rows, weights, d);
    }
    chunks_close(&c);
    st = st == OK ? backend_scatter_add(p->w->backend, dhidden, d, p->score_rows) : st;
    workspace_release(p->w, mark);
    return st;
}
