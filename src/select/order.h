/* Order statistics of numbers that are spread over the ranks. No rank holds all of them: a radix search over
 * summed histograms, 16 bits at a time.
 */
#ifndef COLLIMATE_SELECT_ORDER_H
#define COLLIMATE_SELECT_ORDER_H

#include "mpi/comm.h"

/* Local. An unsigned key in the order of the doubles (-0 and 0 are equal), and back. */
uint64_t order_key(double value);
double order_value(uint64_t key);

/* Collective. The count-th lowest key (from 1) over all ranks, and how many keys are below it. skip (may be
 * NULL): keys that do not count. */
struct order_keys {
    const uint64_t *keys;
    const bool *skip;
    int64_t n;
};
enum status order_statistic(struct comm *c, const struct order_keys *of, int64_t count, uint64_t *key,
                            int64_t *below);
/* Collective. The q-quantile of all ranks' keys, linear between order statistics as numpy.quantile. total:
 * how many keys count over all ranks, at least 1. */
enum status order_quantile(struct comm *c, const struct order_keys *of, int64_t total, double q, double *out);

#endif
