/* The oracle: every operation of backend.h written straight from its formula, in double precision.
 *
 * Master, compute and readout types are all F64; loops are naive, nothing is tiled, nothing recomputed from a
 * forward pass's saved statistics where the inputs themselves are at hand. The numerics tests compare every
 * back end with it, and gradients (of operations and of whole models) are checked by finite differences on
 * it. It shares no code with the kernels.
 */
#ifndef COLLIMATE_TESTS_REFERENCE_BACKEND_H
#define COLLIMATE_TESTS_REFERENCE_BACKEND_H

#include "backend/backend.h"

/* Local. Fresh memory is filled with NaN. The caller ends it with backend_close(). */
enum status reference_open(struct backend **out);

#endif
