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
/* Its halves, on a unit of n elements cut into shares of `width` (n at most size x width): afterwards this
 * rank's share, number share_of(rank, size), is summed; or, from there, every share is right everywhere. */
enum status lane_reduce_shares(struct lane *l, void *values, int64_t n, int64_t width, int element_bytes,
                               void *scratch);
enum status lane_gather_shares(struct lane *l, void *values, int64_t n, int64_t width, int element_bytes);
/* Which share of a unit a rank holds: its bits reversed where size is a power of two, else its number. */
int share_of(int rank, int size);

#endif
