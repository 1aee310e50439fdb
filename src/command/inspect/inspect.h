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
/* Collective. How far the embeddings in path lie from those in another side-car of the same data and recipe:
 * L2 distance, the same over the other vector's length, and cosine of each response's two vectors; mean and
 * quantiles as a table in *out, as a JSON line in *report. Responses without tokens are counted and left out.
 * Fails: ERR_DATA for side-cars that do not go together or are not complete. */
enum status inspect_drift(struct comm *c, const char *path, const char *against, struct text *out,
                          struct text *report);
bool inspect_exists(const char *folder, const char *name);

#endif
