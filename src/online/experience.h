/* A source of batches (train/source.h) that the policy writes itself: drawn, judged, made into rows, and kept
 * for `span` updates.
 *
 * - rollout_draw: responses of all ranks, on every rank
 * - appraise: the reference's log-probabilities and rewards; a rank's share of rows, then of all ranks
 * - advantages, rows: what the method makes of them, the same on every rank
 * - experience_read: this rank's slots of the rows, as a batch
 *
 * With the rollout's numbers on every rank nothing depends on the rank count. A run that goes on draws anew
 * what the weights of its checkpoint drew, so checkpoints fall between rollouts only.
 */
#ifndef COLLIMATE_ONLINE_EXPERIENCE_H
#define COLLIMATE_ONLINE_EXPERIENCE_H

#include "objective/advantage.h"
#include "online/appraise.h"
#include "online/update_rows.h"
#include "train/step.h"

enum online_method {
    ONLINE_GRPO,
    ONLINE_RLOO,
    ONLINE_RAFT,
    ONLINE_DPO,
    ONLINE_PPO,
    ONLINE_XPO,
    ONLINE_NASH_MD
};

/* Borrowed. */
struct experience_options {
    const struct terms *terms;
    struct rollout_parts rollout;
    struct appraiser appraiser;
    struct batch_plan plan; /* rows: prompts; batch: prompts of an update */
    int64_t span;           /* updates with one rollout */
    enum online_method method;
    enum advantage_scale scale; /* grpo */
    bool normalize;             /* rloo: advantages over the batch */
    bool kl_in_reward;          /* times control.coefficient */
    double gamma, lambda;       /* ppo */
    bool whiten_rewards;        /* ppo: before advantages */
    struct missing_stop missing_stop;
    double top_share;    /* raft; 0: the best of each prompt */
    bool mask_truncated; /* responses that did not stop are not trained */
    const char *folder;  /* rollouts are kept here; NULL: nowhere */
};

/* What was found of a rollout, for metrics. */
struct experience_facts {
    double draw_s, judge_s,
        draw_imbalance; /* the latter: how much longer the slowest rank drew than the mean */
    double kl;          /* mean over responses of sums of log p - log p_ref, */
    double coefficient; /* and what it counted */
    bool is_new;        /* made for this update */
    double all_draw_s, all_judge_s, all_s; /* of all updates so far, on rank 0 */
};

struct experience {
    struct experience_options options;
    struct rollout rollout;
    struct appraisal appraisal;
    struct update_rows rows;
    double *scores;                           /* by response: rewards, with what a missing stop does */
    double *advantages;                       /* by response; NULL: none, or */
    double *token_advantages, *token_returns; /* by token; NULL: none */
    uint8_t *untrained;                       /* zeros, for as many tokens as a response may have */
    int64_t step; /* the first update that the rollout is for; -1: there is none */
    struct step_place place;
    struct experience_facts facts;
    struct kl_controller control; /* its coefficient is what a run goes on from */
};
/* Local. */
enum status experience_open(const struct experience_options *o, const struct kl_controller *control,
                            struct experience *out);
void experience_close(struct experience *e);
/* As source.read, Collective: context is a struct experience. Fails: as what it does, naming rows. */
enum status experience_read(void *context, int64_t step, struct batch *b);
/* As source.report, Local. */
enum status experience_report(void *context, const struct verdict *v, struct text *line);

/* Local. One line of log: where the time went. */
void experience_summary(const struct experience *e);

/* Local. This rank's slots of rows; for an update with all that is known of them, and without what is not to
 * be trained. b is freed first. */
enum status experience_batch(const struct experience *e, const struct update_rows *rows, bool is_update,
                             struct batch *b);
/* Local, rank 0. Writes folder/step-N.jsonl, a line a response. */
enum status experience_keep(const struct experience *e);

#endif
