/* What a training goes on from: its arena's values, its optimizer's states, and where it stands. */
#ifndef COLLIMATE_TRAIN_TRAINING_STATE_H
#define COLLIMATE_TRAIN_TRAINING_STATE_H

#include "store/checkpoint.h"
#include "train/optimizer.h"

struct training_state {
    int64_t step;            /* updates done */
    int64_t total;           /* of the run that wrote it */
    double sequence_tokens;  /* seen so far */
    struct arena *reference; /* that follows the policy; NULL: none does */
    double *memory;          /* numbers that the source goes on from; borrowed */
    int n_memory;
};
/* Collective. As checkpoint_save(). */
enum status training_state_save(struct comm *c, const struct checkpoint_options *o,
                                const struct optimizer *optimizer, const struct training_state *state);
/* Collective. As checkpoint_load(), into the optimizer and its arena. */
enum status training_state_load(struct comm *c, const struct checkpoint_options *o,
                                struct optimizer *optimizer, struct training_state *state, bool *found);

#endif
