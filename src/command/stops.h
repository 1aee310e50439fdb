/* What ends a response and what is never drawn, as a model's folder has it: `generate` and `online` alike. */
#ifndef COLLIMATE_COMMAND_STOPS_H
#define COLLIMATE_COMMAND_STOPS_H

#include "command/session.h"

enum { MOST_STOPS = 64 };
struct stop_set {
    int32_t ids[MOST_STOPS];
    int32_t n;
};
/* All Local; the session has its model. */
/* The stop set: generation_config.json, else config.json, else the tokenizer's end token. Adds to *out.
 * Fails: ERR_DATA for an eos_token_id that is none. */
enum status stops_read(const struct session *s, struct stop_set *out);
/* Which ids have no token, by id; NULL: all have one. A model's vocabulary is often padded to a round number:
 * no text has those ids, so none is drawn. Fails: ERR_DATA where none has one. */
enum status stops_bar(const struct session *s, bool **out);
/* What an empty prompt is replaced by: a decoder needs a token to go on from; -1: nothing is known. */
int32_t stops_first_token(const struct session *s, const struct dataset *data);

#endif
