/* Losses of reward models on embeddings: Bradley-Terry-Luce, distributional preference learning and the
 * divergence of a neural process. Pure arithmetic in double, stable at large arguments.
 *
 * A pair is two options a and b; choice 0 says that a is preferred. An option's outputs are its reward r
 * (BTL) or the mean mu and the raw scale of a normal distribution of rewards, s = softplus(raw) (DPL,
 * Siththaranjan et al. 2024, in the logistic form of its published code).
 */
#ifndef COLLIMATE_OBJECTIVE_FEW_SHOT_LOSS_H
#define COLLIMATE_OBJECTIVE_FEW_SHOT_LOSS_H

#include <stdint.h>

/* -log p(choice) and its derivatives by the outputs of both options. */
struct few_shot_loss {
    double value, d_a[2], d_b[2];
};
/* log p(a > b) = -softplus(-(r_a - r_b)). */
void few_shot_btl(const double *a, const double *b, int choice, struct few_shot_loss *out);
/* log p(a > b) = -softplus(-sqrt(2 pi) zeta), zeta = (mu_a - mu_b) / sqrt(s_a^2 + s_b^2). a, b: mu, raw. */
void few_shot_dpl(const double *a, const double *b, int choice, struct few_shot_loss *out);

/* KL(N(m, s^2) || N(n, t^2)) = log(t / s) + (s^2 + (m - n)^2) / (2 t^2) - 1/2 and its derivatives. s, t > 0.
 */
struct few_shot_kl {
    double value, d_m, d_s, d_n, d_t;
};
void few_shot_normal_kl(double m, double s, double n, double t, struct few_shot_kl *out);

#endif
