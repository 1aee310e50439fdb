/* Losses on the chosen and the rejected of a row: what a pure loss of a pair (preference.h) is given of it,
 * and the losses that look at all pairs of a batch. Pure arithmetic in double.
 *
 * With ld_alpha below 1, a token past the length of the shorter response counts ld_alpha in policy and
 * reference (Liu et al. 2024, LD-DPO, eq. 9); lengths that a loss divides by stay whole. With a divergence,
 * the log-ratios become f' of the ratios (divergence.h). With weighting a pair's loss counts exp of the mean
 * over each response's tokens of log p - log sum_v p_v^2, both responses' multiplied and held (Zhou et al.
 * 2024, WPO, eq. 2), in the losses of a pair alone, as in TRL.
 */
#ifndef COLLIMATE_OBJECTIVE_PAIRWISE_H
#define COLLIMATE_OBJECTIVE_PAIRWISE_H

#include "objective/objective.h"

/* A row of the table whose `pair` is the loss. */
objective_loss pairwise_loss;

/* -log s(beta (a - b + D_c - D_r)) and -log s(beta (a - b + alpha (D_c - D_r))) with D_c held, D the sum over
 * a response's tokens of KL(reference || policy) of the next-token distributions: Zeng et al. 2024 (TDPO),
 * eq. 17 and 18. */
objective_loss pairwise_tdpo1, pairwise_tdpo2;
/* D of a response; 0 where nobody reads it. */
double pairwise_divergence(const struct response_score *r);

/* -log s(beta a - shift) - log s(shift - beta b), the shift being the mean reward of the batch's responses:
 * Jung et al. 2024 (BCO), eq. 9. The mean is over all ranks and held, where the authors' code keeps a moving
 * one over updates. */
objective_gathers pairwise_gather_bco;
objective_loss pairwise_bco;

/* -w log s(b delta), with a beta of the pair's own, b = beta max(1e-3, 1 + scale (delta - mean)), and
 * w = exp(-(delta - mean)^2 / (2 variance)), which keeps out the pairs that are far off: Wu et al. 2024
 * (beta-DPO), eq. 6 and 8. Mean and variance are the batch's over all ranks; they, b and w are held. The
 * authors' code keeps moving statistics over updates, draws pairs by w, and takes one beta a batch. */
objective_gathers pairwise_gather_beta_dpo;
objective_loss pairwise_beta_dpo;

/* DPO's loss, smoothing included, on the quantiles of a batch in place of pairs: the k-th largest of one
 * number against the k-th largest of another (Melnyk et al. 2024, AOT, eq. 8 and 9). aot: log p(chosen) - log
 * p(rejected) against the reference's; aot_unpaired: log-ratios of the chosen against those of the rejected.
 * The batch is that of all ranks, where TRL sorts each device's. A row has the mean over the places that it
 * shares with equal ones. */
objective_gathers pairwise_gather_aot, pairwise_gather_aot_unpaired;
objective_loss pairwise_aot, pairwise_aot_unpaired;

/* log p of each response times its advantage: Xie et al. 2024 (XPO), algorithm 1, has 1 for a response that
 * the reference wrote and 0 for the policy's own. */
objective_loss pairwise_xpo;

#endif
