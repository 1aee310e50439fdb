/* Calls: arguments to parameters, macros, and the functions that every template has. */
#include <string.h>
#include <time.h>

#include "text/template_internal.h"

enum status jinja_arguments_add(struct render *r, struct arguments *a, struct value v) {
    TRY(POOL_GROW(&r->pool, a->values, a->capacity, a->n + 1));
    a->values[a->n++] = v;
    return OK;
}

enum status jinja_arguments_name(struct render *r, struct arguments *a, const char *name, struct value v) {
    TRY(jinja_spend(r, a->n_named / 8));
    for (int64_t i = 0; i < a->n_named; i++) {
        if (strcmp(a->named[i].name, name) == 0) {
            return refuse(r, "argument '%s' is given twice", name);
        }
    }
    TRY(POOL_GROW(&r->pool, a->named, a->named_capacity, a->n_named + 1));
    a->named[a->n_named++] = (struct named_value){name, v};
    return OK;
}

const struct function *jinja_function_find(const struct function *table, const char *name) {
    for (; table->name; table++) {
        if (strcmp(table->name, name) == 0) {
            return table;
        }
    }
    return NULL;
}

/* Position of `name` among "old new count"; -1 if it is none of them. *n: how many there are. */
static int parameter_index(const char *parameters, const char *name, int *n) {
    int found = -1;
    size_t length = strlen(name);
    *n = 0;
    while (*parameters) {
        size_t word = strcspn(parameters, " ");
        if (word == length && memcmp(parameters, name, word) == 0) {
            found = *n;
        }
        parameters += word + (parameters[word] == ' ');
        ++*n;
    }
    return found;
}

static enum status bind(struct render *r, const char *what, const struct function *f, struct call *c) {
    const struct arguments *a = c->all;
    int n;
    parameter_index(f->parameters, "", &n);
    if (a->n > n) {
        return refuse(r, "%s '%s' takes at most %d arguments", what, f->name, n);
    }
    for (int64_t i = 0; i < a->n; i++) {
        c->args[i] = a->values[i];
    }
    for (int64_t i = 0; i < a->n_named; i++) {
        int at = parameter_index(f->parameters, a->named[i].name, &n);
        if (at < 0 || is_given(c->args[at])) {
            return refuse(r, "%s '%s' has no argument '%.100s', or has it twice", what, f->name,
                          a->named[i].name);
        }
        c->args[at] = a->named[i].value;
    }
    for (int i = 0; i < f->required; i++) {
        if (!is_given(c->args[i])) {
            return refuse(r, "%s '%s' needs %d argument%s", what, f->name, f->required,
                          f->required == 1 ? "" : "s");
        }
    }
    return OK;
}

enum status jinja_call_function(struct render *r, const char *what, const struct function *f,
                                struct value self, const struct arguments *a, struct value *out) {
    struct call c = {.name = f->name, .self = self, .all = a};
    if (f->parameters) {
        TRY(bind(r, what, f, &c));
    }
    return f->run(r, &c, out);
}

enum status jinja_apply_filter(struct render *r, const char *name, struct value self,
                               const struct arguments *a, struct value *out) {
    const struct function *f = jinja_function_find(template_filters, name);
    f = f ? f : jinja_function_find(template_sequence_filters, name);
    if (!f) {
        return lacking(r, "filter '%.100s' is not supported", name);
    }
    return jinja_call_function(r, "filter", f, self, a, out);
}

enum status jinja_apply_test(struct render *r, const char *name, struct value self, const struct arguments *a,
                             bool *out) {
    const struct function *f = jinja_function_find(template_tests, name);
    struct value v;
    if (!f) {
        return lacking(r, "test '%.100s' is not supported", name);
    }
    TRY(jinja_call_function(r, "test", f, self, a, &v));
    *out = value_truth(v);
    return OK;
}

enum status jinja_take_int(struct render *r, const struct call *c, int i, int64_t missing, int64_t *out) {
    *out = missing;
    if (is_given(c->args[i])) {
        TRY(jinja_undefined_used(r, c->args[i]));
        if (!is_integer(c->args[i])) {
            return refuse(r, "'%s' takes an integer, not a %s", c->name, value_type(c->args[i]));
        }
        *out = integer_of(c->args[i]);
    }
    return OK;
}

enum status jinja_take_string(struct render *r, const struct call *c, int i, const struct string **out) {
    *out = NULL;
    if (is_given(c->args[i]) && c->args[i].kind != VALUE_NONE) {
        TRY(jinja_undefined_used(r, c->args[i]));
        if (!is_string(c->args[i])) {
            return refuse(r, "'%s' takes a string, not a %s", c->name, value_type(c->args[i]));
        }
        *out = c->args[i].string;
    }
    return OK;
}

