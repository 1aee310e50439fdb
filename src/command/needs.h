/* What a training run needs of memory and disk (train/estimate.h), beside what there is. */
#ifndef COLLIMATE_COMMAND_NEEDS_H
#define COLLIMATE_COMMAND_NEEDS_H

#include "command/trainer.h"
#include "util/machine.h"

/* Local. Bytes of host memory that a rank takes in all; its model may lie in a device's. */
double needs_host(const struct estimate *e, bool is_apart);
/* Local, each rank for its host, its own limits and its device. What the process holds already counts as
 * there; a device that holds the model was asked for all of it. Fails: ERR_SYSTEM naming need and rest. */
enum status needs_memory(const struct trainer *t, const struct estimate *e);

/* Local. Bytes of the checkpoints that lie there at once, and of the model; *checkpoint: of one. */
double needs_disk(const struct trainer *t, const struct estimate *e, double *checkpoint);
/* Collective. Free at the folder, or where it would be made, with what earlier checkpoints in it give back.
 * Fails: ERR_WRITE. */
enum status needs_free(struct comm *c, const char *folder, int64_t *bytes);
/* Collective. The room at the output folder. Fails: ERR_WRITE naming need and rest. */
enum status needs_room(const struct trainer *t, const struct estimate *e);

/* Writes "3.2 GB" of bytes, "2.5 h" of seconds into out and returns it. */
const char *needs_size(double bytes, char out[32]);
const char *needs_duration(double seconds, char out[32]);

#endif
