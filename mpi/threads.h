/* How many threads a rank takes. */
#ifndef COLLIMATE_MPI_THREADS_H
#define COLLIMATE_MPI_THREADS_H

#include "mpi/comm.h"

/* Local. What is wanted, where that is above 0; else OMP_NUM_THREADS; else the affinity mask, shared among
 * the ranks of the node where the mask is the whole machine. At least 1. */
int threads_of_rank(const struct comm *c, int64_t wanted);

#endif
