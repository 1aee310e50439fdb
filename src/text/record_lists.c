/* Lists of responses, and formats whose fields are a question and its answers. */
#include <math.h>
#include <string.h>

#include "text/chat.h"
#include "text/records_internal.h"

enum status record_take_listed(const json_t *record, const json_t *text, const struct conversation *c,
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

/* {"scores": {name: value}}: those that are asked for; null is none. */
static enum status take_named(const json_t *entry, const char *where, struct record_text *r) {
    const struct names *names = r->objectives;
    const json_t *scores = json_object_get(entry, "scores");
    if (!names || !scores || json_is_null(scores)) {
        return OK;
    }
    if (!json_is_object(scores)) {
        return fail(ERR_DATA, "%s: \"scores\" must be an object, a number for each name", where);
    }
    for (int i = 0; i < names->n; i++) {
        TRY(json_take_number(scores, names->list[i], where, &r->named[r->n_responses][i]));
    }
    return OK;
}

static enum status take_list(const json_t *record, const struct conversation *c, const char *where,
                             struct record_text *r) {
    const json_t *list = json_object_get(record, "responses");
    size_t i;
    const json_t *entry;
    json_array_foreach(list, i, entry) {
        struct text *out;
        double score = NAN;
        const json_t *text = json_is_object(entry) ? json_object_get(entry, "text") : entry;
        if (!json_is_string(text) && !json_is_null(text)) {
            return fail(ERR_DATA, "%s: a response must be a string or have \"text\": response %zu is not",
                        where, i);
        }
        TRY(record_next(r, where, &out));
        if (json_is_object(entry)) {
            TRY(json_take_number(entry, "score", where, &score));
            TRY(json_take_number(entry, "worth", where, &r->worths[r->n_responses]));
            TRY(take_named(entry, where, r));
        }
        TRY(json_is_null(text) ? OK : record_take_listed(record, text, c, r));
        record_add_response(r, score);
    }
    return OK;
}

/* "better_response_id": the place of the one that is preferred to all others, where no scores say so. A
 * response that is skipped leaves no places to count by. */
static enum status add_better(struct record_text *r, const json_t *record, const char *where) {
    int64_t better = -1;
    TRY(json_take_int(record, "better_response_id", where, &better));
    record_add_scored_pairs(r);
    bool scored = r->n_pairs > 0 || r->n_ties > 0;
    if (better < 0 || scored || r->n_skipped > 0 || r->dropped) {
        return OK;
    }
    if (better >= r->n_responses) {
        return fail(ERR_DATA, "%s: \"better_response_id\" names no response", where);
    }
    for (int i = 0; i < r->n_responses; i++) {
        if (i != better) {
            record_add_pair(r, (int)better, i, NAN);
        }
    }
    return OK;
}

enum status record_parse_responses(const json_t *record, const char *where, struct record_text *r) {
    const json_t *prompt = json_object_get(record, "prompt");
    struct conversation c = {0};
    bool chat = is_conversation(prompt);
    if (!json_is_array(json_object_get(record, "responses"))) {
        return fail(ERR_DATA, "%s: \"responses\" must be a list", where);
    }
    TRY(record_take_prompt(record, where, r));
    enum status st = chat ? conversation_add(&c, prompt, where) : OK;
    st = st == OK && !r->dropped ? take_list(record, chat ? &c : NULL, where, r) : st;
    conversation_free(&c);
    TRY(st);
    TRY(add_better(r, record, where));
    return !r->dropped && r->n_responses == 0 ? record_drop(r, "empty response") : OK;
}

/* A question as a conversation of one message. */
struct question {
    json_t *message;
    struct conversation c;
};

static void question_free(struct question *q) {
    conversation_free(&q->c);
    json_decref(q->message);
}

/* Fills the prompt too; frees itself where it fails. */
static enum status question_open(struct record_text *r, const json_t *record, const char *key,
                                 const char *where, struct question *out) {
    const char *s;
    size_t n;
    *out = (struct question){0};
    TRY(record_string(record, key, where, &s, &n));
    out->message = json_pack("{s:s, s:o}", "role", "user", "content", json_stringn(s, n));
    enum status st = out->message ? conversation_add(&out->c, out->message, where)
                                  : fail(ERR_SYSTEM, "out of memory: a message");
    st = st == OK ? chat_prompt(r, record, &out->c, 1) : st;
    if (st != OK) {
        question_free(out);
    }
    return st;
}

/* The answer under `key` of `holder` becomes response n_responses, which counts later. */
static enum status take_answer(const json_t *record, const json_t *holder, const char *key, const char *where,
                               const struct question *q, struct record_text *r) {
    const char *s;
    size_t n;
    TRY(record_string(holder, key, where, &s, &n));
    return n > 0 ? record_take_listed(record, json_object_get(holder, key), &q->c, r) : OK;
}

static enum status take_references(const json_t *record, const char *where, const struct question *q,
                                   struct record_text *r) {
    static const char *const texts[2] = {"human_ref_A", "human_ref_B"};
    static const char *const scores[2] = {"score_A", "score_B"};
    for (int i = 0; i < 2 && !r->dropped; i++) {
        r->scores[i] = NAN;
        r->n_responses = i;
        TRY(json_take_number(record, scores[i], where, &r->scores[i]));
        TRY(take_answer(record, record, texts[i], where, q, r));
        if (!r->dropped && text_blank(&r->responses[i])) {
            r->n_responses = 0;
            return record_drop(r, "empty response");
        }
    }
    r->n_responses = r->dropped ? 0 : 2;
    return OK;
}

enum status record_parse_shp(const json_t *record, const char *where, struct record_text *r) {
    struct question q;
    int64_t label = -1;
    TRY(question_open(r, record, "history", where, &q));
    enum status st = r->dropped ? OK : take_references(record, where, &q, r);
    question_free(&q);
    TRY(st);
    if (r->dropped) {
        return OK;
    }
    TRY(json_take_int(record, "labels", where, &label));
    if (label > 1 || (label < 0 && record_has(record, "labels"))) {
        return fail(ERR_DATA, "%s: \"labels\" must be 1 (A is preferred) or 0", where);
    }
    if (label < 0) {
        record_add_scored_pairs(r);
    } else {
        record_add_pair(r, label == 1 ? 0 : 1, label == 1 ? 1 : 0, NAN);
    }
    return OK;
}

/* NaN where it is missing or no whole number ("N/A"). */
static double rating_of(const json_t *completion, const char *aspect) {
    const json_t *annotations = json_object_get(completion, "annotations");
    const json_t *rating = json_object_get(json_object_get(annotations, aspect), "Rating");
    const char *s = json_is_string(rating) ? json_string_value(rating) : "";
    if (json_is_integer(rating)) {
        return (double)json_integer_value(rating);
    }
    return s[0] >= '0' && s[0] <= '9' && s[1] == '\0' ? s[0] - '0' : NAN;
}

/* Mean of the four ratings; NaN where one is. */
static double mean_rating(const json_t *completion) {
    static const char *const aspects[] = {"helpfulness", "honesty", "truthfulness", "instruction_following"};
    double sum = 0;
    for (int i = 0; i < COUNT_OF(aspects); i++) {
        sum += rating_of(completion, aspects[i]);
    }
    return sum / COUNT_OF(aspects);
}

static enum status take_completions(const json_t *record, const char *where, const struct question *q,
                                    struct record_text *r) {
    size_t i;
    const json_t *completion;
    json_array_foreach(json_object_get(record, "completions"), i, completion) {
        double score = mean_rating(completion);
        struct text *out;
        if (isnan(score)) {
            r->n_skipped++;
            continue;
        }
        TRY(record_next(r, where, &out));
        TRY(take_answer(record, completion, "response", where, q, r));
        if (r->dropped) {
            break;
        }
        for (int j = 0; r->objectives && j < r->objectives->n; j++) {
            r->named[r->n_responses][j] = rating_of(completion, r->objectives->list[j]);
        }
        record_add_response(r, score);
    }
    return OK;
}

enum status record_parse_ultrafeedback(const json_t *record, const char *where, struct record_text *r) {
    struct question q;
    if (!json_is_array(json_object_get(record, "completions"))) {
        return fail(ERR_DATA, "%s: \"completions\" must be a list", where);
    }
    TRY(question_open(r, record, "instruction", where, &q));
    enum status st = r->dropped ? OK : take_completions(record, where, &q, r);
    question_free(&q);
    TRY(st);
    record_add_scored_pairs(r);
    return !r->dropped && r->n_responses == 0 ? record_drop(r, "no rated response") : OK;
}
