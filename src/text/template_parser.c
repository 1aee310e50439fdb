/* Tokens to statements. */
#include <string.h>

#include "text/template_internal.h"
#include "text/unicode.h"
#include "util/hash.h"
#include "util/mem.h"

enum status parser_enter(struct parser *p) {
    if (++p->depth > TEMPLATE_NESTING) {
        return syntax(p, "nested deeper than %d", TEMPLATE_NESTING);
    }
    return OK;
}

enum status parser_node(struct parser *p, enum node_kind kind, struct node **out) {
    TRY(POOL_ARRAY(&p->t->pool, *out, 1));
    (*out)->kind = kind;
    (*out)->line = p->at->line;
    return OK;
}

enum status parser_part(struct parser *p, struct node *node, struct part ***end, struct part **out) {
    TRY(POOL_ARRAY(&p->t->pool, *out, 1));
    if (!*end) {
        *end = &node->parts;
    }
    **end = *out;
    *end = &(*out)->next;
    node->n_parts++;
    return OK;
}

static bool is_text(const struct lexeme *token, enum token_kind kind, const char *text) {
    return token->kind == kind && token->n == strlen(text) && memcmp(token->s, text, token->n) == 0;
}

bool at_operator(const struct parser *p, const char *op) {
    return is_text(p->at, TOKEN_OPERATOR, op);
}

bool at_name(const struct parser *p, const char *name) {
    return is_text(p->at, TOKEN_NAME, name);
}

bool skip_operator(struct parser *p, const char *op) {
    bool there = at_operator(p, op);
    p->at += there;
    return there;
}

bool skip_name(struct parser *p, const char *name) {
    bool there = at_name(p, name);
    p->at += there;
    return there;
}

static enum status unexpected(const struct parser *p, const char *instead) {
    switch (p->at->kind) {
    case TOKEN_LAST:
        return syntax(p, "the template ends where %s is expected", instead);
    case TOKEN_END:
        return syntax(p, "a tag ends where %s is expected", instead);
    default:
        return syntax(p, "'%.*s' stands where %s is expected", (int)(p->at->n > 40 ? 40 : p->at->n), p->at->s,
                      instead);
    }
}

enum status expect_operator(struct parser *p, const char *op) {
    char quoted[8] = {'\'', op[0], '\''};
    return skip_operator(p, op) ? OK : unexpected(p, quoted);
}

enum status expect_identifier(struct parser *p, const char **name) {
    if (p->at->kind != TOKEN_NAME) {
        return unexpected(p, "a name");
    }
    TRY(template_name(p->t, p->at->s, p->at->n, name));
    p->at++;
    return OK;
}

static enum status expect_end(struct parser *p) {
    if (p->at->kind != TOKEN_END) {
        return unexpected(p, "a tag's end");
    }
    p->at++;
    return OK;
}

static enum status expect_word(struct parser *p, const char *word) {
    return skip_name(p, word) ? OK : unexpected(p, word);
}

/* Statements up to a tag that begins with one of the words (NULL: to the end of the template), whose name is
 * left to be read. */
static enum status parse_body(struct parser *p, const char *const *until, struct node **out);

/* The same after a tag's end, with only one word, whose tag is read too. */
static enum status parse_block(struct parser *p, const char *until, struct node **out) {
    const char *const words[] = {until, NULL};
    skip_operator(p, ":");
    TRY(expect_end(p));
    TRY(parse_body(p, words, out));
    p->at++;
    return expect_end(p);
}

static enum status parse_for(struct parser *p, struct node *n) {
    static const char *const ends[] = {"endfor", "else", NULL};
    TRY(parse_target(p, false, &n->a));
    TRY(expect_word(p, "in"));
    TRY(parse_tuple(p, false, &n->b));
    if (skip_name(p, "if")) {
        TRY(parse_expression(p, &n->c));
    }
    if (at_name(p, "recursive")) {
        template_refuse(p->t->title, p->at->line, ERR_USAGE, "recursive loops are not supported");
        return ERR_USAGE;
    }
    skip_operator(p, ":");
    TRY(expect_end(p));
    p->loops++;
    enum status st = parse_body(p, ends, &n->body);
    p->loops--;
    TRY(st);
    if (skip_name(p, "else")) {
        return parse_block(p, "endfor", &n->otherwise);
    }
    p->at++;
    return expect_end(p);
}

