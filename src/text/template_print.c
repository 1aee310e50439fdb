/* Text of values: str(), repr() and json.dumps() of Python. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <utf8proc.h>

#include "text/template_internal.h"
#include "text/unicode.h"

/* The fewest digits that read back as v, in repr()'s form: exponents from 16 and below -4. */
void jinja_float_text(double v, char out[40]) {
    char digits[32];
    if (!isfinite(v)) {
        snprintf(out, 40, "%s", isnan(v) ? "nan" : v > 0 ? "inf" : "-inf");
        return;
    }
    for (int precision = 0; precision < 17; precision++) {
        snprintf(digits, sizeof digits, "%.*e", precision, v);
        if (strtod(digits, NULL) == v) {
            break;
        }
    }
    char *exponent = strchr(digits, 'e');
    int power = (int)strtol(exponent + 1, NULL, 10);
    int n_digits = (int)(exponent - digits) - (digits[0] == '-') - (strchr(digits, '.') != NULL);
    if (power < -4 || power >= 16) {
        snprintf(out, 40, "%s", digits);
        return;
    }
    int decimals = n_digits - 1 - power;
    snprintf(out, 40, "%.*f", decimals > 1 ? decimals : 1, v);
}

static bool is_printable(uint32_t point) {
    switch (utf8proc_category((utf8proc_int32_t)point)) {
    case UTF8PROC_CATEGORY_CC:
    case UTF8PROC_CATEGORY_CF:
    case UTF8PROC_CATEGORY_CS:
    case UTF8PROC_CATEGORY_CO:
    case UTF8PROC_CATEGORY_CN:
    case UTF8PROC_CATEGORY_ZL:
    case UTF8PROC_CATEGORY_ZP:
        return false;
    case UTF8PROC_CATEGORY_ZS:
        return point == ' ';
    default:
        return true;
    }
}

/* Puts what stands for an escaped character, with the marks of where it was. */
static enum status put_marked(struct builder *b, const struct string *s, const char *text) {
    return builder_put(b, text, strlen(text), string_marks(s));
}

static const char *repr_escape(uint32_t point, char quote, char out[16]) {
    const char *known = point == '\n' ? "\\n" : point == '\r' ? "\\r" : point == '\t' ? "\\t" : NULL;
    if (known) {
        return known;
    }
    if (point == (unsigned char)quote || point == '\\') {
        snprintf(out, 16, "\\%c", (char)point);
    } else if (is_printable(point)) {
        return NULL;
    } else {
        snprintf(out, 16, point < 0x100 ? "\\x%02x" : point < 0x10000 ? "\\u%04x" : "\\U%08x", point);
    }
    return out;
}

static const char *json_escape(uint32_t point, bool ascii, char out[16]) {
    static const char letters[] = "\"\\\n\r\t\f\b";
    static const char *const escapes[] = {"\\\"", "\\\\", "\\n", "\\r", "\\t", "\\f", "\\b"};
    const char *known = point && point < 0x80 ? strchr(letters, (int)point) : NULL;
    if (known) {
        return escapes[known - letters];
    }
    if (point >= 0x20 && (point < 0x7F || !ascii)) {
        return NULL;
    }
    if (point < 0x10000) {
        snprintf(out, 16, "\\u%04x", point);
    } else {
        snprintf(out, 16, "\\u%04x\\u%04x", 0xD7C0 + (point >> 10), 0xDC00 + (point & 0x3FF));
    }
    return out;
}

/* A string between quotes: repr()'s, or JSON's where quote is ". */
static enum status put_quoted(struct render *r, const struct string *s, char quote, bool json, bool ascii,
                              struct builder *b) {
    size_t plain = 0;
    TRY(jinja_spend(r, (int64_t)s->n / 8));
    TRY(builder_put(b, &quote, 1, 0));
    for (size_t at = 0; at < s->n;) {
        char escape[16];
        int length;
        uint32_t point = utf8_point(s->s + at, &length);
        const char *instead = json ? json_escape(point, ascii, escape) : repr_escape(point, quote, escape);
        if (instead) {
            TRY(builder_cut(b, s, plain, at - plain));
            TRY(put_marked(b, s, instead));
            plain = at + (size_t)length;
        }
        at += (size_t)length;
    }
    TRY(builder_cut(b, s, plain, s->n - plain));
    return builder_put(b, &quote, 1, 0);
}

