#include "text/template_value.h"

#include <string.h>

#include "text/template_internal.h"
#include "text/unicode.h"

const char *value_type(struct value v) {
    static const char *const names[] = {
        [VALUE_MISSING] = "missing",
        [VALUE_UNDEFINED] = "Undefined",
        [VALUE_NONE] = "NoneType",
        [VALUE_BOOL] = "bool",
        [VALUE_INT] = "int",
        [VALUE_FLOAT] = "float",
        [VALUE_STRING] = "str",
        [VALUE_LIST] = "list",
        [VALUE_TUPLE] = "tuple",
        [VALUE_RANGE] = "range",
        [VALUE_VIEW] = "view of a dict",
        [VALUE_STREAM] = "generator",
        [VALUE_DICT] = "dict",
        [VALUE_SPACE] = "Namespace",
        [VALUE_MACRO] = "Macro",
        [VALUE_FUNCTION] = "function",
        [VALUE_METHOD] = "method",
        [VALUE_LOOP] = "LoopContext",
    };
    return names[v.kind];
}

bool value_truth(struct value v) {
    switch (v.kind) {
    case VALUE_MISSING:
    case VALUE_UNDEFINED:
    case VALUE_NONE:
        return false;
    case VALUE_BOOL:
        return v.truth;
    case VALUE_INT:
        return v.integer != 0;
    case VALUE_FLOAT:
        return v.real != 0;
    case VALUE_STRING:
        return v.string->n > 0;
    case VALUE_LIST:
    case VALUE_TUPLE:
    case VALUE_RANGE:
    case VALUE_VIEW:
        return v.sequence->n > 0;
    case VALUE_DICT:
        return v.dict->n > 0;
    default:
        return true;
    }
}

bool value_is(struct value v, const char *text) {
    return v.kind == VALUE_STRING && v.string->n == strlen(text) &&
           memcmp(v.string->s, text, v.string->n) == 0;
}

enum status string_new(struct pool *p, const char *s, size_t n, uint8_t marks, struct value *out) {
    static const struct marked_run whole[4] = {{SIZE_MAX, 0}, {SIZE_MAX, 1}, {SIZE_MAX, 2}, {SIZE_MAX, 3}};
    struct string *string;
    TRY(POOL_ARRAY(p, string, 1));
    *string = (struct string){.s = s, .n = n, .runs = &whole[marks & 3], .n_runs = marks ? 1 : 0};
    *out = value_of(string);
    return OK;
}

enum status string_cut(struct pool *p, const struct string *s, size_t from, size_t n, struct value *out) {
    struct string *cut;
    if (from == 0 && n == s->n) {
        *out = value_of(s);
        return OK;
    }
    TRY(POOL_ARRAY(p, cut, 1));
    *cut = (struct string){.s = s->s + from, .n = n, .markup = s->markup};
    int64_t first = 0;
    while (first < s->n_runs && s->runs[first].end <= from) {
        first++;
    }
    int64_t last = first;
    while (last < s->n_runs && s->runs[last].end < from + n) {
        last++;
    }
    if (first < s->n_runs && first == last) { /* of one run: begun where the cut begins, it ends past it */
        TRY(string_new(p, cut->s, n, s->runs[first].marks, out));
        cut->runs = out->string->runs;
        cut->n_runs = out->string->n_runs;
    } else if (first < s->n_runs) {
        struct marked_run *runs;
        TRY(POOL_ARRAY(p, runs, last - first + 1));
        for (int64_t i = first; i <= last && i < s->n_runs; i++) {
            runs[cut->n_runs++] = (struct marked_run){s->runs[i].end - from, s->runs[i].marks};
        }
        cut->runs = runs;
    }
    *out = value_of(cut);
    return OK;
}

bool string_equal(const struct string *a, const struct string *b) {
    return a->n == b->n && memcmp(a->s, b->s, a->n) == 0;
}

int64_t string_points(const struct string *s) {
    int64_t points = 0;
    for (size_t i = 0; i < s->n; i++) {
        points += !utf8_continues(s->s[i]);
    }
    return points;
}

size_t string_offset(const struct string *s, int64_t index) {
    size_t at = 0;
    while (index-- > 0 && at < s->n) {
        at += (size_t)utf8_length((unsigned char)s->s[at]);
    }
    return at;
}

uint8_t string_marks(const struct string *s) {
    uint8_t marks = 0;
    for (int64_t i = 0; i < s->n_runs; i++) {
        marks |= s->runs[i].marks;
    }
    return marks;
}

