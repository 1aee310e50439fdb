/* Steering beside a PEFT adapter: steering.json (its shape) and steering.safetensors (encoder, FiLM, the
 * embeddings' mean and scale); tensor by tensor in io/FORMATS.md. */
#ifndef COLLIMATE_STEER_STEERING_FOLDER_H
#define COLLIMATE_STEER_STEERING_FOLDER_H

#include "mpi/comm.h"
#include "steer/steering.h"

/* Local. Whether the folder has one. */
bool steering_folder_is(const char *folder);
/* Local. Of the shape that is there, without values. Fails: ERR_DATA naming what does not fit. */
enum status steering_folder_open(const char *folder, struct steering *out);
/* Local. Values into the arena that it is bound to. Fails: ERR_DATA naming a tensor that is missing or of
 * another shape. */
enum status steering_folder_read(const char *folder, struct steering *s);
/* Collective. Rank 0 writes both files. Fails: ERR_WRITE. */
enum status steering_folder_save(struct comm *c, const struct steering *s, const char *folder);

#endif
