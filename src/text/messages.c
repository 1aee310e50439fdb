#include "text/messages.h"

#include <string.h>
#include <strings.h>

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
                 {"chatbot", ROLE_ASSISTANT}, {"bot", ROLE_ASSISTANT}, {"model", ROLE_ASSISTANT},
                 {"developer", ROLE_SYSTEM}};
    for (int i = 0; i < COUNT_OF(roles); i++) {
        if (strcasecmp(name, roles[i].name) == 0) {
            return roles[i].role;
        }
    }
    return ROLE_OTHER;
}

const char *role_name(enum role role) {
    static const char *const names[] = {"system", "user", "assistant", "other"};
    return names[role];
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

/* Calls and reasoning may stand where there is no text. */
static bool has_more(const json_t *message) {
    static const char *const keys[] = {"tool_calls", "reasoning_content", "thinking"};
    bool more = false;
    for (int i = 0; i < COUNT_OF(keys); i++) {
        const json_t *value = json_object_get(message, keys[i]);
        more |= value && !json_is_null(value);
    }
    return more;
}

static bool is_message(const json_t *message, const json_t *content) {
    return content ? is_content(content) : has_more(message);
}

static bool is_columns(const json_t *message) {
    return json_is_string(message) || json_object_get(message, "0"); /* pandas' to_json() */
}

static enum status add_message(struct conversation *c, const json_t *message, const char *where) {
    const json_t *role = json_object_get(message, "role");
    const json_t *content = json_object_get(message, "content");
    bool renamed = !role;
    role = role ? role : json_object_get(message, "from");
    content = content ? content : json_object_get(message, "value");
    content = json_is_null(content) ? NULL : content; /* beside tool_calls */
    if (!json_is_string(role) || !is_message(message, content)) {
        return fail(ERR_DATA, "%s: a message must have \"role\" and \"content\" as text%s", where,
                    is_columns(message) ? "; a table by columns is to be written as one record a line" : "");
    }
    TRY(GROW_ARRAY(c->turns, c->capacity, c->count + 1));
    enum role known = role_of(json_string_value(role));
    c->turns[c->count++] = (struct message_turn){.role = known,
                                                 .content = content,
                                                 .message = message,
                                                 .name = json_string_value(role),
                                                 .renamed = renamed && known != ROLE_OTHER};
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

bool text_blank(const struct text *t) {
    for (size_t i = 0; i < t->len; i++) {
        if (!strchr(" \t\r\n\v\f", t->data[i]) || t->data[i] == '\0') {
            return false;
        }
    }
    return true;
}

bool turn_is_empty(const struct message_turn *turn) {
    if (has_more(turn->message)) {
        return false;
    }
    struct text text = {0};
    bool empty = turn_text(turn, &text) == OK && text_blank(&text);
    text_free(&text);
    return empty;
}

bool turns_equal(const struct message_turn *a, const struct message_turn *b) {
    return json_equal(a->message, b->message) || (a->role == b->role && json_equal(a->content, b->content) &&
                                                  !has_more(a->message) && !has_more(b->message));
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

enum status conversation_render(const struct conversation *c, int64_t first, int64_t end, struct text *out,
                                bool *unknown) {
    *unknown = false;
    for (int64_t i = first; i < end; i++) {
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
