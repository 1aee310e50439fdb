#include "text/records.h"

#include <math.h>
#include <string.h>

#include "text/messages.h"

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
    }
}

static bool has(const json_t *record, const char *key) {
    const json_t *value = json_object_get(record, key);
    return value && !json_is_null(value);
}

static bool is_transcript(const json_t *value) {
    return json_is_string(value) && strstr(json_string_value(value), TURN_ASSISTANT) != NULL;
}

enum status record_format_detect(const json_t *record, const char *where, enum record_format *out) {
    if (!json_is_object(record)) {
        return fail(ERR_DATA, "%s: a record must be an object", where);
    }
    bool prompt = has(record, "prompt");
    if (has(record, "chosen") && has(record, "rejected")) {
        bool hh = !prompt && is_transcript(json_object_get(record, "chosen"));
        *out = hh ? FORMAT_HH : FORMAT_PREFERENCE;
    } else if ((prompt && has(record, "completion")) || has(record, "messages")) {
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
    for (int i = 0; i < RECORD_RESPONSES_MAX; i++) {
        r->worths[i] = NAN;
    }
}

static enum status drop(struct record_text *r, const char *reason) {
    r->dropped = reason;
    return OK;
}

static bool is_empty(const struct text *t) {
    for (size_t i = 0; i < t->len; i++) {
        if (!strchr(" \t\r\n\v\f", t->data[i]) || t->data[i] == '\0') {
            return false;
        }
    }
    return true;
}

static enum status need_string(const json_t *record, const char *key, const char *where, const char **s,
                               size_t *n) {
    const json_t *value = json_object_get(record, key);
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
    if (is_empty(&r->responses[r->n_responses])) {
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
    if (is_empty(&r->responses[0]) || is_empty(&r->responses[1])) {
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
        return drop(r, "no turn marker");
    }
    if (rejected_n < at || memcmp(chosen, rejected, at) != 0) {
        return drop(r, "prompts differ");
    }
    TRY(text_append(&r->prompt, chosen, at));
    TRY(text_append(&r->responses[0], chosen + at, chosen_n - at));
    TRY(text_append(&r->responses[1], rejected + at, rejected_n - at));
    return finish_pair(r, record, where);
}

/* The last turn of c as a response, which follows "\n\nAssistant:". */
static enum status last_turn(const struct conversation *c, struct text *out) {
    struct text content = {0};
    enum status st = turn_text(&c->turns[c->count - 1], &content);
    if (st == OK && !is_empty(&content)) {
        st = text_puts(out, " ");
        st = st == OK ? text_append(out, content.data, content.len) : st;
    }
    text_free(&content);
    return st;
}

/* Prompt of a conversation whose last turn is the response. */
static enum status render_prompt(const struct conversation *c, struct record_text *r) {
    if (c->count == 0 || c->turns[c->count - 1].role != ROLE_ASSISTANT) {
        return drop(r, "last message is not the assistant's");
    }
    if (c->count == 1) {
        return drop(r, "no prompt");
    }
    bool unknown;
    TRY(conversation_render(c, c->count - 1, &r->prompt, &unknown));
    return unknown ? drop(r, "unknown role") : text_puts(&r->prompt, TURN_ASSISTANT);
}

/* chosen and rejected as lists of messages, each the whole conversation or what follows the prompt. */
static enum status split_conversations(const struct conversation *chosen, const struct conversation *rejected,
                                       struct record_text *r) {
    TRY(render_prompt(chosen, r));
    if (r->dropped) {
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
    TRY(last_turn(chosen, &r->responses[0]));
    return last_turn(rejected, &r->responses[1]);
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
    TRY_TO(done, split_conversations(&chosen, &rejected, r));
    st = r->dropped ? OK : finish_pair(r, record, where);
done:
    conversation_free(&chosen);
    conversation_free(&rejected);
    return st;
}

static enum status parse_preference(const json_t *record, const char *where, struct record_text *r) {
    const json_t *prompt = json_object_get(record, has(record, "prompt") ? "prompt" : "conversations");
    prompt = json_is_null(prompt) ? NULL : prompt;
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

static enum status parse_messages(const json_t *first, const json_t *second, const char *where,
                                  struct record_text *r) {
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
    TRY_TO(done, render_prompt(&c, r));
    if (!r->dropped) {
        st = last_turn(&c, &r->responses[0]);
        add_response(r, NAN);
    }
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
        return drop(r, "label is false");
    }
    if (has(record, "messages") && !completion) {
        TRY(parse_messages(json_object_get(record, "messages"), NULL, where, r));
    } else if (is_conversation(prompt)) {
        if (!completion) {
            return fail(ERR_DATA, "%s: \"completion\" is missing", where);
        }
        TRY(parse_messages(prompt, completion, where, r));
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
    bool unknown = false;
    enum status st = OK;
    TRY_TO(done, conversation_add(&c, prompt, where));
    TRY_TO(done, conversation_render(&c, c.count, &r->prompt, &unknown));
    if (unknown || c.count == 0) {
        st = drop(r, unknown ? "unknown role" : "no prompt");
    } else if (c.turns[c.count - 1].role != ROLE_ASSISTANT) {
        st = text_puts(&r->prompt, TURN_ASSISTANT);
    }
done:
    conversation_free(&c);
    return st;
}

static enum status parse_responses(const json_t *record, const char *where, struct record_text *r) {
    const json_t *list = json_object_get(record, "responses");
    if (!json_is_array(list)) {
        return fail(ERR_DATA, "%s: \"responses\" must be a list", where);
    }
    TRY(append_prompt(record, where, r));
    bool space = is_conversation(json_object_get(record, "prompt"));
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
        TRY(space ? text_puts(out, " ") : OK);
        TRY(text_append(out, json_string_value(text), json_string_length(text)));
        add_response(r, score);
    }
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
        if (is_empty(&r->responses[i])) {
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
