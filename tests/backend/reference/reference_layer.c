/* Norms, rotary embedding, activations, optimizer steps. */
#include <math.h>

#include "reference_internal.h"

static const double PI = 3.14159265358979323846;

/* RMSNorm (Zhang, Sennrich 2019) and LayerNorm (Ba et al. 2016), biased variance. */
static void moments(const struct norm *n, const double *x, double *mean, double *inverse) {
    int64_t d = n->x.columns;
    *mean = 0;
    if (n->kind == NORM_LAYER) {
        for (int64_t j = 0; j < d; j++) {
            *mean += x[j] / (double)d;
        }
    }
    double variance = 0;
    for (int64_t j = 0; j < d; j++) {
        variance += (x[j] - *mean) * (x[j] - *mean) / (double)d;
    }
    *inverse = 1 / sqrt(variance + n->epsilon);
}

static double weight_of(const struct norm *n, int64_t j) {
    return n->weight.data ? row_of(n->weight, 0)[j] + n->weight_offset : 1;
}

enum status reference_norm(struct backend *b, const struct norm *n) {
    (void)b;
    for (int64_t i = 0; i < n->x.rows; i++) {
        const double *x = row_of(n->x, i);
        double mean;
        double inverse;
        moments(n, x, &mean, &inverse);
        for (int64_t j = 0; j < n->x.columns; j++) {
            row_of(n->y, i)[j] =
                (x[j] - mean) * inverse * weight_of(n, j) + (n->bias.data ? row_of(n->bias, 0)[j] : 0);
        }
        if (n->statistics.data) {
            row_of(n->statistics, i)[0] = mean;
            row_of(n->statistics, i)[1] = inverse;
        }
    }
    return OK;
}

/* With u = dy * w and hat the normalized x: dx = (u - mean(u) - hat mean(u hat)) / std; RMS has no mean(u).
 */
enum status reference_norm_gradient(struct backend *b, const struct norm_backward *call) {
    (void)b;
    const struct norm *n = &call->norm;
    const struct norm_gradient *g = &call->gradient;
    int64_t d = n->x.columns;
    for (int64_t i = 0; i < n->x.rows; i++) {
        const double *x = row_of(n->x, i);
        const double *dy = row_of(g->dy, i);
        double mean;
        double inverse;
        moments(n, x, &mean, &inverse);
        double mean_u = 0;
        double mean_u_hat = 0;
        for (int64_t j = 0; j < d; j++) {
            double u = dy[j] * weight_of(n, j);
            mean_u += n->kind == NORM_LAYER ? u / (double)d : 0;
            mean_u_hat += u * (x[j] - mean) * inverse / (double)d;
        }
        for (int64_t j = 0; j < d; j++) {
            double hat = (x[j] - mean) * inverse;
            row_of(g->dx, i)[j] += (dy[j] * weight_of(n, j) - mean_u - hat * mean_u_hat) * inverse;
            if (g->dweight.data) {
                row_of(g->dweight, 0)[j] += dy[j] * hat;
            }
            if (g->dbias.data) {
                row_of(g->dbias, 0)[j] += dy[j];
            }
        }
    }
    return OK;
}

/* RoFormer, Su et al. 2021: a rotation of each pair by the angle of its position. */
enum status reference_rope(struct backend *b, const struct rope *r) {
    (void)b;
    int half = r->rotary_dim / 2;
    for (int64_t t = 0; t < r->x.rows; t++) {
        const double *cosine = row_of(r->table, t);
        const double *sine = cosine + half;
        for (int64_t at = 0; at < (int64_t)r->heads * half; at++) {
            int i = (int)(at % half);
            double *head = row_of(r->x, t) + at / half * r->head_dim;
            double *first = head + (r->interleaved ? 2 * i : i);
            double *second = head + (r->interleaved ? 2 * i + 1 : i + half);
            double s = r->inverse ? -sine[i] : sine[i];
            double turned = *first * cosine[i] - *second * s;
            *second = *second * cosine[i] + *first * s;
            *first = turned;
        }
    }
    return OK;
}

