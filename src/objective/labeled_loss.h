/* Losses on single responses that are desirable or not. Pure arithmetic in double. */
#ifndef COLLIMATE_OBJECTIVE_LABELED_LOSS_H
#define COLLIMATE_OBJECTIVE_LABELED_LOSS_H

#include "objective/objective.h"

/* w_d (1 - s(beta (r - kl))) of a desirable response, w_u (1 - s(beta (kl - r))) of another: Ethayarajh et
 * al. 2024 (KTO), eq. 7. kl is the mean log-ratio of the rows' second responses, which belong to other
 * prompts, over the batch of all ranks, at least 0, and held (TRL: over each device's rows, then over
 * devices). */
objective_gathers labeled_gather_kto;
objective_loss labeled_kto;
/* The same without a zero of the batch's: D'Oosterlinck et al. 2024 (APO), eq. 7, on single responses. */
objective_loss labeled_apo_zero;
/* What was compared with: 0 where nothing is gathered. */
double labeled_kl(const double *gathered);

#endif
