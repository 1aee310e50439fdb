/* What `evaluate` says of a reward model. */
#ifndef COLLIMATE_EVALUATE_VALUES_H
#define COLLIMATE_EVALUATE_VALUES_H

#include "command/session.h"

/* Collective. Opens settings->data as prompts with all their responses, scores them and appends one object:
 * loss, accuracy and margin over pairs, accuracy by length, by difference of length, by gap of scores and by
 * subset, the score of the best of k responses by the model's choice, all with bootstrap intervals over
 * prompts. s has its model open. Nothing is appended in a dry run. */
enum status evaluate_reward(struct session *s, struct text *out);

#endif
