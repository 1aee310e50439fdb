/* Two numbers of every row of a batch, sorted over all ranks, for terms of scope order. The same on every
 * rank and for every way of dealing the rows out. */
#ifndef COLLIMATE_EVALUATE_BATCH_ORDER_H
#define COLLIMATE_EVALUATE_BATCH_ORDER_H

#include "mpi/comm.h"

/* Zero-initialised; order_free at the end. */
struct order {
    double *pairs, *all, *sorted;
    int64_t n; /* of this rank's rows so far */
    int64_t cap_pairs, cap_all, cap_sorted;
};
/* Local. A row's two numbers. */
enum status order_add(struct order *o, const double pair[2]);
/* Collective, whatever happened on this rank: st. *out: the number of rows, the first numbers in ascending
 * order, the second likewise; owned by o until the next call. Forgets the rows. */
enum status order_gather(struct comm *c, struct order *o, enum status st, const double **out);
void order_free(struct order *o);

#endif
