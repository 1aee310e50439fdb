/* Losses on the ranked responses of one prompt. Pure arithmetic in double.
 *
 * What ranks two responses is the data's scores (labels) where at least two responses of the row have one,
 * and otherwise the row's pairs. Equal scores rank nothing.
 */
#ifndef COLLIMATE_OBJECTIVE_LISTWISE_H
#define COLLIMATE_OBJECTIVE_LISTWISE_H

#include "objective/objective.h"

/* Walks the ranked pairs of a row: zero-initialised, then until false. */
struct ranked {
    int32_t better, worse; /* places in the row */
    int64_t next;          /* where to look on */
};
bool listwise_next(const struct scored_row *row, struct ranked *at);

/* log p / tokens: what responses of a list are compared by. */
double listwise_score(const struct response_score *r);

/* sum over ranked pairs of max(0, s_worse - s_better), s = log p / tokens: Yuan et al. 2023 (RRHF), eq. 2. At
 * the kink the slope is 0. */
objective_loss listwise_rrhf;

/* Each response that is better than any, against all that are worse:
 *     sum over t of -log(e^(c_t) / (e^(c_t) + sum over j worse than t of e^(c_j))).
 * Over a strict order that is Plackett and Luce's likelihood of it; equal scores do not compete.
 *
 * pro: c_j = s_j (R_t - R_j), s = log p / tokens, and c_t with the widest of these gaps (1 each where pairs
 * rank): Song et al. 2023 (PRO), eq. 8. No reference.
 * bt_list: c = beta (log p - log p_ref): Rafailov et al. 2023, eq. 20. */
objective_loss listwise_pro, listwise_bt;

#endif
