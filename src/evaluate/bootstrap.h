/* Confidence intervals of ratios of sums over units (prompts with all that belongs to them), without keeping
 * the units.
 *
 * The Poisson bootstrap: resample b counts unit i Poisson(1) times, where the count is a function of (seed,
 * i, b). So ranks add up their shares of every resample and nothing has to be gathered, whoever has which
 * part of a unit; exact sums, so that the bits depend on no rank count (Chamandy et al. 2012, "Estimating
 * uncertainty for massive data streams").
 *
 * The resamples give the variance of the ratio R = N/D with units as clusters, from N* - R D*, and how many
 * units of equal weight there are, m = D^2 / var D*. Percentiles of resamples are too narrow for few units;
 * instead:
 * - R - s g(+-t), with Student's t of m - 1 degrees of freedom, s^2 the variance times m / (m - 1), and g the
 * inverse of Hall's cubic transformation, by which units that lie askew (losses) are as if they did not: with
 * the skewness c of N* - R D*, g(q) = 3 / c ((1 + c (q - c / 6))^(1/3) - 1), which is q for c = 0 (Hall 1992,
 * "On the removal of skewness by transformation");
 * - for shares Wilson's interval, whose number of trials is R (1 - R) / variance, at most D, corrected for
 * the degrees of freedom (Korn and Graubard 1998, "Confidence intervals for proportions with small expected
 *   number of positive counts estimated from survey data"); m trials where the share is 0 or 1.
 */
#ifndef COLLIMATE_EVALUATE_BOOTSTRAP_H
#define COLLIMATE_EVALUATE_BOOTSTRAP_H

#include "mpi/exact.h"
#include "util/rng.h"

/* How often a resample takes a unit: Poisson(1) by inversion. at[k] is where the chance of at most k ends, of
 * the 2^53 values that a uniform number has; beyond the last lies less than one of them. */
enum { POISSON_MOST = 20 };
struct poisson {
    uint64_t at[POISSON_MOST];
};
void poisson_open(struct poisson *out);
/* Local. Takes one number from rng. */
int poisson_draw(const struct poisson *p, struct rng *rng);

struct bootstrap {
    uint64_t seed;
    int64_t samples;
    int values;             /* ratios */
    struct exact_sums sums; /* samples x values x 2: numerator, denominator */
    exact_units *row;       /* scratch: the same of one unit's part, values x 2 */
};
/* Local. samples 0: nothing is kept and all intervals are NaN. */
enum status bootstrap_open(uint64_t seed, int64_t samples, int values, struct bootstrap *out);
void bootstrap_close(struct bootstrap *b);
/* Local. Numerators and denominators (values each) of a unit, or of a part of it. */
void bootstrap_add(struct bootstrap *b, int64_t unit, const double *numerators, const double *denominators);
/* Collective. totals (values x 2): sums over all units, by turns; shares (values): which ratios are shares of
 * the denominator. low, high (values): ends of the intervals, NaN where there are fewer than two units. */
enum status bootstrap_intervals(struct comm *c, struct bootstrap *b, double confidence, const double *totals,
                                const bool *shares, double *low, double *high);

#endif
