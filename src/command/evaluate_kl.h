/* KL(model || reference) over the whole vocabulary at each position of responses: of the file's, and of ones
 * drawn from the model. */
#ifndef COLLIMATE_COMMAND_EVALUATE_KL_H
#define COLLIMATE_COMMAND_EVALUATE_KL_H

#include "command/session.h"
#include "evaluate/ratios.h"

/* Collective. Appends `, "kl_given": {"1": {"kl": mean, "responses": n, "interval": […]}, …}`, with
 * evaluate.kl_samples "kl_sampled" too, and a table to the log. Prompts are the units. */
enum status evaluate_kl(struct session *s, const struct interval_options *intervals, struct text *out);

#endif
