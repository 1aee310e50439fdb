/* Losses on pairs of sequence log-probabilities: DPO and its kin. Pure arithmetic in double.
 *
 * a = log p(chosen) - log p_ref(chosen), b likewise for rejected, delta = a - b (Rafailov et al. 2023). Every
 * loss gives its value and its derivatives by the two policy log-probabilities; all forms are stable at
 * margins of +-1e4.
 */
#ifndef COLLIMATE_OBJECTIVE_PREFERENCE_H
#define COLLIMATE_OBJECTIVE_PREFERENCE_H

#include <stdint.h>

#include "util/status.h"

struct pair_scores {
    double chosen, rejected;                     /* policy: sums of token log-probabilities */
    double reference_chosen, reference_rejected; /* 0 where reference-free */
    int64_t chosen_tokens, rejected_tokens;      /* scored tokens, at least 1 */
};
struct preference_options {
    double beta, label_smoothing;
};
struct pair_loss {
    double value, d_chosen, d_rejected;
};

/* A row of the table. */
struct preference_objective {
    const char *name, *aliases, *help; /* aliases: words with spaces between */
    bool uses_smoothing;               /* dpo.label_smoothing is an error elsewhere */
    void (*loss)(const struct pair_scores *s, const struct preference_options *o, struct pair_loss *out);
};
/* NULL if unknown. Takes names and aliases. */
const struct preference_objective *preference_find(const char *name);
/* All rows, for help and tests. */
const struct preference_objective *preference_table(int *count);
/* Fails: ERR_USAGE for a beta or a label smoothing that this loss cannot take. Called once before training;
 * the losses themselves check nothing. */
enum status preference_check(const struct preference_objective *p, const struct preference_options *o);

#endif
