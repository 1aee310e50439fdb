/* A rendering from end to end: JSON to values, the template's statements, text and its ranges. */
#include "text/template.h"

#include <ctype.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "text/template_internal.h"
#include "util/mem.h"

void template_refuse(const char *title, int line, enum status code, const char *format, ...) {
    char text[800];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    fail(code, "%s, line %d: %s", title, line, text);
}

/* A role that is a word is no text of a user's (see template.h). */
static bool is_role(const char *key, const json_t *value) {
    const char *s = json_string_value(value);
    size_t n = json_string_length(value);
    if (strcmp(key, "role") != 0 || !s || n == 0 || n > 64) {
        return false;
    }
    for (size_t i = 0; i < n; i++) {
        if (!isalnum((unsigned char)s[i]) && s[i] != '_' && s[i] != '-') {
            return false;
        }
    }
    return true;
}

static enum status from_json(struct render *r, const json_t *json, uint8_t marks, int depth,
                             struct value *out);

static enum status from_array(struct render *r, const json_t *json, uint8_t marks, int depth,
                              struct value *out) {
    size_t i;
    const json_t *element;
    TRY(sequence_new(&r->pool, VALUE_LIST, (int64_t)json_array_size(json), out));
    json_array_foreach(json, i, element) {
        struct value v;
        TRY(from_json(r, element, marks, depth, &v));
        TRY(sequence_add(&r->pool, *out, v));
    }
    return OK;
}

static enum status from_object(struct render *r, const json_t *json, uint8_t marks, int depth,
                               struct value *out) {
    void *at = json_object_iter((json_t *)json);
    TRY(dict_new(&r->pool, (int64_t)json_object_size(json), out));
    struct dict *d = out->dict;
    for (; at; at = json_object_iter_next((json_t *)json, at)) {
        const char *key = json_object_iter_key(at);
        const json_t *value = json_object_iter_value(at);
        struct value k;
        struct value v;
        TRY(string_new(&r->pool, key, json_object_iter_key_len(at), marks, &k));
        TRY(from_json(r, value, is_role(key, value) ? 0 : marks, depth, &v));
        /* Keys of an object differ: none is looked for. */
        int deepest = v.kind == VALUE_DICT ? v.dict->depth : is_sequence(v) ? v.sequence->depth : 0;
        d->depth = d->depth > deepest + 1 ? d->depth : deepest + 1;
        d->weight += value_weight(k) + value_weight(v);
        d->entries[d->n++] = (struct entry){k, v};
    }
    return OK;
}

/* Strings stay where the JSON has them. */
static enum status from_json(struct render *r, const json_t *json, uint8_t marks, int depth,
                             struct value *out) {
    if (depth >= TEMPLATE_NESTING) {
        return fail(ERR_DATA, "%s: a row's values are nested deeper than %d", r->t->title, TEMPLATE_NESTING);
    }
    switch (json_typeof(json)) {
    case JSON_OBJECT:
        return from_object(r, json, marks, depth + 1, out);
    case JSON_ARRAY:
        return from_array(r, json, marks, depth + 1, out);
    case JSON_STRING:
        return string_new(&r->pool, json_string_value(json), json_string_length(json), marks, out);
    case JSON_INTEGER:
        *out = value_int(json_integer_value(json));
        return OK;
    case JSON_REAL:
        *out = value_float(json_real_value(json));
        return OK;
    case JSON_NULL:
        *out = value_none();
        return OK;
    default:
        *out = value_bool(json_is_true(json));
        return OK;
    }
}

static const json_t *reasoning_of(const json_t *message) {
    static const char *const fields[] = {"reasoning_content", "thinking", "reasoning"};
    for (int i = 0; i < COUNT_OF(fields); i++) {
        const json_t *value = json_object_get(message, fields[i]);
        if (value && !json_is_null(value)) {
            return value;
        }
    }
    return NULL;
}

/* A message as transformers hands it over: without fields that are null, its reasoning under both names that
 * templates read. */
static enum status from_message(struct render *r, const json_t *message, struct value *out) {
    const json_t *reasoning = reasoning_of(message);
    void *at = json_object_iter((json_t *)message);
    struct value key;
    struct value v;
    TRY(dict_new(&r->pool, (int64_t)json_object_size(message) + 2, out));
    if (reasoning) {
        TRY(string_new(&r->pool, "thinking", 8, 0, &key));
        TRY(from_json(r, reasoning, MARK_INPUT, 0, &v));
        TRY(dict_put(&r->pool, *out, key, v));
    }
    for (; at; at = json_object_iter_next((json_t *)message, at)) {
        const char *name = json_object_iter_key(at);
        const json_t *value = json_object_iter_value(at);
        if (!json_is_null(value)) {
            TRY(jinja_spend(r, 1 + out->dict->n / 4));
            TRY(string_new(&r->pool, name, json_object_iter_key_len(at), MARK_INPUT, &key));
            TRY(from_json(r, value, is_role(name, value) ? 0 : MARK_INPUT, 0, &v));
            TRY(dict_put(&r->pool, *out, key, v));
        }
    }
    if (reasoning) {
        TRY(string_new(&r->pool, "reasoning_content", 17, 0, &key));
        TRY(from_json(r, reasoning, MARK_INPUT, 0, &v));
        TRY(dict_put(&r->pool, *out, key, v));
    }
    return OK;
}

