#include "objective/listwise.h"

#include <math.h>

static bool has_labels(const struct scored_row *row) {
    int32_t n = 0;
    for (int32_t i = 0; i < row->n; i++) {
        n += !isnan(row->responses[i].label);
    }
    return n > 1;
}

/* Places (better, worse) in the order of better, then worse. */
static bool next_by_label(const struct scored_row *row, struct ranked *at) {
    for (int64_t n = row->n; at->next < n * n;) {
        int64_t place = at->next++;
        at->better = (int32_t)(place / n);
        at->worse = (int32_t)(place % n);
        if (row->responses[at->better].label > row->responses[at->worse].label) {
            return true;
        }
    }
    return false;
}

bool listwise_next(const struct scored_row *row, struct ranked *at) {
    if (has_labels(row)) {
        return next_by_label(row, at);
    }
    if (at->next == row->n_pairs) {
        return false;
    }
    const struct compared *p = &row->pairs[at->next++];
    at->better = p->chosen;
    at->worse = p->rejected;
    return true;
}

static double length_of(const struct response_score *r) {
    return r->tokens > 0 ? (double)r->tokens : 1;
}

double listwise_score(const struct response_score *r) {
    return r->logp / length_of(r);
}

double listwise_rrhf(const struct objective *o, const struct terms *t, const struct scored_row *row,
                     const double *gathered, double weight, const struct slope *slope) {
    (void)o, (void)t, (void)gathered;
    double value = 0;
    for (struct ranked at = {0}; listwise_next(row, &at);) {
        const struct response_score *better = &row->responses[at.better];
        const struct response_score *worse = &row->responses[at.worse];
        double gap = listwise_score(worse) - listwise_score(better);
        if (isnan(gap)) {
            return gap;
        }
        if (gap > 0 && slope->logp) {
            slope->logp[at.better] -= weight / length_of(better);
            slope->logp[at.worse] += weight / length_of(worse);
        }
        value += gap > 0 ? gap : 0;
    }
    return value;
}

/* How a response counts among those that a better one is compared with. */
struct contrast {
    const struct terms *terms;
    const struct scored_row *row;
    bool by_gaps; /* pro; otherwise bt_list */
    int32_t best;
    double widest; /* gap between the best's score and that of a worse one */
};

/* c_j is this times log p, up to a constant. */
static double contrast_slope(const struct contrast *c, int32_t j) {
    const struct response_score *r = c->row->responses;
    if (!c->by_gaps) {
        return c->terms->options.beta;
    }
    double gap = !has_labels(c->row) ? 1 : j == c->best ? c->widest : r[c->best].label - r[j].label;
    return gap / length_of(&r[j]);
}

static double contrast_score(const struct contrast *c, int32_t j) {
    const struct response_score *r = &c->row->responses[j];
    bool referred = !c->by_gaps && c->row->has_reference && !c->terms->reference_free;
    return contrast_slope(c, j) * (r->logp - (referred ? r->reference : 0));
}

static bool next_worse(const struct contrast *c, struct ranked *at) {
    while (listwise_next(c->row, at)) {
        if (at->better == c->best) {
            return true;
        }
    }
    return false;
}

/* Adds the slopes of log(sum of e^c) - c_best, given the logarithm. */
static void add_contrast_slopes(const struct contrast *c, double log_sum, double weight, double *slopes) {
    for (struct ranked at = {0}; next_worse(c, &at);) {
        slopes[at.worse] += weight * exp(contrast_score(c, at.worse) - log_sum) * contrast_slope(c, at.worse);
    }
    slopes[c->best] += weight * expm1(contrast_score(c, c->best) - log_sum) * contrast_slope(c, c->best);
}

/* The best's part of the sum; 0 where nothing is worse. */
static double contrast_value(struct contrast *c, double weight, const struct slope *slope) {
    const struct response_score *r = c->row->responses;
    double top = -INFINITY, sum = 0;
    c->widest = 0;
    for (struct ranked at = {0}; next_worse(c, &at);) {
        c->widest = fmax(c->widest, r[c->best].label - r[at.worse].label);
        top = fmax(top, contrast_score(c, at.worse));
    }
    if (top == -INFINITY) {
        return 0;
    }
    double own = contrast_score(c, c->best);
    top = fmax(top, own);
    for (struct ranked at = {0}; next_worse(c, &at);) {
        sum += exp(contrast_score(c, at.worse) - top);
    }
    double log_sum = top + log(sum + exp(own - top));
    if (slope->logp) {
        add_contrast_slopes(c, log_sum, weight, slope->logp);
    }
    return log_sum - own;
}

static double contrast_sum(struct contrast *c, double weight, const struct slope *slope) {
    double value = 0;
    for (c->best = 0; c->best < c->row->n; c->best++) {
        value += contrast_value(c, weight, slope);
    }
    return value;
}

double listwise_pro(const struct objective *o, const struct terms *t, const struct scored_row *row,
                    const double *gathered, double weight, const struct slope *slope) {
    (void)o, (void)gathered;
    struct contrast c = {.terms = t, .row = row, .by_gaps = true};
    return contrast_sum(&c, weight, slope);
}

double listwise_bt(const struct objective *o, const struct terms *t, const struct scored_row *row,
                   const double *gathered, double weight, const struct slope *slope) {
    (void)o, (void)gathered;
    struct contrast c = {.terms = t, .row = row};
    return contrast_sum(&c, weight, slope);
}
