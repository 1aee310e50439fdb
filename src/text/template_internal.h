/* A rendering under way. Private to src/text/template*.c. */
#ifndef COLLIMATE_TEXT_TEMPLATE_INTERNAL_H
#define COLLIMATE_TEXT_TEMPLATE_INTERNAL_H

#include "text/template_ast.h"

struct binding {
    const char *name; /* of the template's names */
    struct value value;
};
struct scope {
    struct scope *parent;
    struct binding *bindings;
    int64_t n, capacity;
    bool kept; /* a macro looks into it */
};

struct render {
    const struct template *t;
    struct pool pool;
    struct scope *scope;
    struct builder *out;
    const char *date;
    int64_t steps, most_steps; /* left, and of all */
    int depth, line;
    struct value filtered; /* what the innermost filter of a block is given */
    enum { FLOW_ON, FLOW_BREAK, FLOW_CONTINUE } flow;
};

struct loop {
    struct sequence *items;
    int64_t index;        /* from 0 */
    struct value changed; /* what loop.changed() was last called with */
};

struct macro {
    const struct node *node; /* parts, body */
    const char *name;
    struct scope *scope; /* where it was defined */
};

/* Arguments of a call. */
struct named_value {
    const char *name;
    struct value value;
};
struct arguments {
    struct value *values;
    struct named_value *named;
    int64_t n, capacity, n_named, named_capacity;
};
enum { MOST_ARGUMENTS = 6 };
/* What a row of the tables below is called with: its receiver (a filter's input, a method's object) and its
 * arguments by position, MISSING where not given. A row whose parameters are NULL takes `all` as they are. */
struct call {
    const char *name;
    struct value self;
    struct value args[MOST_ARGUMENTS];
    const struct arguments *all;
};
struct function {
    const char *name;
    const char *parameters; /* "old new count" */
    int required;
    enum status (*run)(struct render *r, const struct call *call, struct value *out);
};
struct method {
    struct value self;
    const char *name;
    const struct function *function; /* NULL: of Python's, not here */
};

/* Failures of this row, and what the interpreter lacks; template and line in front. */
#define refuse(r, ...) \
    status_same((template_refuse((r)->t->title, (r)->line, ERR_DATA, __VA_ARGS__), ERR_DATA))
#define lacking(r, ...) \
    status_same((template_refuse((r)->t->title, (r)->line, ERR_USAGE, __VA_ARGS__), ERR_USAGE))
/* Takes n steps from what is left. */
enum status jinja_spend(struct render *r, int64_t n);

/* Names. */
enum status jinja_scope_open(struct render *r, struct scope *parent, struct scope **out);
enum status jinja_scope_set(struct render *r, struct scope *s, const char *name, struct value value);
struct value jinja_scope_get(const struct render *r, const char *name);
void jinja_scope_keep(struct scope *s);

/* Expressions and statements. */
enum status jinja_evaluate(struct render *r, const struct node *n, struct value *out);
enum status jinja_execute(struct render *r, const struct node *body);
enum status jinja_assign(struct render *r, const struct node *target, struct value value);
/* The text of a body, in a scope of its own that lies in `parent`. */
enum status jinja_capture(struct render *r, const struct node *body, struct scope *scope, struct value *out);

/* Operations (template_operators.c). */
enum status jinja_operate(struct render *r, enum operator op, struct value a, struct value b,
                          struct value *out);
enum status jinja_contains(struct render *r, struct value container, struct value item, bool *out);
enum status jinja_compare(struct render *r, enum operator op, struct value a, struct value b, bool *out);
enum status jinja_percent_format(struct render *r, struct value format, struct value args, struct value *out);

/* Looking into values (template_lookup.c). */
enum status jinja_attribute(struct render *r, struct value of, struct value name,
                            struct value *out);                                                   /* a.b */
