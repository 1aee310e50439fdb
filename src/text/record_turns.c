/* Records whose strings are turns of a conversation, as messages; and fields of other names under those that
 * the parsers read. The record itself is not changed: what comes out shares its values. */
#include <stdio.h>
#include <string.h>

#include "text/records_internal.h"

static const char HUMAN[] = "\n\nHuman:";

/* Takes over value; false where memory ran out. */
static bool put(json_t *object, const char *key, json_t *value) {
    return json_object_set_new(object, key, value) == 0;
}

/* Borrows; NULL gives NULL. */
static json_t *share(const json_t *value) {
    return json_incref((json_t *)(uintptr_t)value); /* Jansson counts references in what it is given */
}

static json_t *new_turn(const char *role, const char *s, size_t n) {
    return json_pack("{s:s, s:o}", "role", role, "content", json_stringn(s, n));
}

static bool is_blank(char c) {
    return c != '\0' && strchr(" \t\r\n", c);
}

static void strip(const char **s, size_t *n) {
    while (*n > 0 && is_blank(**s)) {
        ++*s;
        --*n;
    }
    while (*n > 0 && is_blank((*s)[*n - 1])) {
        --*n;
    }
}

/* [{role, content}] of one string; what is no string stays (its parser will say so). */
static json_t *one_turn(const char *role, const json_t *value) {
    if (!json_is_string(value) && !json_is_null(value)) {
        return value ? share(value) : json_null();
    }
    const char *s = json_is_null(value) ? "" : json_string_value(value);
    size_t n = json_string_length(value);
    strip(&s, &n);
    return json_pack("[o]", new_turn(role, s, n));
}

/* Where the next turn's marker begins, else n. */
static size_t next_marker(const char *s, size_t n, size_t from) {
    for (size_t at = from; at < n; at++) {
        size_t left = n - at;
        if ((left >= strlen(HUMAN) && memcmp(s + at, HUMAN, strlen(HUMAN)) == 0) ||
            (left >= strlen(TURN_ASSISTANT) && memcmp(s + at, TURN_ASSISTANT, strlen(TURN_ASSISTANT)) == 0)) {
            return at;
        }
    }
    return n;
}

/* The turns of a transcript, without an opened one at its end; a string without a marker is a user's. */
static json_t *turns_of(const char *s, size_t n) {
    json_t *list = json_array();
    size_t at = next_marker(s, n, 0);
    const char *role = at == n ? "user" : "system";
    size_t begin = 0;
    for (;;) {
        const char *text = s + begin;
        size_t len = at - begin;
        strip(&text, &len);
        if (len > 0 && json_array_append_new(list, new_turn(role, text, len)) != 0) {
            json_decref(list);
            return NULL;
        }
        if (at == n) {
            return list;
        }
        bool human = s[at + 2] == 'H';
        role = human ? "user" : "assistant";
        begin = at + (human ? strlen(HUMAN) : strlen(TURN_ASSISTANT));
        at = next_marker(s, n, begin);
    }
}

static json_t *turns_of_value(const json_t *value) {
    return json_is_string(value) ? turns_of(json_string_value(value), json_string_length(value))
                                 : share(value);
}

/* Pairs. */

static bool pair_to_turns(const json_t *record, json_t *out) {
    const json_t *chosen = json_object_get(record, "chosen");
    const json_t *rejected = json_object_get(record, "rejected");
    if (record_has(record, "prompt")) {
        return put(out, "prompt", turns_of_value(json_object_get(record, "prompt"))) &&
               put(out, "chosen", one_turn("assistant", chosen)) &&
               put(out, "rejected", one_turn("assistant", rejected));
    }
    const char *a = json_is_string(chosen) ? json_string_value(chosen) : "";
    const char *b = json_is_string(rejected) ? json_string_value(rejected) : "";
    size_t a_n = json_string_length(chosen);
    size_t b_n = json_string_length(rejected);
    size_t at = record_response_at(a, a_n);
    if (at == 0 || b_n < at || memcmp(a, b, at) != 0) {
        return true; /* the parser says what is wrong */
    }
    json_t *ends[2] = {json_stringn(a + at, a_n - at), json_stringn(b + at, b_n - at)};
    bool done = put(out, "prompt", turns_of(a, at)) && put(out, "chosen", one_turn("assistant", ends[0])) &&
                put(out, "rejected", one_turn("assistant", ends[1]));
    json_decref(ends[0]);
    json_decref(ends[1]);
    return done;
}

static bool strings_to_turns(const json_t *record, enum record_format format, json_t *out) {
    switch (format) {
    case FORMAT_HH:
    case FORMAT_PREFERENCE:
        return pair_to_turns(record, out);
    case FORMAT_PROMPT_COMPLETION:
    case FORMAT_UNPAIRED:
        return put(out, "prompt", turns_of_value(json_object_get(record, "prompt"))) &&
               put(out, "completion", one_turn("assistant", json_object_get(out, "completion")));
    case FORMAT_PROMPT:
    case FORMAT_RESPONSES:
    case FORMAT_CHOICES:
    case FORMAT_CHOSEN_LISTS: /* without a prompt the parser says what is wrong */
        return !json_object_get(record, "prompt") ||
               put(out, "prompt", turns_of_value(json_object_get(record, "prompt")));
    case FORMAT_AUTO:
    case FORMAT_SHP:
    case FORMAT_ULTRAFEEDBACK:
    case FORMAT_ALPACA:
    case FORMAT_TEXT:
        break;
    }
    return true;
}

