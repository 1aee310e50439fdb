/* Values of a rendering: what Python's are to jinja2. Private to src/text/template*.c.
 *
 * One rule of ownership: a value lives in its rendering's pool (or, a constant, in its template's) until the
 * rendering ends. Values are handed over by copy and nobody frees one. All but namespaces, loops and spent
 * streams never change.
 */
#ifndef COLLIMATE_TEXT_TEMPLATE_VALUE_H
#define COLLIMATE_TEXT_TEMPLATE_VALUE_H

#include <stdint.h>

#include "text/pool.h"
#include "util/json.h"

enum value_kind {
    VALUE_MISSING, /* an argument that was not given; never seen by a template */
    VALUE_UNDEFINED,
    VALUE_NONE,
    VALUE_BOOL,
    VALUE_INT,
    VALUE_FLOAT,
    VALUE_STRING,
    VALUE_LIST,
    VALUE_TUPLE,
    VALUE_RANGE,
    VALUE_VIEW,   /* dict.items(), keys(), values(): a length, but no element by number */
    VALUE_STREAM, /* a generator: read once */
    VALUE_DICT,
    VALUE_SPACE,
    VALUE_MACRO,
    VALUE_FUNCTION,
    VALUE_METHOD,
    VALUE_LOOP,
};

/* Where text came from. */
enum { MARK_INPUT = 1, MARK_GENERATION = 2 };
struct marked_run {
    size_t end; /* a run begins where the one before it ends; the last may end past the string */
    uint8_t marks;
};
struct string {
    const char *s; /* valid UTF-8, not NUL-terminated */
    size_t n;
    const struct marked_run *runs; /* none: no marks */
    int64_t n_runs;
    bool markup; /* went through `safe` or `escape`: + escapes what is joined to it */
};

/* How a value came to be undefined. */
enum undefined_why { WHY_NAME, WHY_ATTRIBUTE, WHY_UNSAFE, WHY_ARGUMENT, WHY_ELEMENT, WHY_ELSE };

struct value {
    enum value_kind kind;
    enum undefined_why why;
    union {
        bool truth;
        int64_t integer;
        double real;
        const struct string *string;
        struct sequence *sequence; /* list, tuple, range, view, stream */
        struct dict *dict;         /* dict, namespace */
        const struct macro *macro;
        const struct function *function;
        const struct method *method;
        struct loop *loop;
        const char *name; /* of what is undefined; may be NULL */
    };
};

struct sequence {
    struct value *items;
    int64_t n, capacity;
    int depth;      /* 1 + the deepest element's */
    int64_t weight; /* 1 + the elements' */
    bool spent;
};
struct entry {
    struct value key, value;
};
struct dict {
    struct entry *entries; /* in order of insertion */
    int64_t n, capacity;
    int depth;
    int64_t weight;
};

struct render; /* template_internal.h */

static inline struct value value_none(void) {
    return (struct value){.kind = VALUE_NONE};
}
static inline struct value value_bool(bool truth) {
    return (struct value){.kind = VALUE_BOOL, .truth = truth};
}
static inline struct value value_int(int64_t integer) {
    return (struct value){.kind = VALUE_INT, .integer = integer};
}
static inline struct value value_float(double real) {
    return (struct value){.kind = VALUE_FLOAT, .real = real};
}
static inline struct value value_undefined(enum undefined_why why, const char *name) {
    return (struct value){.kind = VALUE_UNDEFINED, .why = why, .name = name};
}
static inline struct value value_of(const struct string *string) {
    return (struct value){.kind = VALUE_STRING, .string = string};
}
static inline bool is_given(struct value v) {
    return v.kind != VALUE_MISSING;
}
static inline bool is_string(struct value v) {
    return v.kind == VALUE_STRING;
}
/* int or bool, as Python counts. */
static inline bool is_integer(struct value v) {
    return v.kind == VALUE_INT || v.kind == VALUE_BOOL;
}
static inline bool is_number(struct value v) {
    return is_integer(v) || v.kind == VALUE_FLOAT;
}
static inline bool is_sequence(struct value v) {
    return v.kind >= VALUE_LIST && v.kind <= VALUE_STREAM;
}
static inline int64_t integer_of(struct value v) {
    return v.kind == VALUE_BOOL ? v.truth : v.integer;
}
static inline double number_of(struct value v) {
    return v.kind == VALUE_FLOAT ? v.real : (double)integer_of(v);
}
/* "str", "list": what Python calls its type. */
const char *value_type(struct value v);
bool value_truth(struct value v);
bool value_is(struct value v, const char *text); /* a string with these bytes */

/* Strings. The bytes are borrowed from what lives as long as the pool. */
enum status string_new(struct pool *p, const char *s, size_t n, uint8_t marks, struct value *out);
/* Bytes [from, from + n) of a string, with their marks. */
enum status string_cut(struct pool *p, const struct string *s, size_t from, size_t n, struct value *out);
bool string_equal(const struct string *a, const struct string *b);
int64_t string_points(const struct string *s);
/* Byte offset of code point `index` (0 to string_points). */
size_t string_offset(const struct string *s, int64_t index);
uint8_t string_marks(const struct string *s); /* all of them together */

/* Text that grows piece by piece and keeps the marks of its pieces. */
struct builder {
    struct pool *pool;
    char *s;
    struct marked_run *runs;
    int64_t n, capacity, n_runs, runs_capacity;
    uint8_t marks; /* that everything gets which is put in */
};
enum status builder_put(struct builder *b, const char *s, size_t n, uint8_t marks);
enum status builder_puts(struct builder *b, const char *s);
enum status builder_string(struct builder *b, const struct string *s);
/* Bytes [from, from + n) of s. */
enum status builder_cut(struct builder *b, const struct string *s, size_t from, size_t n);
enum status builder_done(const struct builder *b, struct value *out);

/* About how many steps it takes to look at all of v, as often as it holds the same things. */
int64_t value_weight(struct value v);
/* Sequences and dicts under construction. What would be nested too deeply or weigh too much is refused. */
enum status sequence_new(struct pool *p, enum value_kind kind, int64_t capacity, struct value *out);
enum status sequence_add(struct pool *p, struct value sequence, struct value item);
enum status dict_new(struct pool *p, int64_t capacity, struct value *out);
/* Replaces the value of an equal key, or adds; the first key stays. Fails: ERR_DATA for a key without a hash.
 */
enum status dict_put(struct pool *p, struct value dict, struct value key, struct value value);
/* Whether Python would take it as a key. */
bool value_has_hash(struct value v);
struct value *dict_find(const struct dict *d, struct value key);
struct value *dict_find_name(const struct dict *d, const char *name);

/* Python's ==. */
bool values_equal(struct value a, struct value b);
/* *order: -1, 0, 1; UNORDERED for NaN. Fails: ERR_DATA for what Python does not order. */
enum { UNORDERED = 2 };
enum status values_order(const struct render *r, struct value a, struct value b, int *order);

#endif
