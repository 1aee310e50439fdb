/* What inspect says about folders, side-cars and checkpoints; inspect.c has the other files. */
#ifndef COLLIMATE_COMMAND_INSPECT_H
#define COLLIMATE_COMMAND_INSPECT_H

#include "mpi/comm.h"
#include "util/text.h"

/* Local. A Hugging Face model folder: what config.json describes, parameters by type, largest tensors. */
enum status inspect_model(const char *folder, struct text *out);
/* Local. A run folder: first and last value of every metric, checkpoints, what made it. */
enum status inspect_run(const char *folder, struct text *out);
/* Collective. An HDF5 file of ours that holds no preferences: its attributes, and what there is of it. */
enum status inspect_other(struct comm *c, const char *path, const char *content, struct text *out);
bool inspect_exists(const char *folder, const char *name);

#endif
