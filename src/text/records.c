#include "text/records.h"

#include <math.h>
#include <string.h>

#include "text/chat.h"
#include "text/messages.h"
#include "text/record_label.h"
#include "text/records_internal.h"
#include "util/mem.h"

static const struct {
    const char *name;
    enum record_format format;
} FORMATS[] = {
    {"auto", FORMAT_AUTO},
    {"hh", FORMAT_HH},
    {"preference", FORMAT_PREFERENCE},
    {"prompt_completion", FORMAT_PROMPT_COMPLETION},
    {"prompt", FORMAT_PROMPT},
    {"responses", FORMAT_RESPONSES},
    {"shp", FORMAT_SHP},
    {"ultrafeedback", FORMAT_ULTRAFEEDBACK},
    {"alpaca", FORMAT_ALPACA},
    {"text", FORMAT_TEXT},
    {"unpaired", FORMAT_UNPAIRED},
    {"choices", FORMAT_CHOICES},
    {"chosen_lists", FORMAT_CHOSEN_LISTS},
};

const char *record_format_name(enum record_format format) {
    for (int i = 0; i < COUNT_OF(FORMATS); i++) {
        if (FORMATS[i].format == format) {
            return FORMATS[i].name;
        }
    }
    return "unknown";
}

void record_text_free(struct record_text *r) {
    text_free(&r->prompt);
    text_free(&r->subset);
    for (int i = 0; i < RECORD_RESPONSES_MAX; i++) {
        text_free(&r->responses[i]);
        mem_free(r->response_marks[i].input.data);
        mem_free(r->response_marks[i].trained.data);
    }
    mem_free(r->prompt_marks.input.data);
    mem_free(r->turns.data);
    for (int i = 0; i < COUNT_OF(r->rendered); i++) {
        template_output_free(&r->rendered[i]);
    }
}

bool record_has(const json_t *record, const char *key) {
    const json_t *value = json_object_get(record, key);
    return value && !json_is_null(value);
}

/* What stands before chosen and rejected; NULL: nothing. */
const json_t *record_context(const json_t *record) {
    static const char *const keys[] = {"prompt", "conversations", "messages"};
    for (int i = 0; i < COUNT_OF(keys); i++) {
        if (record_has(record, keys[i])) {
            return json_object_get(record, keys[i]);
        }
    }
    return NULL;
}

/* {"data": [{…}, …]}: NULL, or the key. */
static const char *wrapper_of(const json_t *record) {
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)record, key, value) {
        if (json_is_object(json_array_get(value, 0))) {
            return key;
        }
    }
    return NULL;
}

static enum status unknown_format(const json_t *record, const char *where) {
    const char *wrapper = wrapper_of(record);
    if (wrapper) {
        return fail(ERR_DATA,
                    "%s: no known record format has these keys; where \"%s\" holds the records, write them "
                    "one a line, or as an array alone",
                    where, wrapper);
    }
    char keys[256] = "";
    size_t used = 0;
    json_t *object = (json_t *)(uintptr_t)record; /* Jansson's iterator takes no const; nothing is changed */
    for (void *at = json_object_iter(object); at; at = json_object_iter_next(object, at)) {
        const char *key = json_object_iter_key(at);
        size_t n = strlen(key);
        if (used + n + 3 > sizeof keys) {
            break;
        }
        memcpy(keys + used, used ? ", " : "", used ? 2 : 0);
        used += used ? 2 : 0;
        memcpy(keys + used, key, n + 1);
        used += n;
    }
    return fail(ERR_DATA, "%s: no known record format has the keys: %s; set prepare.format", where, keys);
}

static enum record_format pair_format(const json_t *record) {
    const json_t *chosen = json_object_get(record, "chosen");
    if (json_is_string(json_array_get(chosen, 0))) {
        return FORMAT_CHOSEN_LISTS;
    }
    bool alone = !record_context(record) && !is_conversation(chosen);
    if (alone && record_has(record, "instruction")) {
        return FORMAT_ALPACA;
    }
    bool transcript = json_is_string(chosen) && strstr(json_string_value(chosen), TURN_ASSISTANT);
    return alone && transcript ? FORMAT_HH : FORMAT_PREFERENCE;
}

