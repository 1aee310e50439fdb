/* Prompts with right and wrong choices under a language model: accuracies as lm-evaluation-harness defines
 * them, and MC1 and MC2 of TruthfulQA (Lin et al. 2022).
 *
 *   acc        the choice with the highest sum of log-probabilities is a right one
 *   acc_norm   the same with the sum by the choice's characters (Python's len, as the harness has it)
 *   acc_bytes  by its bytes in UTF-8
 *   mc1        the first right choice has a higher sum than every wrong one
 *   mc2        the right choices' share of the probability of all
 * Of equal choices the first one counts as the highest. A choice is what follows the space between prompt and
 * choice. */
#ifndef COLLIMATE_EVALUATE_CLOSED_SET_H
#define COLLIMATE_EVALUATE_CLOSED_SET_H

#include "data/rows.h"
#include "evaluate/ratios.h"
#include "score/scorer.h"

/* Local. Characters and bytes of a choice. */
typedef enum status closed_set_length(void *context, const struct sample_response *r, int64_t *characters,
                                      int64_t *bytes);

struct closed_set_options {
    struct comm *comm;
    struct model *model; /* a language model */
    uint64_t model_hash;
    struct workspace *workspace;       /* for its passes over the source's forests, KEEP_NOTHING */
    const struct rows *rows;           /* prompts with all their choices, */
    const struct batch_source *source; /* and how they are batched */
    closed_set_length *length;
    void *context;
    struct interval_options intervals;
};
/* Collective. Scores the rows and appends one object, by subset too. */
enum status closed_set_evaluate(const struct closed_set_options *o, struct text *out);

enum closed_value { CLOSED_ACC, CLOSED_NORM, CLOSED_BYTES, CLOSED_MC1, CLOSED_MC2, CLOSED_VALUES };
/* Local. A prompt's values. Of each of n choices: the sum of log-probabilities, characters, bytes, and
 * whether it is right; first: the right one that is named first. */
struct closed_prompt {
    int32_t n, first;
    const double *logp, *characters, *bytes;
    const bool *right;
};
void closed_set_values(const struct closed_prompt *p, double out[CLOSED_VALUES]);

#endif
