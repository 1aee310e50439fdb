#include "objective/pairwise.h"

#include <math.h>

#include "objective/logistic.h"

enum { CHOSEN, REJECTED, SIDES };

static int64_t shared_tokens(const struct scored_row *row) {
    int64_t c = row->responses[CHOSEN].tokens, r = row->responses[REJECTED].tokens;
    return c < r ? c : r;
}

/* sum over a response's tokens where those past the shared length are discounted. */
static double weighted_sum(const struct terms *t, const struct scored_row *row, int side,
                           const double *tokens, double sum) {
    int64_t shared = shared_tokens(row), n = row->responses[side].tokens;
    double tail = 0;
    if (t->options.tail_discount == 0 || n == shared) {
        return sum;
    }
    for (int64_t i = shared; i < n; i++) {
        tail += tokens[i];
    }
    return sum - t->options.tail_discount * tail;
}

static double policy_of(const struct terms *t, const struct scored_row *row, int side) {
    const struct response_score *r = &row->responses[side];
    return weighted_sum(t, row, side, r->token_logp, r->logp);
}

/* 0 where the loss does without. */
static double reference_of(const struct terms *t, const struct scored_row *row, int side) {
    const struct response_score *r = &row->responses[side];
    return row->has_reference && !t->reference_free
               ? weighted_sum(t, row, side, r->token_reference, r->reference)
               : 0;
}

static int64_t length_of(const struct scored_row *row, int side) {
    int64_t n = row->responses[side].tokens;
    return n > 0 ? n : 1;
}

static struct pair_scores scores_of(const struct terms *t, const struct scored_row *row) {
    return (struct pair_scores){.chosen = policy_of(t, row, CHOSEN),
                                .rejected = policy_of(t, row, REJECTED),
                                .reference_chosen = reference_of(t, row, CHOSEN),
                                .reference_rejected = reference_of(t, row, REJECTED),
                                .chosen_tokens = length_of(row, CHOSEN),
                                .rejected_tokens = length_of(row, REJECTED)};
}

/* Adds weight times the loss's slope by a side's sum. */
static void add_slope(const struct terms *t, const struct scored_row *row, int side, double by_sum,
                      const struct slope *slope) {
    const struct response_score *r = &row->responses[side];
    slope->logp[side] += by_sum;
    if (t->options.tail_discount == 0 || !slope->token_logp) {
        return;
    }
    for (int64_t i = shared_tokens(row); i < r->tokens; i++) {
        slope->token_logp[r->first + i] -= by_sum * t->options.tail_discount;
    }
}

static void add_slopes(const struct terms *t, const struct scored_row *row, double weight,
                       const struct pair_loss *loss, const struct slope *slope) {
    add_slope(t, row, CHOSEN, weight * loss->d_chosen, slope);
    add_slope(t, row, REJECTED, weight * loss->d_rejected, slope);
}

static double weight_of(const struct terms *t, const struct scored_row *row) {
    double log_weight = 0;
    for (int side = 0; side < SIDES && t->options.weighting; side++) {
        const struct response_score *r = &row->responses[side];
        log_weight += (r->logp - r->collision) / (double)length_of(row, side);
    }
    return exp(log_weight);
}

double pairwise_loss(const struct objective *o, const struct terms *t, const struct scored_row *row,
                     const double *gathered, double weight, const struct slope *slope) {
    (void)gathered;
    struct pair_scores s = scores_of(t, row);
    struct pair_loss loss;
    if (t->options.divergence.kind == REVERSE_KL) {
        o->pair(&s, &t->options, &loss);
    } else {
        double by_chosen, by_rejected;
        s.chosen = divergence_score(&t->options.divergence, s.chosen - s.reference_chosen, &by_chosen);
        s.rejected =
            divergence_score(&t->options.divergence, s.rejected - s.reference_rejected, &by_rejected);
        s.reference_chosen = s.reference_rejected = 0;
        o->pair(&s, &t->options, &loss);
        loss.d_chosen *= by_chosen;
        loss.d_rejected *= by_rejected;
    }
    double share = weight_of(t, row);
    add_slopes(t, row, weight * share, &loss, slope);
    return share * loss.value;
}

