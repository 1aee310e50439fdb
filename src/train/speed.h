/* What this device can do, measured: the denominator of model FLOP utilisation. */
#ifndef COLLIMATE_TRAIN_SPEED_H
#define COLLIMATE_TRAIN_SPEED_H

#include "backend/backend.h"

/* Long enough where nothing but mfu depends on it, and where a figure is reported. */
#define SPEED_BRIEF_S 0.03
#define SPEED_USUAL_S 0.1

/* Local. FLOP/s of a square product in the compute type, over about so many seconds. */
enum status speed_gemm(struct backend *b, double seconds, double *flops_per_s);

#endif