/* Macros. */

static struct value *named_argument(const struct arguments *a, const char *name, bool *used) {
    for (int64_t i = 0; i < a->n_named; i++) {
        if (strcmp(a->named[i].name, name) == 0) {
            used[i] = true;
            return &a->named[i].value;
        }
    }
    return NULL;
}

static enum status bind_parameter(struct render *r, const struct part *part, struct value given) {
    struct value v = given;
    if (!is_given(v)) {
        v = value_undefined(WHY_ARGUMENT, part->name);
        if (part->value) {
            TRY(jinja_evaluate(r, part->value, &v));
        }
    }
    return jinja_scope_set(r, r->scope, part->name, v);
}

/* Arguments beyond the parameters: varargs and kwargs, for a macro that names them. */
static enum status bind_rest(struct render *r, const struct macro *m, const struct arguments *a,
                             int64_t taken, const bool *used) {
    const char *varargs = template_find_name(r->t, "varargs", 7);
    const char *kwargs = template_find_name(r->t, "kwargs", 6);
    const char *caller = template_find_name(r->t, "caller", 6);
    struct value rest;
    struct value named;
    TRY(sequence_new(&r->pool, VALUE_TUPLE, 0, &rest));
    TRY(dict_new(&r->pool, 0, &named));
    for (int64_t i = taken; i < a->n; i++) {
        TRY(sequence_add(&r->pool, rest, a->values[i]));
    }
    for (int64_t i = 0; i < a->n_named; i++) {
        struct value key;
        if (caller && strcmp(a->named[i].name, caller) == 0) {
            TRY(jinja_scope_set(r, r->scope, caller, a->named[i].value));
        } else if (!used[i]) {
            TRY(string_new(&r->pool, a->named[i].name, strlen(a->named[i].name), 0, &key));
            TRY(dict_put(&r->pool, named, key, a->named[i].value));
        }
    }
    if ((rest.sequence->n > 0 && !varargs) || (named.dict->n > 0 && !kwargs)) {
        return refuse(r, "macro '%s' does not take these arguments", m->name);
    }
    if (varargs) {
        TRY(jinja_scope_set(r, r->scope, varargs, rest));
    }
    return kwargs ? jinja_scope_set(r, r->scope, kwargs, named) : OK;
}

static enum status bind_macro(struct render *r, const struct macro *m, const struct arguments *a) {
    bool *used;
    int64_t i = 0;
    TRY(POOL_ARRAY(&r->pool, used, a->n_named));
    for (const struct part *part = m->node->parts; part; part = part->next, i++) {
        const struct value *named = named_argument(a, part->name, used);
        struct value given = {.kind = VALUE_MISSING};
        if (named && i < a->n) {
            return refuse(r, "macro '%s' is given '%s' twice", m->name, part->name);
        }
        given = i < a->n ? a->values[i] : named ? *named : given;
        TRY(bind_parameter(r, part, given));
    }
    return bind_rest(r, m, a, i, used);
}

static enum status call_macro(struct render *r, const struct macro *m, const struct arguments *a,
                              struct value *out) {
    struct scope *outer = r->scope;
    struct scope *scope;
    TRY(jinja_scope_open(r, m->scope, &scope));
    r->scope = scope;
    TRY(bind_macro(r, m, a));
    r->scope = outer;
    return jinja_capture(r, m->node->body, scope, out);
}

enum status jinja_call_value(struct render *r, struct value callee, const struct arguments *a,
                             struct value *out) {
    TRY(jinja_undefined_used(r, callee));
    switch (callee.kind) {
    case VALUE_MACRO:
        return call_macro(r, callee.macro, a, out);
    case VALUE_FUNCTION:
        return jinja_call_function(r, "function", callee.function, value_none(), a, out);
    case VALUE_METHOD:
        if (!callee.method->function) {
            return lacking(r, "method '%s' of %s is not supported", callee.method->name,
                           value_type(callee.method->self));
        }
        return jinja_call_function(r, "method", callee.method->function, callee.method->self, a, out);
    case VALUE_LOOP:
        return lacking(r, "recursive loops are not supported");
    default:
        return refuse(r, "a %s is called", value_type(callee));
    }
}

/* Functions. */

