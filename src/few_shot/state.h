/* Checkpoints of a few-shot model's training (checkpoint.h): parameters, Adam's state, batch norm's
 * statistics and the sequence of users, all in full precision, so that a run that goes on has the numbers of
 * an undisturbed one.
 */
#ifndef COLLIMATE_FEW_SHOT_STATE_H
#define COLLIMATE_FEW_SHOT_STATE_H

#include "few_shot/train.h"
#include "store/checkpoint.h"

/* Collective. Writes run/checkpoints/step-N.h5 and keeps the newest `keep`. Fails: ERR_WRITE. */
enum status few_shot_state_save(const struct few_shot_trainer *t, const struct checkpoint_options *o);
/* Collective. Loads the newest checkpoint of the run, if there is one; t->adam.step says which. Fails as
 * checkpoint_load does. */
enum status few_shot_state_load(struct few_shot_trainer *t, const struct checkpoint_options *o);

#endif
