/* Losses on pairs of sequence log-probabilities: DPO and its kin. Pure arithmetic in double.
 *
 * a = log p(chosen) - log p_ref(chosen), b likewise for rejected, delta = a - b (Rafailov et al. 2023). Every
 * loss gives its value and its derivatives by the two policy log-probabilities; all forms are stable at
 * margins of +-1e4.
 */
#ifndef COLLIMATE_OBJECTIVE_PREFERENCE_H
#define COLLIMATE_OBJECTIVE_PREFERENCE_H

#include <stdbool.h>
#include <stdint.h>

#include "objective/divergence.h"

struct pair_scores {
    double chosen, rejected;                     /* policy: sums of token log-probabilities */
    double reference_chosen, reference_rejected; /* 0 where reference-free */
    int64_t chosen_tokens, rejected_tokens;      /* scored tokens, at least 1 */
};
struct preference_options {
    double beta, label_smoothing;
    double margin;     /* delta of slic */
    double gamma;      /* by how much simpo wants the mean rewards apart */
    double tau;        /* of discopop, at most 1: how sharply it turns from one loss to the other */
    double beta_scale; /* of beta_dpo: how far a pair's beta follows its log-ratio */
    double desirable_weight, undesirable_weight; /* of kto and apo_zero_unpaired */
    bool weighting;               /* pairs count by how likely the policy is to write them (WPO) */
    double tdpo_alpha;            /* of tdpo2: how much the difference of divergences counts */
    double tail_discount;         /* 1 - ld_alpha: by how much tokens past the shorter response count less */
    struct divergence divergence; /* of the losses that take one */
};
struct pair_loss {
    double value, d_chosen, d_rejected;
};
typedef void preference_loss(const struct pair_scores *s, const struct preference_options *o,
                             struct pair_loss *out);

/* log odds(chosen) - log odds(rejected) of means over tokens: what orpo looks at. */
double preference_log_odds(const struct pair_scores *s);

/* One function a row of the table (objective.c); they check no options. */
preference_loss preference_sigmoid, preference_ipo, preference_ipo_sum, preference_hinge, preference_robust,
    preference_apo_zero, preference_apo_down, preference_sigmoid_norm, preference_slic, preference_exo_pair,
    preference_nca_pair, preference_bco_pair, preference_sppo_hard, preference_discopop, preference_cpo,
    preference_simpo, preference_orpo;

#endif
