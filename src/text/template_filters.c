/* Filters on single values. */
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "text/template_internal.h"

static enum status filter_trim(struct render *r, const struct call *c, struct value *out) {
    const struct string *chars;
    struct value text;
    TRY(jinja_take_string(r, c, 0, &chars));
    TRY(jinja_text_of(r, c->self, &text));
    return jinja_stripped(r, text.string, chars, 3, out);
}

static enum status filter_case(struct render *r, const struct call *c, struct value *out) {
    struct value text;
    TRY(jinja_text_of(r, c->self, &text));
    enum letter_case to = strcmp(c->name, "upper") == 0   ? CASE_UPPER
                          : strcmp(c->name, "lower") == 0 ? CASE_LOWER
                                                          : CASE_TITLE;
    return jinja_cased(r, text.string, to, out);
}

static enum status filter_title(struct render *r, const struct call *c, struct value *out) {
    struct value text;
    TRY(jinja_text_of(r, c->self, &text));
    return jinja_titled(r, text.string, true, out);
}

static enum status filter_string(struct render *r, const struct call *c, struct value *out) {
    return jinja_text_of(r, c->self, out);
}

static enum status filter_safe(struct render *r, const struct call *c, struct value *out) {
    struct value text;
    struct string *string;
    TRY(jinja_text_of(r, c->self, &text));
    TRY(POOL_ARRAY(&r->pool, string, 1));
    *string = *text.string;
    string->markup = true;
    *out = value_of(string);
    return OK;
}

static enum status filter_escape(struct render *r, const struct call *c, struct value *out) {
    return jinja_escaped(r, c->self, out);
}

static enum status filter_default(struct render *r, const struct call *c, struct value *out) {
    (void)r;
    bool falls_back = c->self.kind == VALUE_UNDEFINED || (value_truth(c->args[1]) && !value_truth(c->self));
    static const struct string empty = {.s = ""};
    *out = !falls_back ? c->self : is_given(c->args[0]) ? c->args[0] : value_of(&empty);
    return OK;
}

static enum status filter_replace(struct render *r, const struct call *c, struct value *out) {
    struct value text;
    struct value from;
    struct value to;
    int64_t most = -1;
    if (is_given(c->args[2]) && c->args[2].kind != VALUE_NONE) {
        TRY(jinja_take_int(r, c, 2, -1, &most));
    }
    TRY(jinja_text_of(r, c->self, &text));
    TRY(jinja_text_of(r, c->args[0], &from));
    TRY(jinja_text_of(r, c->args[1], &to));
    return jinja_replaced(r, text.string, from.string, to.string, most < 0 ? -1 : most, out);
}

static enum status style_text(struct render *r, struct value v, const struct string **out) {
    TRY(jinja_undefined_used(r, v));
    if (!is_string(v)) {
        return refuse(r, "tojson's separators must be strings");
    }
    *out = v.string;
    return OK;
}

static enum status json_indent(struct render *r, const struct call *c, struct json_style *style) {
    struct value blanks;
    if (!is_given(c->args[1]) || c->args[1].kind == VALUE_NONE) {
        return OK;
    }
    style->lines = true;
    if (is_string(c->args[1])) {
        style->indent = c->args[1].string;
        return OK;
    }
    int64_t n;
    static const struct string blank = {.s = " ", .n = 1};
    TRY(jinja_take_int(r, c, 1, 0, &n));
    TRY(jinja_operate(r, OP_MULTIPLY, value_of(&blank), value_int(n), &blanks));
    style->indent = blanks.string;
    return OK;
}

static enum status filter_tojson(struct render *r, const struct call *c, struct value *out) {
    struct builder b = {.pool = &r->pool};
    struct json_style style = {.ascii = value_truth(c->args[0]), .sort = value_truth(c->args[3])};
    struct value separators = c->args[2];
    TRY(json_indent(r, c, &style));
    if (is_given(separators) && separators.kind != VALUE_NONE) {
        struct sequence *s;
        TRY(jinja_elements(r, separators, &s));
        if (s->n != 2) {
            return refuse(r, "tojson takes two separators");
        }
        TRY(style_text(r, s->items[0], &style.item));
        TRY(style_text(r, s->items[1], &style.pair));
    }
    TRY(jinja_print_json(r, c->self, &style, &b));
    return builder_done(&b, out);
}