enum status record_format_detect(const json_t *record, const char *where, enum record_format *out) {
    if (!json_is_object(record)) {
        return fail(ERR_DATA, "%s: a record must be an object", where);
    }
    bool prompt = record_has(record, "prompt");
    if (json_object_get(record, "chosen") && json_object_get(record, "rejected")) { /* null is an empty one */
        *out = pair_format(record);
    } else if (prompt && record_has(record, "choices") && record_has(record, "answer")) {
        *out = FORMAT_CHOICES;
    } else if (prompt && record_has(record, "completion") && record_has(record, "label")) {
        *out = FORMAT_UNPAIRED;
    } else if ((prompt && (record_has(record, "completion") || record_has(record, "response"))) ||
               record_has(record, "messages") || is_conversation(json_object_get(record, "conversations"))) {
        *out = FORMAT_PROMPT_COMPLETION;
    } else if (prompt && (record_has(record, "responses") || record_has(record, "response_0"))) {
        *out = FORMAT_RESPONSES;
    } else if (record_has(record, "history") && record_has(record, "human_ref_A")) {
        *out = FORMAT_SHP;
    } else if (record_has(record, "instruction") && record_has(record, "completions")) {
        *out = FORMAT_ULTRAFEEDBACK;
    } else if (record_has(record, "instruction") && json_object_get(record, "output")) {
        *out = FORMAT_ALPACA;
    } else if (prompt) {
        *out = FORMAT_PROMPT;
    } else if (record_has(record, "text")) {
        *out = FORMAT_TEXT;
    } else {
        return unknown_format(record, where);
    }
    return OK;
}

void record_text_clear(struct record_text *r) {
    text_clear(&r->prompt);
    text_clear(&r->subset);
    text_clear(&r->responses[0]);
    text_clear(&r->responses[1]);
    r->n_responses = r->n_pairs = r->n_skipped = r->n_ties = 0;
    r->dropped = NULL;
    r->found_prompt = false;
    r->detail[0] = '\0';
    r->n_untrained = r->n_behind = 0;
    r->prompt_marks.input.count = r->turns.count = 0;
    r->n_judged = 0;
    for (int i = 0; i < RECORD_RESPONSES_MAX; i++) {
        for (int j = 0; r->objectives && j < r->objectives->n; j++) {
            r->named[i][j] = NAN;
        }
        r->response_marks[i].input.count = r->response_marks[i].trained.count = 0;
        r->worths[i] = NAN;
    }
}

enum status record_drop(struct record_text *r, const char *reason) {
    r->dropped = reason;
    return OK;
}

enum status record_string(const json_t *record, const char *key, const char *where, const char **s,
                          size_t *n) {
    const json_t *value = json_object_get(record, key);
    if (json_is_null(value)) { /* what an empty text is in some exports */
        *s = "";
        *n = 0;
        return OK;
    }
    if (!json_is_string(value)) {
        return fail(ERR_DATA, "%s: \"%s\" must be a string", where, key);
    }
    *s = json_string_value(value);
    *n = json_string_length(value);
    return OK;
}

enum status record_append(struct text *out, const json_t *record, const char *key, const char *where) {
    const char *s;
    size_t n;
    TRY(record_string(record, key, where, &s, &n));
    return text_append(out, s, n);
}

/* The next response's place; it counts once record_add_response() says so. */
enum status record_next(struct record_text *r, const char *where, struct text **out) {
    if (r->n_responses == RECORD_RESPONSES_MAX) {
        return fail(ERR_DATA, "%s: more than %d responses", where, RECORD_RESPONSES_MAX);
    }
    *out = &r->responses[r->n_responses];
    text_clear(*out);
    return OK;
}

void record_add_response(struct record_text *r, double score) {
    if (text_blank(&r->responses[r->n_responses])) {
        r->worths[r->n_responses] = NAN;
        for (int j = 0; r->objectives && j < r->objectives->n; j++) {
            r->named[r->n_responses][j] = NAN; /* not the next one's */
        }
        r->n_skipped++;
        return;
    }
    r->scores[r->n_responses++] = score;
}

