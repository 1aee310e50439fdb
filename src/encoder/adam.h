/* Adam (Kingma and Ba 2015) on one array of parameters in double, as PyTorch has it; a decay makes it AdamW.
 * Local. */
#ifndef COLLIMATE_ENCODER_ADAM_H
#define COLLIMATE_ENCODER_ADAM_H

#include <stdint.h>

#include "util/status.h"

struct adam_options {
    double learning_rate, epsilon, weight_decay;
};

struct adam {
    int64_t count;          /* parameters */
    double *first, *second; /* moments */
    int64_t step;           /* updates done */
};
enum status adam_open(int64_t count, struct adam *out);
void adam_close(struct adam *a);
/* An update from the gradients, which become 0. */
void adam_step(const struct adam_options *o, struct adam *a, double *parameters, double *gradients);

#endif
