/* Tokens to expressions, by jinja2's grammar. */
#include <string.h>

#include "text/template_internal.h"

static enum status parse_unary(struct parser *p, bool filters, struct node **out);

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

static enum status parse_name(struct parser *p, struct node **out) {
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

static enum status parse_unary(struct parser *p, bool filters, struct node **out) {
    TRY(parser_enter(p));
    TRY(parse_signed(p, out));
    TRY(parse_postfix(p, out));
    if (filters) {
        TRY(parse_filters_and_tests(p, out));
    }
    p->depth--;
    return OK;
}

static enum operator operator_here(const struct parser *p, const char *const *operators, int n) {
    for (int i = 0; i < n && operators[i]; i++) {
        if (at_operator(p, operators[i])) {
            const char *op = operators[i];
            return op[1] ? OP(op[0], op[1]) : OP(0, op[0]);
        }
    }
    return 0;
}

static enum status parse_binary(struct parser *p, const char *const *operators, int n,
                                enum status (*next)(struct parser *, struct node **), struct node **out) {
    TRY(next(p, out));
    for (enum operator op = operator_here(p, operators, n); op; op = operator_here(p, operators, n)) {
        struct node *binary;
        TRY(parser_node(p, NODE_BINARY, &binary));
        p->at++;
        binary->op = op;
        binary->a = *out;
        TRY(next(p, &binary->b));
        *out = binary;
    }
    return OK;
}

static enum status parse_filtered_unary(struct parser *p, struct node **out) {
    return parse_unary(p, true, out);
}

static enum status parse_power(struct parser *p, struct node **out) {
    static const char *const operators[] = {"**"};
    return parse_binary(p, operators, COUNT_OF(operators), parse_filtered_unary, out);
}

static enum status parse_product(struct parser *p, struct node **out) {
    static const char *const operators[] = {"*", "/", "//", "%"};
    return parse_binary(p, operators, COUNT_OF(operators), parse_power, out);
}

static enum status parse_concat(struct parser *p, struct node **out) {
    struct node *first;
    struct part **end = NULL;
    struct part *part;
    TRY(parse_product(p, out));
    if (!at_operator(p, "~")) {
        return OK;
    }
    first = *out;
    TRY(parser_node(p, NODE_CONCAT, out));
    TRY(parser_part(p, *out, &end, &part));
    part->value = first;
    while (skip_operator(p, "~")) {
        TRY(parser_part(p, *out, &end, &part));
        TRY(parse_product(p, &part->value));
    }
    return OK;
}

static enum status parse_sum(struct parser *p, struct node **out) {
    static const char *const operators[] = {"+", "-"};
    return parse_binary(p, operators, COUNT_OF(operators), parse_concat, out);
}

static bool is_not_in(const struct parser *p) {
    return at_name(p, "not") && p->at[1].kind == TOKEN_NAME && p->at[1].n == 2 &&
           memcmp(p->at[1].s, "in", 2) == 0;
}

/* Past a comparison's operator; 0 if there is none. */
static enum operator take_comparison(struct parser *p) {
    static const char *const operators[] = {"==", "!=", "<", "<=", ">", ">="};
    enum operator op = operator_here(p, operators, COUNT_OF(operators));
    if (op) {
        p->at++;
    } else if (skip_name(p, "in")) {
        op = OP_IN;
    } else if (is_not_in(p)) {
        p->at += 2;
        op = OP_NOT_IN;
    }
    return op;
}

static enum status parse_compare(struct parser *p, struct node **out) {
    struct node *n = NULL;
    struct part **end = NULL;
    TRY(parse_sum(p, out));
    for (enum operator op = take_comparison(p); op; op = take_comparison(p)) {
        struct part *part;
        if (!n) {
            TRY(parser_node(p, NODE_COMPARE, &n));
            n->a = *out;
            *out = n;
        }
        TRY(parser_part(p, n, &end, &part));
        part->op = op;
        TRY(parse_sum(p, &part->value));
    }
    return OK;
}

static enum status parse_not(struct parser *p, struct node **out) {
    if (!at_name(p, "not")) {
        return parse_compare(p, out);
    }
    TRY(parser_enter(p));
    TRY(parser_node(p, NODE_NOT, out));
    p->at++;
    TRY(parse_not(p, &(*out)->a));
    p->depth--;
    return OK;
}

static enum status parse_logic(struct parser *p, const char *word, enum node_kind kind,
                               enum status (*next)(struct parser *, struct node **), struct node **out) {
    TRY(next(p, out));
    while (at_name(p, word)) {
        struct node *n;
        TRY(parser_node(p, kind, &n));
        p->at++;
        n->a = *out;
        TRY(next(p, &n->b));
        *out = n;
    }
    return OK;
}

static enum status parse_and(struct parser *p, struct node **out) {
    return parse_logic(p, "and", NODE_AND, parse_not, out);
}

enum status parse_or(struct parser *p, struct node **out) {
    return parse_logic(p, "or", NODE_OR, parse_and, out);
}

enum status parse_expression(struct parser *p, struct node **out) {
    TRY(parser_enter(p));
    TRY(parse_or(p, out));
    while (at_name(p, "if")) {
        struct node *n;
        TRY(parser_node(p, NODE_CHOICE, &n));
        p->at++;
        n->a = *out;
        TRY(parse_or(p, &n->b));
        if (skip_name(p, "else")) {
            TRY(parse_expression(p, &n->c));
        }
        *out = n;
    }
    p->depth--;
    return OK;
}

static bool tuple_ends(const struct parser *p) {
    return p->at->kind == TOKEN_END || at_operator(p, ")") || at_name(p, "in") || at_operator(p, "=") ||
           at_name(p, "if") || at_name(p, "recursive") || at_operator(p, "|");
}

/* Elements with commas between them, or one alone. */
static enum status parse_elements(struct parser *p, enum status (*element)(struct parser *, struct node **),
                                  struct node **out) {
    struct part **end = NULL;
    struct part *part;
    struct node *tuple;
    TRY(element(p, out));
    if (!at_operator(p, ",")) {
        return OK;
    }
    TRY(parser_node(p, NODE_TUPLE, &tuple));
    TRY(parser_part(p, tuple, &end, &part));
    part->value = *out;
    while (skip_operator(p, ",") && !tuple_ends(p)) {
        TRY(parser_part(p, tuple, &end, &part));
        TRY(element(p, &part->value));
    }
    *out = tuple;
    return OK;
}

enum status parse_tuple(struct parser *p, bool choice, struct node **out) {
    return parse_elements(p, choice ? parse_expression : parse_or, out);
}

static enum status parse_assigned(struct parser *p, struct node **out) {
    if (skip_operator(p, "(")) {
        TRY(parser_enter(p));
        TRY(parse_elements(p, parse_assigned, out));
        p->depth--;
        return expect_operator(p, ")");
    }
    TRY(parse_name(p, out));
    if ((*out)->kind != NODE_NAME) {
        return syntax(p, "a constant is assigned to");
    }
    if (skip_operator(p, ".")) {
        struct node *name = *out;
        TRY(parser_node(p, NODE_SPACE, out));
        (*out)->a = name;
        TRY(expect_identifier(p, &(*out)->name));
    }
    return OK;
}

static bool has_attribute(const struct node *n) {
    bool has = n->kind == NODE_SPACE;
    for (const struct part *part = n->parts; part && !has; part = part->next) {
        has = has_attribute(part->value);
    }
    return has;
}

enum status parse_target(struct parser *p, bool space, struct node **out) {
    TRY(parse_elements(p, parse_assigned, out));
    return space || !has_attribute(*out) ? OK : syntax(p, "an attribute is assigned to");
}
