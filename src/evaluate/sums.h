/* Sums over slots and ranks of what every number shown to a user comes from: added up as they come, or in
 * deterministic mode in the fixed tree whose leaves are the slots (between ranks mpi/sum.h goes on with it).
 */
#ifndef COLLIMATE_EVALUATE_SUMS_H
#define COLLIMATE_EVALUATE_SUMS_H

#include "mpi/comm.h"
#include "objective/objective.h"

enum { SUMS_LEVELS = 21 }; /* log2 of the most slots, + 1 */

/* Push slot by slot, then reduce. */
struct sums_tree {
    bool deterministic;
    int64_t pushed;
    struct sums level[SUMS_LEVELS];
    struct sums total; /* after the last push: this rank's */
};
/* Local. to += from. */
void sums_add(struct sums *to, const struct sums *from);
void sums_tree_begin(struct sums_tree *t, bool deterministic);
void sums_tree_push(struct sums_tree *t, const struct sums *slot);
/* Collective. lowest, highest and drift over all ranks, from each rank's own sums (before they are reduced).
 */
enum status sums_extremes(struct comm *c, struct sums *s);
/* Collective. n doubles summed over ranks: in the fixed tree, or by the library. */
enum status sums_reduce(struct comm *c, bool deterministic, double *values, int64_t n);

#endif
