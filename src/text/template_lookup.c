/* Looking into values: attributes, elements, slices, what a loop goes through. */
#include <stdlib.h>
#include <string.h>

#include "text/template_internal.h"
#include "text/unicode.h"

enum status jinja_undefined_used(const struct render *r, struct value v) {
    static const char *const words[][2] = {
        [WHY_NAME] = {"'", "' is undefined"},
        [WHY_ATTRIBUTE] = {"there is no attribute '", "'"},
        [WHY_UNSAFE] = {"'", "' would change a value, which a template must not"},
        [WHY_ARGUMENT] = {"parameter '", "' was not given"},
        [WHY_ELEMENT] = {"there is no such element", ""},
        [WHY_ELSE] = {"an if without an else has no value", ""},
    };
    if (v.kind != VALUE_UNDEFINED) {
        return OK;
    }
    return refuse(r, "%s%.100s%s", words[v.why][0], v.name ? v.name : "", words[v.why][1]);
}

static bool is_listed(const char *const *names, const char *name) {
    bool listed = false;
    for (; *names && !listed; names++) {
        listed = strcmp(*names, name) == 0;
    }
    return listed;
}

static const struct function *methods_of(struct value v) {
    static const struct function none[] = {{0}};
    switch (v.kind) {
    case VALUE_STRING:
        return template_string_methods;
    case VALUE_DICT:
        return template_dict_methods;
    case VALUE_LIST:
    case VALUE_TUPLE:
    case VALUE_RANGE:
        return template_list_methods;
    case VALUE_LOOP:
        return template_loop_methods;
    default:
        return none;
    }
}

/* "str.title": how the tables of Python's other methods are written. */
static bool is_method_in(const char *const *names, struct value of, const char *name) {
    char whole[80];
    snprintf(whole, sizeof whole, "%s.%s", value_type(of), name);
    return is_listed(names, whole);
}

/* A method of Python's type; MISSING if it has none of this name. */
static enum status find_method(struct render *r, struct value of, const char *name, struct value *out) {
    const struct function *f = jinja_function_find(methods_of(of), name);
    struct method *method;
    *out = (struct value){.kind = VALUE_MISSING};
    if (is_method_in(template_unsafe_methods, of, name)) {
        *out = value_undefined(WHY_UNSAFE, name);
        return OK;
    }
    if (!f && !is_method_in(template_other_methods, of, name)) {
        return OK;
    }
    TRY(POOL_ARRAY(&r->pool, method, 1));
    *method = (struct method){.self = of, .name = name, .function = f};
    *out = (struct value){.kind = VALUE_METHOD, .method = method};
    return OK;
}

static struct value neighbor(const struct loop *loop, int64_t index) {
    bool there = index >= 0 && index < loop->items->n;
    return there ? loop->items->items[index] : value_undefined(WHY_ELEMENT, NULL);
}

static struct value loop_attribute(const struct loop *loop, const char *name) {
    int64_t n = loop->items->n;
    int64_t i = loop->index;
    const struct {
        const char *name;
        struct value value;
    } attributes[] = {
        {"index", value_int(i + 1)},
        {"index0", value_int(i)},
        {"revindex", value_int(n - i)},
        {"revindex0", value_int(n - i - 1)},
        {"first", value_bool(i == 0)},
        {"last", value_bool(i + 1 == n)},
        {"length", value_int(n)},
        {"depth", value_int(1)},
        {"depth0", value_int(0)},
        {"previtem", neighbor(loop, i - 1)},
        {"nextitem", neighbor(loop, i + 1)},
    };
    for (int k = 0; k < COUNT_OF(attributes); k++) {
        if (strcmp(attributes[k].name, name) == 0) {
            return attributes[k].value;
        }
    }
    return (struct value){.kind = VALUE_MISSING};
}

/* What Python's getattr() gives; MISSING if nothing. */
static enum status get_attribute(struct render *r, struct value of, struct value name, struct value *out) {
    char *s;
    *out = (struct value){.kind = VALUE_MISSING};
    TRY(POOL_ARRAY(&r->pool, s, (int64_t)name.string->n + 1));
    memcpy(s, name.string->s, name.string->n);
    if (of.kind == VALUE_SPACE) {
        const struct value *there = dict_find(of.dict, name);
        *out = there ? *there : *out;
        return OK;
    }
    if (of.kind == VALUE_LOOP) {
        *out = loop_attribute(of.loop, s);
    } else if (of.kind == VALUE_MACRO && value_is(name, "name")) {
        *out = template_name_value(r->t, of.macro->name);
    }
    return is_given(*out) ? OK : find_method(r, of, s, out);
}

static enum status index_string(struct render *r, const struct string *s, int64_t index, struct value *out) {
    TRY(jinja_spend(r, (int64_t)s->n / 64));
    int64_t points = string_points(s);
    index += index < 0 ? points : 0;
    if (index < 0 || index >= points) {
        return OK;
    }
    size_t at = string_offset(s, index);
    return string_cut(&r->pool, s, at, (size_t)utf8_length((unsigned char)s->s[at]), out);
}

