/* Tests: what stands behind `is`. */
#include <math.h>
#include <string.h>

#include "text/template_internal.h"

static enum status answer(bool holds, struct value *out) {
    *out = value_bool(holds);
    return OK;
}

/* Tests of the kind of a value alone. */
static enum status test_kind(struct render *r, const struct call *c, struct value *out) {
    const struct value v = c->self;
    (void)r;
    const struct {
        const char *name;
        bool holds;
    } kinds[] = {
        {"defined", v.kind != VALUE_UNDEFINED},
        {"undefined", v.kind == VALUE_UNDEFINED},
        {"none", v.kind == VALUE_NONE},
        {"boolean", v.kind == VALUE_BOOL},
        {"true", v.kind == VALUE_BOOL && v.truth},
        {"false", v.kind == VALUE_BOOL && !v.truth},
        {"integer", v.kind == VALUE_INT},
        {"float", v.kind == VALUE_FLOAT},
        {"number", is_number(v)},
        {"string", is_string(v)},
        {"escaped", is_string(v) && v.string->markup},
        {"mapping", v.kind == VALUE_DICT},
        {"sequence", is_string(v) || v.kind == VALUE_DICT || v.kind == VALUE_UNDEFINED ||
                         (v.kind >= VALUE_LIST && v.kind <= VALUE_RANGE)},
        {"iterable", is_string(v) || v.kind == VALUE_DICT || v.kind == VALUE_UNDEFINED || is_sequence(v)},
        {"callable", v.kind == VALUE_MACRO || v.kind == VALUE_FUNCTION || v.kind == VALUE_METHOD ||
                         v.kind == VALUE_LOOP || v.kind == VALUE_UNDEFINED},
    };
    for (int i = 0; i < COUNT_OF(kinds); i++) {
        if (strcmp(kinds[i].name, c->name) == 0) {
            return answer(kinds[i].holds, out);
        }
    }
    return fail(ERR_INTERNAL, "test '%s' has no row", c->name);
}

static enum status test_compare(struct render *r, const struct call *c, struct value *out) {
    static const struct {
        const char *name;
        enum operator op;
    } names[] = {{"==", OP_EQUAL},         {"eq", OP_EQUAL},
                 {"equalto", OP_EQUAL},    {"!=", OP_UNEQUAL},
                 {"ne", OP_UNEQUAL},       {">", OP_GREATER},
                 {"gt", OP_GREATER},       {"greaterthan", OP_GREATER},
                 {">=", OP_GREATER_EQUAL}, {"ge", OP_GREATER_EQUAL},
                 {"<", OP_LESS},           {"lt", OP_LESS},
                 {"lessthan", OP_LESS},    {"<=", OP_LESS_EQUAL},
                 {"le", OP_LESS_EQUAL},    {"in", OP_IN}};
    bool holds = false;
    for (int i = 0; i < COUNT_OF(names); i++) {
        if (strcmp(names[i].name, c->name) == 0) {
            TRY(jinja_compare(r, names[i].op, c->self, c->args[0], &holds));
        }
    }
    return answer(holds, out);
}

/* Even, odd, divisible by. */
static enum status test_divisible(struct render *r, const struct call *c, struct value *out) {
    struct value by = is_given(c->args[0]) ? c->args[0] : value_int(2);
    struct value rest;
    struct value wanted = value_int(strcmp(c->name, "odd") == 0);
    if (is_string(c->self)) {
        return refuse(r, "test '%s' of a string", c->name);
    }
    TRY(jinja_operate(r, OP_REMAINDER, c->self, by, &rest));
    return answer(values_equal(rest, wanted), out);
}

static enum status test_case(struct render *r, const struct call *c, struct value *out) {
    struct value text;
    TRY(jinja_text_of(r, c->self, &text));
    return answer(jinja_all_of_class(text.string, c->name[0] == 'u' ? CHAR_UPPER : CHAR_LOWER), out);
}

/* Python's `is`, as far as values here have an identity. */
static enum status test_same(struct render *r, const struct call *c, struct value *out) {
    struct value a = c->self;
    struct value b = c->args[0];
    (void)r;
    if (a.kind != b.kind || a.kind == VALUE_FLOAT) {
        return answer(false, out);
    }
    bool scalar = a.kind <= VALUE_FLOAT || is_string(a);
    return answer(scalar ? values_equal(a, b) : a.sequence == b.sequence, out);
}

static enum status test_filter(struct render *r, const struct call *c, struct value *out) {
    char name[64] = {0};
    (void)r;
    if (!is_string(c->self) || c->self.string->n >= sizeof name) {
        return answer(false, out);
    }
    memcpy(name, c->self.string->s, c->self.string->n);
    bool is_test = c->name[0] == 't';
    bool there = is_test ? jinja_function_find(template_tests, name) != NULL
                         : jinja_function_find(template_filters, name) ||
                               jinja_function_find(template_sequence_filters, name);
    return answer(there, out);
}

const struct function template_tests[] = {
    {"defined", "", 0, test_kind},
    {"undefined", "", 0, test_kind},
    {"none", "", 0, test_kind},
    {"boolean", "", 0, test_kind},
    {"true", "", 0, test_kind},
    {"false", "", 0, test_kind},
    {"integer", "", 0, test_kind},
    {"float", "", 0, test_kind},
    {"number", "", 0, test_kind},
    {"string", "", 0, test_kind},
    {"escaped", "", 0, test_kind},
    {"mapping", "", 0, test_kind},
    {"sequence", "", 0, test_kind},
    {"iterable", "", 0, test_kind},
    {"callable", "", 0, test_kind},
    {"==", "other", 1, test_compare},
    {"eq", "other", 1, test_compare},
    {"equalto", "other", 1, test_compare},
    {"!=", "other", 1, test_compare},
    {"ne", "other", 1, test_compare},
    {">", "other", 1, test_compare},
    {"gt", "other", 1, test_compare},
    {"greaterthan", "other", 1, test_compare},
    {">=", "other", 1, test_compare},
    {"ge", "other", 1, test_compare},
    {"<", "other", 1, test_compare},
    {"lt", "other", 1, test_compare},
    {"lessthan", "other", 1, test_compare},
    {"<=", "other", 1, test_compare},
    {"le", "other", 1, test_compare},
    {"in", "seq", 1, test_compare},
    {"even", "", 0, test_divisible},
    {"odd", "", 0, test_divisible},
    {"divisibleby", "num", 1, test_divisible},
    {"upper", "", 0, test_case},
    {"lower", "", 0, test_case},
    {"sameas", "other", 1, test_same},
    {"filter", "", 0, test_filter},
    {"test", "", 0, test_filter},
    {0},
};