static enum status from_messages(struct render *r, const json_t *messages, struct value *out) {
    size_t i;
    const json_t *message;
    if (messages && !json_is_array(messages)) {
        return fail(ERR_DATA, "%s: messages must be a list", r->t->title);
    }
    TRY(sequence_new(&r->pool, VALUE_LIST, (int64_t)json_array_size(messages), out));
    json_array_foreach(messages, i, message) {
        struct value v;
        if (!json_is_object(message)) {
            return fail(ERR_DATA, "%s: message %zu is no object", r->t->title, i + 1);
        }
        TRY(from_message(r, message, &v));
        TRY(sequence_add(&r->pool, *out, v));
    }
    return OK;
}

/* Binds a variable, where the template names it at all. */
static enum status provide(struct render *r, const char *name, struct value v) {
    const char *known = template_find_name(r->t, name, strlen(name));
    return known ? jinja_scope_set(r, r->scope, known, v) : OK;
}

static enum status provide_json(struct render *r, const char *name, const json_t *json, uint8_t marks) {
    struct value v = value_none();
    if (json && template_find_name(r->t, name, strlen(name))) {
        TRY(from_json(r, json, marks, 0, &v));
    }
    return provide(r, name, v);
}

static enum status provide_all(struct render *r, const json_t *object, uint8_t marks) {
    void *at = json_object_iter((json_t *)object);
    for (; at; at = json_object_iter_next((json_t *)object, at)) {
        TRY(provide_json(r, json_object_iter_key(at), json_object_iter_value(at), marks));
    }
    return OK;
}

static enum status provide_variables(struct render *r, const struct template_input *input) {
    struct value messages;
    TRY(from_messages(r, input->messages, &messages));
    for (const struct function *f = template_globals; f->name; f++) {
        TRY(provide(r, f->name, (struct value){.kind = VALUE_FUNCTION, .function = f}));
    }
    TRY(provide_all(r, input->specials, 0));
    TRY(provide_all(r, input->extra, MARK_INPUT));
    TRY(provide(r, "messages", messages));
    TRY(provide_json(r, "tools", input->tools, MARK_INPUT));
    TRY(provide_json(r, "documents", input->documents, MARK_INPUT));
    return provide(r, "add_generation_prompt", value_bool(input->add_generation_prompt));
}

static enum status put_range(struct template_ranges *ranges, size_t begin, size_t end) {
    if (ranges->count > 0 && ranges->data[ranges->count - 1].end == begin) {
        ranges->data[ranges->count - 1].end = end;
        return OK;
    }
    TRY(GROW_ARRAY(ranges->data, ranges->capacity, ranges->count + 1));
    ranges->data[ranges->count++] = (struct template_range){begin, end};
    return OK;
}

static enum status hand_over(const struct builder *b, struct template_output *out) {
    size_t begin = 0;
    text_clear(&out->text);
    out->generation.count = 0;
    out->input.count = 0;
    TRY(text_append(&out->text, b->s, (size_t)b->n));
    for (int64_t i = 0; i < b->n_runs; i++) {
        size_t end = b->runs[i].end;
        if (b->runs[i].marks & MARK_GENERATION) {
            TRY(put_range(&out->generation, begin, end));
        }
        if (b->runs[i].marks & MARK_INPUT) {
            TRY(put_range(&out->input, begin, end));
        }
        begin = end;
    }
    return OK;
}

static enum status run(struct render *r, const struct template_input *input, struct template_output *out) {
    struct builder b = {.pool = &r->pool};
    struct scope *globals;
    r->out = &b;
    TRY(jinja_scope_open(r, NULL, &globals));
    r->scope = globals;
    TRY(provide_variables(r, input));
    TRY(jinja_execute(r, r->t->body));
    return hand_over(&b, out);
}

enum status template_render(const struct template *t, const struct template_input *input,
                            struct template_output *out) {
    int64_t steps = input->steps > 0 ? input->steps : TEMPLATE_STEPS;
    struct render r = {.t = t, .date = input->date, .steps = steps, .most_steps = steps};
    r.pool.limit = (int64_t)TEMPLATE_MEMORY_MIB << 20;
    enum status st = run(&r, input, out);
    pool_free(&r.pool);
    if (st != OK && !text_starts(status_message()->text, t->title)) {
        st = note("%s is at its line %d", t->title, r.line);
    }
    return st;
}

void template_output_free(struct template_output *out) {
    text_free(&out->text);
    mem_free(out->generation.data);
    mem_free(out->input.data);
    *out = (struct template_output){0};
}

bool template_ranges_touch(const struct template_ranges *ranges, size_t begin, size_t end) {
    int64_t low = 0;
    int64_t high = ranges->count; /* the first range that ends behind begin is in [low, high] */
    while (low < high) {
        int64_t middle = low + (high - low) / 2;
        if (ranges->data[middle].end > begin) {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    return begin < end && low < ranges->count && ranges->data[low].begin < end;
}