static enum status add_run(struct builder *b, size_t end, uint8_t marks) {
    if (b->n_runs > 0 && b->runs[b->n_runs - 1].marks == marks) {
        b->runs[b->n_runs - 1].end = end;
        return OK;
    }
    TRY(POOL_GROW(b->pool, b->runs, b->runs_capacity, b->n_runs + 1));
    b->runs[b->n_runs++] = (struct marked_run){end, marks};
    return OK;
}

enum status builder_put(struct builder *b, const char *s, size_t n, uint8_t marks) {
    marks |= b->marks;
    if (n == 0) {
        return OK;
    }
    if (n > (size_t)(TEMPLATE_OUTPUT - b->n)) {
        return fail(ERR_DATA, "a chat template writes more than its %d MiB of text", TEMPLATE_OUTPUT >> 20);
    }
    TRY(POOL_GROW(b->pool, b->s, b->capacity, b->n + (int64_t)n));
    if (marks && b->n_runs == 0 && b->n > 0) {
        TRY(add_run(b, (size_t)b->n, 0));
    }
    memcpy(b->s + b->n, s, n);
    b->n += (int64_t)n;
    return marks || b->n_runs > 0 ? add_run(b, (size_t)b->n, marks) : OK;
}

enum status builder_puts(struct builder *b, const char *s) {
    return builder_put(b, s, strlen(s), 0);
}

enum status builder_cut(struct builder *b, const struct string *s, size_t from, size_t n) {
    size_t at = from;
    for (int64_t i = 0; i < s->n_runs && at < from + n; i++) {
        size_t end = s->runs[i].end < from + n ? s->runs[i].end : from + n;
        if (end > at) {
            TRY(builder_put(b, s->s + at, end - at, s->runs[i].marks));
            at = end;
        }
    }
    return builder_put(b, s->s + at, from + n - at, 0);
}

enum status builder_string(struct builder *b, const struct string *s) {
    return builder_cut(b, s, 0, s->n);
}

enum status builder_done(const struct builder *b, struct value *out) {
    struct string *string;
    TRY(POOL_ARRAY(b->pool, string, 1));
    *string = (struct string){.s = b->s ? b->s : "", .n = (size_t)b->n, .runs = b->runs, .n_runs = b->n_runs};
    *out = value_of(string);
    return OK;
}

static int depth_of(struct value v) {
    return is_sequence(v) ? v.sequence->depth : v.kind == VALUE_DICT ? v.dict->depth : 0;
}

int64_t value_weight(struct value v) {
    if (is_sequence(v)) {
        return v.sequence->weight;
    }
    return v.kind == VALUE_DICT ? v.dict->weight : is_string(v) ? 1 + (int64_t)v.string->n / 256 : 1;
}

static enum status hold(int *depth, int64_t *weight, struct value inner) {
    if (depth_of(inner) >= TEMPLATE_NESTING) {
        return fail(ERR_DATA, "values in a chat template are nested deeper than %d", TEMPLATE_NESTING);
    }
    *weight += value_weight(inner);
    if (*weight > TEMPLATE_STEPS) {
        return fail(ERR_DATA, "a value in a chat template holds more than %d others", TEMPLATE_STEPS);
    }
    *depth = *depth > depth_of(inner) + 1 ? *depth : depth_of(inner) + 1;
    return OK;
}

enum status sequence_new(struct pool *p, enum value_kind kind, int64_t capacity, struct value *out) {
    struct sequence *s;
    TRY(POOL_ARRAY(p, s, 1));
    TRY(POOL_ARRAY(p, s->items, capacity));
    s->capacity = capacity;
    s->depth = 1;
    s->weight = 1;
    *out = (struct value){.kind = kind, .sequence = s};
    return OK;
}

enum status sequence_add(struct pool *p, struct value sequence, struct value item) {
    struct sequence *s = sequence.sequence;
    TRY(hold(&s->depth, &s->weight, item));
    TRY(POOL_GROW(p, s->items, s->capacity, s->n + 1));
    s->items[s->n++] = item;
    return OK;
}

enum status dict_new(struct pool *p, int64_t capacity, struct value *out) {
    struct dict *d;
    TRY(POOL_ARRAY(p, d, 1));
    TRY(POOL_ARRAY(p, d->entries, capacity));
    d->capacity = capacity;
    d->depth = 1;
    d->weight = 1;
    *out = (struct value){.kind = VALUE_DICT, .dict = d};
    return OK;
}

