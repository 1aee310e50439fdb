/* What a template's text is read into. Private to src/text/template*.c. */
#ifndef COLLIMATE_TEXT_TEMPLATE_AST_H
#define COLLIMATE_TEXT_TEMPLATE_AST_H

#include "text/template.h"
#include "text/template_value.h"

enum token_kind {
    TOKEN_TEXT,
    TOKEN_BLOCK,    /* {% */
    TOKEN_PRINT,    /* {{ */
    TOKEN_END,      /* %} or }} */
    TOKEN_NAME,     /* text */
    TOKEN_CONSTANT, /* value */
    TOKEN_OPERATOR, /* text: one or two characters */
    TOKEN_LAST,
};
struct lexeme {
    enum token_kind kind;
    int line;
    const char *s;
    size_t n;
    struct value value;
};

enum node_kind {
    /* Expressions. */
    NODE_CONSTANT,
    NODE_NAME,
    NODE_LIST,      /* parts */
    NODE_TUPLE,     /* parts */
    NODE_DICT,      /* parts: key, value */
    NODE_ATTRIBUTE, /* a . name */
    NODE_ITEM,      /* a [ b ] */
    NODE_SLICE,     /* a [ parts ]: three, each with or without a value */
    NODE_CALL,      /* a ( parts ) */
    NODE_FILTER,    /* a | name ( parts ); a is NULL in a filter block */
    NODE_TEST,      /* a is name ( parts ) */
    NODE_NEGATIVE,
    NODE_POSITIVE,
    NODE_NOT,
    NODE_AND,
    NODE_OR,
    NODE_BINARY,  /* a op b */
    NODE_CONCAT,  /* parts */
    NODE_COMPARE, /* a, then parts: op, value */
    NODE_CHOICE,  /* a if b else c; c may be NULL */
    NODE_SPACE,   /* target name.attribute: a is the namespace's name */
    /* Statements. */
    NODE_TEXT,
    NODE_PRINT,      /* a */
    NODE_FOR,        /* for a in b if c: body, otherwise */
    NODE_IF,         /* if a: body; otherwise */
    NODE_SET,        /* a = b */
    NODE_SET_BLOCK,  /* a, filtered by b: body */
    NODE_MACRO,      /* name(parts): body */
    NODE_CALL_BLOCK, /* a is the call, parts the parameters of caller: body */
    NODE_FILTERED,   /* a: body */
    NODE_WITH,       /* parts: key = value; body */
    NODE_GENERATION, /* body */
    NODE_BREAK,
    NODE_CONTINUE,
};

/* Operators by their characters. */
#define OP(a, b) ((a) << 8 | (b))
enum operator{
    OP_ADD = OP(0, '+'),
    OP_SUBTRACT = OP(0, '-'),
    OP_MULTIPLY = OP(0, '*'),
    OP_DIVIDE = OP(0, '/'),
    OP_FLOOR = OP('/', '/'),
    OP_REMAINDER = OP(0, '%'),
    OP_POWER = OP('*', '*'),
    OP_EQUAL = OP('=', '='),
    OP_UNEQUAL = OP('!', '='),
    OP_LESS = OP(0, '<'),
    OP_LESS_EQUAL = OP('<', '='),
    OP_GREATER = OP(0, '>'),
    OP_GREATER_EQUAL = OP('>', '='),
    OP_IN = OP('i', 'n'),
    OP_NOT_IN = OP('!', 'n'),
};

/* An element, an argument, a parameter, a pair, a comparison. */
struct part {
    enum { PART_PLAIN, PART_NAMED, PART_STAR, PART_STARS } form;
    enum operator op;
    const char *name;
    struct node *key, *value;
    struct part *next;
};

struct node {
    enum node_kind kind;
    enum operator op;
    int line;
    const char *name; /* of the template's names: equal ones have equal addresses */
    struct value constant;
    struct node *a, *b, *c;
    struct part *parts;
    int n_parts;
    struct node *body, *otherwise;
    struct node *next; /* statement after this */
};

/* The names of a template, each once. */
struct name {
    const char *s; /* NUL-terminated */
    struct value value;
    struct name *next;
};
enum { NAME_BUCKETS = 1024 };

struct template {
    struct pool pool;
    char *title; /* for messages */
    uint64_t hash;
    struct name *names[NAME_BUCKETS];
    struct node *body;
    bool has_generation;
};
enum status template_name(struct template *t, const char *s, size_t n, const char **out);
/* NULL: the template does not use it. */
const char *template_find_name(const struct template *t, const char *s, size_t n);
/* A name as a string value. */
struct value template_name_value(const struct template *t, const char *name);

/* Local. Cuts n bytes of text into tokens, the last of which is TOKEN_LAST. */
enum status template_tokens(struct template *t, const char *text, size_t n, struct lexeme **out);

struct parser {
    struct template *t;
    const struct lexeme *at;
    int depth; /* nesting */
    int loops; /* open for loops that a break could end */
};
#define syntax(p, ...) \
    status_same((template_refuse((p)->t->title, (p)->at->line, ERR_DATA, __VA_ARGS__), ERR_DATA))
void template_refuse(const char *title, int line, enum status code, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

enum status parser_node(struct parser *p, enum node_kind kind, struct node **out);
enum status parser_part(struct parser *p, struct node *node, struct part ***end, struct part **out);
enum status parser_enter(struct parser *p); /* one deeper; p->depth-- on the way out */
bool at_operator(const struct parser *p, const char *op);
bool at_name(const struct parser *p, const char *name);
bool skip_operator(struct parser *p, const char *op);
bool skip_name(struct parser *p, const char *name);
enum status expect_operator(struct parser *p, const char *op);
enum status expect_identifier(struct parser *p, const char **name);

enum status parse_expression(struct parser *p, struct node **out);
/* An operand with its signs, attributes and calls, and, where `filters`, its filters and tests. */
enum status parse_unary(struct parser *p, bool filters, struct node **out);
/* A name, or one of the constants that are written like names. */
enum status parse_name(struct parser *p, struct node **out);
/* Without a trailing if … else. */
enum status parse_or(struct parser *p, struct node **out);
/* Expressions with commas between them are a tuple. choice: each may be `a if b else c`. */
enum status parse_tuple(struct parser *p, bool choice, struct node **out);
/* What is assigned to: names, tuples of them, and, where `space`, attributes of namespaces. */
enum status parse_target(struct parser *p, bool space, struct node **out);
/* name, name=default, … ) of a macro. */
enum status parse_parameters(struct parser *p, struct node *node);
/* One or more filters, the first without a pipe where `bare`. */
enum status parse_filters(struct parser *p, bool bare, struct node *of, struct node **out);

#endif
