/* Tokens to operands: constants, names, brackets, and what hangs on them (attributes, calls, filters, tests).
 */
#include <string.h>

#include "text/template_internal.h"

static bool at_constant(const struct parser *p) {
    return p->at->kind == TOKEN_CONSTANT;
}

static enum status constant(struct parser *p, struct value v, struct node **out) {
    TRY(parser_node(p, NODE_CONSTANT, out));
    (*out)->constant = v;
    return OK;
}

/* String constants side by side are one. */
static enum status parse_constant(struct parser *p, struct node **out) {
    TRY(constant(p, p->at->value, out));
    struct value *v = &(*out)->constant;
    p->at++;
    if (!is_string(*v) || !at_constant(p) || !is_string(p->at->value)) {
        return OK;
    }
    struct builder b = {.pool = &p->t->pool};
    TRY(builder_string(&b, v->string));
    for (; at_constant(p) && is_string(p->at->value); p->at++) {
        TRY(builder_string(&b, p->at->value.string));
    }
    return builder_done(&b, v);
}

enum status parse_name(struct parser *p, struct node **out) {
    static const struct {
        const char *name;
        struct value value;
    } constants[] = {{"true", {.kind = VALUE_BOOL, .truth = true}},
                     {"True", {.kind = VALUE_BOOL, .truth = true}},
                     {"false", {.kind = VALUE_BOOL}},
                     {"False", {.kind = VALUE_BOOL}},
                     {"none", {.kind = VALUE_NONE}},
                     {"None", {.kind = VALUE_NONE}}};
    for (int i = 0; i < COUNT_OF(constants); i++) {
        if (skip_name(p, constants[i].name)) {
            return constant(p, constants[i].value, out);
        }
    }
    TRY(parser_node(p, NODE_NAME, out));
    return expect_identifier(p, &(*out)->name);
}

static enum status parse_list(struct parser *p, struct node **out) {
    struct part **end = NULL;
    TRY(parser_node(p, NODE_LIST, out));
    while (!at_operator(p, "]")) {
        struct part *part;
        if (end) {
            TRY(expect_operator(p, ","));
            if (at_operator(p, "]")) {
                break;
            }
        }
        TRY(parser_part(p, *out, &end, &part));
        TRY(parse_expression(p, &part->value));
    }
    return expect_operator(p, "]");
}

static enum status parse_dict(struct parser *p, struct node **out) {
    struct part **end = NULL;
    TRY(parser_node(p, NODE_DICT, out));
    while (!at_operator(p, "}")) {
        struct part *part;
        if (end) {
            TRY(expect_operator(p, ","));
            if (at_operator(p, "}")) {
                break;
            }
        }
        TRY(parser_part(p, *out, &end, &part));
        TRY(parse_expression(p, &part->key));
        TRY(expect_operator(p, ":"));
        TRY(parse_expression(p, &part->value));
    }
    return expect_operator(p, "}");
}

static enum status parse_primary(struct parser *p, struct node **out) {
    if (at_constant(p)) {
        return parse_constant(p, out);
    }
    if (p->at->kind == TOKEN_NAME) {
        return parse_name(p, out);
    }
    if (skip_operator(p, "(")) {
        if (at_operator(p, ")")) {
            TRY(parser_node(p, NODE_TUPLE, out));
        } else {
            TRY(parse_tuple(p, true, out));
        }
        return expect_operator(p, ")");
    }
    if (skip_operator(p, "[")) {
        return parse_list(p, out);
    }
    if (skip_operator(p, "{")) {
        return parse_dict(p, out);
    }
    if (p->at->kind == TOKEN_OPERATOR) {
        return syntax(p, "unexpected '%.*s'", (int)p->at->n, p->at->s);
    }
    return syntax(p, "an expression is missing");
}

static enum status parse_arguments(struct parser *p, struct node *n) {
    struct part **end = NULL;
    while (!at_operator(p, ")")) {
        struct part *part;
        if (end) {
            TRY(expect_operator(p, ","));
            if (at_operator(p, ")")) {
                break;
            }
        }
        TRY(parser_part(p, n, &end, &part));
        bool is_named = p->at->kind == TOKEN_NAME && p->at[1].kind == TOKEN_OPERATOR && p->at[1].n == 1 &&
                        p->at[1].s[0] == '=';
        if (skip_operator(p, "*")) {
            part->form = PART_STAR;
        } else if (skip_operator(p, "**")) {
            part->form = PART_STARS;
        } else if (is_named) {
            part->form = PART_NAMED;
            TRY(expect_identifier(p, &part->name));
            p->at++;
        }
        TRY(parse_expression(p, &part->value));
    }
    return expect_operator(p, ")");
}

enum status parse_parameters(struct parser *p, struct node *node) {
    struct part **end = NULL;
    bool defaults = false;
    while (!at_operator(p, ")")) {
        struct part *part;
        if (end) {
            TRY(expect_operator(p, ","));
        }
        TRY(parser_part(p, node, &end, &part));
        TRY(expect_identifier(p, &part->name));
        if (skip_operator(p, "=")) {
            TRY(parse_expression(p, &part->value));
            defaults = true;
        } else if (defaults) {
            return syntax(p, "a parameter without a default follows one that has one");
        }
    }
    return expect_operator(p, ")");
}

static bool slice_goes_on(const struct parser *p) {
    return !at_operator(p, "]") && !at_operator(p, ",") && !at_operator(p, ":");
}

