/* Losses of reward models on pairs of values (Bradley and Terry 1952). Pure arithmetic in double.
 *
 *   loss = -log s(r_c - r_r - margin) + centering (r_c + r_r)^2
 *
 * The margin says how much better the chosen response is (Touvron et al. 2023, eq. 2); the second term keeps
 * values near zero, which the first one leaves free (Eisenstein et al. 2023). A prompt with several compared
 * responses counts once: its loss is the mean over its pairs (Ouyang et al. 2022, eq. 1), so that responses,
 * which stand in many pairs, do not weigh more for that.
 */
#ifndef COLLIMATE_OBJECTIVE_REWARD_LOSS_H
#define COLLIMATE_OBJECTIVE_REWARD_LOSS_H

#include <stdbool.h>

#include "util/status.h"

struct reward_options {
    bool use_margin;
    double centering; /* 0: no such term */
};
struct reward_loss {
    double value, d_chosen, d_rejected;
};
/* margin: NaN for none. */
void reward_loss(double chosen, double rejected, double margin, const struct reward_options *o,
                 struct reward_loss *out);
/* Fails: ERR_USAGE for a centering that is not a number from 0 on. */
enum status reward_check(const struct reward_options *o);

#endif
