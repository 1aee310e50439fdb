/* Pairs: transcripts, strings with or without a prompt, messages. */
#include <math.h>
#include <string.h>

#include "text/chat.h"
#include "text/records_internal.h"

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
        return record_drop(r, "empty response");
    }
    r->n_responses = 2;
    record_add_pair(r, 0, 1, margin);
    return OK;
}

size_t record_response_at(const char *s, size_t n) {
    size_t marker = strlen(TURN_ASSISTANT);
    for (size_t end = n; end >= marker; end--) {
        if (s[end - 1] == TURN_ASSISTANT[marker - 1] &&
            memcmp(s + end - marker, TURN_ASSISTANT, marker) == 0) {
            return end;
        }
    }
    return 0;
}

/* Letters and digits of ASCII, and characters of two bytes (Latin, Greek, Cyrillic, …); those of three and
 * more may belong to scripts that put no space between words. */
static bool in_word(unsigned char c) {
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' ||
           (c >= 0xc2 && c <= 0xdf);
}

static bool goes_on(unsigned char c) {
    return (c & 0xc0) == 0x80;
}

/* Whether a word goes over `at`, which is where a character begins. */
static bool splits_word(const char *s, size_t n, size_t at) {
    size_t before = at - 1;
    while (before > 0 && goes_on((unsigned char)s[before])) {
        before--;
    }
    return at < n && in_word((unsigned char)s[before]) && in_word((unsigned char)s[at]);
}

struct sides {
    const char *chosen, *rejected;
    size_t chosen_n, rejected_n;
};

/* Where the sides part, as TRL's extract_prompt finds it (one space belongs to the responses), but never
 * inside a word of either or a character. */
static size_t common_prefix(const struct sides *s) {
    size_t n = s->chosen_n < s->rejected_n ? s->chosen_n : s->rejected_n;
    size_t at = 0;
    while (at < n && s->chosen[at] == s->rejected[at]) {
        at++;
    }
    while (at > 0 && at < n &&
           (goes_on((unsigned char)s->chosen[at]) || goes_on((unsigned char)s->rejected[at]))) {
        at--;
    }
    while (at > 0 &&
           (splits_word(s->chosen, s->chosen_n, at) || splits_word(s->rejected, s->rejected_n, at))) {
        at--;
        while (at > 0 && goes_on((unsigned char)s->chosen[at])) {
            at--;
        }
    }
    return at > 0 && s->chosen[at - 1] == ' ' ? at - 1 : at;
}

static const char *why_no_prompt(const json_t *record, const struct sides *s, size_t at) {
    if (record_has(record, "question") || record_has(record, "input")) {
        return "no \"prompt\" beside chosen and rejected";
    }
    if (s->chosen_n == s->rejected_n && memcmp(s->chosen, s->rejected, s->chosen_n) == 0) {
        return "chosen and rejected are equal, and there is no prompt";
    }
    return at == 0 ? "chosen and rejected begin with nothing in common" : NULL;
}

/* Two strings without a prompt beside them. */
static enum status parse_strings(const json_t *record, const char *where, struct record_text *r) {
    struct sides s;
    TRY(record_string(record, "chosen", where, &s.chosen, &s.chosen_n));
    TRY(record_string(record, "rejected", where, &s.rejected, &s.rejected_n));
    size_t at = record_response_at(s.chosen, s.chosen_n);
    if (at > 0 && (s.rejected_n < at || memcmp(s.chosen, s.rejected, at) != 0)) {
        return record_drop(r, "prompts differ");
    }
    if (at == 0 && r->chat && r->chat->strings && r->chat->templates) {
        return record_drop(r, "no prompt beside chosen and rejected to make turns of");
    }
    if (at == 0) {
        at = common_prefix(&s);
        const char *why = why_no_prompt(record, &s, at);
        if (why) {
            return record_drop(r, why);
        }
        r->found_prompt = true;
    }
    TRY(text_append(&r->prompt, s.chosen, at));
    TRY(text_append(&r->responses[0], s.chosen + at, s.chosen_n - at));
    TRY(text_append(&r->responses[1], s.rejected + at, s.rejected_n - at));
    return finish_pair(r, record, where);
}

/* How many first messages are the prompt: those given as one, else what both sides share; the assistant's
 * turn follows on both. 0: there is no such place. */
static int64_t shared_turns(const struct conversation *chosen, const struct conversation *rejected,
                            int64_t given) {
    int64_t shared = 0;
    while (shared < chosen->count - 1 && shared < rejected->count - 1 &&
           turns_equal(&chosen->turns[shared], &rejected->turns[shared])) {
        shared++;
    }
    shared = given > 0 && given <= shared && chosen->turns[given].role == ROLE_ASSISTANT ? given : shared;
    while (shared > 0 &&
           (chosen->turns[shared].role != ROLE_ASSISTANT || rejected->turns[shared].role != ROLE_ASSISTANT)) {
        shared--;
    }
    return shared;
}

/* Each side the whole conversation; what follows the prompt may be several messages. */
static enum status split_conversations(const struct conversation *chosen, const struct conversation *rejected,
                                       int64_t given, const json_t *record, struct record_text *r) {
    if (!chat_ends(r, chosen)) {
        return OK;
    }
    if (rejected->count == 0 || rejected->turns[rejected->count - 1].role != ROLE_ASSISTANT) {
        return record_drop(r, "last message is not the assistant's");
    }
    int64_t shared = shared_turns(chosen, rejected, given);
    if (shared == 0) {
        return record_drop(r, "prompts differ");
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
    int64_t given = 0;
    const json_t *sides[2] = {json_object_get(record, "chosen"), json_object_get(record, "rejected")};
    struct conversation *out[2] = {&chosen, &rejected};
    for (int i = 0; i < 2; i++) {
        /* A prompt given as a string beside whole conversations only repeats their first turn. */
        if (is_conversation(prompt)) {
            TRY_TO(done, conversation_add(out[i], prompt, where));
            given = out[i]->count;
        }
        TRY_TO(done, conversation_add(out[i], sides[i], where));
    }
    if (json_is_string(prompt) && (chosen.count < 2 || rejected.count < 2)) {
        st = fail(ERR_DATA, "%s: \"prompt\" is a string but \"chosen\" or \"rejected\" is a single message",
                  where);
        goto done;
    }
    TRY_TO(done, split_conversations(&chosen, &rejected, given, record, r));
    st = r->dropped ? OK : finish_pair(r, record, where);
done:
    conversation_free(&chosen);
    conversation_free(&rejected);
    return st;
}

enum status record_parse_pair(const json_t *record, const char *where, struct record_text *r) {
    const json_t *prompt = record_context(record);
    if (json_is_null(json_object_get(record, "chosen")) ||
        json_is_null(json_object_get(record, "rejected"))) {
        return record_drop(r, "empty response");
    }
    if (is_conversation(json_object_get(record, "chosen"))) {
        return parse_conversations(record, prompt, where, r);
    }
    if (!prompt) {
        return parse_strings(record, where, r);
    }
    TRY(record_append(&r->prompt, record, "prompt", where));
    TRY(record_append(&r->responses[0], record, "chosen", where));
    TRY(record_append(&r->responses[1], record, "rejected", where));
    return finish_pair(r, record, where);
}
