#include "text/objectives.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "util/mem.h"

static bool same_text(const struct text *a, const struct text *b) {
    return a->len == b->len && (a->len == 0 || memcmp(a->data, b->data, a->len) == 0);
}

static enum status copy_ranges(const struct template_ranges *from, struct template_ranges *to) {
    TRY(GROW_ARRAY(to->data, to->capacity, from->count));
    to->count = from->count;
    if (from->count > 0) {
        memcpy(to->data, from->data, (size_t)from->count * sizeof *to->data);
    }
    return OK;
}

static enum status copy_marks(const struct text_marks *from, struct text_marks *to) {
    TRY(copy_ranges(&from->input, &to->input));
    return copy_ranges(&from->trained, &to->trained);
}

/* The record's response i becomes the prompt's next one; there is room. */
static enum status add_response(struct record_text *prompt, const struct record_text *record, int i) {
    int at = prompt->n_responses;
    text_clear(&prompt->responses[at]);
    TRY(text_append(&prompt->responses[at], record->responses[i].data, record->responses[i].len));
    TRY(copy_marks(&record->response_marks[i], &prompt->response_marks[at]));
    prompt->scores[at] = record->scores[i];
    prompt->worths[at] = record->worths[i];
    memcpy(prompt->named[at], record->named[i], sizeof prompt->named[at]);
    prompt->n_responses++;
    return OK;
}

/* The place of the record's response i among the prompt's, where it is added if it is new. */
static enum status find_response(struct record_text *prompt, const struct record_text *record, int i,
                                 int *out) {
    for (int at = 0; at < prompt->n_responses; at++) {
        if (same_text(&prompt->responses[at], &record->responses[i])) {
            *out = at;
            return OK;
        }
    }
    *out = prompt->n_responses;
    return add_response(prompt, record, i);
}

static struct judgment *judgment_of(struct record_text *prompt, int a, int b) {
    for (int i = 0; i < prompt->n_judged; i++) {
        if (prompt->judged[i].a == a && prompt->judged[i].b == b) {
            return &prompt->judged[i];
        }
    }
    struct judgment *new = &prompt->judged[prompt->n_judged++];
    *new = (struct judgment){.a = a, .b = b};
    return new;
}

static enum status add_choice(struct record_text *prompt, const struct record_text *record, int pair,
                              int user, const char **dropped) {
    uint32_t bit = (uint32_t)1 << user;
    int chosen;
    int rejected;
    if (same_text(&record->responses[record->pairs[pair].chosen],
                  &record->responses[record->pairs[pair].rejected])) {
        *dropped = "two equal responses"; /* before anything of them is added */
        return OK;
    }
    TRY(find_response(prompt, record, record->pairs[pair].chosen, &chosen));
    TRY(find_response(prompt, record, record->pairs[pair].rejected, &rejected));
    bool prefers_b = chosen > rejected;
    struct judgment *j = judgment_of(prompt, prefers_b ? rejected : chosen, prefers_b ? chosen : rejected);
    bool preferred_b = j->high & bit;
    j->torn |= j->has & bit && preferred_b != prefers_b ? bit : 0;
    j->has |= bit;
    j->high |= prefers_b ? bit : 0;
    return OK;
}

enum status objectives_add(struct record_text *prompt, const struct record_text *record, int user,
                           const char **dropped) {
    *dropped = record->dropped;
    if (*dropped) {
        return OK;
    }
    if (prompt->n_responses == 0) {
        text_clear(&prompt->prompt);
        TRY(text_append(&prompt->prompt, record->prompt.data, record->prompt.len));
        TRY(copy_marks(&record->prompt_marks, &prompt->prompt_marks));
        text_clear(&prompt->subset);
        TRY(text_append(&prompt->subset, record->subset.data, record->subset.len));
    }
    if (prompt->n_responses + record->n_responses > RECORD_RESPONSES_MAX) {
        *dropped = "too many responses to a prompt";
        return OK;
    }
    for (int i = 0; i < record->n_responses && user < 0; i++) {
        TRY(add_response(prompt, record, i));
    }
    for (int i = 0; i < record->n_pairs && user >= 0; i++) {
        TRY(add_choice(prompt, record, i, user, dropped));
    }
    prompt->n_skipped += record->n_skipped;
    prompt->n_untrained += record->n_untrained;
    prompt->n_behind += record->n_behind;
    return OK;
}

void objectives_judge(struct record_text *prompt) {
    prompt->n_judged = 0;
    for (int a = 0; a < prompt->n_responses; a++) {
        for (int b = a + 1; b < prompt->n_responses; b++) {
            struct judgment *j = &prompt->judged[prompt->n_judged++];
            *j = (struct judgment){.a = a, .b = b};
            for (int i = 0; i < prompt->objectives->n; i++) {
                uint32_t bit = (uint32_t)1 << i;
                double x = prompt->named[a][i];
                double y = prompt->named[b][i];
                j->has |= isnan(x) || isnan(y) ? 0 : bit;
                j->high |= y > x ? bit : 0;
                j->tied |= x == y ? bit : 0;
            }
        }
    }
}

void objectives_key(enum record_format format, const json_t *json, const struct record_text *record,
                    const char **s, size_t *n) {
    const json_t *instruction = json_object_get(json, "instruction");
    if (format == FORMAT_ULTRAFEEDBACK && json_is_string(instruction)) {
        *s = json_string_value(instruction);
        *n = json_string_length(instruction);
        return;
    }
    *s = record->prompt.data ? record->prompt.data : "";
    *n = record->prompt.len;
}

void objectives_seen(enum record_format format, const json_t *json, char *out, size_t size) {
    const char *list = format == FORMAT_ULTRAFEEDBACK ? "completions" : "responses";
    const char *names = format == FORMAT_ULTRAFEEDBACK ? "annotations" : "scores";
    json_t *object = json_object_get(json_array_get(json_object_get(json, list), 0), names);
    size_t used = 0;
    out[0] = '\0';
    for (void *at = json_object_iter(object); at && used < size; at = json_object_iter_next(object, at)) {
        int n = snprintf(out + used, size - used, "%s%s", used ? ", " : "", json_object_iter_key(at));
        used += n > 0 ? (size_t)n : 0;
    }
}
