#include "evaluate/replies.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "io/jsonl.h"
#include "util/hash.h"
#include "util/json.h"
#include "util/mem.h"

int64_t reply_characters(const char *text) {
    return text ? text_characters(text, strlen(text)) : -1;
}

/* The first of two keys that is there. */
static enum status take_either(const json_t *record, const char *const keys[2], const char *where,
                               const char **out) {
    *out = NULL;
    TRY(json_take_string(record, keys[0], where, out));
    return *out ? OK : json_take_string(record, keys[1], where, out);
}

static enum status take_text(const json_t *record, const char *where, const char **out) {
    static const char *const generated[2] = {"text", "response"};
    static const char *const alpaca[2] = {"output", "output"};
    TRY(take_either(record, generated, where, out));
    TRY(*out ? OK : take_either(record, alpaca, where, out));
    return *out ? OK : fail(ERR_DATA, "%s: \"text\" (or \"output\"), the answer, is missing", where);
}

static enum status copy(const char *from, char **out) {
    *out = from ? mem_strdup(from) : NULL;
    return from ? mem_ok(*out) : OK;
}

static enum status add(struct replies *r, const json_t *record, int64_t line, const char *where) {
    static const char *const prompts[2] = {"instruction", "prompt"};
    const char *text;
    const char *prompt;
    TRY(GROW_ARRAY(r->list, r->capacity, r->n + 1));
    struct reply *reply = &r->list[r->n++];
    *reply = (struct reply){.row = -1, .line = line, .reward = NAN};
    TRY(json_take_int(record, "row", where, &reply->row));
    TRY(json_take_number(record, "reward", where, &reply->reward));
    TRY(take_text(record, where, &text));
    TRY(take_either(record, prompts, where, &prompt));
    if (reply->row < 0 && !prompt) {
        return fail(ERR_DATA, "%s: neither \"row\" nor \"instruction\" says which prompt it answers", where);
    }
    reply->key = reply->row >= 0 ? reply->row : (int64_t)(hash_bytes(prompt, strlen(prompt), 0) >> 1);
    reply->length = reply_characters(text);
    TRY(copy(text, &reply->text));
    return copy(prompt, &reply->prompt);
}

static int by_key(const void *a, const void *b) {
    const struct reply_place *x = a;
    const struct reply_place *y = b;
    return x->key != y->key ? (x->key < y->key ? -1 : 1) : x->place < y->place ? -1 : x->place > y->place;
}

static enum status sort(struct replies *r) {
    TRY(NEW_ARRAY(r->order, r->n));
    for (int64_t i = 0; i < r->n; i++) {
        r->order[i] = (struct reply_place){r->list[i].key, i};
    }
    qsort(r->order, (size_t)r->n, sizeof *r->order, by_key);
    for (int64_t i = 1; i < r->n; i++) {
        if (r->order[i].key == r->order[i - 1].key) {
            return fail(ERR_DATA, "%s, line %lld: a second answer to the prompt of line %lld", r->path,
                        (long long)r->list[r->order[i].place].line,
                        (long long)r->list[r->order[i - 1].place].line);
        }
    }
    return OK;
}

static enum status name(struct replies *r, const char *path) {
    const char *slash = strrchr(path, '/');
    const char *begin = slash ? slash + 1 : path;
    const char *dot = strrchr(begin, '.');
    TRY(copy(path, &r->path));
    r->name = mem_strndup(begin, dot && dot > begin ? (size_t)(dot - begin) : strlen(begin));
    return mem_ok(r->name);
}

enum status replies_read(const char *path, struct replies *out) {
    struct records_input *in;
    *out = (struct replies){0};
    TRY(name(out, path));
    TRY(records_open_alone(path, &in));
    enum status st = OK;
    for (int64_t i = 0; i < records_count(in) && st == OK; i++) {
        char where[RECORDS_WHERE];
        json_t *record;
        st = records_parse(in, i, where, &record);
        st = st == OK ? add(out, record, records_at(in, i).line, where) : st;
        json_decref(record);
    }
    records_close(in);
    return st == OK ? sort(out) : st;
}

void replies_free(struct replies *r) {
    for (int64_t i = 0; i < r->n; i++) {
        mem_free(r->list[i].text);
        mem_free(r->list[i].prompt);
    }
    mem_free(r->list);
    mem_free(r->order);
    mem_free(r->path);
    mem_free(r->name);
    *r = (struct replies){0};
}

struct reply *replies_find(const struct replies *r, int64_t key) {
    int64_t low = 0;
    for (int64_t high = r->n; low < high;) {
        int64_t middle = low + (high - low) / 2;
        bool is_below = r->order[middle].key < key;
        low = is_below ? middle + 1 : low;
        high = is_below ? high : middle;
    }
    return low < r->n && r->order[low].key == key ? &r->list[r->order[low].place] : NULL;
}
