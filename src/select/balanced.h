/* A selection that covers the whole space: equal quotas over clusters, the rows nearest to each center first.
 *
 * Quotas fill like water: clusters that are too small give all they have, and what they lack is shared among
 * the others; what does not divide goes to the lowest clusters. Distances' ties fall to the lowest rows.
 */
#ifndef COLLIMATE_SELECT_BALANCED_H
#define COLLIMATE_SELECT_BALANCED_H

#include "mpi/comm.h"

/* Local. quota[k] <= sizes[k], sum count. Fails: ERR_USAGE if count exceeds the sizes' sum. */
enum status balanced_quotas(const int64_t *sizes, int64_t clusters, int64_t count, int64_t *quota);

/* This rank's rows after k-means. */
struct clustered {
    int64_t n, clusters;
    const int32_t *cluster;
    const float *distance; /* squared, to the own center */
    const bool *skip;      /* not to be taken */
};
/* Collective. Marks count rows over all ranks in taken (n), which is cleared first. quota (clusters): how
 * many of each cluster. */
enum status balanced_select(struct comm *c, const struct clustered *rows, int64_t count, bool *taken,
                            int64_t *quota);

#endif
