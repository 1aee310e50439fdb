/* Operators, with Python's meaning. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "text/template_internal.h"

static enum status overflow(const struct render *r) {
    return lacking(r, "an integer beyond 64 bits is not supported");
}

static int64_t floor_quotient(int64_t x, int64_t y) {
    int64_t q = x / y;
    return q - ((x % y != 0) && ((x < 0) != (y < 0)));
}

static enum status integer_power(struct render *r, int64_t x, int64_t n, struct value *out) {
    int64_t product = 1;
    if (n < 0) {
        if (x == 0) {
            return refuse(r, "division by zero");
        }
        *out = value_float(pow((double)x, (double)n));
        return OK;
    }
    if (x == 0 || x == 1 || x == -1) {
        *out = value_int(n == 0 ? 1 : x == -1 && n % 2 == 0 ? 1 : x);
        return OK;
    }
    for (int64_t i = 0; i < n; i++) {
        if (__builtin_mul_overflow(product, x, &product)) {
            return overflow(r);
        }
    }
    *out = value_int(product);
    return OK;
}

static enum status operate_integers(struct render *r, enum operator op, int64_t x, int64_t y,
                                    struct value *out) {
    int64_t z = 0;
    bool too_big = false;
    if ((op == OP_DIVIDE || op == OP_FLOOR || op == OP_REMAINDER) && y == 0) {
        return refuse(r, "division by zero");
    }
    switch (op) {
    case OP_ADD:
        too_big = __builtin_add_overflow(x, y, &z);
        break;
    case OP_SUBTRACT:
        too_big = __builtin_sub_overflow(x, y, &z);
        break;
    case OP_MULTIPLY:
        too_big = __builtin_mul_overflow(x, y, &z);
        break;
    case OP_DIVIDE:
        *out = value_float((double)x / (double)y);
        return OK;
    case OP_FLOOR:
        too_big = y == -1 && x == INT64_MIN;
        z = too_big ? 0 : floor_quotient(x, y);
        break;
    case OP_REMAINDER:
        z = y == -1 ? 0 : x - floor_quotient(x, y) * y;
        break;
    default:
        return integer_power(r, x, y, out);
    }
    *out = value_int(z);
    return too_big ? overflow(r) : OK;
}

static enum status operate_floats(struct render *r, enum operator op, double x, double y, struct value *out) {
    if ((op == OP_DIVIDE || op == OP_FLOOR || op == OP_REMAINDER) && y == 0) {
        return refuse(r, "division by zero");
    }
    double rest = op == OP_FLOOR || op == OP_REMAINDER ? fmod(x, y) : 0;
    rest += rest != 0 && (rest < 0) != (y < 0) ? y : 0;
    switch (op) {
    case OP_ADD:
        *out = value_float(x + y);
        break;
    case OP_SUBTRACT:
        *out = value_float(x - y);
        break;
    case OP_MULTIPLY:
        *out = value_float(x * y);
        break;
    case OP_DIVIDE:
        *out = value_float(x / y);
        break;
    case OP_FLOOR:
        *out = value_float(nearbyint((x - rest) / y));
        break;
    case OP_REMAINDER:
        *out = value_float(rest == 0 ? copysign(0, y) : rest);
        break;
    default:
        if (x == 0 && y < 0) {
            return refuse(r, "division by zero");
        }
        if (x < 0 && y != floor(y)) {
            return lacking(r, "complex numbers are not supported");
        }
        *out = value_float(pow(x, y));
    }
    return OK;
}

static enum status join_strings(struct render *r, struct value a, struct value b, struct value *out) {
    struct builder joined = {.pool = &r->pool};
    bool markup = a.string->markup || b.string->markup;
    if (markup && !a.string->markup) {
        TRY(jinja_escaped(r, a, &a));
    }
    if (markup && !b.string->markup) {
        TRY(jinja_escaped(r, b, &b));
    }
    TRY(jinja_spend(r, (int64_t)(a.string->n + b.string->n) / 256));
    TRY(builder_string(&joined, a.string));
    TRY(builder_string(&joined, b.string));
    TRY(builder_done(&joined, out));
    struct string *string;
    TRY(POOL_ARRAY(&r->pool, string, 1));
    *string = *out->string;
    string->markup = markup;
    *out = value_of(string);
    return OK;
}

static enum status join_sequences(struct render *r, struct value a, struct value b, struct value *out) {
    TRY(jinja_listed(r, a.kind, a.sequence, out));
    TRY(jinja_spend(r, b.sequence->n / 4));
    for (int64_t i = 0; i < b.sequence->n; i++) {
        TRY(sequence_add(&r->pool, *out, b.sequence->items[i]));
    }
    return OK;
}

static enum status repeat(struct render *r, struct value of, int64_t times, struct value *out) {
    int64_t n = is_string(of) ? (int64_t)of.string->n : of.sequence->n;
    times = times < 0 || n == 0 ? 0 : times;
    TRY(jinja_spend(r, times));
    if (is_string(of)) {
        struct builder b = {.pool = &r->pool};
        for (int64_t i = 0; i < times; i++) {
            TRY(builder_string(&b, of.string));
        }
        return builder_done(&b, out);
    }
    TRY(sequence_new(&r->pool, of.kind, 0, out));
    for (int64_t i = 0; i < times; i++) {
        TRY(jinja_spend(r, n / 4));
        for (int64_t k = 0; k < n; k++) {
            TRY(sequence_add(&r->pool, *out, of.sequence->items[k]));
        }
    }
    return OK;
}

static bool repeats(struct value v) {
    return is_string(v) || v.kind == VALUE_LIST || v.kind == VALUE_TUPLE;
}

enum status jinja_operate(struct render *r, enum operator op, struct value a, struct value b,
                          struct value *out) {
    TRY(jinja_undefined_used(r, a));
    TRY(jinja_undefined_used(r, b));
    if (is_integer(a) && is_integer(b)) {
        return operate_integers(r, op, integer_of(a), integer_of(b), out);
    }
    if (is_number(a) && is_number(b)) {
        return operate_floats(r, op, number_of(a), number_of(b), out);
    }
    if (op == OP_ADD && is_string(a) && is_string(b)) {
        return join_strings(r, a, b, out);
    }
    if (op == OP_ADD && a.kind == b.kind && (a.kind == VALUE_LIST || a.kind == VALUE_TUPLE)) {
        return join_sequences(r, a, b, out);
    }
    if (op == OP_MULTIPLY && repeats(a) && is_integer(b)) {
        return repeat(r, a, integer_of(b), out);
    }
    if (op == OP_MULTIPLY && repeats(b) && is_integer(a)) {
        return repeat(r, b, integer_of(a), out);
    }
    if (op == OP_REMAINDER && is_string(a)) {
        return jinja_percent_format(r, a, b, out);
    }
    char name[3] = {(char)(op >> 8), (char)(op & 0xFF)};
    return refuse(r, "%s is not defined for a %s and a %s", name[0] ? name : name + 1, value_type(a),
                  value_type(b));
}

static bool in_sequence(const struct sequence *s, struct value item_) {
    bool found = false;
    for (int64_t i = 0; i < s->n && !found; i++) {
        found = values_equal(s->items[i], item_);
    }
    return found;
}

enum status jinja_contains(struct render *r, struct value container, struct value item_, bool *out) {
    struct sequence *s;
    if (is_string(container)) {
        TRY(jinja_undefined_used(r, item_));
        if (!is_string(item_)) {
            return refuse(r, "a %s is looked for in a string", value_type(item_));
        }
        TRY(jinja_spend(r, (int64_t)container.string->n / 64));
        *out = item_.string->n == 0 ||
               memmem(container.string->s, container.string->n, item_.string->s, item_.string->n);
        return OK;
    }
    TRY(jinja_elements(r, container, &s));
    if (container.kind == VALUE_DICT && !value_has_hash(item_)) {
        return refuse(r, "a %s is looked for among keys", value_type(item_));
    }
    TRY(jinja_spend(r, s->n / 4 + s->n * (value_weight(item_) - 1)));
    *out = in_sequence(s, item_);
    return OK;
}

enum status jinja_compare(struct render *r, enum operator op, struct value a, struct value b, bool *out) {
    int order;
    if (op == OP_IN || op == OP_NOT_IN) {
        TRY(jinja_contains(r, b, a, out));
        *out = *out == (op == OP_IN);
        return OK;
    }
    TRY(jinja_spend(r, value_weight(a)));
    if (op == OP_EQUAL || op == OP_UNEQUAL) {
        *out = values_equal(a, b) == (op == OP_EQUAL);
        return OK;
    }
    TRY(jinja_undefined_used(r, a));
    TRY(jinja_undefined_used(r, b));
    TRY(values_order(r, a, b, &order));
    bool less = op == OP_LESS || op == OP_LESS_EQUAL;
    bool equal = op == OP_LESS_EQUAL || op == OP_GREATER_EQUAL;
    *out = order != UNORDERED && (order == 0 ? equal : (order < 0) == less);
    return OK;
}

/* One conversion of a % format; *at is behind its %. */
static enum status percent_one(struct render *r, char kind, struct value v, struct builder *b) {
    char digits[400];
    switch (kind) {
    case 's':
        return jinja_print_value(r, v, b);
    case 'r':
        return jinja_print_repr(r, v, b);
    case 'd':
    case 'i':
        if (!is_number(v)) {
            return refuse(r, "%%d is given a %s", value_type(v));
        }
        snprintf(digits, sizeof digits, "%.0f", trunc(number_of(v)));
        if (is_integer(v)) {
            snprintf(digits, sizeof digits, "%lld", (long long)integer_of(v));
        }
        return builder_puts(b, digits);
    case 'f':
        if (!is_number(v)) {
            return refuse(r, "%%f is given a %s", value_type(v));
        }
        snprintf(digits, sizeof digits, "%f", number_of(v));
        return builder_puts(b, digits);
    default:
        return lacking(r, "a format with %%%c is not supported", kind);
    }
}

enum status jinja_percent_format(struct render *r, struct value format, struct value args,
                                 struct value *out) {
    const struct string *s = format.string;
    struct builder b = {.pool = &r->pool};
    bool many = args.kind == VALUE_TUPLE;
    int64_t used = 0;
    int64_t n = many ? args.sequence->n : 1;
    for (size_t at = 0; at < s->n; at++) {
        const char *percent = memchr(s->s + at, '%', s->n - at);
        size_t to = percent ? (size_t)(percent - s->s) : s->n;
        TRY(builder_cut(&b, s, at, to - at));
        at = to + 1;
        if (!percent) {
            break;
        }
        if (at < s->n && s->s[at] == '%') {
            TRY(builder_puts(&b, "%"));
            continue;
        }
        if (at >= s->n || used >= n) {
            return refuse(r, "a format lacks its end or an argument");
        }
        TRY(percent_one(r, s->s[at], many ? args.sequence->items[used] : args, &b));
        used++;
    }
    bool may_be_left = args.kind == VALUE_DICT || args.kind == VALUE_LIST || args.kind == VALUE_RANGE;
    if (used < n && !may_be_left) {
        return refuse(r, "not all arguments of a format are used");
    }
    return builder_done(&b, out);
}
