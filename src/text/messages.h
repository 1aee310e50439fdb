/* Chat messages as an HH transcript. Private to src/text/. */
#ifndef COLLIMATE_TEXT_MESSAGES_H
#define COLLIMATE_TEXT_MESSAGES_H

#include "util/json.h"
#include "util/text.h"

extern const char TURN_ASSISTANT[]; /* "\n\nAssistant:" */

/* The turns of a conversation: a list of {role, content} (or {from, value}), or one such object; several
 * parts one after the other. Borrows the JSON. */
struct message_turn {
    enum role { ROLE_SYSTEM, ROLE_USER, ROLE_ASSISTANT, ROLE_OTHER } role;
    const json_t *content; /* string, or list of {type: "text", text}; NULL: none */
    const json_t *message; /* all of it */
    const char *name;      /* the role as it is written */
    bool renamed;          /* {from, value}, which templates do not know */
};
struct conversation {
    struct message_turn *turns;
    int64_t count, capacity;
};
void conversation_free(struct conversation *c);
bool is_conversation(const json_t *value);
/* Appends value's messages. Fails: ERR_DATA for what is no message. */
enum status conversation_add(struct conversation *c, const json_t *value, const char *where);
bool turns_equal(const struct message_turn *a, const struct message_turn *b);
/* Appends turns [first, end) to out. *unknown: a role that a transcript has no place for (nothing is promised
 * of out then). */
enum status conversation_render(const struct conversation *c, int64_t first, int64_t end, struct text *out,
                                bool *unknown);
/* Appends a turn's text alone. */
enum status turn_text(const struct message_turn *turn, struct text *out);
/* Neither text nor calls nor reasoning. */
bool turn_is_empty(const struct message_turn *turn);
/* White space only. */
bool text_blank(const struct text *t);
const char *role_name(enum role role);

#endif