void record_add_pair(struct record_text *r, int chosen, int rejected, double margin) {
    r->pairs[r->n_pairs].chosen = chosen;
    r->pairs[r->n_pairs].rejected = rejected;
    r->pairs[r->n_pairs].margin = margin;
    r->pairs[r->n_pairs].line = 0;
    r->pairs[r->n_pairs++].labeled = true;
}

/* All pairs of different scores, winner first. */
void record_add_scored_pairs(struct record_text *r) {
    for (int i = 0; i < r->n_responses; i++) {
        for (int j = i + 1; j < r->n_responses; j++) {
            if (r->scores[i] > r->scores[j]) {
                record_add_pair(r, i, j, NAN);
            } else if (r->scores[i] < r->scores[j]) {
                record_add_pair(r, j, i, NAN);
            } else if (r->scores[i] == r->scores[j]) {
                r->n_ties++;
            }
        }
    }
}

/* first: of the response's turns. */
static enum status take_chat(const struct conversation *c, const json_t *record, bool all, int64_t first,
                             struct record_text *r) {
    if (all) {
        TRY(chat_all_turns(r, record, c));
    } else if (chat_ends(r, c)) {
        TRY(chat_prompt(r, record, c, first));
        TRY(r->dropped ? OK : chat_response(r, record, c, first, 0));
    }
    if (!r->dropped) {
        record_add_response(r, NAN);
    }
    return OK;
}

static enum status parse_messages(const json_t *record, const json_t *first, const json_t *second,
                                  const char *where, struct record_text *r) {
    struct conversation c = {0};
    enum status st = OK;
    TRY_TO(done, conversation_add(&c, first, where));
    int64_t prompt_turns = c.count;
    TRY_TO(done, second ? conversation_add(&c, second, where) : OK);
    st = take_chat(&c, record, !second && r->chat && r->chat->all_turns,
                   second && prompt_turns < c.count ? prompt_turns : c.count - 1, r);
done:
    conversation_free(&c);
    return st;
}

static enum status take_completion(const json_t *record, const char *where, struct record_text *r) {
    const json_t *prompt = json_object_get(record, "prompt");
    const json_t *completion = json_object_get(record, "completion");
    const json_t *messages =
        json_object_get(record, record_has(record, "messages") ? "messages" : "conversations");
    if (messages && !completion) {
        TRY(parse_messages(record, messages, NULL, where, r));
    } else if (is_conversation(prompt)) {
        if (!completion) {
            return fail(ERR_DATA, "%s: \"completion\" is missing", where);
        }
        TRY(parse_messages(record, prompt, completion, where, r));
    } else {
        TRY(record_append(&r->prompt, record, "prompt", where));
        TRY(record_append(&r->responses[0], record, "completion", where));
        record_add_response(r, NAN);
    }
    return !r->dropped && r->n_responses == 0 ? record_drop(r, "empty response") : OK;
}

static enum status parse_prompt_completion(const json_t *record, const char *where, struct record_text *r) {
    bool label = true; /* unpaired data: only desired completions are examples */
    TRY(json_take_bool(record, "label", where, &label));
    return label ? take_completion(record, where, r) : record_drop(r, RECORD_UNWANTED);
}

static enum status parse_unpaired(const json_t *record, const char *where, struct record_text *r) {
    TRY(record_label(record, where, &r->desirable));
    return r->desirable >= 0 ? take_completion(record, where, r) : record_drop(r, "no label");
}

/* A prompt alone: a string, or messages (also under the names that whole chats have) with the assistant's
 * turn opened (or left open, if it has begun). */
enum status record_take_prompt(const json_t *record, const char *where, struct record_text *r) {
    const json_t *prompt = record_context(record);
    if (!is_conversation(prompt)) {
        return record_append(&r->prompt, record, "prompt", where);
    }
    struct conversation c = {0};
    enum status st = conversation_add(&c, prompt, where);
    st = st == OK ? chat_prompt(r, record, &c, c.count) : st;
    conversation_free(&c);
    return st;
}

