/* The sums behind sum.h on any lane: for the buckets, the tests and the benchmark. */
#ifndef COLLIMATE_MPI_SUM_INTERNAL_H
#define COLLIMATE_MPI_SUM_INTERNAL_H

#include "mpi/comm_internal.h"
#include "mpi/sum.h"

/* Two chunks under way, that stay in the second-level cache until they are added. */
enum { SUM_SCRATCH_BYTES = 512 * 1024 };

/* Collective over the lane, whose size is a power of two. In place; element_bytes SUM_F32 or SUM_F64;
 * scratch: min(n elements, SUM_SCRATCH_BYTES). */
enum status lane_sum_tree(struct lane *l, void *values, int64_t n, int element_bytes, void *scratch);
bool is_power_of_two(int n);

#endif