double pairwise_divergence(const struct response_score *r) {
    double sum = 0;
    for (int64_t i = 0; i < r->tokens && r->token_divergence; i++) {
        sum += r->token_divergence[i];
    }
    return sum;
}

static void add_divergence(const struct scored_row *row, int side, double by_sum, const struct slope *slope) {
    const struct response_score *r = &row->responses[side];
    for (int64_t i = 0; i < r->tokens && slope->token_divergence && by_sum != 0; i++) {
        slope->token_divergence[r->first + i] += by_sum;
    }
}

/* DPO's loss of beta (a - b + share (D_c - D_r)); holds: D_c has no slope. */
static double divergent_loss(const struct terms *t, const struct scored_row *row, double share, bool holds,
                             double weight, const struct slope *slope) {
    struct preference_options o = t->options;
    struct pair_scores s = scores_of(t, row);
    struct pair_loss loss;
    double apart =
        pairwise_divergence(&row->responses[CHOSEN]) - pairwise_divergence(&row->responses[REJECTED]);
    s.chosen += share * apart;
    o.label_smoothing = 0;
    preference_sigmoid(&s, &o, &loss);
    add_slopes(t, row, weight, &loss, slope);
    add_divergence(row, CHOSEN, holds ? 0 : weight * share * loss.d_chosen, slope);
    add_divergence(row, REJECTED, weight * share * loss.d_rejected, slope);
    return loss.value;
}

double pairwise_tdpo1(const struct objective *o, const struct terms *t, const struct scored_row *row,
                      const double *gathered, double weight, const struct slope *slope) {
    (void)o;
    (void)gathered;
    return divergent_loss(t, row, 1, false, weight, slope);
}

double pairwise_tdpo2(const struct objective *o, const struct terms *t, const struct scored_row *row,
                      const double *gathered, double weight, const struct slope *slope) {
    (void)o;
    (void)gathered;
    return divergent_loss(t, row, t->options.tdpo_alpha, true, weight, slope);
}

static double ratio_of(const struct terms *t, const struct scored_row *row, int side) {
    return policy_of(t, row, side) - reference_of(t, row, side);
}

void pairwise_gather_bco(const struct objective *o, const struct terms *t, const struct scored_row *row,
                         double *gathered) {
    (void)o;
    gathered[0] += t->options.beta * (ratio_of(t, row, CHOSEN) + ratio_of(t, row, REJECTED));
    gathered[1] += SIDES;
}

double pairwise_bco(const struct objective *o, const struct terms *t, const struct scored_row *row,
                    const double *gathered, double weight, const struct slope *slope) {
    (void)o;
    double beta = t->options.beta, shift = gathered[0] / gathered[1];
    double u = beta * ratio_of(t, row, CHOSEN) - shift, v = beta * ratio_of(t, row, REJECTED) - shift;
    struct pair_loss loss = {softplus(-u) + softplus(v), -beta * logistic(-u), beta * logistic(v)};
    add_slopes(t, row, weight, &loss, slope);
    return loss.value;
}

static double gap_of(const struct terms *t, const struct scored_row *row) {
    return ratio_of(t, row, CHOSEN) - ratio_of(t, row, REJECTED);
}

void pairwise_gather_beta_dpo(const struct objective *o, const struct terms *t, const struct scored_row *row,
                              double *gathered) {
    (void)o;
    double gap = gap_of(t, row);
    gathered[0] += gap;
    gathered[1] += gap * gap;
    gathered[2] += 1;
}

double pairwise_beta_dpo(const struct objective *o, const struct terms *t, const struct scored_row *row,
                         const double *gathered, double weight, const struct slope *slope) {
    (void)o;
    double gap = gap_of(t, row), mean = gathered[0] / gathered[2];
    double variance = gathered[1] / gathered[2] - mean * mean, off = gap - mean;
    double beta = t->options.beta * fmax(1e-3, 1 + t->options.beta_scale * off);
    double share = variance > 0 ? exp(-.5 * off * off / variance) : 1; /* all alike: none is far off */
    double by_gap = -share * beta * logistic(-beta * gap);
    struct pair_loss loss = {share * softplus(-beta * gap), by_gap, -by_gap};
    add_slopes(t, row, weight, &loss, slope);
    return loss.value;
}