static enum status global_range(struct render *r, const struct call *c, struct value *out) {
    int64_t begin;
    int64_t end;
    int64_t step;
    TRY(jinja_take_int(r, c, 0, 0, &begin));
    TRY(jinja_take_int(r, c, 1, 0, &end));
    TRY(jinja_take_int(r, c, 2, 1, &step));
    if (!is_given(c->args[1])) {
        end = begin;
        begin = 0;
    }
    if (step == 0) {
        return refuse(r, "range() with a step of 0");
    }
    TRY(sequence_new(&r->pool, VALUE_RANGE, 0, out));
    for (int64_t i = begin; step > 0 ? i < end : i > end;) {
        if (out->sequence->n >= TEMPLATE_RANGE) {
            return refuse(r, "range() of more than %d elements", TEMPLATE_RANGE);
        }
        TRY(sequence_add(&r->pool, *out, value_int(i)));
        if (__builtin_add_overflow(i, step, &i)) {
            break;
        }
    }
    return jinja_spend(r, out->sequence->n / 4);
}

/* dict(a=1), dict({…}, a=1), and a namespace of the same. */
static enum status make_dict(struct render *r, const struct call *c, struct value *out) {
    TRY(dict_new(&r->pool, c->all->n_named, out));
    if (c->all->n > 1) {
        return refuse(r, "%s() takes at most one argument without a name", c->name);
    }
    if (c->all->n == 1) {
        struct value from = c->all->values[0];
        TRY(jinja_undefined_used(r, from));
        if (from.kind != VALUE_DICT) {
            return lacking(r, "%s() of a %s is not supported", c->name, value_type(from));
        }
        TRY(jinja_spend(r, from.dict->n));
        for (int64_t i = 0; i < from.dict->n; i++) {
            TRY(dict_put(&r->pool, *out, from.dict->entries[i].key, from.dict->entries[i].value));
        }
    }
    for (int64_t i = 0; i < c->all->n_named; i++) {
        struct value key;
        const char *name = c->all->named[i].name;
        TRY(string_new(&r->pool, name, strlen(name), 0, &key));
        TRY(dict_put(&r->pool, *out, key, c->all->named[i].value));
    }
    return OK;
}

enum status jinja_attribute_allowed(const struct render *r, struct value name) {
    bool hidden = is_string(name) && name.string->n > 0 && name.string->s[0] == '_';
    return hidden ? refuse(r, "an attribute of a namespace begins with an underscore") : OK;
}

static enum status global_namespace(struct render *r, const struct call *c, struct value *out) {
    TRY(make_dict(r, c, out));
    out->kind = VALUE_SPACE;
    for (int64_t i = 0; i < out->dict->n; i++) {
        TRY(jinja_attribute_allowed(r, out->dict->entries[i].key));
    }
    return OK;
}

static enum status global_raise(struct render *r, const struct call *c, struct value *out) {
    struct value text;
    (void)out;
    TRY(jinja_text_of(r, c->args[0], &text));
    return refuse(r, "the template refuses: %.*s", (int)(text.string->n > 600 ? 600 : text.string->n),
                  text.string->s);
}

static enum status moment_of(const struct render *r, struct tm *out) {
    time_t now = time(NULL);
    *out = (struct tm){0};
    if (!r->date) {
        localtime_r(&now, out);
        return OK;
    }
    const char *end = strptime(r->date, "%Y-%m-%d", out);
    if (end && *end) {
        end = strptime(end, "T%H:%M:%S", out);
    }
    return end && !*end
               ? OK
               : fail(ERR_USAGE, "the date \"%.100s\" is not of the form 2026-11-30 or 2026-11-30T08:15:30",
                      r->date);
}

static enum status global_strftime(struct render *r, const struct call *c, struct value *out) {
    struct tm moment;
    char text[1000];
    const struct string *format;
    TRY(jinja_take_string(r, c, 0, &format));
    if (!format || format->n >= 200 || memchr(format->s, '\0', format->n)) {
        return refuse(r, "strftime_now() takes a format of at most 200 bytes");
    }
    char bounded[201] = {0};
    memcpy(bounded, format->s, format->n);
    TRY(moment_of(r, &moment));
    size_t n = strftime(text, sizeof text, bounded, &moment);
    if (n == 0 && format->n > 0) {
        return refuse(r, "strftime_now() gives no text, or too much");
    }
    char *copy;
    TRY(POOL_ARRAY(&r->pool, copy, (int64_t)n + 1));
    memcpy(copy, text, n);
    return string_new(&r->pool, copy, n, 0, out);
}

const struct function template_globals[] = {
    {"range", "start stop step", 1, global_range},  {"dict", NULL, 0, make_dict},
    {"namespace", NULL, 0, global_namespace},       {"raise_exception", "message", 1, global_raise},
    {"strftime_now", "format", 1, global_strftime}, {0},
};
