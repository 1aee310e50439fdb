#include "text/messages.h"

#include <string.h>

#include "util/mem.h"

const char TURN_ASSISTANT[] = "\n\nAssistant:";
static const char TURN_USER[] = "\n\nHuman:";

void conversation_free(struct conversation *c) {
    mem_free(c->turns);
    *c = (struct conversation){0};
}

bool is_conversation(const json_t *value) {
    return json_is_array(value) || json_is_object(value);
}

static enum role role_of(const char *name) {
    static const struct {
        const char *name;
        enum role role;
    } roles[] = {{"system", ROLE_SYSTEM},     {"user", ROLE_USER},     {"human", ROLE_USER},
                 {"prompter", ROLE_USER},     {"gpt", ROLE_ASSISTANT}, {"assistant", ROLE_ASSISTANT},
                 {"chatbot", ROLE_ASSISTANT}, {"bot", ROLE_ASSISTANT}};
    for (int i = 0; i < COUNT_OF(roles); i++) {
        if (strcmp(name, roles[i].name) == 0) {
            return roles[i].role;
        }
    }
    return ROLE_OTHER;
}

static bool is_content(const json_t *content) {
    if (json_is_string(content)) {
        return true;
    }
    size_t i;
    const json_t *part;
    json_array_foreach(content, i, part) {
        if (!json_is_string(json_object_get(part, "text"))) {
            return false;
        }
    }
    return json_is_array(content);
}

static enum status add_message(struct conversation *c, const json_t *message, const char *where) {
    const json_t *role = json_object_get(message, "role");
    const json_t *content = json_object_get(message, "content");
    role = role ? role : json_object_get(message, "from");
    content = content ? content : json_object_get(message, "value");
    if (!json_is_string(role) || !is_content(content)) {
        return fail(ERR_DATA, "%s: a message must have \"role\" and \"content\" as text", where);
    }
    TRY(GROW_ARRAY(c->turns, c->capacity, c->count + 1));
    c->turns[c->count++] = (struct message_turn){role_of(json_string_value(role)), content};
    return OK;
}

enum status conversation_add(struct conversation *c, const json_t *value, const char *where) {
    if (json_is_object(value)) {
        return add_message(c, value, where);
    }
    if (!json_is_array(value)) {
        return fail(ERR_DATA, "%s: a list of messages is expected", where);
    }
    size_t i;
    const json_t *message;
    json_array_foreach(value, i, message) {
        TRY(add_message(c, message, where));
    }
    return OK;
}

bool turns_equal(const struct message_turn *a, const struct message_turn *b) {
    return a->role == b->role && json_equal(a->content, b->content);
}

enum status turn_text(const struct message_turn *turn, struct text *out) {
    if (json_is_string(turn->content)) {
        return text_append(out, json_string_value(turn->content), json_string_length(turn->content));
    }
    size_t i;
    const json_t *part;
    json_array_foreach(turn->content, i, part) {
        const json_t *text = json_object_get(part, "text");
        TRY(text_append(out, json_string_value(text), json_string_length(text)));
    }
    return OK;
}

enum status conversation_render(const struct conversation *c, int64_t n, struct text *out, bool *unknown) {
    *unknown = false;
    for (int64_t i = 0; i < n; i++) {
        const struct message_turn *turn = &c->turns[i];
        if (turn->role == ROLE_OTHER || (turn->role == ROLE_SYSTEM && i > 0)) {
            *unknown = true;
            return OK;
        }
        if (turn->role != ROLE_SYSTEM) {
            TRY(text_puts(out, turn->role == ROLE_USER ? TURN_USER : TURN_ASSISTANT));
            TRY(text_puts(out, " "));
        }
        TRY(turn_text(turn, out));
    }
    return OK;
}
