#include "text/records.h"

#include <math.h>
#include <string.h>

#include "text/chat.h"
#include "text/messages.h"
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

static bool has(const json_t *record, const char *key) {
    const json_t *value = json_object_get(record, key);
    return value && !json_is_null(value);
}

static bool is_transcript(const json_t *value) {
    return json_is_string(value) && strstr(json_string_value(value), TURN_ASSISTANT) != NULL;
}

/* What stands before chosen and rejected; NULL: nothing. */
static const json_t *context_of(const json_t *record) {
    static const char *const keys[] = {"prompt", "conversations", "messages"};
    for (int i = 0; i < COUNT_OF(keys); i++) {
        if (has(record, keys[i])) {
            return json_object_get(record, keys[i]);
        }
    }
    return NULL;
}

enum status record_format_detect(const json_t *record, const char *where, enum record_format *out) {
    if (!json_is_object(record)) {
        return fail(ERR_DATA, "%s: a record must be an object", where);
    }
    bool prompt = has(record, "prompt");
    if (json_object_get(record, "chosen") && json_object_get(record, "rejected")) { /* null is an empty one */
        bool hh = !context_of(record) && is_transcript(json_object_get(record, "chosen"));
        *out = hh ? FORMAT_HH : FORMAT_PREFERENCE;
    } else if ((prompt && has(record, "completion")) || has(record, "messages") ||
               is_conversation(json_object_get(record, "conversations"))) {
        *out = FORMAT_PROMPT_COMPLETION;
    } else if (prompt && has(record, "responses")) {
        *out = FORMAT_RESPONSES;
    } else if (has(record, "history") && has(record, "human_ref_A")) {
        *out = FORMAT_SHP;
    } else if (has(record, "instruction") && has(record, "completions")) {
        *out = FORMAT_ULTRAFEEDBACK;
    } else if (prompt) {
        *out = FORMAT_PROMPT;
    } else {
        char keys[256] = "";
        size_t used = 0;
        json_t *object =
            (json_t *)(uintptr_t)record; /* Jansson's iterator takes no const; nothing is changed */
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
    return OK;
}

void record_text_clear(struct record_text *r) {
    text_clear(&r->prompt);
    text_clear(&r->subset);
    text_clear(&r->responses[0]);
    text_clear(&r->responses[1]);
    r->n_responses = r->n_pairs = r->n_skipped = r->n_ties = 0;
    r->dropped = NULL;
    r->detail[0] = '\0';
    r->n_untrained = r->n_behind = 0;
    r->prompt_marks.input.count = r->turns.count = 0;
    for (int i = 0; i < RECORD_RESPONSES_MAX; i++) {
        r->response_marks[i].input.count = r->response_marks[i].trained.count = 0;
        r->worths[i] = NAN;
    }
}

static enum status drop(struct record_text *r, const char *reason) {
    r->dropped = reason;
    return OK;
}

static enum status need_string(const json_t *record, const char *key, const char *where, const char **s,
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

static enum status append_key(struct text *out, const json_t *record, const char *key, const char *where) {
    const char *s;
    size_t n;
    TRY(need_string(record, key, where, &s, &n));
    return text_append(out, s, n);
}

/* "\n\nHuman: question\n\nAssistant:" */
static enum status append_question(struct text *out, const json_t *record, const char *key,
                                   const char *where) {
    TRY(text_puts(out, "\n\nHuman: "));
    TRY(append_key(out, record, key, where));
    return text_puts(out, TURN_ASSISTANT);
}

/* The next response's place; it counts once add_response() says so. */
static enum status next_response(struct record_text *r, const char *where, struct text **out) {
    if (r->n_responses == RECORD_RESPONSES_MAX) {
        return fail(ERR_DATA, "%s: more than %d responses", where, RECORD_RESPONSES_MAX);
    }
    *out = &r->responses[r->n_responses];
    text_clear(*out);
    return OK;
}

static void add_response(struct record_text *r, double score) {
    if (text_blank(&r->responses[r->n_responses])) {
        r->worths[r->n_responses] = NAN;
        r->n_skipped++;
        return;
    }
    r->scores[r->n_responses++] = score;
}

static void add_pair(struct record_text *r, int chosen, int rejected, double margin) {
    r->pairs[r->n_pairs].chosen = chosen;
    r->pairs[r->n_pairs].rejected = rejected;
    r->pairs[r->n_pairs].margin = margin;
    r->pairs[r->n_pairs].line = 0;
    r->pairs[r->n_pairs++].labeled = true;
}

/* All pairs of different scores, winner first. */
static void add_scored_pairs(struct record_text *r) {
    for (int i = 0; i < r->n_responses; i++) {
        for (int j = i + 1; j < r->n_responses; j++) {
            if (r->scores[i] > r->scores[j]) {
                add_pair(r, i, j, NAN);
            } else if (r->scores[i] < r->scores[j]) {
                add_pair(r, j, i, NAN);
            } else if (r->scores[i] == r->scores[j]) {
                r->n_ties++;
            }
        }
    }
}

/* "worth": [chosen's, rejected's]. */
static enum status take_worths(struct record_text *r, const json_t *record, const char *where) {
    const json_t *list = json_object_get(record, "worth");
    if (!list || json_is_null(list)) {
        return OK;
    }
    for (size_t i = 0; i < 2; i++) {
        const json_t *worth = json_array_get(list, i);
        if (json_array_size(list) != 2 || !json_is_number(worth)) {
            return fail(ERR_DATA, "%s: \"worth\" of a pair must be a list of two numbers", where);
        }
        r->worths[i] = json_number_value(worth);
    }
    return OK;
}

/* Responses 0 and 1 are filled: chosen, rejected. */
static enum status finish_pair(struct record_text *r, const json_t *record, const char *where) {
    double margin = NAN;
    r->scores[0] = r->scores[1] = NAN;
    TRY(json_take_number(record, "margin", where, &margin));
    TRY(json_take_number(record, "chosen_score", where, &r->scores[0]));
    TRY(json_take_number(record, "rejected_score", where, &r->scores[1]));
    TRY(json_take_number(record, "score_chosen", where, &r->scores[0]));
    TRY(json_take_number(record, "score_rejected", where, &r->scores[1]));
    TRY(take_worths(r, record, where));
    if (text_blank(&r->responses[0]) || text_blank(&r->responses[1])) {
        return drop(r, "empty response");
    }
    r->n_responses = 2;
    add_pair(r, 0, 1, margin);
    return OK;
}

/* Where the response of a transcript begins: after its last "\n\nAssistant:"; 0 if there is none. */
static size_t response_at(const char *s, size_t n) {
    size_t marker = strlen(TURN_ASSISTANT);
    for (size_t end = n; end >= marker; end--) {
        if (memcmp(s + end - marker, TURN_ASSISTANT, marker) == 0) {
            return end;
        }
    }
    return 0;
}

static enum status parse_hh(const json_t *record, const char *where, struct record_text *r) {
    const char *chosen;
    const char *rejected;
    size_t chosen_n;
    size_t rejected_n;
    TRY(need_string(record, "chosen", where, &chosen, &chosen_n));
    TRY(need_string(record, "rejected", where, &rejected, &rejected_n));
    size_t at = response_at(chosen, chosen_n);
    if (at == 0) {
        return drop(r, has(record, "question") || has(record, "instruction") || has(record, "input")
                           ? "no \"prompt\" beside chosen and rejected"
                           : "no turn marker");
    }
    if (rejected_n < at || memcmp(chosen, rejected, at) != 0) {
        return drop(r, "prompts differ");
    }
    TRY(text_append(&r->prompt, chosen, at));
    TRY(text_append(&r->responses[0], chosen + at, chosen_n - at));
    TRY(text_append(&r->responses[1], rejected + at, rejected_n - at));
    return finish_pair(r, record, where);
}

/* chosen and rejected as lists of messages, each the whole conversation or what follows the prompt. */
static enum status split_conversations(const struct conversation *chosen, const struct conversation *rejected,
                                       const json_t *record, struct record_text *r) {
    if (!chat_ends(r, chosen)) {
        return OK;
    }
    int64_t shared = 0;
    while (shared < chosen->count - 1 && shared < rejected->count - 1 &&
           turns_equal(&chosen->turns[shared], &rejected->turns[shared])) {
        shared++;
    }
    if (shared < chosen->count - 1 || shared < rejected->count - 1) {
        return drop(r, "prompts differ");
    }
    if (rejected->turns[rejected->count - 1].role != ROLE_ASSISTANT) {
        return drop(r, "last message is not the assistant's");
    }
    TRY(chat_prompt(r, record, chosen, shared));
    TRY(r->dropped ? OK : chat_response(r, record, chosen, shared, 0));
    return r->dropped ? OK : chat_response(r, record, rejected, shared, 1);
}

static enum status parse_conversations(const json_t *record, const json_t *prompt, const char *where,
                                       struct record_text *r) {
    struct conversation chosen = {0};
    struct conversation rejected = {0};
    enum status st = OK;
    const json_t *sides[2] = {json_object_get(record, "chosen"), json_object_get(record, "rejected")};
    struct conversation *out[2] = {&chosen, &rejected};
    for (int i = 0; i < 2; i++) {
        /* A prompt given as a string beside whole conversations only repeats their first turn. */
        if (is_conversation(prompt)) {
            TRY_TO(done, conversation_add(out[i], prompt, where));
        }
        TRY_TO(done, conversation_add(out[i], sides[i], where));
    }
    if (json_is_string(prompt) && (chosen.count < 2 || rejected.count < 2)) {
        st = fail(ERR_DATA, "%s: \"prompt\" is a string but \"chosen\" or \"rejected\" is a single message",
                  where);
        goto done;
    }
    TRY_TO(done, split_conversations(&chosen, &rejected, record, r));
    st = r->dropped ? OK : finish_pair(r, record, where);
done:
    conversation_free(&chosen);
    conversation_free(&rejected);
    return st;
}

static enum status parse_preference(const json_t *record, const char *where, struct record_text *r) {
    const json_t *prompt = context_of(record);
    if (json_is_null(json_object_get(record, "chosen")) ||
        json_is_null(json_object_get(record, "rejected"))) {
        return drop(r, "empty response");
    }
    if (is_conversation(json_object_get(record, "chosen"))) {
        return parse_conversations(record, prompt, where, r);
    }
    if (!prompt) {
        return parse_hh(record, where, r);
    }
    TRY(append_key(&r->prompt, record, "prompt", where));
    TRY(append_key(&r->responses[0], record, "chosen", where));
    TRY(append_key(&r->responses[1], record, "rejected", where));
    return finish_pair(r, record, where);
}

static enum status take_chat(const struct conversation *c, const json_t *record, bool all,
                             struct record_text *r) {
    if (all) {
        TRY(chat_all_turns(r, record, c));
    } else if (chat_ends(r, c)) {
        TRY(chat_prompt(r, record, c, c->count - 1));
        TRY(r->dropped ? OK : chat_response(r, record, c, c->count - 1, 0));
    }
    if (!r->dropped) {
        add_response(r, NAN);
    }
    return OK;
}

static enum status parse_messages(const json_t *record, const json_t *first, const json_t *second,
                                  const char *where, struct record_text *r) {
    struct conversation c = {0};
    enum status st = OK;
    TRY_TO(done, conversation_add(&c, first, where));
    int64_t prompt_turns = c.count;
    if (second) {
        TRY_TO(done, conversation_add(&c, second, where));
        if (c.count - prompt_turns > 1) {
            st = drop(r, "several messages in a response");
            goto done;
        }
    }
    st = take_chat(&c, record, !second && r->chat && r->chat->all_turns, r);
done:
    conversation_free(&c);
    return st;
}

static enum status parse_prompt_completion(const json_t *record, const char *where, struct record_text *r) {
    const json_t *prompt = json_object_get(record, "prompt");
    const json_t *completion = json_object_get(record, "completion");
    bool label = true; /* unpaired data: only desired completions are examples */
    TRY(json_take_bool(record, "label", where, &label));
    if (!label) {
        return drop(r, RECORD_UNWANTED);
    }
    const json_t *messages = json_object_get(record, has(record, "messages") ? "messages" : "conversations");
    if (messages && !completion) {
        TRY(parse_messages(record, messages, NULL, where, r));
    } else if (is_conversation(prompt)) {
        if (!completion) {
            return fail(ERR_DATA, "%s: \"completion\" is missing", where);
        }
        TRY(parse_messages(record, prompt, completion, where, r));
    } else {
        TRY(append_key(&r->prompt, record, "prompt", where));
        TRY(append_key(&r->responses[0], record, "completion", where));
        add_response(r, NAN);
    }
    return !r->dropped && r->n_responses == 0 ? drop(r, "empty response") : OK;
}

/* A prompt alone: a string, or messages with the assistant's turn opened (or left open, if it has begun). */
static enum status append_prompt(const json_t *record, const char *where, struct record_text *r) {
    const json_t *prompt = json_object_get(record, "prompt");
    if (!is_conversation(prompt)) {
        return append_key(&r->prompt, record, "prompt", where);
    }
    struct conversation c = {0};
    enum status st = conversation_add(&c, prompt, where);
    st = st == OK ? chat_prompt(r, record, &c, c.count) : st;
    conversation_free(&c);
    return st;
}

/* The text of a response in a list, behind the prompt that the record has. */
static enum status take_listed(const json_t *record, const json_t *text, const struct conversation *c,
                               struct record_text *r) {
    struct text *out = &r->responses[r->n_responses];
    if (!c || !chat_template(r, record)) {
        TRY(c ? text_puts(out, " ") : OK);
        return text_append(out, json_string_value(text), json_string_length(text));
    }
    struct conversation with = {0};
    json_t *message = json_pack("{s:s, s:O}", "role", "assistant", "content", (json_t *)(uintptr_t)text);
    enum status st = message ? OK : fail(ERR_SYSTEM, "out of memory: a message");
    for (int64_t i = 0; i < c->count && st == OK; i++) {
        st = conversation_add(&with, c->turns[i].message, "");
    }
    st = st == OK ? conversation_add(&with, message, "") : st;
    st = st == OK ? chat_response(r, record, &with, c->count, r->n_responses) : st;
    conversation_free(&with);
    json_decref(message);
    return st;
}

static enum status take_list(const json_t *record, const struct conversation *c, const char *where,
                             struct record_text *r) {
    const json_t *list = json_object_get(record, "responses");
    size_t i;
    const json_t *entry;
    json_array_foreach(list, i, entry) {
        struct text *out;
        double score = NAN;
        const json_t *text = json_is_string(entry) ? entry : json_object_get(entry, "text");
        if (!json_is_string(text)) {
            return fail(ERR_DATA, "%s: response %zu must be a string or have \"text\"", where, i);
        }
        TRY(next_response(r, where, &out));
        if (json_is_object(entry)) {
            TRY(json_take_number(entry, "score", where, &score));
            TRY(json_take_number(entry, "worth", where, &r->worths[r->n_responses]));
        }
        TRY(take_listed(record, text, c, r));
        add_response(r, score);
    }
    return OK;
}

static enum status parse_responses(const json_t *record, const char *where, struct record_text *r) {
    const json_t *prompt = json_object_get(record, "prompt");
    struct conversation c = {0};
    bool chat = is_conversation(prompt);
    if (!json_is_array(json_object_get(record, "responses"))) {
        return fail(ERR_DATA, "%s: \"responses\" must be a list", where);
    }
    TRY(append_prompt(record, where, r));
    enum status st = chat ? conversation_add(&c, prompt, where) : OK;
    st = st == OK && !r->dropped ? take_list(record, chat ? &c : NULL, where, r) : st;
    conversation_free(&c);
    TRY(st);
    add_scored_pairs(r);
    return !r->dropped && r->n_responses == 0 ? drop(r, "empty response") : OK;
}

static enum status parse_shp(const json_t *record, const char *where, struct record_text *r) {
    static const char *const texts[2] = {"human_ref_A", "human_ref_B"};
    static const char *const scores[2] = {"score_A", "score_B"};
    TRY(append_question(&r->prompt, record, "history", where));
    for (int i = 0; i < 2; i++) {
        r->scores[i] = NAN;
        TRY(json_take_number(record, scores[i], where, &r->scores[i]));
        TRY(text_puts(&r->responses[i], " "));
        TRY(append_key(&r->responses[i], record, texts[i], where));
        if (text_blank(&r->responses[i])) {
            return drop(r, "empty response");
        }
    }
    int64_t label = -1;
    TRY(json_take_int(record, "labels", where, &label));
    if (label > 1 || (label < 0 && has(record, "labels"))) {
        return fail(ERR_DATA, "%s: \"labels\" must be 1 (A is preferred) or 0", where);
    }
    r->n_responses = 2;
    if (label < 0) {
        add_scored_pairs(r);
    } else {
        add_pair(r, label == 1 ? 0 : 1, label == 1 ? 1 : 0, NAN);
    }
    return OK;
}

/* Mean of the four ratings; NaN where one is missing or no whole number ("N/A"). */
static double mean_rating(const json_t *completion) {
    static const char *const aspects[] = {"helpfulness", "honesty", "truthfulness", "instruction_following"};
    const json_t *annotations = json_object_get(completion, "annotations");
    double sum = 0;
    for (int i = 0; i < COUNT_OF(aspects); i++) {
        const json_t *rating = json_object_get(json_object_get(annotations, aspects[i]), "Rating");
        const char *s = json_is_string(rating) ? json_string_value(rating) : "";
        if (json_is_integer(rating)) {
            sum += (double)json_integer_value(rating);
        } else if (s[0] >= '0' && s[0] <= '9' && s[1] == '\0') {
            sum += s[0] - '0';
        } else {
            return NAN;
        }
    }
    return sum / COUNT_OF(aspects);
}

static enum status parse_ultrafeedback(const json_t *record, const char *where, struct record_text *r) {
    const json_t *list = json_object_get(record, "completions");
    if (!json_is_array(list)) {
        return fail(ERR_DATA, "%s: \"completions\" must be a list", where);
    }
    TRY(append_question(&r->prompt, record, "instruction", where));
    size_t i;
    const json_t *completion;
    json_array_foreach(list, i, completion) {
        double score = mean_rating(completion);
        if (isnan(score)) {
            r->n_skipped++;
            continue;
        }
        struct text *out;
        TRY(next_response(r, where, &out));
        TRY(text_puts(out, " "));
        TRY(append_key(out, completion, "response", where));
        add_response(r, score);
    }
    add_scored_pairs(r);
    return r->n_responses == 0 ? drop(r, "no rated response") : OK;
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
    }
    switch (format) {
    case FORMAT_HH:
        return parse_hh(record, where, out);
    case FORMAT_PREFERENCE:
        return parse_preference(record, where, out);
    case FORMAT_PROMPT_COMPLETION:
        return parse_prompt_completion(record, where, out);
    case FORMAT_PROMPT:
        return append_prompt(record, where, out);
    case FORMAT_RESPONSES:
        return parse_responses(record, where, out);
    case FORMAT_SHP:
        return parse_shp(record, where, out);
    case FORMAT_ULTRAFEEDBACK:
        return parse_ultrafeedback(record, where, out);
    case FORMAT_AUTO:
        break;
    }
    return fail(ERR_INTERNAL, "unknown record format %d", (int)format);
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
        return has(record, "messages") || has(record, "conversations") ? TEXTS_MESSAGES : texts_of(prompt);
    case FORMAT_PROMPT:
    case FORMAT_RESPONSES:
        return texts_of(prompt);
    case FORMAT_AUTO:
        return TEXTS_NONE;
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