static double act(enum activation kind, double x) {
    switch (kind) {
    case ACTIVATION_SILU:
        return x / (1 + exp(-x));
    case ACTIVATION_GELU:
        return x * 0.5 * erfc(-x / sqrt(2));
    case ACTIVATION_GELU_TANH:
        return 0.5 * x * (1 + tanh(sqrt(2 / PI) * (x + 0.044715 * x * x * x)));
    case ACTIVATION_RELU:
        return x < 0 ? 0 : x; /* a NaN stays one */
    }
    return NAN;
}

static double act_slope(enum activation kind, double x) {
    double sigmoid = 1 / (1 + exp(-x));
    double inner = sqrt(2 / PI) * (x + 0.044715 * x * x * x);
    double slope = sqrt(2 / PI) * (1 + 3 * 0.044715 * x * x);
    switch (kind) {
    case ACTIVATION_SILU:
        return sigmoid * (1 + x * (1 - sigmoid));
    case ACTIVATION_GELU:
        return 0.5 * erfc(-x / sqrt(2)) + x * exp(-x * x / 2) / sqrt(2 * PI);
    case ACTIVATION_GELU_TANH:
        return 0.5 * (1 + tanh(inner)) + 0.5 * x * (1 - tanh(inner) * tanh(inner)) * slope;
    case ACTIVATION_RELU:
        return x > 0 ? 1 : 0;
    }
    return NAN;
}

enum status reference_activate(struct backend *b, const struct activate *a) {
    (void)b;
    for (int64_t i = 0; i < a->y.rows; i++) {
        for (int64_t j = 0; j < a->y.columns; j++) {
            double up = a->up.data ? row_of(a->up, i)[j] : 1;
            row_of(a->y, i)[j] = act(a->kind, row_of(a->gate, i)[j]) * up;
        }
    }
    return OK;
}

enum status reference_activate_gradient(struct backend *b, const struct activate_backward *call) {
    (void)b;
    const struct activate *a = &call->activate;
    const struct activate_gradient *g = &call->gradient;
    for (int64_t i = 0; i < g->dy.rows; i++) {
        for (int64_t j = 0; j < g->dy.columns; j++) {
            double gate = row_of(a->gate, i)[j];
            double up = a->up.data ? row_of(a->up, i)[j] : 1;
            double dy = row_of(g->dy, i)[j];
            row_of(g->dgate, i)[j] = dy * up * act_slope(a->kind, gate);
            if (g->dup.data) {
                row_of(g->dup, i)[j] = dy * act(a->kind, gate);
            }
        }
    }
    return OK;
}

/* torch.optim: first holds the momentum buffer or exp_avg, second square_avg or exp_avg_sq. */
static void update(const struct optimizer_step *s, double *p, double g, double *first, double *second) {
    bool decoupled = s->kind == OPTIMIZER_ADAMW;
    *p *= decoupled ? 1 - s->learning_rate * s->weight_decay : 1;
    g += decoupled ? 0 : s->weight_decay * *p;
    double direction = g;
    if (s->kind == OPTIMIZER_RMSPROP) {
        *second = s->alpha * *second + (1 - s->alpha) * g * g;
        direction = g / (sqrt(*second) + s->epsilon);
    }
    if (s->kind == OPTIMIZER_ADAM || s->kind == OPTIMIZER_ADAMW) {
        *first = s->beta1 * *first + (1 - s->beta1) * g;
        *second = s->beta2 * *second + (1 - s->beta2) * g * g;
        direction = *first / s->bias_correction1 / (sqrt(*second) / sqrt(s->bias_correction2) + s->epsilon);
    } else if (s->momentum != 0) {
        *first = s->momentum * *first + direction;
        direction = *first;
    }
    *p -= s->learning_rate * direction;
}

enum status reference_optimizer(struct backend *b, const struct optimizer_step *s) {
    (void)b;
    double unused = 0;
    for (int64_t j = 0; j < s->parameters.columns; j++) {
        double *first = s->first.data ? row_of(s->first, 0) + j : &unused;
        double *second = s->second.data ? row_of(s->second, 0) + j : &unused;
        double *p = row_of(s->parameters, 0) + j;
        update(s, p, row_of(s->gradients, 0)[j] * s->gradient_scale, first, second);
        if (s->copy.data) {
            row_of(s->copy, 0)[j] = *p;
        }
    }
    return OK;
}