static enum status repr_string(struct render *r, const struct string *s, struct builder *b) {
    bool has_single = memchr(s->s, '\'', s->n) != NULL;
    bool has_double = memchr(s->s, '"', s->n) != NULL;
    TRY(builder_puts(b, s->markup ? "Markup(" : ""));
    TRY(put_quoted(r, s, has_single && !has_double ? '"' : '\'', false, false, b));
    return builder_puts(b, s->markup ? ")" : "");
}

static enum status repr_elements(struct render *r, const struct sequence *s, const char *brackets,
                                 struct builder *b) {
    TRY(builder_put(b, &brackets[0], 1, 0));
    for (int64_t i = 0; i < s->n; i++) {
        TRY(builder_puts(b, i > 0 ? ", " : ""));
        TRY(jinja_print_repr(r, s->items[i], b));
    }
    TRY(builder_puts(b, s->n == 1 && brackets[0] == '(' ? "," : ""));
    return builder_put(b, &brackets[1], 1, 0);
}

static enum status repr_dict(struct render *r, const struct dict *d, struct builder *b) {
    TRY(builder_puts(b, "{"));
    for (int64_t i = 0; i < d->n; i++) {
        TRY(builder_puts(b, i > 0 ? ", " : ""));
        TRY(jinja_print_repr(r, d->entries[i].key, b));
        TRY(builder_puts(b, ": "));
        TRY(jinja_print_repr(r, d->entries[i].value, b));
    }
    return builder_puts(b, "}");
}

static enum status put_number(struct value v, struct builder *b) {
    char digits[40];
    if (v.kind == VALUE_FLOAT) {
        jinja_float_text(v.real, digits);
    } else {
        snprintf(digits, sizeof digits, "%lld", (long long)integer_of(v));
    }
    return builder_puts(b, digits);
}

enum status jinja_print_repr(struct render *r, struct value v, struct builder *b) {
    TRY(jinja_spend(r, 1));
    switch (v.kind) {
    case VALUE_UNDEFINED:
        TRY(v.why == WHY_UNSAFE ? jinja_undefined_used(r, v) : OK);
        return builder_puts(b, "Undefined");
    case VALUE_NONE:
        return builder_puts(b, "None");
    case VALUE_BOOL:
        return builder_puts(b, v.truth ? "True" : "False");
    case VALUE_INT:
    case VALUE_FLOAT:
        return put_number(v, b);
    case VALUE_STRING:
        return repr_string(r, v.string, b);
    case VALUE_LIST:
        return repr_elements(r, v.sequence, "[]", b);
    case VALUE_TUPLE:
        return repr_elements(r, v.sequence, "()", b);
    case VALUE_DICT:
        return repr_dict(r, v.dict, b);
    default:
        return lacking(r, "printing a %s is not supported", value_type(v));
    }
}

enum status jinja_print_value(struct render *r, struct value v, struct builder *b) {
    if (is_string(v)) {
        TRY(jinja_spend(r, (int64_t)v.string->n / 256));
        return builder_string(b, v.string);
    }
    if (v.kind == VALUE_UNDEFINED && v.why != WHY_UNSAFE) {
        return OK;
    }
    return jinja_print_repr(r, v, b);
}

enum status jinja_text_of(struct render *r, struct value v, struct value *out) {
    struct builder b = {.pool = &r->pool};
    if (is_string(v)) {
        *out = v;
        return OK;
    }
    TRY(jinja_print_value(r, v, &b));
    return builder_done(&b, out);
}

/* JSON. */

static enum status json_inner(struct render *r, struct value v, const struct json_style *style, int depth,
                              struct builder *b);

static enum status put_line(const struct json_style *style, int depth, struct builder *b) {
    if (!style->lines) {
        return OK;
    }
    TRY(builder_puts(b, "\n"));
    for (int i = 0; i < depth && style->indent; i++) {
        TRY(builder_string(b, style->indent));
    }
    return OK;
}