bool value_has_hash(struct value v) {
    bool holds = v.kind != VALUE_LIST && v.kind != VALUE_DICT && v.kind != VALUE_VIEW;
    for (int64_t i = 0; v.kind == VALUE_TUPLE && holds && i < v.sequence->n; i++) {
        holds = value_has_hash(v.sequence->items[i]);
    }
    return holds;
}

enum status dict_put(struct pool *p, struct value dict, struct value key, struct value value) {
    struct dict *d = dict.dict;
    if (!value_has_hash(key)) {
        return fail(ERR_DATA, "a chat template uses a %s as a key", value_type(key));
    }
    TRY(hold(&d->depth, &d->weight, key));
    TRY(hold(&d->depth, &d->weight, value));
    struct value *there = dict_find(d, key);
    if (there) {
        *there = value;
        return OK;
    }
    TRY(POOL_GROW(p, d->entries, d->capacity, d->n + 1));
    d->entries[d->n++] = (struct entry){key, value};
    return OK;
}

struct value *dict_find(const struct dict *d, struct value key) {
    for (int64_t i = 0; i < d->n; i++) {
        if (values_equal(d->entries[i].key, key)) {
            return &d->entries[i].value;
        }
    }
    return NULL;
}

struct value *dict_find_name(const struct dict *d, const char *name) {
    for (int64_t i = 0; i < d->n; i++) {
        if (value_is(d->entries[i].key, name)) {
            return &d->entries[i].value;
        }
    }
    return NULL;
}

static bool sequences_equal(const struct sequence *a, const struct sequence *b) {
    bool equal = a->n == b->n;
    for (int64_t i = 0; equal && i < a->n; i++) {
        equal = values_equal(a->items[i], b->items[i]);
    }
    return equal;
}

static bool dicts_equal(const struct dict *a, const struct dict *b) {
    bool equal = a->n == b->n;
    for (int64_t i = 0; equal && i < a->n; i++) {
        const struct value *other = dict_find(b, a->entries[i].key);
        equal = other && values_equal(a->entries[i].value, *other);
    }
    return equal;
}

bool values_equal(struct value a, struct value b) {
    if (is_integer(a) && is_integer(b)) {
        return integer_of(a) == integer_of(b);
    }
    if (is_number(a) && is_number(b)) {
        return number_of(a) == number_of(b);
    }
    if (a.kind != b.kind) {
        return false;
    }
    switch (a.kind) {
    case VALUE_STRING:
        return a.string == b.string || string_equal(a.string, b.string);
    case VALUE_LIST:
    case VALUE_TUPLE:
    case VALUE_RANGE:
        return a.sequence == b.sequence || sequences_equal(a.sequence, b.sequence);
    case VALUE_DICT:
        return a.dict == b.dict || dicts_equal(a.dict, b.dict);
    case VALUE_MISSING:
    case VALUE_UNDEFINED:
    case VALUE_NONE:
        return true;
    default:
        return a.sequence == b.sequence; /* the same one */
    }
}

static int order_numbers(struct value a, struct value b) {
    if (is_integer(a) && is_integer(b)) {
        return (integer_of(a) > integer_of(b)) - (integer_of(a) < integer_of(b));
    }
    double x = number_of(a);
    double y = number_of(b);
    return x < y ? -1 : x > y ? 1 : x == y ? 0 : UNORDERED;
}

/* By code points, which is the order of UTF-8's bytes. */
static int order_strings(const struct string *a, const struct string *b) {
    size_t n = a->n < b->n ? a->n : b->n;
    int order = n > 0 ? memcmp(a->s, b->s, n) : 0;
    order = order != 0 ? order : (a->n > b->n) - (a->n < b->n);
    return order < 0 ? -1 : order > 0;
}

enum status values_order(const struct render *r, struct value a, struct value b, int *order) {
    if (is_number(a) && is_number(b)) {
        *order = order_numbers(a, b);
        return OK;
    }
    if (is_string(a) && is_string(b)) {
        *order = order_strings(a.string, b.string);
        return OK;
    }
    if (a.kind != b.kind || (a.kind != VALUE_LIST && a.kind != VALUE_TUPLE)) {
        return refuse(r, "a %s and a %s have no order", value_type(a), value_type(b));
    }
    for (int64_t i = 0; i < a.sequence->n && i < b.sequence->n; i++) {
        if (!values_equal(a.sequence->items[i], b.sequence->items[i])) {
            return values_order(r, a.sequence->items[i], b.sequence->items[i], order);
        }
    }
    *order = (a.sequence->n > b.sequence->n) - (a.sequence->n < b.sequence->n);
    return OK;
}
