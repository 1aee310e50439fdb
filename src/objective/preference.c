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

/* KL(p || q) of p = (s(u), s(-u)), u = beta delta, from q = (1 - e, e): Ji et al. 2024 (EXO), eq. 16 with two
 * responses. */
void preference_exo_pair(const struct pair_scores *s, const struct preference_options *o,
                         struct pair_loss *out) {
    double u = o->beta * (ratio_chosen(s) - ratio_rejected(s)), e = o->label_smoothing;
    double wins = -softplus(-u) - log1p(-e), loses = -softplus(u) - log(e);
    from_margin(out, logistic(u) * wins + logistic(-u) * loses, logistic_slope(u) * (wins - loses), o->beta);
}

/* -log s(beta a) - (log s(-beta a) + log s(-beta b)) / 2: Chen et al. 2024 (NCA), with the pair as the batch.
 */
void preference_nca_pair(const struct pair_scores *s, const struct preference_options *o,
                         struct pair_loss *out) {
    double u = o->beta * ratio_chosen(s), v = o->beta * ratio_rejected(s);
    *out = (struct pair_loss){softplus(-u) + (softplus(u) + softplus(v)) / 2,
                              o->beta * (logistic(u) / 2 - logistic(-u)), o->beta * logistic(v) / 2};
}

/* -log s(beta a) - log s(-beta b): Jung et al. 2024 (BCO) without its shift, as in TRL's DPO trainer. */
void preference_bco_pair(const struct pair_scores *s, const struct preference_options *o,
                         struct pair_loss *out) {
    double u = o->beta * ratio_chosen(s), v = o->beta * ratio_rejected(s);
    *out = (struct pair_loss){softplus(-u) + softplus(v), -o->beta * logistic(-u), o->beta * logistic(v)};
}

/* (a - 1/(2 beta))^2 + (b + 1/(2 beta))^2: Wu et al. 2024 (SPPO), eq. 4.7 with the chosen winning for sure.
 */
void preference_sppo_hard(const struct pair_scores *s, const struct preference_options *o,
                          struct pair_loss *out) {
    double u = ratio_chosen(s) - 1 / (2 * o->beta), v = ratio_rejected(s) + 1 / (2 * o->beta);
    *out = (struct pair_loss){u * u + v * v, 2 * u, 2 * v};
}

/* m e^-u - (1 - m) log s(u), m = s(u / tau), u = beta delta: Lu et al. 2024 (DiscoPOP), eq. 5. The product of
 * m and the exponential is one exponential, so that a lost pair does not make 0 times infinity. */
void preference_discopop(const struct pair_scores *s, const struct preference_options *o,
                         struct pair_loss *out) {
    double u = o->beta * (ratio_chosen(s) - ratio_rejected(s)), x = u / o->tau;
    double exponential = exp(-u - softplus(-x)), rest = logistic(-x);
    double slope = exponential * (logistic(-x) / o->tau - 1) - rest * logistic(-u) -
                   logistic_slope(x) / o->tau * softplus(-u);
    from_margin(out, rest * softplus(-u) + exponential, slope, o->beta);
}

/* DPO's loss, smoothing included, at u of the policy alone. */
static double smooth_loss(double u, double e, double *slope) {
    *slope = e * logistic(u) - (1 - e) * logistic(-u);
    return (1 - e) * softplus(-u) + e * softplus(u);
}

/* -log s(beta (log p(chosen) - log p(rejected))): Xu et al. 2024 (CPO), eq. 3, whose other half is SFT beside
 * it. No reference. */
void preference_cpo(const struct pair_scores *s, const struct preference_options *o, struct pair_loss *out) {
    double slope;
    double value = smooth_loss(o->beta * (s->chosen - s->rejected), o->label_smoothing, &slope);
    from_margin(out, value, slope, o->beta);
}

/* -log s(beta (c - r) - gamma), c and r the means over tokens of log p: Meng et al. 2024 (SimPO), eq. 6. No
 * reference. */
void preference_simpo(const struct pair_scores *s, const struct preference_options *o,
                      struct pair_loss *out) {
    double n_c = (double)s->chosen_tokens, n_r = (double)s->rejected_tokens, slope;
    double u = o->beta * (s->chosen / n_c - s->rejected / n_r - o->gamma / o->beta);
    double value = smooth_loss(u, o->label_smoothing, &slope);
    *out = (struct pair_loss){value, o->beta * slope / n_c, -o->beta * slope / n_r};
}

/* log(p / (1 - p)) of a mean log p below 0, by which a rounded 0 stands as well. */
static double log_odds(double mean, double *slope) {
    double x = fmin(mean, -1e-12);
    *slope = -1 / expm1(x);
    return x - log(-expm1(x));
}

double preference_log_odds(const struct pair_scores *s) {
    double unread;
    return log_odds(s->chosen / (double)s->chosen_tokens, &unread) -
           log_odds(s->rejected / (double)s->rejected_tokens, &unread);
}

/* -beta log s(log odds(chosen) - log odds(rejected)) of means over tokens: Hong et al. 2024 (ORPO), eq. 6 and
 * 7, whose other half is SFT beside it. No reference. */
void preference_orpo(const struct pair_scores *s, const struct preference_options *o, struct pair_loss *out) {
    double n_c = (double)s->chosen_tokens, n_r = (double)s->rejected_tokens, by_chosen, by_rejected;
    double u = log_odds(s->chosen / n_c, &by_chosen) - log_odds(s->rejected / n_r, &by_rejected);
    double slope = -o->beta * logistic(-u);
    *out = (struct pair_loss){o->beta * softplus(-u), slope * by_chosen / n_c, -slope * by_rejected / n_r};
}