static enum status parse_if(struct parser *p, struct node *n) {
    static const char *const ends[] = {"elif", "else", "endif", NULL};
    for (;;) {
        TRY(parse_tuple(p, false, &n->a));
        skip_operator(p, ":");
        TRY(expect_end(p));
        TRY(parse_body(p, ends, &n->body));
        if (!skip_name(p, "elif")) {
            break;
        }
        TRY(parser_node(p, NODE_IF, &n->otherwise));
        n = n->otherwise;
    }
    if (skip_name(p, "else")) {
        return parse_block(p, "endif", &n->otherwise);
    }
    p->at++;
    return expect_end(p);
}

/* A body that runs as a function of its own: no break leads out of it. */
static enum status parse_closed(struct parser *p, const char *until, struct node **out) {
    int loops = p->loops;
    p->loops = 0;
    TRY(parse_block(p, until, out));
    p->loops = loops;
    return OK;
}

static enum status parse_set(struct parser *p, struct node *n) {
    TRY(parse_target(p, true, &n->a));
    if (skip_operator(p, "=")) {
        TRY(parse_tuple(p, true, &n->b));
        return expect_end(p);
    }
    n->kind = NODE_SET_BLOCK;
    TRY(parse_filters(p, false, NULL, &n->b));
    return parse_closed(p, "endset", &n->body);
}

static enum status parse_macro(struct parser *p, struct node *n) {
    TRY(expect_identifier(p, &n->name));
    TRY(expect_operator(p, "("));
    TRY(parse_parameters(p, n));
    return parse_closed(p, "endmacro", &n->body);
}

static enum status parse_call_block(struct parser *p, struct node *n) {
    if (skip_operator(p, "(")) {
        TRY(parse_parameters(p, n));
    }
    TRY(parse_expression(p, &n->a));
    if (n->a->kind != NODE_CALL) {
        return syntax(p, "a call block must call something");
    }
    TRY(template_name(p->t, "caller", 6, &n->name));
    return parse_closed(p, "endcall", &n->body);
}

static enum status parse_filtered(struct parser *p, struct node *n) {
    TRY(parse_filters(p, true, NULL, &n->a));
    return parse_closed(p, "endfilter", &n->body);
}

static enum status parse_with(struct parser *p, struct node *n) {
    struct part **end = NULL;
    while (p->at->kind != TOKEN_END) {
        struct part *part;
        if (end) {
            TRY(expect_operator(p, ","));
        }
        TRY(parser_part(p, n, &end, &part));
        TRY(parse_target(p, false, &part->key));
        TRY(expect_operator(p, "="));
        TRY(parse_expression(p, &part->value));
    }
    return parse_block(p, "endwith", &n->body);
}

static enum status parse_generation(struct parser *p, struct node *n) {
    p->t->has_generation = true;
    return parse_closed(p, "endgeneration", &n->body);
}

static enum status parse_jump(struct parser *p, struct node *n) {
    (void)n;
    if (p->loops == 0) {
        return syntax(p, "a break or continue stands outside of a loop");
    }
    return expect_end(p);
}

static const struct statement {
    const char *word;
    enum node_kind kind;
    enum status (*parse)(struct parser *p, struct node *n);
} statements[] = {
    {"if", NODE_IF, parse_if},
    {"for", NODE_FOR, parse_for},
    {"set", NODE_SET, parse_set},
    {"macro", NODE_MACRO, parse_macro},
    {"generation", NODE_GENERATION, parse_generation},
    {"break", NODE_BREAK, parse_jump},
    {"continue", NODE_CONTINUE, parse_jump},
    {"call", NODE_CALL_BLOCK, parse_call_block},
    {"filter", NODE_FILTERED, parse_filtered},
    {"with", NODE_WITH, parse_with},
};

static enum status refuse_statement(const struct parser *p) {
    static const char *const others[] = {"block", "extends",    "include", "import", "from",
                                         "print", "autoescape", "trans",   "do"};
    for (int i = 0; i < COUNT_OF(others); i++) {
        if (at_name(p, others[i])) {
            template_refuse(p->t->title, p->at->line, ERR_USAGE, "statement '%s' is not supported",
                            others[i]);
            return ERR_USAGE;
        }
    }
    return unexpected(p, "a statement");
}

