/* Whether a policy begins where it has to: at its reference. */
#ifndef COLLIMATE_TRAIN_START_H
#define COLLIMATE_TRAIN_START_H

#include "objective/objective.h"

/* Local. The sums of the first step of a policy that is its reference: every log-ratio is 0, and the loss log
 * 2 where it is the logistic one. A mean log-probability may be off by what reference_check() allows: 1e-3 +
 * 1e-5 of it, or is_coarse (bf16) 0.5 + 1e-2 of it. Fails: ERR_DATA saying by how much. */
enum status start_check(const struct sums *s, double beta, bool is_coarse);

#endif
