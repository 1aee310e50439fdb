/* From rewards to advantages. Pure arithmetic in double: rewards of an update are few, so every rank has all
 * of them and comes to the same numbers.
 *
 * Rewards are by response, a group (a prompt's `samples` responses) after the other.
 */
#ifndef COLLIMATE_OBJECTIVE_ADVANTAGE_H
#define COLLIMATE_OBJECTIVE_ADVANTAGE_H

#include <stdbool.h>
#include <stdint.h>

#include "util/status.h"

/* What a group's differences from its mean are divided by: its standard deviation (n - 1) + 1e-4, that of the
 * whole batch, or nothing (Shao et al. 2024, GRPO; Liu et al. 2025). */
enum advantage_scale { SCALE_GROUP, SCALE_BATCH, SCALE_NONE };

/* (r - mean of the group) / scale. A group of one has 0. */
void advantage_group(const double *rewards, int64_t groups, int64_t samples, enum advantage_scale scale,
                     double *out);
/* r - mean of the group's others (Ahmadian et al. 2024, RLOO); normalize: then (A - mean) / (std + 1e-4) over
 * the batch. A group of one has its reward. */
void advantage_leave_one_out(const double *rewards, int64_t groups, int64_t samples, bool normalize,
                             double *out);
/* Share of groups whose rewards are all the same, which teach nothing. */
double advantage_flat_groups(const double *rewards, int64_t groups, int64_t samples);
/* Standard deviation with n - 1; 0 for fewer than two. */
double advantage_deviation(const double *values, int64_t n);

/* r_t = -coefficient (log p_t - log p_ref_t), and the score on the last token (of n > 0). */
void advantage_shape(const double *logp, const double *reference, int64_t n, double coefficient, double score,
                     double *rewards);
/* Generalised advantages of a response's tokens (Schulman et al. 2016, eq. 16), 0 after its end; returns are
 * A + v. out may not overlap what is read. */
void advantage_gae(const double *rewards, const double *values, int64_t n, double gamma, double lambda,
                   double *advantages, double *returns);

/* Count, sum, and sum of squared distances from the mean, of numbers that lie apart. */
struct moments {
    double n, mean, squares;
};
void moments_add(struct moments *m, const double *values, int64_t n);
/* of += other. */
void moments_merge(struct moments *of, const struct moments *other);
/* (x - mean) / sqrt(variance + 1e-8), with the variance over n; + mean where it is kept. */
void advantage_whiten(const struct moments *m, bool keep_mean, double *values, int64_t n);

/* What a response without its stop token has: `score` in place of its own (NAN: its own), less `penalty`. */
struct missing_stop {
    double score, penalty;
};
double advantage_stopped(const struct missing_stop *m, double score, bool is_stopped);

/* Ziegler et al. 2019, eq. 4: c *= 1 + clip(kl / target - 1, -0.2, 0.2) episodes / horizon. kl: mean over
 * samples of sums over tokens of log p - log p_ref. */
struct kl_controller {
    double coefficient, target, horizon; /* target 0: the coefficient stays */
};
void kl_control(struct kl_controller *c, double kl, double episodes);

#endif
