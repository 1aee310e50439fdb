/* Between checkpoint_file.c and checkpoint_folder.c. */
#ifndef COLLIMATE_STORE_CHECKPOINT_FILE_INTERNAL_H
#define COLLIMATE_STORE_CHECKPOINT_FILE_INTERNAL_H

#include "store/checkpoint_file.h"

/* Collective. Everything is there and has the hash that it was written with. Fails: ERR_DATA, ERR_INPUT. */
enum status checkpoint_verify(struct comm *c, const char *path);

#endif
