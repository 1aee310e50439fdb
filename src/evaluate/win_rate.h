/* Who won how often: verdicts counted by pairs of systems. */
#ifndef COLLIMATE_EVALUATE_WIN_RATE_H
#define COLLIMATE_EVALUATE_WIN_RATE_H

#include "evaluate/length_control.h"
#include "evaluate/ratios.h"
#include "evaluate/verdicts.h"

struct win_rate_options {
    struct comm *comm;
    struct interval_options intervals;
    /* Of the judge: how often it prefers the second where it is the better one, and the first where that is.
     * 1 and 1: what it says is taken as it is. */
    double sensitivity, specificity;
    const struct gamed *gamed; /* NULL: none */
};
/* Collective; verdicts are rank 0's, others give none. Appends , "pairs": [{"a", "b", "verdicts", "wins",
 * "ties", "losses", "win_rate", "interval", …}] and , "ratings": {…}. Wins are of b, the system that appeared
 * later, over a; the win rate counts ties half. Where a pair was judged in both orders: how often the same
 * answer won, and how often the first place did. A rate corrected for the judge is (q + specificity - 1) /
 * (sensitivity + specificity - 1) (Rogan and Gladen 1978), within [0, 1]. */
enum status win_rate_print(const struct win_rate_options *o, const struct verdicts *v, struct text *out);

#endif
