/* Time by collective, taken where each begins and ends. Where nobody asks no clock is read.
 *
 * A collective's time holds the wait for the last rank to come. Those of the line "buckets" run beside the
 * computation, on a thread of their own where there are more ranks than one. Sums that devices make among
 * themselves are not seen here.
 */
#ifndef COLLIMATE_MPI_COLLECTIVE_TIMES_H
#define COLLIMATE_MPI_COLLECTIVE_TIMES_H

#include "mpi/comm.h"

struct collective_time {
    const char *line, *kind; /* "world", "allreduce" */
    bool is_beside;          /* on another thread than the operations */
    int64_t calls;
    double seconds, bytes; /* bytes: nominal, what this rank would send in a ring or a tree */
};
enum { COLLECTIVE_TIMES = 32 };

/* Local. Counts from here on, also for bucket sums that are opened later. Fails: ERR_SYSTEM. */
enum status collective_times_start(struct comm *c);
/* Local, between collectives. How many rows there are: the same ones in the same order on every rank. */
int collective_times_read(const struct comm *c, struct collective_time out[COLLECTIVE_TIMES]);

#endif