enum status jinja_item(struct render *r, struct value of, struct value index, struct value *out); /* a[b] */
enum status jinja_slice(struct render *r, struct value of, const struct value bounds[3], struct value *out);
/* a.b.c or a number, as `map(attribute=…)` names it. */
enum status jinja_attribute_path(struct render *r, struct value of, struct value path, struct value *out);
/* The elements that a loop would go through. Fails: ERR_DATA for what has none. */
enum status jinja_elements(struct render *r, struct value of, struct sequence **out);
/* As a new list. */
enum status jinja_listed(struct render *r, enum value_kind kind, const struct sequence *of,
                         struct value *out);
enum status jinja_length_of(struct render *r, struct value of, int64_t *out);
enum status jinja_undefined_used(const struct render *r, struct value v);

/* Calls (template_call.c). */
enum status jinja_arguments_add(struct render *r, struct arguments *a, struct value v);
enum status jinja_arguments_name(struct render *r, struct arguments *a, const char *name, struct value v);
enum status jinja_call_value(struct render *r, struct value callee, const struct arguments *a,
                             struct value *out);
enum status jinja_call_function(struct render *r, const char *what, const struct function *f,
                                struct value self, const struct arguments *a, struct value *out);
/* Whether a namespace may have an attribute of this name (transformers forbids those with an underscore). */
enum status jinja_attribute_allowed(const struct render *r, struct value name);
const struct function *jinja_function_find(const struct function *table, const char *name);
enum status jinja_apply_filter(struct render *r, const char *name, struct value self,
                               const struct arguments *a, struct value *out);
enum status jinja_apply_test(struct render *r, const char *name, struct value self, const struct arguments *a,
                             bool *out);
/* Arguments by their kinds; the default where missing. */
enum status jinja_take_int(struct render *r, const struct call *c, int i, int64_t missing, int64_t *out);
enum status jinja_take_string(struct render *r, const struct call *c, int i, const struct string **out);

/* Text of values (template_print.c). */
enum status jinja_print_value(struct render *r, struct value v, struct builder *b); /* str() */
enum status jinja_text_of(struct render *r, struct value v, struct value *out); /* the same, as a string */
enum status jinja_print_repr(struct render *r, struct value v, struct builder *b);
struct json_style {
    bool ascii, sort;
    bool lines;                                /* indent is given */
    const struct string *indent, *item, *pair; /* NULL: Python's own */
};
enum status jinja_print_json(struct render *r, struct value v, const struct json_style *style,
                             struct builder *b);
void jinja_float_text(double v, char out[40]);

/* Cases and classes of characters (template_case.c), as Python has them. */
bool jinja_is_blank(uint32_t point);
bool jinja_is_line_end(uint32_t point);
enum letter_case { CASE_LOWER, CASE_UPPER, CASE_TITLE };
/* lower(), upper(); CASE_TITLE is capitalize(). */
enum status jinja_cased(struct render *r, const struct string *s, enum letter_case to, struct value *out);
enum status jinja_titled(struct render *r, const struct string *s, bool filter, struct value *out);
enum char_class { CHAR_DIGIT, CHAR_ALPHA, CHAR_ALNUM, CHAR_SPACE, CHAR_UPPER, CHAR_LOWER };
bool jinja_all_of_class(const struct string *s, enum char_class class);
/* Escapes & < > ' ". */
enum status jinja_escaped(struct render *r, struct value v, struct value *out);
/* sides: 1 left, 2 right. chars NULL: white space. */
enum status jinja_stripped(struct render *r, const struct string *s, const struct string *chars, int sides,
                           struct value *out);
/* Lines as str.splitlines() cuts them. */
enum status jinja_split_lines(struct render *r, const struct string *s, bool ends, struct value *out);
enum status jinja_replaced(struct render *r, const struct string *s, const struct string *from,
                           const struct string *to, int64_t most, struct value *out);

extern const struct function template_filters[], template_sequence_filters[], template_tests[],
    template_globals[], template_string_methods[], template_dict_methods[], template_list_methods[],
    template_loop_methods[];
/* Python's methods that are not here: those that would change a value, and the rest. */
extern const char *const template_unsafe_methods[], *const template_other_methods[];

#endif
