/* Between checkpoint.c and resume.c. */
#ifndef COLLIMATE_STORE_CHECKPOINT_INTERNAL_H
#define COLLIMATE_STORE_CHECKPOINT_INTERNAL_H

#include "store/checkpoint.h"
#include "store/checkpoint_file.h"

/* Local. The file's JSON object: the state's members and the facts. */
enum status checkpoint_print_state(const struct checkpoint_options *o, const struct text *state,
                                   struct text *out);

/* Collective. The checkpoint that o->resume goes on from, its facts compared; its arrays are to be read, then
 * checkpoint_set_aside to be called. Fails as checkpoint_load() does. */
enum status checkpoint_find(struct comm *c, const struct checkpoint_options *o, struct checkpoint_found *out);

#endif
