#include "objective/reward_loss.h"

#include <math.h>

#include "objective/logistic.h"

void reward_loss(double chosen, double rejected, double margin, const struct reward_options *o,
                 struct reward_loss *out) {
    double gap = chosen - rejected - (o->use_margin && !isnan(margin) ? margin : 0);
    double sum = chosen + rejected;
    double slope = -logistic(-gap);
    *out = (struct reward_loss){
        .value = softplus(-gap) + o->centering * sum * sum,
        .d_chosen = slope + 2 * o->centering * sum,
        .d_rejected = -slope + 2 * o->centering * sum,
    };
}

enum status reward_check(const struct reward_options *o) {
    return o->centering >= 0 && isfinite(o->centering)
               ? OK
               : fail(ERR_USAGE, "centering is %g; it must be 0 or a positive number", o->centering);
}
