/* What a training is refused for before its first update: one list, which sft, dpo, reward and online go
 * through, as do their --dry-run and preflight. */
#ifndef COLLIMATE_COMMAND_CHECKS_H
#define COLLIMATE_COMMAND_CHECKS_H

#include "command/trainer.h"

/* Collective. Model and reference as folders that can be opened, of the right head; slots for the ranks; rows
 * within the models' vocabularies and positions; memory for what the run will hold; an output folder that is
 * nobody else's, that takes and gives back what is written there (it is taken for the while, if t has not),
 * and has room for what the run will leave. A dry run needs no weights, and is warned where memory or room do
 * not do. t->need is known after that, where t has its back end and rows. What cannot be asked yet is left
 * out: t without rows, config NULL, no output. found NULL: ends with the first that fails; else it gets each
 * check's end, whose message it is to clear, and this returns OK. */
typedef void check_found(void *context, const char *subject, enum status st);
enum status trainer_check(struct trainer *t, const struct model_config *config, check_found *found,
                          void *context);

/* Collective. One of them: the folder is this job's. */
enum status check_folder(struct comm *c, const char *folder);

#endif