/* What Python's of[index] gives; MISSING if nothing. */
static enum status get_item(struct render *r, struct value of, struct value index, struct value *out) {
    *out = (struct value){.kind = VALUE_MISSING};
    if (of.kind == VALUE_DICT) {
        TRY(jinja_spend(r, of.dict->n / 4 + of.dict->n * (value_weight(index) - 1)));
        const struct value *there = dict_find(of.dict, index);
        *out = there ? *there : *out;
        return OK;
    }
    if (is_string(of) && is_integer(index)) {
        return index_string(r, of.string, integer_of(index), out);
    }
    if (of.kind >= VALUE_LIST && of.kind <= VALUE_RANGE && is_integer(index)) {
        int64_t n = of.sequence->n;
        int64_t i = integer_of(index) + (integer_of(index) < 0 ? n : 0);
        *out = i >= 0 && i < n ? of.sequence->items[i] : *out;
    }
    return OK;
}

static enum status nothing_there(struct render *r, struct value index, struct value *out) {
    char *name = NULL;
    if (is_string(index)) {
        TRY(POOL_ARRAY(&r->pool, name, (int64_t)index.string->n + 1));
        memcpy(name, index.string->s, index.string->n);
    }
    *out = value_undefined(name ? WHY_ATTRIBUTE : WHY_ELEMENT, name);
    return OK;
}

enum status jinja_attribute(struct render *r, struct value of, struct value name, struct value *out) {
    TRY(jinja_undefined_used(r, of));
    TRY(get_attribute(r, of, name, out));
    if (!is_given(*out)) {
        TRY(get_item(r, of, name, out));
    }
    return is_given(*out) ? OK : nothing_there(r, name, out);
}

enum status jinja_item(struct render *r, struct value of, struct value index, struct value *out) {
    TRY(jinja_undefined_used(r, of));
    TRY(get_item(r, of, index, out));
    if (!is_given(*out) && is_string(index)) {
        TRY(get_attribute(r, of, index, out));
    }
    return is_given(*out) ? OK : nothing_there(r, index, out);
}

enum status jinja_attribute_path(struct render *r, struct value of, struct value path, struct value *out) {
    if (is_integer(path)) {
        return jinja_item(r, of, path, out);
    }
    if (!is_string(path)) {
        return refuse(r, "an attribute is named by a %s", value_type(path));
    }
    const struct string *s = path.string;
    *out = of;
    for (size_t at = 0; at <= s->n;) {
        const char *dot = memchr(s->s + at, '.', s->n - at);
        size_t n = dot ? (size_t)(dot - s->s) - at : s->n - at;
        bool digits = n > 0 && n < 10;
        struct value part;
        TRY(string_cut(&r->pool, s, at, n, &part));
        for (size_t i = 0; i < n && digits; i++) {
            digits = s->s[at + i] >= '0' && s->s[at + i] <= '9';
        }
        if (digits) {
            char number[10] = {0};
            memcpy(number, s->s + at, n);
            part = value_int(strtol(number, NULL, 10));
        }
        TRY(jinja_item(r, *out, part, out));
        at += n + 1;
    }
    return OK;
}

/* Python's slice.indices(): the first element, how many, how far apart. */
struct span {
    int64_t first, count, step;
};
static enum status span_of(struct render *r, const struct value bounds[3], int64_t n, struct span *out) {
    int64_t step = 1;
    int64_t ends[2];
    for (int i = 0; i < 3; i++) {
        TRY(jinja_undefined_used(r, bounds[i]));
        if (bounds[i].kind != VALUE_NONE && !is_integer(bounds[i])) {
            return refuse(r, "a slice is bounded by a %s", value_type(bounds[i]));
        }
    }
    if (bounds[2].kind != VALUE_NONE) {
        step = integer_of(bounds[2]);
        step = step < -n - 1 ? -n - 1 : step > n + 1 ? n + 1 : step; /* the same elements, and no overflow */
    }
    if (step == 0) {
        return refuse(r, "a slice's step is 0");
    }
    int64_t low = step < 0 ? -1 : 0;
    int64_t high = step < 0 ? n - 1 : n;
    for (int i = 0; i < 2; i++) {
        bool begins = (i == 0) == (step > 0);
        int64_t at = begins ? low : high;
        if (bounds[i].kind != VALUE_NONE) {
            at = integer_of(bounds[i]);
            at += at < 0 ? n : 0;
            at = at < low ? low : at > high ? high : at;
        }
        ends[i] = at;
    }
    int64_t distance = step > 0 ? ends[1] - ends[0] : ends[0] - ends[1];
    int64_t size = step > 0 ? step : -step;
    *out = (struct span){ends[0], distance > 0 ? (distance + size - 1) / size : 0, step};
    return OK;
}

