/* Prompts with right and wrong answers: {prompt, choices, answer}, and RewardBench 2's {prompt, chosen: […],
 * rejected: […]}. Every right answer makes a pair with every wrong one, the first right one's pairs first. */
#include <math.h>
#include <string.h>

#include "text/records_internal.h"

/* The place of a choice: a number, or the choice's own text; -1: of none. */
static int64_t place_of(const json_t *choices, const json_t *answer) {
    size_t i;
    const json_t *choice;
    if (json_is_integer(answer)) {
        int64_t place = json_integer_value(answer);
        return place >= 0 && place < (int64_t)json_array_size(choices) ? place : -1;
    }
    json_array_foreach(choices, i, choice) {
        if (json_equal(choice, answer)) {
            return (int64_t)i;
        }
    }
    return -1;
}

struct right {
    int list[RECORD_RESPONSES_MAX];
    bool is[RECORD_RESPONSES_MAX];
    int n;
};

static enum status add_right(struct right *right, int64_t place, const char *where) {
    if (place < 0) {
        return fail(ERR_DATA, "%s: \"answer\" is neither a choice's number, from 0, nor its text", where);
    }
    if (!right->is[place]) {
        right->is[place] = true;
        right->list[right->n++] = (int)place;
    }
    return OK;
}

static enum status find_right(const json_t *record, const json_t *choices, const char *where,
                              struct right *out) {
    const json_t *answer = json_object_get(record, "answer");
    size_t i;
    const json_t *one;
    if (!json_is_array(answer)) {
        return add_right(out, place_of(choices, answer), where);
    }
    json_array_foreach(answer, i, one) {
        TRY(add_right(out, place_of(choices, one), where));
    }
    return OK;
}

/* A list's strings as responses behind the prompt; between a prompt that is a string and an answer there is a
 * space (lm-evaluation-harness' target_delimiter), unless one of them brings it. */
static enum status take_list(const json_t *record, const char *key, const struct conversation *c,
                             const char *where, struct record_text *r) {
    const json_t *list = json_object_get(record, key);
    bool apart = !c && r->prompt.len > 0 && !strchr(" \t\r\n", r->prompt.data[r->prompt.len - 1]);
    size_t i;
    const json_t *text;
    json_array_foreach(list, i, text) {
        struct text *out;
        const char *s = json_string_value(text);
        if (!s) {
            return fail(ERR_DATA, "%s: \"%s\" must be a list of strings; %zu is none", where, key, i);
        }
        TRY(record_next(r, where, &out));
        TRY(apart && *s && !strchr(" \t\r\n", *s) ? text_puts(out, " ") : OK);
        TRY(record_take_listed(record, text, c, r));
        if (r->dropped) {
            return OK;
        }
        if (text_blank(out)) {
            return record_drop(r, "empty choice");
        }
        record_add_response(r, NAN);
    }
    return OK;
}

static enum status take_all(const json_t *record, const struct conversation *c, const char *where,
                            struct record_text *r) {
    static const char *const keys[2] = {"chosen", "rejected"};
    const json_t *choices = json_object_get(record, "choices");
    struct right right = {.n = 0};
    if (choices) {
        TRY(take_list(record, "choices", c, where, r));
        TRY(r->dropped ? OK : find_right(record, choices, where, &right));
    } else {
        for (int i = 0; i < 2 && !r->dropped; i++) {
            TRY(take_list(record, keys[i], c, where, r));
            for (int k = right.n; i == 0 && k < r->n_responses; k++) {
                TRY(add_right(&right, k, where));
            }
        }
    }
    if (!r->dropped && (right.n == 0 || right.n == r->n_responses)) {
        return record_drop(r, right.n == 0 ? "no right choice" : "no wrong choice");
    }
    for (int i = 0; i < right.n && !r->dropped; i++) {
        for (int k = 0; k < r->n_responses; k++) {
            if (!right.is[k]) {
                record_add_pair(r, right.list[i], k, NAN);
            }
        }
    }
    return OK;
}

/* RewardBench 2's Ties go by prompts "ref:7" and "tied:7": the subset says so. */
static enum status name_tie(const json_t *record, struct record_text *r) {
    const char *id = json_string_value(json_object_get(record, "id"));
    if (record_has(record, "choices") || r->subset.len == 0 || strcmp(r->subset.data, "Ties") != 0) {
        return OK;
    }
    const char *number = id && text_starts(id, "ref:")    ? id + 4
                         : id && text_starts(id, "tied:") ? id + 5
                                                          : "";
    return *number && !number[strspn(number, "0123456789")]
               ? text_printf(&r->subset, " %s", id)
               : record_drop(r, "\"id\" of Ties is neither ref:NUMBER nor tied:NUMBER");
}

enum status record_parse_choices(const json_t *record, const char *where, struct record_text *r) {
    static const char *const lists[] = {"choices", "chosen", "rejected"};
    const json_t *prompt = json_object_get(record, "prompt");
    struct conversation c = {0};
    bool chat = is_conversation(prompt);
    for (int i = 0; i < COUNT_OF(lists); i++) {
        const json_t *list = json_object_get(record, lists[i]);
        if ((i == 0 ? list != NULL : !record_has(record, "choices")) && !json_is_array(list)) {
            return fail(ERR_DATA, "%s: \"%s\" must be a list", where, lists[i]);
        }
    }
    TRY(name_tie(record, r));
    TRY(record_take_prompt(record, where, r));
    enum status st = chat ? conversation_add(&c, prompt, where) : OK;
    st = st == OK && !r->dropped ? take_all(record, chat ? &c : NULL, where, r) : st;
    conversation_free(&c);
    return st;
}
