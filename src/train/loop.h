/* The training loop around the step (step.h): reading ahead, the schedule, evaluation, checkpoints, signals
 * and time limits, metrics, resuming. A step that fails is discarded by all ranks, and the last checkpoint
 * stays.
 */
#ifndef COLLIMATE_TRAIN_LOOP_H
#define COLLIMATE_TRAIN_LOOP_H

#include "data/batch.h"
#include "evaluate/evaluation.h"
#include "store/checkpoint.h"
#include "train/source.h"
#include "train/step.h"

struct training {
    /* What the command has opened. Borrowed. */
    struct comm *comm;
    struct workspace *workspace;
    struct model *model;
    struct optimizer *optimizer; /* of model->trained */
    const struct terms *terms;
    struct source source;
    const struct batch_source *eval_data; /* NULL for none */
    /* Collective. Another evaluation than the loss of eval_data: appends members to an evaluation's line,
     * whose names begin with eval_, and says in the log what it has found. The workspace is free. NULL: none.
     */
    enum status (*evaluate)(void *context, int64_t step, struct text *line);
    void *evaluate_context;
    enum pass_keep keep; /* KEEP_ALL or KEEP_INPUTS */
    /* The run. */
    const char *label; /* "sft", "dpo" */
    int64_t steps, warmup_steps;
    enum schedule schedule;
    double clip; /* 0: none */
    enum communication communication;
    int64_t bucket_bytes, checkpoint_every, evaluate_every;
    double began, stop_at; /* since the epoch: of the command, and when it has to have ended (0: any time) */
    struct checkpoint_options checkpoint; /* run folder, facts, how many to keep, whether to go on */
    bool begins_at_reference; /* the policy is its reference as it begins: a first step that says otherwise is
                                 refused */
    uint64_t seed;            /* of adapters' dropout */
    double peak_flops;        /* of all ranks together, measured; 0: no mfu */
    /* Collective, once nothing is left that could refuse the run, before anything of it is written. is_new:
     * it goes on from no checkpoint. */
    enum status (*accepted)(void *context, bool is_new);
    void *accepted_context;
    const struct steers *steers;     /* step.h; NULL: nothing is steered */
    struct scorer *reference_scorer; /* of a second model, where terms read its divergence; NULL: none */
    struct arena *reference;         /* one that follows the policy, part of the checkpoints; NULL: none */
    /* Local, after update number `step` (from 1). May be NULL. Its failure is the next step's. */
    enum status (*updated)(void *context, int64_t step);
    void *updated_context;
    bool profile;     /* time by operation and by collective at the end: profile.h */
    bool tensorboard; /* an event file beside metrics.jsonl */
};

/* Collective. Trains to training.steps, from the run's newest checkpoint where there is one. Returns REQUEUE
 * when a signal was obeyed (a checkpoint is written). Fails: ERR_DATA when a loss or the gradient norm is not
 * finite (step and rows named); whatever a rank failed with. */
enum status training_run(const struct training *t);

#endif
