/* What a trained folder takes over, unread, from the one that it began with. */
#ifndef COLLIMATE_STORE_MODEL_CARRY_H
#define COLLIMATE_STORE_MODEL_CARRY_H

#include "text/tokenizer.h"

/* Local. Copies every file of folder `from` (or NULL), and of its folders one level down, into folder `to`:
 * tokenizer, chat templates, licence, code. Left out: weights in any format, what describes them or an
 * adapter, config.json and generation_config.json (they are written anew), hidden files, a trainer's
 * checkpoint-N folders. Where a tokenizer of another folder (or `bytes`) is given, its files come instead of
 * those of `from`, and its chat templates over them. What cannot be read is named in the log and left out: a
 * trained model is not lost for a licence. Fails: ERR_WRITE. */
enum status model_carry(const char *from, const struct tokenizer *tokenizer, const char *to);

#endif
