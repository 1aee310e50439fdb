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
