/* Forward and backward through a few-shot reward model for a batch of users, of whom a rank has some.
 *
 * Every user has N target pairs with choices; the same k positions among them are every user's context, or k
 * pairs of its own. The
 * loss is the mean over the users of [mean over latent samples and targets of -log p(choice)] + beta_kl KL,
 * the KL between the latents given the context (q_C) and given all targets (q_T), where latent.
 */
#ifndef COLLIMATE_FEW_SHOT_PASS_H
#define COLLIMATE_FEW_SHOT_PASS_H

#include "encoder/linear.h"
#include "encoder/set.h"

struct comm;

/* Two published objectives: z is drawn from q_C and the penalty is KL(q_C || q_T) (what the code of the
 * paper does), or z is drawn from q_T and the penalty is KL(q_T || q_C) (the neural process's bound). */
enum few_shot_objective { FEW_SHOT_CODE, FEW_SHOT_ELBO };

struct few_shot_batch {
    int64_t users, all_users, first_user; /* this rank's; all ranks'; the first's number in the batch */
    int64_t targets, context;             /* N, k <= N */
    const double *options;                /* (users, N, 2, width): a, b */
    const uint8_t *choices;               /* (users, N): 0 a preferred, 1 b */
    const int32_t *context_at;            /* k distinct positions in [0, N) */
    const double *shown;          /* (users, k, 2, width): contexts that are not targets; NULL: they are */
    const uint8_t *shown_choices; /* (users, k) */
    int64_t samples;              /* of the latent; 1 where not latent */
    const double *noise;          /* (samples, users, hidden) standard normal, where latent */
    double dropout;               /* of attention weights, in training */
    uint64_t seed;                /* of the dropout */
    int64_t step;
};

struct few_shot_limits {
    int64_t users, targets, context, samples; /* at most, on this rank */
};

struct few_shot_pass {
    struct network *model;
    struct comm *comm; /* NULL: alone */
    struct few_shot_limits limits;
    struct set_pass context, whole; /* whole: all targets as a set; only where latent */
    struct batch_norm norm;
    bool is_training;
    int64_t head_rows; /* S R of the last forward pass; 0 where it failed on this rank */
    /* R = users N 2 options, S samples */
    double *target_inner, *target; /* (R, H) each */
    double *from_target;           /* (R, H): the head's first layer, targets' part */
    double *mean, *scale;          /* (users, H): of the latent that z is drawn from */
    double *z, *from_z;            /* (S users, H) */
    double *hidden, *active;       /* (S R, H): normalized; after the ReLU */
    double *outputs;               /* (S R, outputs): what the losses see; (S, users, N, 2, outputs) */
    double *d_outputs, *d_hidden, *d_options, *d_target, *d_z, *d_users; /* gradients */
    double *inverse_std, *sums;
};

/* Local. m and comm are borrowed. */
enum status few_shot_pass_open(struct network *m, struct comm *comm, const struct few_shot_limits *limits,
                               struct few_shot_pass *out);
void few_shot_pass_close(struct few_shot_pass *p);

/* Collective where is_training (batch norm's statistics over all ranks), local otherwise: then running
 * statistics, no dropout. Leaves p->outputs. A rank that fails takes part all the same, without rows, and so
 * in the backward pass: the ranks have to agree after it. Fails: ERR_INTERNAL for a batch beyond the limits.
 */
enum status few_shot_forward(struct few_shot_pass *p, const struct few_shot_batch *b, bool is_training,
                             enum few_shot_objective objective);
/* This rank's share of the loss's two terms, sums over its users divided by all_users; after
 * few_shot_forward. */
struct few_shot_value {
    double nll, kl;
};
/* Collective. After few_shot_forward in training, however that went: the loss, and its gradients added to the
 * model's (this rank's share). beta_kl 0 leaves the KL out. */
enum status few_shot_backward(struct few_shot_pass *p, const struct few_shot_batch *b, double beta_kl,
                              enum few_shot_objective objective, struct few_shot_value *out);

#endif
