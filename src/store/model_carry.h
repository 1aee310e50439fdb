/* What a trained folder takes over, unread, from the one that it began with. */
#ifndef COLLIMATE_STORE_MODEL_CARRY_H
#define COLLIMATE_STORE_MODEL_CARRY_H

#include "util/status.h"

/* Local. Copies every file of folder `from`, and of its folders one level down, into folder `to`: tokenizer,
 * chat templates, licence, code. Left out: weights in any format, what describes them or an adapter,
 * config.json and generation_config.json (they are written anew), hidden files, a trainer's checkpoint-N
 * folders. What cannot be read is named in the log and left out. Fails: ERR_WRITE. */
enum status model_carry(const char *from, const char *to);

#endif
