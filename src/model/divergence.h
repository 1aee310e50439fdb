/* A readout of two models: KL(reference || policy) of their next-token distributions, over the whole
 * vocabulary. */
#ifndef COLLIMATE_MODEL_DIVERGENCE_H
#define COLLIMATE_MODEL_DIVERGENCE_H

#include "model/model.h"

/* Local. Of each of the readouts of both passes' last forest, which is the same one, after pass_logps of
 * both; both passes keep activations. out: host, n_readouts. reference is borrowed until policy's backward,
 * whose gradients may then have `divergence`. Never more than some rows' logits are held. */
enum status pass_divergence(struct pass *policy, struct pass *reference, double *out);

#endif