/* What is between [ and ]: an index, or begin:end:step. */
static enum status parse_subscript(struct parser *p, struct node *of, struct node **out) {
    struct node *bounds[3] = {NULL};
    struct part **end = NULL;
    TRY(parser_node(p, NODE_ITEM, out));
    (*out)->a = of;
    if (!at_operator(p, ":")) {
        TRY(parse_expression(p, &bounds[0]));
    }
    if (!at_operator(p, ":")) {
        (*out)->b = bounds[0];
    } else {
        (*out)->kind = NODE_SLICE;
        for (int i = 1; i < 3 && skip_operator(p, ":"); i++) {
            if (slice_goes_on(p)) {
                TRY(parse_expression(p, &bounds[i]));
            }
        }
        for (int i = 0; i < 3; i++) {
            struct part *part;
            TRY(parser_part(p, *out, &end, &part));
            part->value = bounds[i];
        }
    }
    if (at_operator(p, ",")) {
        template_refuse(p->t->title, p->at->line, ERR_USAGE, "an index with commas is not supported");
        return ERR_USAGE;
    }
    return expect_operator(p, "]");
}

static enum status parse_dot(struct parser *p, struct node *of, struct node **out) {
    if (at_constant(p) && p->at->value.kind == VALUE_INT) {
        TRY(parser_node(p, NODE_ITEM, out));
        (*out)->a = of;
        TRY(constant(p, p->at->value, &(*out)->b));
        p->at++;
        return OK;
    }
    TRY(parser_node(p, NODE_ATTRIBUTE, out));
    (*out)->a = of;
    return expect_identifier(p, &(*out)->name);
}

static enum status parse_call(struct parser *p, struct node *of, struct node **out) {
    TRY(parser_node(p, NODE_CALL, out));
    (*out)->a = of;
    return parse_arguments(p, *out);
}

static enum status parse_postfix(struct parser *p, struct node **node) {
    for (;;) {
        if (skip_operator(p, ".")) {
            TRY(parse_dot(p, *node, node));
        } else if (skip_operator(p, "[")) {
            TRY(parse_subscript(p, *node, node));
        } else if (skip_operator(p, "(")) {
            TRY(parse_call(p, *node, node));
        } else {
            return OK;
        }
    }
}

/* Filters and tests have names with dots in them. */
static enum status parse_dotted(struct parser *p, const char **name) {
    TRY(expect_identifier(p, name));
    while (skip_operator(p, ".")) {
        struct builder b = {.pool = &p->t->pool};
        const char *more;
        TRY(builder_puts(&b, *name));
        TRY(builder_puts(&b, "."));
        TRY(expect_identifier(p, &more));
        TRY(builder_puts(&b, more));
        TRY(template_name(p->t, b.s, (size_t)b.n, name));
    }
    return OK;
}

enum status parse_filters(struct parser *p, bool bare, struct node *of, struct node **out) {
    *out = of;
    while (bare || skip_operator(p, "|")) {
        struct node *n;
        TRY(parser_node(p, NODE_FILTER, &n));
        n->a = *out;
        TRY(parse_dotted(p, &n->name));
        if (skip_operator(p, "(")) {
            TRY(parse_arguments(p, n));
        }
        *out = n;
        bare = false;
    }
    return OK;
}

static bool begins_argument(const struct parser *p) {
    if (p->at->kind == TOKEN_NAME) {
        return !at_name(p, "else") && !at_name(p, "or") && !at_name(p, "and");
    }
    return at_constant(p) || at_operator(p, "[") || at_operator(p, "{");
}

static enum status parse_test(struct parser *p, struct node *of, struct node **out) {
    struct node *n;
    bool negated = skip_name(p, "not");
    TRY(parser_node(p, NODE_TEST, &n));
    n->a = of;
    TRY(parse_dotted(p, &n->name));
    if (skip_operator(p, "(")) {
        TRY(parse_arguments(p, n));
    } else if (begins_argument(p)) {
        struct part **end = NULL;
        struct part *part;
        if (at_name(p, "is")) {
            return syntax(p, "tests cannot be chained with is");
        }
        TRY(parser_part(p, n, &end, &part));
        TRY(parse_primary(p, &part->value));
        TRY(parse_postfix(p, &part->value));
    }
    *out = n;
    if (negated) {
        TRY(parser_node(p, NODE_NOT, out));
        (*out)->a = n;
    }
    return OK;
}

static enum status parse_filters_and_tests(struct parser *p, struct node **node) {
    for (;;) {
        if (at_operator(p, "|")) {
            TRY(parse_filters(p, false, *node, node));
        } else if (skip_name(p, "is")) {
            TRY(parse_test(p, *node, node));
        } else if (skip_operator(p, "(")) {
            TRY(parse_call(p, *node, node));
        } else {
            return OK;
        }
    }
}

static enum status parse_signed(struct parser *p, struct node **out) {
    bool minus = skip_operator(p, "-");
    if (minus || skip_operator(p, "+")) {
        TRY(parser_node(p, minus ? NODE_NEGATIVE : NODE_POSITIVE, out));
        return parse_unary(p, false, &(*out)->a);
    }
    return parse_primary(p, out);
}

enum status parse_unary(struct parser *p, bool filters, struct node **out) {
    TRY(parser_enter(p));
    TRY(parse_signed(p, out));
    TRY(parse_postfix(p, out));
    if (filters) {
        TRY(parse_filters_and_tests(p, out));
    }
    p->depth--;
    return OK;
}
