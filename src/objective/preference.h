/* Losses on pairs of sequence log-probabilities: DPO and its kin. Pure arithmetic in double.
 *
 * a = log p(chosen) - log p_ref(chosen), b likewise for rejected, delta = a - b (Rafailov et al. 2023). Every
 * loss gives its value and its derivatives by the two policy log-probabilities; all forms are stable at
 * margins of +-1e4.
 */
#ifndef COLLIMATE_OBJECTIVE_PREFERENCE_H
#define COLLIMATE_OBJECTIVE_PREFERENCE_H

#include <stdint.h>

struct pair_scores {
    double chosen, rejected;                     /* policy: sums of token log-probabilities */
    double reference_chosen, reference_rejected; /* 0 where reference-free */
    int64_t chosen_tokens, rejected_tokens;      /* scored tokens, at least 1 */
};
struct preference_options {
    double beta, label_smoothing;
    double margin; /* delta of slic */
};
struct pair_loss {
    double value, d_chosen, d_rejected;
};
typedef void preference_loss(const struct pair_scores *s, const struct preference_options *o,
                             struct pair_loss *out);

/* One function a row of the table (objective.c); they check no options. */
preference_loss preference_sigmoid, preference_ipo, preference_ipo_sum, preference_hinge, preference_robust,
    preference_apo_zero, preference_apo_down, preference_sigmoid_norm, preference_slic;

#endif
