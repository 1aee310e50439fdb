/* What `sft`, `dpo` and `reward` share: from settings to a trained model in the run folder. */
#ifndef COLLIMATE_COMMAND_TRAINER_H
#define COLLIMATE_COMMAND_TRAINER_H

#include "command/session.h"
#include "train/loop.h"

struct trainer {
    struct session session;
    struct recipe recipe;
    enum row_kind rows;
    struct batch_source data, eval_data;
    struct training training;
};

/* Collective. Trains on rows of the given kind with the recipe, or predicts under --dry-run. */
enum status trainer_run(struct run *run, const struct recipe *recipe, enum row_kind rows);

/* Collective. --dry-run: data report, memory per rank, step time; t has its back end and rows open, no model.
 * Prints on standard output. */
enum status trainer_predict(struct trainer *t);

/* The plan, schedule and run options of the settings. Local. */
void trainer_plan(struct trainer *t);
enum pass_keep trainer_keep(const struct settings *settings);
struct optimizer_options trainer_optimizer(const struct settings *settings);

#endif
