/* What the training of a few-shot model goes on from after its process has died: parameters, Adam's state,
 * batch norm's statistics and the sequence of users, all in full precision, so that the numbers are those of
 * an undisturbed run.
 */
#ifndef COLLIMATE_TRAIN_NP_STATE_H
#define COLLIMATE_TRAIN_NP_STATE_H

#include "train/np_train.h"

/* What must be the same: everything that the numbers depend on but the count of updates. */
uint64_t np_state_key(const struct np_trainer *t);
/* Local: one rank writes. Replaces the file atomically. Fails: ERR_WRITE. */
enum status np_state_save(const struct np_trainer *t, const char *path);
/* Collective: rank 0 reads for all. No file: nothing changes. Fails: ERR_USAGE for the state of other
 * settings or data; ERR_DATA for a damaged file. */
enum status np_state_load(struct np_trainer *t, const char *path);

#endif