static enum status put_between(const struct json_style *style, int depth, bool first, struct builder *b) {
    if (!first && style->item) {
        TRY(builder_string(b, style->item));
    } else if (!first) {
        TRY(builder_puts(b, style->lines ? "," : ", "));
    }
    return put_line(style, depth, b);
}

static enum status json_number(struct value v, struct builder *b) {
    if (v.kind == VALUE_FLOAT && !isfinite(v.real)) {
        return builder_puts(b, isnan(v.real) ? "NaN" : v.real > 0 ? "Infinity" : "-Infinity");
    }
    return v.kind == VALUE_BOOL ? builder_puts(b, v.truth ? "true" : "false") : put_number(v, b);
}

static enum status json_key(struct render *r, struct value key, const struct json_style *style,
                            struct builder *b) {
    if (is_string(key)) {
        return put_quoted(r, key.string, '"', true, style->ascii, b);
    }
    if (!is_number(key) && key.kind != VALUE_NONE) {
        return refuse(r, "a %s is no key of JSON", value_type(key));
    }
    TRY(builder_puts(b, "\""));
    TRY(key.kind == VALUE_NONE ? builder_puts(b, "null") : json_number(key, b));
    return builder_puts(b, "\"");
}

/* The entries by their keys, in a stable order. */
static enum status sorted_entries(struct render *r, const struct dict *d, struct entry **out) {
    TRY(POOL_ARRAY(&r->pool, *out, d->n));
    for (int64_t i = 0; i < d->n; i++) {
        int64_t at = i;
        TRY(jinja_spend(r, 1 + i / 8));
        for (; at > 0; at--) {
            int order;
            TRY(values_order(r, d->entries[i].key, (*out)[at - 1].key, &order));
            if (order >= 0) {
                break;
            }
            (*out)[at] = (*out)[at - 1];
        }
        (*out)[at] = d->entries[i];
    }
    return OK;
}

static enum status json_dict(struct render *r, const struct dict *d, const struct json_style *style,
                             int depth, struct builder *b) {
    struct entry *entries = d->entries;
    if (style->sort) {
        TRY(sorted_entries(r, d, &entries));
    }
    TRY(builder_puts(b, "{"));
    for (int64_t i = 0; i < d->n; i++) {
        TRY(put_between(style, depth + 1, i == 0, b));
        TRY(json_key(r, entries[i].key, style, b));
        TRY(style->pair ? builder_string(b, style->pair) : builder_puts(b, ": "));
        TRY(json_inner(r, entries[i].value, style, depth + 1, b));
    }
    TRY(d->n > 0 ? put_line(style, depth, b) : OK);
    return builder_puts(b, "}");
}

static enum status json_list(struct render *r, const struct sequence *s, const struct json_style *style,
                             int depth, struct builder *b) {
    TRY(builder_puts(b, "["));
    for (int64_t i = 0; i < s->n; i++) {
        TRY(put_between(style, depth + 1, i == 0, b));
        TRY(json_inner(r, s->items[i], style, depth + 1, b));
    }
    TRY(s->n > 0 ? put_line(style, depth, b) : OK);
    return builder_puts(b, "]");
}

static enum status json_inner(struct render *r, struct value v, const struct json_style *style, int depth,
                              struct builder *b) {
    TRY(jinja_spend(r, 1));
    switch (v.kind) {
    case VALUE_NONE:
        return builder_puts(b, "null");
    case VALUE_BOOL:
    case VALUE_INT:
    case VALUE_FLOAT:
        return json_number(v, b);
    case VALUE_STRING:
        return put_quoted(r, v.string, '"', true, style->ascii, b);
    case VALUE_LIST:
    case VALUE_TUPLE:
        return json_list(r, v.sequence, style, depth, b);
    case VALUE_DICT:
        return json_dict(r, v.dict, style, depth, b);
    default:
        return refuse(r, "a value of type %s has no JSON", value_type(v));
    }
}

enum status jinja_print_json(struct render *r, struct value v, const struct json_style *style,
                             struct builder *b) {
    return json_inner(r, v, style, 0, b);
}
