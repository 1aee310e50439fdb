#include "train/start.h"

#include <math.h>

enum status start_check(const struct sums *s, double beta, bool is_coarse) {
    double rows = fmax(s->v[SUM_ROWS], 1);
    double chosen = s->v[SUM_REWARD_CHOSEN] / rows / beta, rejected = s->v[SUM_REWARD_REJECTED] / rows / beta;
    double size = fmax(fabs(s->v[SUM_TARGET_LOGP]), fabs(s->v[SUM_REJECTED_LOGP])) / rows;
    double most = (is_coarse ? 0.5 : 1e-3) + (is_coarse ? 1e-2 : 1e-5) * size;
    if (fabs(chosen) <= most && fabs(rejected) <= most) {
        return OK;
    }
    return fail(
        ERR_DATA,
        "step 1: policy and reference are to be the same model and are not: their log-probabilities differ "
        "by %.3g for a chosen response and by %.3g for a rejected one, where they have to agree and the "
        "loss is log 2; were the reference scores computed with other weights or adapters? remove the "
        "side-car, or say reference or reference.adapter",
        chosen, rejected);
}
