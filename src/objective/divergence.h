/* Which divergence holds the policy near the reference: f-DPO. Pure arithmetic in double.
 *
 * DPO's reward is beta f'(t) of the ratio t of policy to reference, plus what cancels in the difference of a
 * pair (Wang et al. 2023, eq. 8). With the reverse KL f'(t) is log t: DPO as it was.
 */
#ifndef COLLIMATE_OBJECTIVE_DIVERGENCE_H
#define COLLIMATE_OBJECTIVE_DIVERGENCE_H

#include "util/status.h"

struct divergence {
    enum { REVERSE_KL, FORWARD_KL, JENSEN_SHANNON, ALPHA_DIVERGENCE } kind;
    double alpha; /* of the last */
};

/* Local. "reverse_kl", "forward_kl", "js", "alpha:0.5". Fails: ERR_USAGE. */
enum status divergence_parse(const char *text, struct divergence *out);

/* f'(e^ratio); *slope: its derivative by the ratio. Exponents end at 80, past which the score is flat, as in
 * TRL's alpha divergence: e^80 is what a float still holds. */
double divergence_score(const struct divergence *d, double ratio, double *slope);

#endif
