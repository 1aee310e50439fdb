/* Forward and backward through a few-shot reward model for a batch of users, of whom a rank has some.
 *
 * Every user has N target pairs with choices; the same k positions among them are every user's context. The
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
enum np_objective { NP_CODE, NP_ELBO };

struct np_batch {
    int64_t users, all_users, first_user; /* this rank's; all ranks'; the first's number in the batch */
    int64_t targets, context;             /* N, k <= N */
    const double *options;                /* (users, N, 2, width): a, b */
    const uint8_t *choices;               /* (users, N): 0 a preferred, 1 b */
    const int32_t *context_at;            /* k distinct positions in [0, N) */
    int64_t samples;                      /* of the latent; 1 where not latent */
    const double *noise;                  /* (samples, users, hidden) standard normal, where latent */
    double dropout;                       /* of attention weights, in training */
    uint64_t seed;                        /* of the dropout */
    int64_t step;
};

struct np_limits {
    int64_t users, targets, context, samples; /* at most, on this rank */
};

struct np_pass {
    struct np_model *model;
    struct comm *comm; /* NULL: alone */
    struct np_limits limits;
    struct np_set context, whole; /* whole: all targets as a set; only where latent */
    struct np_norm norm;
    bool is_training;
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
enum status np_pass_open(struct np_model *m, struct comm *comm, const struct np_limits *limits,
                         struct np_pass *out);
void np_pass_close(struct np_pass *p);

/* Collective where is_training (batch norm's statistics over all ranks), local otherwise: then running
 * statistics, no dropout. Leaves p->outputs. */
enum status np_forward(struct np_pass *p, const struct np_batch *b, bool is_training,
                       enum np_objective objective);
/* This rank's share of the loss's two terms, sums over its users divided by all_users; after np_forward. */
struct np_value {
    double nll, kl;
};
/* Collective. After np_forward in training: the loss, and its gradients added to the model's (this rank's
 * share). beta_kl 0 leaves the KL out. */
enum status np_backward(struct np_pass *p, const struct np_batch *b, double beta_kl,
                        enum np_objective objective, struct np_value *out);

#endif
