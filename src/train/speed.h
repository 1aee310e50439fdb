/* What this device can do, measured: the denominator of model FLOP utilisation. */
#ifndef COLLIMATE_TRAIN_SPEED_H
#define COLLIMATE_TRAIN_SPEED_H

#include "backend/backend.h"

/* Local. FLOP/s of a square product in the compute type, about a tenth of a second of work. */
enum status speed_gemm(struct backend *b, double *flops_per_s);

#endif
