/* The training loop: the same collectives in the same order every step, whatever happens.
 *
 * A step: each rank runs its slots' forests forward and backward; buckets of gradients leave while the last
 * backward runs; one small allreduce closes the step (numerators, denominators, squared norm, failures,
 * signals, clocks, and the next batch's denominators, so that no loss needs a sum before its backward); then
 * every rank makes the same update. A rank that fails goes on with the step's collectives and says so in the
 * closing one: the step is discarded by all, and the last checkpoint stays.
 */
#ifndef COLLIMATE_TRAIN_LOOP_H
#define COLLIMATE_TRAIN_LOOP_H

#include "data/batch.h"
#include "evaluate/evaluation.h"
#include "store/checkpoint.h"
#include "train/transfer.h"

struct training {
    /* What the command has opened. Borrowed. */
    struct comm *comm;
    struct workspace *workspace;
    struct optimizer *optimizer; /* and its model */
    const struct recipe *recipe;
    const struct batch_source *data, *eval_data; /* eval_data: NULL for none */
    enum pass_keep keep;                         /* KEEP_ALL or KEEP_INPUTS */
    /* The run. */
    const char *label; /* "sft", "dpo" */
    int64_t steps, warmup_steps;
    enum schedule schedule;
    double clip; /* 0: none */
    enum communication communication;
    int64_t bucket_bytes, checkpoint_every, evaluate_every;
    double began, stop_at; /* since the epoch: of the command, and when it has to have ended (0: any time) */
    struct checkpoint_options checkpoint; /* run folder, facts, how many to keep, whether to go on */
    double peak_flops;                    /* of all ranks together, measured; 0: no mfu */
    bool profile;                         /* time by operation and by collective at the end: profile.h */
};

/* Collective. Trains to training.steps, from the run's newest checkpoint where there is one. Returns REQUEUE
 * when a signal was obeyed (a checkpoint is written). Fails: ERR_DATA when a loss or the gradient norm is not
 * finite (step and rows named); whatever a rank failed with. */
enum status training_run(const struct training *t);

#endif