static enum status parse_statement(struct parser *p, struct node **out) {
    for (int i = 0; i < COUNT_OF(statements); i++) {
        if (at_name(p, statements[i].word)) {
            TRY(parser_node(p, statements[i].kind, out));
            p->at++;
            return statements[i].parse(p, *out);
        }
    }
    return refuse_statement(p);
}

static bool at_any(const struct parser *p, const char *const *words) {
    bool there = false;
    for (; words && *words && !there; words++) {
        there = at_name(p, *words);
    }
    return there;
}

static enum status parse_text(struct parser *p, struct node **out) {
    TRY(parser_node(p, NODE_TEXT, out));
    TRY(string_new(&p->t->pool, p->at->s, p->at->n, 0, &(*out)->constant));
    p->at++;
    return OK;
}

static enum status parse_print(struct parser *p, struct node **out) {
    TRY(parser_node(p, NODE_PRINT, out));
    p->at++;
    TRY(parse_tuple(p, true, &(*out)->a));
    return expect_end(p);
}

static enum status parse_body(struct parser *p, const char *const *until, struct node **out) {
    TRY(parser_enter(p));
    for (;;) {
        if (p->at->kind == TOKEN_LAST) {
            p->depth--;
            return until ? unexpected(p, until[0]) : OK;
        }
        if (p->at->kind == TOKEN_TEXT) {
            TRY(parse_text(p, out));
        } else if (p->at->kind == TOKEN_PRINT) {
            TRY(parse_print(p, out));
        } else {
            p->at++;
            if (at_any(p, until)) {
                p->depth--;
                return OK;
            }
            TRY(parse_statement(p, out));
        }
        out = &(*out)->next;
    }
}

static enum status parse_all(struct template *t, const char *text, size_t n) {
    struct lexeme *tokens;
    TRY(template_tokens(t, text, n, &tokens));
    struct parser p = {.t = t, .at = tokens};
    return parse_body(&p, NULL, &t->body);
}

enum status template_parse(const char *name, const char *text, size_t n, struct template **out) {
    struct template *t;
    if (n > TEMPLATE_BYTES) {
        return fail(ERR_DATA, "%s: a chat template of more than %d MiB", name, TEMPLATE_BYTES >> 20);
    }
    size_t valid = utf8_valid(text, n);
    if (valid < n) {
        return fail(ERR_DATA, "%s: not valid UTF-8 at byte %zu", name, valid);
    }
    TRY(NEW_ARRAY(t, 1));
    enum status st = OK;
    t->pool.limit = (int64_t)TEMPLATE_MEMORY_MIB << 20;
    t->hash = hash_bytes(text, n, 0);
    t->title = mem_strdup(name);
    TRY_TO(done, mem_ok(t->title));
    TRY_TO(done, parse_all(t, text, n));
    *out = t;
    t = NULL;
done:
    template_free(t);
    return st;
}

void template_free(struct template *t) {
    if (t) {
        pool_free(&t->pool);
        mem_free(t->title);
        mem_free(t);
    }
}

uint64_t template_hash(const struct template *t) {
    return t->hash;
}

bool template_has_generation(const struct template *t) {
    return t->has_generation;
}

static struct name **bucket_of(const struct template *t, const char *s, size_t n) {
    return (struct name **)&t->names[hash_bytes(s, n, 0) % NAME_BUCKETS];
}

static struct name *find_name(const struct template *t, const char *s, size_t n) {
    struct name *name = *bucket_of(t, s, n);
    while (name && (name->value.string->n != n || memcmp(name->s, s, n) != 0)) {
        name = name->next;
    }
    return name;
}

const char *template_find_name(const struct template *t, const char *s, size_t n) {
    const struct name *name = find_name(t, s, n);
    return name ? name->s : NULL;
}

struct value template_name_value(const struct template *t, const char *name) {
    return find_name(t, name, strlen(name))->value;
}

enum status template_name(struct template *t, const char *s, size_t n, const char **out) {
    struct name *name = find_name(t, s, n);
    if (!name) {
        char *copy;
        TRY(POOL_ARRAY(&t->pool, name, 1));
        TRY(POOL_ARRAY(&t->pool, copy, (int64_t)n + 1));
        memcpy(copy, s, n);
        name->s = copy;
        TRY(string_new(&t->pool, copy, n, 0, &name->value));
        struct name **bucket = bucket_of(t, s, n);
        name->next = *bucket;
        *bucket = name;
    }
    *out = name->s;
    return OK;
}
