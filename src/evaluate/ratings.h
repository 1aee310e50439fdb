/* Bradley-Terry ratings of several systems from verdicts on pairs of their answers.
 *
 * P(i beats j) = 1 / (1 + 10^((r_j - r_i) / 400)), a tie is half a win for both; maximum likelihood by the
 * minorize-maximize iteration of Hunter (2004), "MM algorithms for generalized Bradley-Terry models"; the
 * mean rating is 1000.
 */
#ifndef COLLIMATE_EVALUATE_RATINGS_H
#define COLLIMATE_EVALUATE_RATINGS_H

#include "evaluate/ratios.h"
#include "evaluate/verdicts.h"

struct rating {
    double value, low, high; /* NaN where the verdicts give no finite rating: all won, or all lost */
};
/* Local. out (v->n_systems). Intervals: percentiles over options->samples Poisson resamples of prompts; those
 * without finite ratings are left out. */
enum status ratings_fit(const struct verdicts *v, const struct interval_options *options, struct rating *out);

#endif