static enum status filter_indent(struct render *r, const struct call *c, struct value *out) {
    static const struct string blank = {.s = " ", .n = 1};
    struct builder b = {.pool = &r->pool};
    struct builder lines_text = {.pool = &r->pool};
    struct value indent;
    struct value whole;
    struct value lines;
    if (!is_string(c->self)) {
        return refuse(r, "'indent' takes a string, not a %s", value_type(c->self));
    }
    if (is_given(c->args[0]) && is_string(c->args[0])) {
        indent = c->args[0];
    } else {
        int64_t width;
        TRY(jinja_take_int(r, c, 0, 4, &width));
        TRY(jinja_operate(r, OP_MULTIPLY, value_of(&blank), value_int(width), &indent));
    }
    TRY(builder_string(&lines_text, c->self.string));
    TRY(builder_puts(&lines_text, "\n"));
    TRY(builder_done(&lines_text, &whole));
    TRY(jinja_split_lines(r, whole.string, false, &lines));
    for (int64_t i = 0; i < lines.sequence->n; i++) {
        const struct string *line = lines.sequence->items[i].string;
        bool indented = i == 0 ? value_truth(c->args[1]) : line->n > 0 || value_truth(c->args[2]);
        TRY(i > 0 ? builder_puts(&b, "\n") : OK);
        TRY(indented ? builder_string(&b, indent.string) : OK);
        TRY(builder_string(&b, line));
    }
    return builder_done(&b, out);
}

static enum status filter_abs(struct render *r, const struct call *c, struct value *out) {
    TRY(jinja_undefined_used(r, c->self));
    if (!is_number(c->self)) {
        return refuse(r, "'abs' of a %s", value_type(c->self));
    }
    if (c->self.kind == VALUE_FLOAT) {
        *out = value_float(fabs(c->self.real));
        return OK;
    }
    int64_t i = integer_of(c->self);
    return i < 0 ? jinja_operate(r, OP_SUBTRACT, value_int(0), value_int(i), out) : (*out = value_int(i), OK);
}

static enum status filter_attr(struct render *r, const struct call *c, struct value *out) {
    TRY(jinja_undefined_used(r, c->self));
    if (!is_string(c->args[0])) {
        return refuse(r, "'attr' takes a name");
    }
    /* Only what is an attribute: a dict's keys are not. */
    return c->self.kind == VALUE_DICT ? lacking(r, "filter 'attr' of a dict is not supported")
                                      : jinja_attribute(r, c->self, c->args[0], out);
}

/* int(text) of Python in base 10; false if it is none. */
static bool read_integer(const char *s, int64_t *out) {
    char digits[64];
    size_t n = 0;
    bool was_digit = false;
    for (; *s; s++) {
        bool digit = *s >= '0' && *s <= '9';
        bool sign = n == 0 && (*s == '-' || *s == '+');
        bool joint = *s == '_' && was_digit && s[1] >= '0' && s[1] <= '9';
        if ((!digit && !sign && !joint) || n + 1 >= sizeof digits) {
            return false;
        }
        was_digit = digit;
        digits[n] = *s;
        n += !joint;
    }
    digits[n] = '\0';
    char *end;
    errno = 0;
    *out = strtoll(digits, &end, 10);
    return errno == 0 && end > digits && !*end;
}

static bool read_float(const char *s, double *out) {
    char *end;
    bool hexadecimal = strchr(s, 'x') || strchr(s, 'X') || strchr(s, '(');
    *out = strtod(s, &end);
    return !hexadecimal && end > s && !*end;
}

/* A string's text without white space around it, in out; longer ones are no numbers of 64 bits. */
static enum status number_text(struct render *r, struct value v, char out[64]) {
    struct value s;
    TRY(jinja_stripped(r, v.string, NULL, 3, &s));
    out[0] = '\0';
    if (s.string->n < 64 && !memchr(s.string->s, '\0', s.string->n)) {
        memcpy(out, s.string->s, s.string->n);
        out[s.string->n] = '\0';
    }
    return OK;
}

