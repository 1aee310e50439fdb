/* Tokens to expressions, by jinja2's grammar: operators in the order in which they bind, tuples, targets. */
#include <string.h>

#include "text/template_internal.h"

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
