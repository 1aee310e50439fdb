#include "data/question.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "util/hash.h"
#include "util/mem.h"
#include "util/rng.h"

enum { DIGITS = 8 }; /* of the data's hash */

struct question question_draw(uint64_t seed, int64_t response, int64_t other) {
    int64_t low = response < other ? response : other;
    int64_t high = response < other ? other : response;
    struct rng coin = rng_stream(seed, RNG_SELECT, low, -1 - high);
    return rng_u32(&coin) & 1 ? (struct question){high, low} : (struct question){low, high};
}

/* Appends ', "NAME": TEXT'. */
static enum status put_text(const struct tokenizer *t, const char *name, const int32_t *ids, int64_t n,
                            bool goes_on, struct text *out) {
    struct text decoded = {0};
    enum status st = goes_on ? tokenizer_decode_after(t, ids, n, true, &decoded)
                             : tokenizer_decode(t, ids, n, true, &decoded);
    st = st == OK ? text_printf(out, ", \"%s\": ", name) : st;
    st = st == OK ? text_json(out, decoded.data ? decoded.data : "", decoded.len) : st;
    text_free(&decoded);
    return st;
}

static enum status put_prompt(struct dataset *d, const struct tokenizer *t, int64_t prompt,
                              struct text *out) {
    int64_t count;
    int32_t *ids;
    TRY(dataset_prompt_ids(d, prompt, &ids, &count));
    enum status st = put_text(t, "prompt", ids, count, false, out);
    mem_free(ids);
    return st;
}

/* A text between what an HH transcript of one turn begins and ends with. */
static void strip_transcript(struct text *t) {
    static const char begin[] = "\n\nHuman:", end[] = "\n\nAssistant:";
    size_t first = sizeof begin - 1, last = sizeof end - 1;
    if (!t->data || !text_starts(t->data, begin) || !text_ends(t->data, end) ||
        strstr(t->data + first, begin) || strstr(t->data, end) != t->data + t->len - last) {
        return;
    }
    first += t->data[first] == ' ';
    t->len -= first < t->len - last ? first + last : t->len;
    memmove(t->data, t->data + first, t->len);
    t->data[t->len] = '\0';
}

enum status question_prompt(struct dataset *d, const struct tokenizer *t, int64_t prompt, struct text *out) {
    int64_t count;
    int32_t *ids;
    text_clear(out);
    TRY(dataset_prompt_ids(d, prompt, &ids, &count));
    enum status st = tokenizer_decode(t, ids, count, true, out);
    mem_free(ids);
    TRY(st);
    strip_transcript(out);
    return OK;
}

static enum status put_response(struct dataset *d, const struct tokenizer *t, const char *name,
                                const struct response *r, struct text *out) {
    int32_t *ids;
    TRY(NEW_ARRAY(ids, r->count));
    enum status st = dataset_response_tokens(d, r->first, r->count, ids);
    st = st == OK ? put_text(t, name, ids, r->count, true, out) : st;
    mem_free(ids);
    return st;
}

static void hash_digits(const struct dataset *d, char out[17]) {
    hash_text(dataset_hash(d), out);
    out[DIGITS] = '\0';
}

enum status question_print(struct dataset *d, const struct tokenizer *t, struct question q, double similarity,
                           int32_t cluster, struct text *out) {
    char digits[17];
    struct response a, b;
    TRY(dataset_response(d, q.a, &a));
    TRY(dataset_response(d, q.b, &b));
    hash_digits(d, digits);
    TRY(text_printf(out, "{\"id\": \"%s-%lld-%lld\"", digits, (long long)q.a, (long long)q.b));
    TRY(put_prompt(d, t, a.prompt, out));
    TRY(put_response(d, t, "response_a", &a, out));
    TRY(put_response(d, t, "response_b", &b, out));
    TRY(isnan(similarity) ? text_puts(out, ", \"similarity\": null")
                          : text_printf(out, ", \"similarity\": %.6f", similarity));
    return cluster < 0 ? text_puts(out, ", \"cluster\": null}\n")
                       : text_printf(out, ", \"cluster\": %d}\n", cluster);
}

/* "-123" at *at; moves behind it. */
static bool take_number(const char **at, int64_t *out) {
    char *end;
    if ((*at)[0] != '-' || (*at)[1] < '0' || (*at)[1] > '9' || strlen(*at) > 40) {
        return false;
    }
    long long value = strtoll(*at + 1, &end, 10);
    *at = end;
    *out = value;
    return true;
}

enum status question_parse(struct dataset *d, const char *id, struct question *q,
                           enum question_fault *fault) {
    char digits[17];
    const char *at = id + DIGITS;
    int64_t n = dataset_size(d).responses;
    struct response a, b;
    hash_digits(d, digits);
    *fault = QUESTION_NO_ID;
    if (strspn(id, "0123456789abcdef") != DIGITS || !take_number(&at, &q->a) || !take_number(&at, &q->b) ||
        *at != '\0') {
        return OK;
    }
    *fault = strncmp(id, digits, DIGITS) != 0 ? QUESTION_OTHER_DATA : QUESTION_UNKNOWN;
    if (*fault == QUESTION_OTHER_DATA || q->a >= n || q->b >= n || q->a == q->b) {
        return OK;
    }
    TRY(dataset_response(d, q->a, &a));
    TRY(dataset_response(d, q->b, &b));
    *fault = a.prompt == b.prompt ? QUESTION_FINE : QUESTION_UNKNOWN;
    return OK;
}

const char *question_id(const json_t *line) {
    return json_is_object(line) ? json_string_value(json_object_get(line, "id")) : NULL;
}
