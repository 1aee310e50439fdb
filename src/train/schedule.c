/* Learning rate multipliers (SPEC 1.5): PyTorch's LambdaLR sees update s before it is done, from 0. */
#include <math.h>

#include "train/optimizer.h"

static double at_most_one(double x) {
    return x < 1 ? x : 1;
}

/* Share of the way from the end of warm-up to the last update, clamped: past the end transformers' cosine
 * would climb again. */
static double progress(int64_t step, int64_t warmup, int64_t total) {
    int64_t span = total - warmup > 1 ? total - warmup : 1;
    return at_most_one((double)(step - warmup) / (double)span);
}

double schedule_multiplier(enum schedule kind, int64_t step, int64_t warmup, int64_t total) {
    if (kind == SCHEDULE_CONSTANT) {
        return at_most_one((double)(step + 1) / (double)(warmup + 1));
    }
    if (step < warmup) {
        return (double)step / (double)warmup;
    }
    if (kind == SCHEDULE_CONSTANT_WITH_WARMUP) {
        return 1;
    }
    double done = progress(step, warmup, total);
    return kind == SCHEDULE_LINEAR ? 1 - done : 0.5 * (1 + cos(acos(-1.0) * done));
}