/* Of a number among sorted ones: [first, last), all that are equal to the nearest one. The second pass may
 * round otherwise than the first. */
struct places {
    int64_t first, last;
};
static struct places places_of(const double *sorted, int64_t n, double x) {
    int64_t low = 0, high = n;
    while (low < high) {
        int64_t middle = low + (high - low) / 2;
        bool is_below = sorted[middle] < x;
        low = is_below ? middle + 1 : low;
        high = is_below ? high : middle;
    }
    low -= low == n || (low > 0 && x - sorted[low - 1] < sorted[low] - x);
    struct places places = {low, low + 1};
    while (places.first > 0 && sorted[places.first - 1] == sorted[low]) {
        places.first--;
    }
    while (places.last < n && sorted[places.last] == sorted[low]) {
        places.last++;
    }
    return places;
}

/* DPO's loss of u, one of the sorted `own`, against what stands at its places in `other`, mean. */
static struct pair_loss quantile_loss(const struct terms *t, const double *own, const double *other,
                                      int64_t n, double u, bool is_chosen) {
    struct places places = places_of(own, n, u);
    double share = 1.0 / (double)(places.last - places.first);
    struct pair_loss sum = {0};
    for (int64_t k = places.first; k < places.last; k++) {
        const struct pair_scores s = {.chosen = is_chosen ? u : other[k],
                                      .rejected = is_chosen ? other[k] : u};
        struct pair_loss one;
        preference_sigmoid(&s, &t->options, &one);
        sum.value += share * one.value;
        sum.d_chosen += share * one.d_chosen;
        sum.d_rejected += share * one.d_rejected;
    }
    return sum;
}

void pairwise_gather_aot(const struct objective *o, const struct terms *t, const struct scored_row *row,
                         double *gathered) {
    (void)o;
    gathered[0] = policy_of(t, row, CHOSEN) - policy_of(t, row, REJECTED);
    gathered[1] = reference_of(t, row, CHOSEN) - reference_of(t, row, REJECTED);
}

double pairwise_aot(const struct objective *o, const struct terms *t, const struct scored_row *row,
                    const double *gathered, double weight, const struct slope *slope) {
    (void)o;
    int64_t n = (int64_t)gathered[0];
    double gap = policy_of(t, row, CHOSEN) - policy_of(t, row, REJECTED);
    struct pair_loss loss = quantile_loss(t, gathered + 1, gathered + 1 + n, n, gap, true);
    loss.d_rejected = -loss.d_chosen;
    add_slopes(t, row, weight, &loss, slope);
    return loss.value;
}

void pairwise_gather_aot_unpaired(const struct objective *o, const struct terms *t,
                                  const struct scored_row *row, double *gathered) {
    (void)o;
    gathered[0] = ratio_of(t, row, CHOSEN);
    gathered[1] = ratio_of(t, row, REJECTED);
}

double pairwise_aot_unpaired(const struct objective *o, const struct terms *t, const struct scored_row *row,
                             const double *gathered, double weight, const struct slope *slope) {
    (void)o;
    int64_t n = (int64_t)gathered[0];
    const double *chosen = gathered + 1, *rejected = chosen + n;
    struct pair_loss loss = quantile_loss(t, chosen, rejected, n, ratio_of(t, row, CHOSEN), true);
    loss.d_rejected = quantile_loss(t, rejected, chosen, n, ratio_of(t, row, REJECTED), false).d_rejected;
    add_slopes(t, row, weight, &loss, slope);
    return loss.value;
}

double pairwise_xpo(const struct objective *o, const struct terms *t, const struct scored_row *row,
                    const double *gathered, double weight, const struct slope *slope) {
    (void)o, (void)t, (void)gathered;
    double value = 0;
    for (int32_t i = 0; i < row->n; i++) {
        const struct response_score *r = &row->responses[i];
        value += r->advantage * r->logp;
        slope->logp[i] += weight * r->advantage;
    }
    return value;
}
