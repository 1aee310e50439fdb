#include "objective/divergence.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "objective/logistic.h"

#define MOST_EXPONENT 80.0

enum status divergence_parse(const char *text, struct divergence *out) {
    static const char *const names[] = {"reverse_kl", "forward_kl", "js"};
    for (int i = 0; i < COUNT_OF(names); i++) {
        if (strcmp(text, names[i]) == 0) {
            *out = (struct divergence){.kind = i};
            return OK;
        }
    }
    if (strncmp(text, "alpha:", 6) == 0) {
        char *end;
        double alpha = strtod(text + 6, &end);
        if (end > text + 6 && *end == '\0' && isfinite(alpha)) {
            *out = (struct divergence){.kind = ALPHA_DIVERGENCE, .alpha = alpha};
            return OK;
        }
    }
    return fail(ERR_USAGE, "dpo.divergence: \"%s\"; known: reverse_kl, forward_kl, js, alpha:NUMBER", text);
}

/* (e^(c ratio) - 1) / c, the logarithm's way to a power; c = 0: the ratio itself. */
static double power_score(double c, double ratio, double *slope) {
    if (fabs(c) < 1e-6) {
        *slope = 1;
        return ratio;
    }
    bool flat = c * ratio > MOST_EXPONENT;
    double x = flat ? MOST_EXPONENT : c * ratio;
    *slope = flat ? 0 : exp(x);
    return expm1(x) / c;
}

double divergence_score(const struct divergence *d, double ratio, double *slope) {
    switch (d->kind) {
    case FORWARD_KL: /* 1 - 1/t */
        return power_score(-1, ratio, slope);
    case JENSEN_SHANNON: /* log(2t / (t + 1)) */
        *slope = logistic(-ratio);
        return log(2) - softplus(-ratio);
    case ALPHA_DIVERGENCE: /* (t^(alpha - 1) - 1) / (alpha - 1) */
        return power_score(d->alpha - 1, ratio, slope);
    default:
        *slope = 1;
        return ratio;
    }
}
