/* Between checkpoint_file.c and checkpoint_folder.c. */
#ifndef COLLIMATE_IO_CHECKPOINT_INTERNAL_H
#define COLLIMATE_IO_CHECKPOINT_INTERNAL_H

#include "io/checkpoint_file.h"

/* Collective. Everything is there and has the hash that it was written with. Fails: ERR_DATA, ERR_INPUT. */
enum status checkpoint_verify(struct comm *c, const char *path);

#endif
