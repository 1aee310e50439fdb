/* Pairwise preference losses and their derivatives, in double.
 *
 * Notation: a, b the log-ratios of chosen and rejected, delta = a - b, beta the inverse temperature, e label
 * smoothing, n_c and n_r scored tokens, s the logistic function. Everything is written with softplus(x) =
 * -log s(-x) and s itself (logistic.h), so margins of +-1e4 neither overflow nor turn into NaN.
 */
#include "objective/preference.h"

#include <math.h>

#include "objective/logistic.h"

/* s'(x) = s(x) s(-x); the product keeps its relative precision in both tails. */
static double logistic_slope(double x) {
    return logistic(x) * logistic(-x);
}

static double ratio_chosen(const struct pair_scores *s) {
    return s->chosen - s->reference_chosen;
}

static double ratio_rejected(const struct pair_scores *s) {
    return s->rejected - s->reference_rejected;
}

/* Every rank-like loss depends on beta x difference alone. */
static void from_margin(struct pair_loss *out, double value, double slope, double beta) {
    *out = (struct pair_loss){value, beta * slope, -beta * slope};
}

/* -(1-e) log s(beta delta) - e log s(-beta delta): Rafailov et al. 2023, eq. 7; with e > 0 the conservative
 * DPO of Mitchell's note, as in the authors' code. */
void preference_sigmoid(const struct pair_scores *s, const struct preference_options *o,
                        struct pair_loss *out) {
    double u = o->beta * (ratio_chosen(s) - ratio_rejected(s)), e = o->label_smoothing;
    from_margin(out, (1 - e) * softplus(-u) + e * softplus(u), e * logistic(u) - (1 - e) * logistic(-u),
                o->beta);
}

/* [-(1-e) log s(u) + e log s(-u)] / (1 - 2e): unbiased when labels are flipped with probability e
 * (Chowdhury et al. 2024, eq. 8). */
void preference_robust(const struct pair_scores *s, const struct preference_options *o,
                       struct pair_loss *out) {
    double u = o->beta * (ratio_chosen(s) - ratio_rejected(s)), e = o->label_smoothing;
    double scale = 1.0 / (1.0 - 2.0 * e);
    from_margin(out, scale * ((1 - e) * softplus(-u) - e * softplus(u)),
                -scale * ((1 - e) * logistic(-u) + e * logistic(u)), o->beta);
}

/* max(0, 1 - beta delta): the hinge on DPO's reward. At the kink the slope is 0, as torch's relu has it.
 */
void preference_hinge(const struct pair_scores *s, const struct preference_options *o,
                      struct pair_loss *out) {
    double gap = 1.0 - o->beta * (ratio_chosen(s) - ratio_rejected(s));
    from_margin(out, gap > 0 ? gap : 0.0, gap > 0 ? -1.0 : 0.0, o->beta);
}

/* (a/n_c - b/n_r - 1/(2 beta))^2: Azar et al. 2023, eq. 17, with the per-token means that its authors told
 * TRL's to use. */
void preference_ipo(const struct pair_scores *s, const struct preference_options *o, struct pair_loss *out) {
    double n_c = (double)s->chosen_tokens, n_r = (double)s->rejected_tokens;
    double gap = ratio_chosen(s) / n_c - ratio_rejected(s) / n_r - 1.0 / (2.0 * o->beta);
    *out = (struct pair_loss){gap * gap, 2.0 * gap / n_c, -2.0 * gap / n_r};
}

/* The same on sums, as the DPO authors' code has it. */
void preference_ipo_sum(const struct pair_scores *s, const struct preference_options *o,
                        struct pair_loss *out) {
    double gap = ratio_chosen(s) - ratio_rejected(s) - 1.0 / (2.0 * o->beta);
    *out = (struct pair_loss){gap * gap, 2.0 * gap, -2.0 * gap};
}

/* 1 - s(beta a) + s(beta b): raise chosen, lower rejected (D'Oosterlinck et al. 2024). */
void preference_apo_zero(const struct pair_scores *s, const struct preference_options *o,
                         struct pair_loss *out) {
    double u = o->beta * ratio_chosen(s), v = o->beta * ratio_rejected(s);
    *out = (struct pair_loss){logistic(-u) + logistic(v), -o->beta * logistic_slope(u),
                              o->beta * logistic_slope(v)};
}

/* s(beta a) + 1 - s(beta delta): lower both, rejected more. */
void preference_apo_down(const struct pair_scores *s, const struct preference_options *o,
                         struct pair_loss *out) {
    double u = o->beta * ratio_chosen(s), w = u - o->beta * ratio_rejected(s);
    double slope = o->beta * logistic_slope(w);
    *out = (struct pair_loss){logistic(u) + logistic(-w), o->beta * logistic_slope(u) - slope, slope};
}

/* -log s(beta (a/n_c - b/n_r)): DPO on per-token means. */
void preference_sigmoid_norm(const struct pair_scores *s, const struct preference_options *o,
                             struct pair_loss *out) {
    double n_c = (double)s->chosen_tokens, n_r = (double)s->rejected_tokens;
    double u = o->beta * (ratio_chosen(s) / n_c - ratio_rejected(s) / n_r);
    double slope = -o->beta * logistic(-u);
    *out = (struct pair_loss){softplus(-u), slope / n_c, -slope / n_r};
}

/* max(0, delta - log p(chosen) + log p(rejected)): Zhao et al. 2023, eq. 1 with its sum over sequences, whose
 * regulariser is SFT beside it. No reference. */
void preference_slic(const struct pair_scores *s, const struct preference_options *o, struct pair_loss *out) {
    double gap = o->margin - (s->chosen - s->rejected);
    from_margin(out, gap > 0 ? gap : 0.0, gap > 0 ? -1.0 : 0.0, 1);
}
