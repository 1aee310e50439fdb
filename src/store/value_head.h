/* The value head of a policy, beside its model or adapter: value_head.safetensors, one tensor
 * "value_head.weight" of the model's width, so that the model's own files are what everybody reads. */
#ifndef COLLIMATE_STORE_VALUE_HEAD_H
#define COLLIMATE_STORE_VALUE_HEAD_H

#include "model/arena.h"

/* Whether it is the head, of a model's arena or of its adapters'. */
bool value_head_is(const struct parameter *p);
/* Local. Reads it from the folder into the arena, where both have one; otherwise it stays. Without
 * arena_refresh(). Fails: ERR_DATA where it is of another width. */
enum status value_head_read(const char *folder, struct arena *a);
/* Local. Where the arena has one; where not, what an earlier run left goes. Fails: ERR_WRITE. */
enum status value_head_save(const char *folder, const struct arena *a);

#endif