static enum status parse(enum record_format format, const json_t *record, const char *where,
                         struct record_text *out) {
    switch (format) {
    case FORMAT_HH:
    case FORMAT_PREFERENCE:
        return record_parse_pair(record, where, out);
    case FORMAT_PROMPT_COMPLETION:
        return parse_prompt_completion(record, where, out);
    case FORMAT_UNPAIRED:
        return parse_unpaired(record, where, out);
    case FORMAT_TEXT:
        TRY(record_append(&out->responses[0], record, "text", where));
        record_add_response(out, NAN);
        return out->n_responses == 0 ? record_drop(out, "empty text") : OK;
    case FORMAT_PROMPT:
        return record_take_prompt(record, where, out);
    case FORMAT_RESPONSES:
        return record_parse_responses(record, where, out);
    case FORMAT_CHOICES:
    case FORMAT_CHOSEN_LISTS:
        return record_parse_choices(record, where, out);
    case FORMAT_SHP:
        return record_parse_shp(record, where, out);
    case FORMAT_ULTRAFEEDBACK:
        return record_parse_ultrafeedback(record, where, out);
    case FORMAT_ALPACA: /* has become another */
    case FORMAT_AUTO:
        break;
    }
    return fail(ERR_INTERNAL, "unknown record format %d", (int)format);
}

/* Questions with their answers go to a template only where strings do. */
static bool are_questions(enum record_format format) {
    return format == FORMAT_SHP || format == FORMAT_ULTRAFEEDBACK;
}

enum status record_parse(enum record_format format, const json_t *record, const char *where,
                         struct record_text *out) {
    if (!json_is_object(record)) {
        return fail(ERR_DATA, "%s: a record must be an object", where);
    }
    record_text_clear(out);
    const char *subset = "";
    TRY(json_take_string(record, "subset", where, &subset));
    TRY(text_puts(&out->subset, subset));
    if (format == FORMAT_AUTO) {
        TRY(record_format_detect(record, where, &format));
        /* Alone it is an example, or none. */
        format = format == FORMAT_UNPAIRED ? FORMAT_PROMPT_COMPLETION : format;
    }
    const struct chat_format *chat = out->chat;
    json_t *turns = NULL;
    TRY(record_to_turns(chat, record, where, &format, &turns));
    out->chat = are_questions(format) && chat && !chat->strings ? NULL : chat;
    enum status st = parse(format, turns ? turns : record, where, out);
    out->chat = chat;
    json_decref(turns);
    return st;
}

bool record_formats_join(enum record_format a, enum record_format b) {
    bool pairs = (a == FORMAT_HH || a == FORMAT_PREFERENCE) && (b == FORMAT_HH || b == FORMAT_PREFERENCE);
    return a == b || pairs;
}

static enum record_texts texts_of(const json_t *value) {
    return is_conversation(value) ? TEXTS_MESSAGES : json_is_string(value) ? TEXTS_STRINGS : TEXTS_NONE;
}

enum record_texts record_texts(enum record_format format, const json_t *record) {
    const json_t *prompt = json_object_get(record, "prompt");
    switch (format) {
    case FORMAT_PREFERENCE:
        return texts_of(json_object_get(record, "chosen"));
    case FORMAT_PROMPT_COMPLETION:
    case FORMAT_UNPAIRED:
        return record_has(record, "messages") || record_has(record, "conversations") ? TEXTS_MESSAGES
                                                                                     : texts_of(prompt);
    case FORMAT_PROMPT:
    case FORMAT_RESPONSES:
    case FORMAT_CHOICES:
    case FORMAT_CHOSEN_LISTS:
        return texts_of(record_context(record));
    case FORMAT_ALPACA:
        return TEXTS_MESSAGES;
    case FORMAT_AUTO:
        return TEXTS_NONE;
    case FORMAT_TEXT:
    case FORMAT_HH:
    case FORMAT_SHP:
    case FORMAT_ULTRAFEEDBACK:
        break;
    }
    return TEXTS_STRINGS;
}

bool record_is_chat(enum record_format format, const json_t *record) {
    return record_texts(format, record) == TEXTS_MESSAGES;
}
