/* Where `collimate few-shot` takes its users and pairs from. */
#ifndef COLLIMATE_COMMAND_FEW_SHOT_H
#define COLLIMATE_COMMAND_FEW_SHOT_H

#include "command/command.h"
#include "few_shot/tasks.h"

/* Local. The two users of synth_pairs.h, each of whom is a label. */
enum status few_shot_synthetic(const struct settings *s, struct np_world *out);
/* Collective. The preference files of `data`, one a label, over the same responses, and the values of
 * `embeddings`: pairs that every file has (others are counted in *dropped). A share few_shot.holdout of the
 * prompts is the test split. Fails: ERR_DATA for files of different responses. */
enum status few_shot_files(struct comm *c, const struct settings *s, struct np_world *out, int64_t *dropped);

#endif
