/* The logistic function and its integral, each evaluated on the side where its exponential is below one, so
 * that arguments of +-1e4 neither overflow nor turn into NaN. */
#ifndef COLLIMATE_OBJECTIVE_LOGISTIC_H
#define COLLIMATE_OBJECTIVE_LOGISTIC_H

#include <math.h>

/* log(1 + e^x) = -log s(-x). */
static inline double softplus(double x) {
    return x > 0 ? x + log1p(exp(-x)) : log1p(exp(x));
}

/* s(x) = 1 / (1 + e^-x). */
static inline double logistic(double x) {
    if (x >= 0) {
        return 1.0 / (1.0 + exp(-x));
    }
    double e = exp(x);
    return e / (1.0 + e);
}

#endif
