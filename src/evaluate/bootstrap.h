/* Bootstrap confidence intervals of ratios of sums over rows, without keeping the rows.
 *
 * The Poisson bootstrap: resample b counts row i Poisson(1) times, where the count is a function of (seed, i,
 * b), so ranks add up their rows' shares of every resample and nothing has to be gathered; exact sums, so
 * that the bits depend on no rank count. For many rows it is the multinomial bootstrap (Chamandy et al. 2012,
 * "Estimating uncertainty for massive data streams").
 */
#ifndef COLLIMATE_EVALUATE_BOOTSTRAP_H
#define COLLIMATE_EVALUATE_BOOTSTRAP_H

#include "mpi/exact.h"

struct bootstrap {
    uint64_t seed;
    int64_t samples;
    int values;             /* ratios */
    struct exact_sums sums; /* samples x values x 2: numerator, denominator */
    exact_units *row;       /* scratch: the same of one row, values x 2 */
};
/* Local. samples 0: nothing is kept and all intervals are NaN. */
enum status bootstrap_open(uint64_t seed, int64_t samples, int values, struct bootstrap *out);
void bootstrap_close(struct bootstrap *b);
/* Local. A row's numerators and denominators (values each). */
void bootstrap_add(struct bootstrap *b, int64_t row, const double *numerators, const double *denominators);
/* Collective. low, high (values each): percentiles at `confidence`. */
enum status bootstrap_intervals(struct comm *c, struct bootstrap *b, double confidence, double *low,
                                double *high);

#endif
