/* Losses on a policy's own samples: the rows of the table that are groups, a prompt with the responses that
 * were sampled for it. Pure arithmetic in double.
 *
 * At each token c = e^(log p - log p_old), p_old being the policy that drew it, or one c for the whole
 * response: of the mean of these logarithms (sequence_level; Zheng et al. 2025, GSPO), or of their sum
 * (rloo). A: the advantage of the token or of its response. What is summed, token by token:
 *
 * - grpo, bnpo, dr_grpo, dapo, luspo, rloo, ppo: -min(c A, clip(c, 1 - clip_low, 1 + clip_high) A); c at most
 * delta
 * - cispo: -min(c, clip_high) A log p, the first factor held (MiniMax 2025)
 * - sapo: -(4 / tau) s(tau (c - 1)) A, tau by the sign of A (Gao et al. 2025)
 * - vespo: -phi A log p, log phi = lambda + k log w - lambda w held, w of the whole response; k, lambda by
 * A's sign
 * - nash_md: -A log p + beta (log p - log p_ref) log p, the difference held (Munos et al. 2023); A: how
 * likely the response is preferred to one of the mixture, less a half
 *
 * and, in all but the last, beta times k3 = e^(log p_ref - log p) - (log p_ref - log p) - 1, times c with
 * kl_correction. It is averaged
 *
 *   over tokens, then over responses   grpo sapo rloo
 *   over all tokens                    bnpo dapo cispo vespo ppo
 *   over responses x max_tokens        dr_grpo (Liu et al. 2025)
 *   over responses alone               luspo nash_md
 *
 * each over the update of all ranks (TRL's bnpo: over each device's rows). ppo adds value_weight times the
 * mean over tokens of max((v - R)^2, (clip(v, v_old - value_clip, v_old + value_clip) - R)^2) / 2, R the
 * return.
 *
 * Logarithms of ratios end at +-80, past which a loss is flat: there TRL has infinities.
 */
#ifndef COLLIMATE_OBJECTIVE_POLICY_H
#define COLLIMATE_OBJECTIVE_POLICY_H

#include <stdbool.h>
#include <stdint.h>

#include "util/status.h"

struct policy_options {
    double beta;        /* of the KL in the loss; 0: none, and no reference is read */
    bool kl_correction; /* the KL counts times the ratio */
    double clip_low, clip_high;
    double delta; /* the ratio is this at most, before all else; 0: no end */
    bool sequence_level;
    double importance_cap;              /* a token with a ratio above counts cap / ratio, held; 0: no cap */
    double sapo_tau[2];                 /* of advantages above 0, and of others */
    double vespo_k[2], vespo_lambda[2]; /* of advantages from 0 on, and of others */
    int64_t max_tokens;                 /* of dr_grpo: what a response may have */
    double value_weight, value_clip;    /* of ppo */
};
/* TRL 1.16's defaults, and old TRL's for values. max_tokens is 0. */
struct policy_options policy_defaults(void);

struct terms;
struct objective;
struct scored_row;
struct denominators;
struct slope;
struct sums;

/* A row of the table. */
struct policy_rule;
extern const struct policy_rule policy_grpo, policy_bnpo, policy_dr_grpo, policy_dapo, policy_luspo,
    policy_cispo, policy_sapo, policy_vespo, policy_rloo, policy_ppo, policy_nash_md;

/* Local. What `collimate online` minimizes: rows, reads, the list. method: grpo (loss: one of its types, NULL
 * for dapo), rloo, ppo, raft (SFT), online_dpo and xpo (loss: sigmoid or any other of pairs), nash_md. A loss
 * that the method does not have is an error. xpo: its alpha. Reads follow from out->policy, which is checked;
 * set it before. Fails: ERR_USAGE. */
enum status policy_terms(const char *method, const char *loss, double xpo_alpha, struct terms *out);

/* As objective_row, whose part for groups it is. */
bool policy_row(const struct terms *t, const struct scored_row *row, const struct denominators *d,
                const struct slope *slope, struct sums *sums);

#endif
