#include "objective/few_shot_loss.h"

#include <math.h>

#include "objective/logistic.h"

void few_shot_btl(const double *a, const double *b, int choice, struct few_shot_loss *out) {
    double sign = choice ? -1 : 1;
    double margin = sign * (a[0] - b[0]);
    double d = -sign * logistic(-margin);
    *out = (struct few_shot_loss){softplus(-margin), {d, 0}, {-d, 0}};
}

void few_shot_dpl(const double *a, const double *b, int choice, struct few_shot_loss *out) {
    const double slope = sqrt(2 * M_PI);
    double sign = choice ? -1 : 1;
    double s_a = softplus(a[1]);
    double s_b = softplus(b[1]);
    double scale = hypot(s_a, s_b);
    double difference = a[0] - b[0];
    double logit = sign * slope * (difference / scale);
    double d_zeta = -sign * slope * logistic(-logit);
    double d_mean = d_zeta / scale;
    double d_scale = -d_zeta * (difference / scale) / scale; /* by sqrt(s_a^2 + s_b^2) */
    *out = (struct few_shot_loss){softplus(-logit),
                                  {d_mean, d_scale * (s_a / scale) * logistic(a[1])},
                                  {-d_mean, d_scale * (s_b / scale) * logistic(b[1])}};
}

void few_shot_normal_kl(double m, double s, double n, double t, struct few_shot_kl *out) {
    double ratio = s / t;
    double shift = (m - n) / t;
    *out = (struct few_shot_kl){.value = -log(ratio) + (ratio * ratio + shift * shift - 1) / 2,
                                .d_m = shift / t,
                                .d_s = ratio / t - 1 / s,
                                .d_n = -shift / t,
                                .d_t = (1 - ratio * ratio - shift * shift) / t};
}