static bool whole_part(double real, int64_t *out) {
    bool fits = isfinite(real) && fabs(real) < 9e18;
    *out = fits ? (int64_t)real : 0;
    return fits;
}

static enum status filter_int(struct render *r, const struct call *c, struct value *out) {
    char text[64];
    int64_t integer = 0;
    double real = 0;
    *out = is_given(c->args[0]) ? c->args[0] : value_int(0);
    if (is_given(c->args[1]) && !values_equal(c->args[1], value_int(10))) {
        return lacking(r, "filter 'int' with another base than 10 is not supported");
    }
    if (is_string(c->self)) {
        TRY(number_text(r, c->self, text));
        if (read_integer(text, &integer) || (read_float(text, &real) && whole_part(real, &integer))) {
            *out = value_int(integer);
        }
    } else if (is_number(c->self) && c->self.kind != VALUE_FLOAT) {
        *out = value_int(integer_of(c->self));
    } else if (c->self.kind == VALUE_FLOAT && whole_part(c->self.real, &integer)) {
        *out = value_int(integer);
    } else {
        TRY(jinja_undefined_used(r, c->self));
    }
    return OK;
}

static enum status filter_float(struct render *r, const struct call *c, struct value *out) {
    char text[64];
    double real;
    *out = is_given(c->args[0]) ? c->args[0] : value_float(0);
    if (is_string(c->self)) {
        TRY(number_text(r, c->self, text));
        *out = read_float(text, &real) ? value_float(real) : *out;
    } else if (is_number(c->self)) {
        *out = value_float(number_of(c->self));
    } else {
        TRY(jinja_undefined_used(r, c->self));
    }
    return OK;
}

static enum status filter_round(struct render *r, const struct call *c, struct value *out) {
    int64_t places;
    const struct string *method;
    char digits[400];
    TRY(jinja_take_int(r, c, 0, 0, &places));
    TRY(jinja_take_string(r, c, 1, &method));
    TRY(jinja_undefined_used(r, c->self));
    if (!is_number(c->self)) {
        return refuse(r, "'round' of a %s", value_type(c->self));
    }
    if ((method && !value_is(c->args[1], "common")) || places < 0 || places > 50) {
        return lacking(r, "filter 'round' is not supported other than to the nearest, with 0 to 50 places");
    }
    if (is_integer(c->self)) {
        *out = value_int(integer_of(c->self));
        return OK;
    }
    snprintf(digits, sizeof digits, "%.*f", (int)places, c->self.real);
    *out = value_float(isfinite(c->self.real) ? strtod(digits, NULL) : c->self.real);
    return OK;
}

static enum status filter_format(struct render *r, const struct call *c, struct value *out) {
    struct value text;
    struct value args;
    struct sequence given = {.items = c->all->values, .n = c->all->n};
    if (c->all->n_named > 0) {
        return lacking(r, "filter 'format' with names is not supported");
    }
    TRY(jinja_text_of(r, c->self, &text));
    TRY(jinja_listed(r, VALUE_TUPLE, &given, &args));
    return jinja_percent_format(r, text, args, out);
}

const struct function template_filters[] = {
    {"trim", "chars", 0, filter_trim},
    {"upper", "", 0, filter_case},
    {"lower", "", 0, filter_case},
    {"capitalize", "", 0, filter_case},
    {"title", "", 0, filter_title},
    {"string", "", 0, filter_string},
    {"safe", "", 0, filter_safe},
    {"escape", "", 0, filter_escape},
    {"e", "", 0, filter_escape},
    {"default", "default_value boolean", 0, filter_default},
    {"d", "default_value boolean", 0, filter_default},
    {"replace", "old new count", 2, filter_replace},
    {"tojson", "ensure_ascii indent separators sort_keys", 0, filter_tojson},
    {"indent", "width first blank", 0, filter_indent},
    {"abs", "", 0, filter_abs},
    {"attr", "name", 1, filter_attr},
    {"int", "default base", 0, filter_int},
    {"float", "default", 0, filter_float},
    {"round", "precision method", 0, filter_round},
    {"format", NULL, 0, filter_format},
    {0},
};
