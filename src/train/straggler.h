/* Which rank keeps the others waiting at the gradient sum, how often, by how much.
 *
 * A rank's arrival is the time from the end of the last collective, which all ranks leave together, to the
 * moment when all that is left of its step is to wait for the gradient sum: no clocks of different hosts are
 * compared. The last arrival minus a rank's own is what it waits for the slowest rank; what it waits beyond
 * that is communication.
 */
#ifndef COLLIMATE_TRAIN_STRAGGLER_H
#define COLLIMATE_TRAIN_STRAGGLER_H

#include "mpi/comm.h"

/* What a rank has cost the others while it was the last. */
struct lateness {
    int64_t times; /* steps in which it came last */
    double total_s, worst_s;
    int64_t worst_step;
};

struct stragglers {
    int size;
    int64_t steps;
    double waited_s;        /* over all steps, mean over ranks */
    double elapsed_s;       /* of these steps; the loop adds it */
    char (*hosts)[64];      /* by rank */
    struct lateness *ranks; /* by rank */
};

/* A step's outcome. */
struct straggler {
    int rank;           /* who came last */
    double late_s;      /* what the other ranks waited for it, their mean */
    double mean_wait_s; /* the same over all ranks, the last one included */
    double most_wait_s; /* the first one's */
    double imbalance;   /* the last arrival over the mean arrival; 1 where all come together */
};

/* Collective. */
enum status stragglers_open(struct comm *c, struct stragglers *out);
void stragglers_close(struct stragglers *s);
/* Local. arrivals_s[size]: the same on all ranks, and so is the outcome. Of ranks that arrive together the
 * lowest counts as the last. */
struct straggler stragglers_add(struct stragglers *s, const double *arrivals_s, int64_t step);
/* Local. One line in the log: the (at most three) ranks that cost most.
 * Nothing where there is one rank or no step. */
void stragglers_report(const struct stragglers *s);

#endif