static enum status slice_string(struct render *r, const struct string *s, const struct value bounds[3],
                                struct value *out) {
    struct span span;
    int64_t points = string_points(s);
    TRY(jinja_spend(r, (int64_t)s->n / 32));
    TRY(span_of(r, bounds, points, &span));
    if (span.step == 1) {
        size_t from = string_offset(s, span.first);
        size_t to = string_offset(s, span.first + span.count);
        return string_cut(&r->pool, s, from, to - from, out);
    }
    struct builder b = {.pool = &r->pool};
    size_t *at;
    size_t next = 0;
    TRY(jinja_spend(r, points));
    TRY(POOL_ARRAY(&r->pool, at, points));
    for (int64_t i = 0; i < points; i++) {
        at[i] = next;
        next += (size_t)utf8_length((unsigned char)s->s[next]);
    }
    for (int64_t i = 0; i < span.count; i++) {
        size_t from = at[span.first + i * span.step];
        TRY(builder_cut(&b, s, from, (size_t)utf8_length((unsigned char)s->s[from])));
    }
    return builder_done(&b, out);
}

enum status jinja_slice(struct render *r, struct value of, const struct value bounds[3], struct value *out) {
    struct span span;
    TRY(jinja_undefined_used(r, of));
    if (is_string(of)) {
        return slice_string(r, of.string, bounds, out);
    }
    if (of.kind != VALUE_LIST && of.kind != VALUE_TUPLE && of.kind != VALUE_RANGE) {
        return refuse(r, "a %s has no slices", value_type(of));
    }
    TRY(span_of(r, bounds, of.sequence->n, &span));
    TRY(jinja_spend(r, span.count / 4));
    TRY(sequence_new(&r->pool, of.kind, span.count, out));
    for (int64_t i = 0; i < span.count; i++) {
        TRY(sequence_add(&r->pool, *out, of.sequence->items[span.first + i * span.step]));
    }
    return OK;
}

static enum status characters(struct render *r, const struct string *s, struct sequence **out) {
    struct value list;
    int64_t n = string_points(s);
    TRY(jinja_spend(r, (int64_t)s->n));
    TRY(sequence_new(&r->pool, VALUE_LIST, n, &list));
    for (size_t at = 0; at < s->n;) {
        struct value c;
        size_t length = (size_t)utf8_length((unsigned char)s->s[at]);
        TRY(string_cut(&r->pool, s, at, length, &c));
        TRY(sequence_add(&r->pool, list, c));
        at += length;
    }
    *out = list.sequence;
    return OK;
}

static enum status keys(struct render *r, const struct dict *d, struct sequence **out) {
    struct value list;
    TRY(jinja_spend(r, d->n / 4));
    TRY(sequence_new(&r->pool, VALUE_LIST, d->n, &list));
    for (int64_t i = 0; i < d->n; i++) {
        TRY(sequence_add(&r->pool, list, d->entries[i].key));
    }
    *out = list.sequence;
    return OK;
}

enum status jinja_elements(struct render *r, struct value of, struct sequence **out) {
    static struct sequence empty;
    if (of.kind == VALUE_UNDEFINED && of.why != WHY_UNSAFE) {
        *out = &empty;
        return OK;
    }
    TRY(jinja_undefined_used(r, of));
    if (is_string(of)) {
        return characters(r, of.string, out);
    }
    if (of.kind == VALUE_DICT) {
        return keys(r, of.dict, out);
    }
    if (!is_sequence(of)) {
        return refuse(r, "a %s has no elements", value_type(of));
    }
    *out = of.sequence;
    if (of.kind == VALUE_STREAM) {
        *out = of.sequence->spent ? &empty : *out;
        of.sequence->spent = true;
    }
    return OK;
}

enum status jinja_listed(struct render *r, enum value_kind kind, const struct sequence *of,
                         struct value *out) {
    TRY(jinja_spend(r, of->n / 4));
    TRY(sequence_new(&r->pool, kind, of->n, out));
    for (int64_t i = 0; i < of->n; i++) {
        TRY(sequence_add(&r->pool, *out, of->items[i]));
    }
    return OK;
}

enum status jinja_length_of(struct render *r, struct value of, int64_t *out) {
    *out = 0;
    if (of.kind == VALUE_UNDEFINED && of.why != WHY_UNSAFE) {
        return OK;
    }
    TRY(jinja_undefined_used(r, of));
    if (is_string(of)) {
        *out = string_points(of.string);
        return jinja_spend(r, (int64_t)of.string->n / 64);
    }
    if (of.kind == VALUE_DICT || (is_sequence(of) && of.kind != VALUE_STREAM)) {
        *out = of.kind == VALUE_DICT ? of.dict->n : of.sequence->n;
        return OK;
    }
    return refuse(r, "a %s has no length", value_type(of));
}
