#include "util/student.h"

#include <float.h>
#include <math.h>

/* The continued fraction of the incomplete beta function (DLMF 8.17.22) by Lentz' method; it converges fast
 * for x < (a + 1) / (a + b + 2). */
static double beta_fraction(double a, double b, double x) {
    double c = 1;
    double d = 1 / (1 - (a + b) * x / (a + 1));
    double value = d;
    for (int m = 1; m < 10000; m++) {
        double even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m));
        double odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1));
        d = 1 / (1 + even * d);
        c = 1 + even / c;
        value *= d * c;
        d = 1 / (1 + odd * d);
        c = 1 + odd / c;
        double step = d * c;
        value *= step;
        if (fabs(step - 1) < DBL_EPSILON) {
            break;
        }
    }
    return value;
}

/* The regularized incomplete beta function I_x(a, b); y is 1 - x, which x may have lost. */
static double beta_share(double a, double b, double x, double y) {
    if (x <= 0 || y <= 0) {
        return x > 0;
    }
    double front = exp(lgamma(a + b) - lgamma(a) - lgamma(b) + a * log(x) + b * log(y));
    return x < (a + 1) / (a + b + 2) ? front * beta_fraction(a, b, x) / a
                                     : 1 - front * beta_fraction(b, a, y) / b;
}

/* P(T > t), t >= 0. */
static double upper_tail(double t, double freedom) {
    double all = freedom + t * t;
    return 0.5 * beta_share(freedom / 2, 0.5, freedom / all, t * t / all);
}

double student_quantile(double p, double freedom) {
    double low = 0;
    double high = 1;
    freedom = fmin(freedom, 1e6);
    while (upper_tail(high, freedom) > 1 - p && high < 1e100) {
        low = high;
        high *= 2;
    }
    for (int i = 0; i < 80 && high - low > 1e-14 * high; i++) {
        double middle = low + (high - low) / 2;
        if (upper_tail(middle, freedom) > 1 - p) {
            low = middle;
        } else {
            high = middle;
        }
    }
    return low + (high - low) / 2;
}
