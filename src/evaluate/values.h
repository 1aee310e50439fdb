/* What `evaluate` says of a reward model. */
#ifndef COLLIMATE_EVALUATE_VALUES_H
#define COLLIMATE_EVALUATE_VALUES_H

#include "data/rows.h"
#include "evaluate/ratios.h"
#include "score/scorer.h"

struct values_options {
    struct comm *comm;
    struct model *model; /* with a score head */
    uint64_t model_hash;
    struct workspace *workspace;       /* for its passes over the source's forests, KEEP_NOTHING */
    const struct rows *rows;           /* prompts with all their responses, */
    const struct batch_source *source; /* and how they are batched */
    struct reward_options reward;
    double
        label_margin; /* of rewards, from which on a model would label instead of annotators; 0: not said */
    struct interval_options intervals;
};
/* Collective. Scores the rows and appends one object: loss, accuracy and margin over pairs, accuracy by
 * length, by difference of length, by gap of scores and by subset, the score of the best of k responses by
 * the model's choice, all with bootstrap intervals over prompts. */
enum status values_evaluate(const struct values_options *o, struct text *out);

#endif
