/* Which kind of products the CPU back end takes with bf16 (cpu.products), the same on every rank. */
#ifndef COLLIMATE_COMMAND_PRODUCTS_H
#define COLLIMATE_COMMAND_PRODUCTS_H

#include "backend/backend.h"
#include "mpi/comm.h"

/* Collective. For cpu.products=auto: the fastest of PRODUCTS_FP32 and PRODUCTS_AVX512 by a short measurement
 * on every rank, of which the slowest rank's counts; one that a rank does not have is not taken, and AMX
 * never is. Fails: ERR_USAGE where a training is to be deterministic and there is a choice. */
enum status products_choose(struct comm *c, const struct backend_request *request, bool is_deterministic,
                            const char **out);

#endif