/* Alpaca. */

static bool add_string(json_t *list, const char *role, const json_t *value) {
    bool some = json_is_string(value) && json_string_length(value) > 0;
    return !some || json_array_append_new(
                        list, new_turn(role, json_string_value(value), json_string_length(value))) == 0;
}

/* System, history, then instruction and input with a newline between, as LLaMA-Factory has them. */
static enum status alpaca_prompt(const json_t *record, const char *where, json_t *list) {
    struct text question = {0};
    size_t i;
    const json_t *round;
    const char *input = "";
    size_t input_n = 0;
    bool fine = add_string(list, "system", json_object_get(record, "system"));
    json_array_foreach(json_object_get(record, "history"), i, round) {
        fine = fine && add_string(list, "user", json_array_get(round, 0)) &&
               add_string(list, "assistant", json_array_get(round, 1));
    }
    enum status st = record_append(&question, record, "instruction", where);
    st = st == OK && record_has(record, "input") ? record_string(record, "input", where, &input, &input_n)
                                                 : st;
    st = st == OK && input_n > 0 && question.len > 0 ? text_puts(&question, "\n") : st;
    st = st == OK && input_n > 0 ? text_append(&question, input, input_n) : st;
    fine =
        fine && st == OK &&
        json_array_append_new(list, new_turn("user", question.len ? question.data : "", question.len)) == 0;
    text_free(&question);
    return st == OK && !fine ? fail(ERR_SYSTEM, "out of memory: messages") : st;
}

static enum status alpaca(const json_t *record, const char *where, enum record_format *format, json_t *out) {
    const json_t *output = json_object_get(record, "output");
    const json_t *sides[2] = {json_object_get(record, "chosen"), json_object_get(record, "rejected")};
    json_t *list = json_array();
    enum status st = list ? alpaca_prompt(record, where, list) : fail(ERR_SYSTEM, "out of memory: messages");
    bool fine = put(out, "prompt", list);
    TRY(st);
    if (json_is_array(output)) {
        if (json_array_size(output) != 2) {
            return fail(ERR_DATA, "%s: a list as \"output\" must be [chosen, rejected]", where);
        }
        sides[0] = json_array_get(output, 0);
        sides[1] = json_array_get(output, 1);
    }
    bool pair = sides[0] || sides[1];
    *format = pair ? FORMAT_PREFERENCE : FORMAT_PROMPT_COMPLETION;
    fine = fine && (pair ? put(out, "chosen", one_turn("assistant", sides[0])) &&
                               put(out, "rejected", one_turn("assistant", sides[1]))
                         : put(out, "completion", one_turn("assistant", output)));
    return fine ? OK : fail(ERR_SYSTEM, "out of memory: messages");
}

/* Names. */

/* response_0, response_1, … as a list. */
static bool list_numbered(const json_t *record, json_t *out) {
    json_t *list = json_array();
    for (int i = 0;; i++) {
        char key[32];
        snprintf(key, sizeof key, "response_%d", i);
        const json_t *value = json_object_get(record, key);
        if (!value) {
            return put(out, "responses", list);
        }
        if (json_array_append_new(list, share(value)) != 0) {
            json_decref(list);
            return false;
        }
    }
}

static bool needs_name(enum record_format format, const json_t *record) {
    if (format == FORMAT_RESPONSES) {
        return !json_object_get(record, "responses") && record_has(record, "response_0");
    }
    return format == FORMAT_PROMPT_COMPLETION && !json_object_get(record, "completion") &&
           record_has(record, "prompt") && record_has(record, "response");
}

static bool rename_fields(enum record_format format, const json_t *record, json_t *out) {
    return format == FORMAT_RESPONSES ? list_numbered(record, out)
                                      : put(out, "completion", share(json_object_get(record, "response")));
}

enum status record_to_turns(const struct chat_format *chat, const json_t *record, const char *where,
                            enum record_format *format, json_t **out) {
    bool named = needs_name(*format, record);
    bool turned = chat && chat->strings && chat->templates && record_texts(*format, record) == TEXTS_STRINGS;
    *out = NULL;
    if (!named && !turned && *format != FORMAT_ALPACA) {
        return OK;
    }
    *out = json_copy((json_t *)(uintptr_t)record);
    bool fine = *out && (!named || rename_fields(*format, record, *out));
    enum status st = fine ? OK : fail(ERR_SYSTEM, "out of memory: a record");
    if (st == OK && *format == FORMAT_ALPACA) {
        st = alpaca(record, where, format, *out);
    } else if (st == OK && turned && !strings_to_turns(record, *format, *out)) {
        st = fail(ERR_SYSTEM, "out of memory: a record");
    }
    if (st != OK) {
        json_decref(*out);
        *out = NULL;
    }
    return st;
}
