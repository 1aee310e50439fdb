/* Expressions to values. */
#include <string.h>

#include "text/template_internal.h"

enum status jinja_spend(struct render *r, int64_t n) {
    r->steps -= n < r->steps ? n : r->steps + 1;
    return r->steps >= 0 ? OK : refuse(r, "more than %lld steps", (long long)r->most_steps);
}

enum status jinja_scope_open(struct render *r, struct scope *parent, struct scope **out) {
    TRY(POOL_ARRAY(&r->pool, *out, 1));
    (*out)->parent = parent;
    return OK;
}

static struct binding *binding_in(const struct scope *s, const char *name) {
    for (int64_t i = 0; i < s->n; i++) {
        if (s->bindings[i].name == name) {
            return &s->bindings[i];
        }
    }
    return NULL;
}

enum status jinja_scope_set(struct render *r, struct scope *s, const char *name, struct value value) {
    struct binding *there = binding_in(s, name);
    if (there) {
        there->value = value;
        return OK;
    }
    TRY(jinja_spend(r, s->n / 8));
    TRY(POOL_GROW(&r->pool, s->bindings, s->capacity, s->n + 1));
    s->bindings[s->n++] = (struct binding){name, value};
    return OK;
}

struct value jinja_scope_get(const struct render *r, const char *name) {
    for (const struct scope *s = r->scope; s; s = s->parent) {
        const struct binding *there = binding_in(s, name);
        if (there) {
            return there->value;
        }
    }
    return value_undefined(WHY_NAME, name);
}

void jinja_scope_keep(struct scope *s) {
    for (; s && !s->kept; s = s->parent) {
        s->kept = true;
    }
}

static enum status evaluate_parts(struct render *r, const struct node *n, enum value_kind kind,
                                  struct value *out) {
    TRY(sequence_new(&r->pool, kind, n->n_parts, out));
    for (const struct part *part = n->parts; part; part = part->next) {
        struct value v;
        TRY(jinja_evaluate(r, part->value, &v));
        TRY(sequence_add(&r->pool, *out, v));
    }
    return OK;
}

static enum status evaluate_dict(struct render *r, const struct node *n, struct value *out) {
    TRY(dict_new(&r->pool, n->n_parts, out));
    for (const struct part *part = n->parts; part; part = part->next) {
        struct value key;
        struct value v;
        TRY(jinja_evaluate(r, part->key, &key));
        TRY(jinja_evaluate(r, part->value, &v));
        TRY(jinja_spend(r, out->dict->n / 4));
        TRY(dict_put(&r->pool, *out, key, v));
    }
    return OK;
}

static enum status evaluate_attribute(struct render *r, const struct node *n, struct value *out) {
    struct value of;
    TRY(jinja_evaluate(r, n->a, &of));
    r->line = n->line;
    return jinja_attribute(r, of, template_name_value(r->t, n->name), out);
}

static enum status evaluate_item(struct render *r, const struct node *n, struct value *out) {
    struct value of;
    struct value index;
    TRY(jinja_evaluate(r, n->a, &of));
    TRY(jinja_evaluate(r, n->b, &index));
    return jinja_item(r, of, index, out);
}

static enum status evaluate_slice(struct render *r, const struct node *n, struct value *out) {
    struct value of;
    struct value bounds[3] = {value_none(), value_none(), value_none()};
    int i = 0;
    TRY(jinja_evaluate(r, n->a, &of));
    for (const struct part *part = n->parts; part && i < 3; part = part->next, i++) {
        if (part->value) {
            TRY(jinja_evaluate(r, part->value, &bounds[i]));
        }
    }
    return jinja_slice(r, of, bounds, out);
}

static enum status add_star(struct render *r, struct value v, struct arguments *a) {
    struct sequence *s;
    TRY(jinja_elements(r, v, &s));
    for (int64_t i = 0; i < s->n; i++) {
        TRY(jinja_arguments_add(r, a, s->items[i]));
    }
    return OK;
}

static enum status add_stars(struct render *r, struct value v, struct arguments *a) {
    if (v.kind != VALUE_DICT) {
        return refuse(r, "a %s stands behind **", value_type(v));
    }
    for (int64_t i = 0; i < v.dict->n; i++) {
        struct value key = v.dict->entries[i].key;
        char *name;
        if (!is_string(key)) {
            return refuse(r, "keywords must be strings");
        }
        TRY(POOL_ARRAY(&r->pool, name, (int64_t)key.string->n + 1));
        memcpy(name, key.string->s, key.string->n);
        TRY(jinja_arguments_name(r, a, name, v.dict->entries[i].value));
    }
    return OK;
}

static enum status evaluate_arguments(struct render *r, const struct node *n, struct arguments *a) {
    for (const struct part *part = n->parts; part; part = part->next) {
        struct value v;
        TRY(jinja_evaluate(r, part->value, &v));
        switch (part->form) {
        case PART_PLAIN:
            TRY(jinja_arguments_add(r, a, v));
            break;
        case PART_NAMED:
            TRY(jinja_arguments_name(r, a, part->name, v));
            break;
        case PART_STAR:
            TRY(add_star(r, v, a));
            break;
        case PART_STARS:
            TRY(add_stars(r, v, a));
            break;
        }
    }
    return OK;
}

static enum status evaluate_call(struct render *r, const struct node *n, struct value *out) {
    struct value callee;
    struct arguments a = {0};
    TRY(jinja_evaluate(r, n->a, &callee));
    TRY(evaluate_arguments(r, n, &a));
    r->line = n->line;
    return jinja_call_value(r, callee, &a, out);
}

static enum status evaluate_filter(struct render *r, const struct node *n, struct value *out) {
    struct value self = r->filtered;
    struct arguments a = {0};
    if (n->a) {
        TRY(jinja_evaluate(r, n->a, &self));
    }
    TRY(evaluate_arguments(r, n, &a));
    r->line = n->line;
    return jinja_apply_filter(r, n->name, self, &a, out);
}

static enum status evaluate_test(struct render *r, const struct node *n, struct value *out) {
    struct value self;
    struct arguments a = {0};
    bool holds;
    TRY(jinja_evaluate(r, n->a, &self));
    TRY(evaluate_arguments(r, n, &a));
    r->line = n->line;
    TRY(jinja_apply_test(r, n->name, self, &a, &holds));
    *out = value_bool(holds);
    return OK;
}

static enum status evaluate_sign(struct render *r, const struct node *n, struct value *out) {
    struct value v;
    TRY(jinja_evaluate(r, n->a, &v));
    TRY(jinja_undefined_used(r, v));
    if (!is_number(v)) {
        return refuse(r, "a %s has no sign", value_type(v));
    }
    if (n->kind == NODE_POSITIVE) {
        *out = v.kind == VALUE_BOOL ? value_int(v.truth) : v;
        return OK;
    }
    if (v.kind == VALUE_FLOAT) {
        *out = value_float(-v.real);
        return OK;
    }
    return jinja_operate(r, OP_SUBTRACT, value_int(0), v, out);
}

static enum status evaluate_not(struct render *r, const struct node *n, struct value *out) {
    TRY(jinja_evaluate(r, n->a, out));
    *out = value_bool(!value_truth(*out));
    return OK;
}

/* `and`, `or`: the operand that decides. */
static enum status evaluate_logic(struct render *r, const struct node *n, struct value *out) {
    TRY(jinja_evaluate(r, n->a, out));
    return value_truth(*out) == (n->kind == NODE_OR) ? OK : jinja_evaluate(r, n->b, out);
}

static enum status evaluate_binary(struct render *r, const struct node *n, struct value *out) {
    struct value a;
    struct value b;
    TRY(jinja_evaluate(r, n->a, &a));
    TRY(jinja_evaluate(r, n->b, &b));
    r->line = n->line;
    return jinja_operate(r, n->op, a, b, out);
}

static enum status evaluate_concat(struct render *r, const struct node *n, struct value *out) {
    struct builder b = {.pool = &r->pool};
    for (const struct part *part = n->parts; part; part = part->next) {
        struct value v;
        TRY(jinja_evaluate(r, part->value, &v));
        TRY(jinja_print_value(r, v, &b));
    }
    return builder_done(&b, out);
}

static enum status evaluate_compare(struct render *r, const struct node *n, struct value *out) {
    struct value left;
    bool holds = true;
    TRY(jinja_evaluate(r, n->a, &left));
    for (const struct part *part = n->parts; part && holds; part = part->next) {
        struct value right;
        TRY(jinja_evaluate(r, part->value, &right));
        r->line = n->line;
        TRY(jinja_compare(r, part->op, left, right, &holds));
        left = right;
    }
    *out = value_bool(holds);
    return OK;
}

static enum status evaluate_choice(struct render *r, const struct node *n, struct value *out) {
    struct value condition;
    TRY(jinja_evaluate(r, n->b, &condition));
    if (value_truth(condition)) {
        return jinja_evaluate(r, n->a, out);
    }
    *out = value_undefined(WHY_ELSE, NULL);
    return n->c ? jinja_evaluate(r, n->c, out) : OK;
}

static enum status evaluate_kind(struct render *r, const struct node *n, struct value *out) {
    switch (n->kind) {
    case NODE_CONSTANT:
        *out = n->constant;
        return OK;
    case NODE_NAME:
        *out = jinja_scope_get(r, n->name);
        return OK;
    case NODE_LIST:
        return evaluate_parts(r, n, VALUE_LIST, out);
    case NODE_TUPLE:
        return evaluate_parts(r, n, VALUE_TUPLE, out);
    case NODE_DICT:
        return evaluate_dict(r, n, out);
    case NODE_ATTRIBUTE:
        return evaluate_attribute(r, n, out);
    case NODE_ITEM:
        return evaluate_item(r, n, out);
    case NODE_SLICE:
        return evaluate_slice(r, n, out);
    case NODE_CALL:
        return evaluate_call(r, n, out);
    case NODE_FILTER:
        return evaluate_filter(r, n, out);
    case NODE_TEST:
        return evaluate_test(r, n, out);
    case NODE_NEGATIVE:
    case NODE_POSITIVE:
        return evaluate_sign(r, n, out);
    case NODE_NOT:
        return evaluate_not(r, n, out);
    case NODE_AND:
    case NODE_OR:
        return evaluate_logic(r, n, out);
    case NODE_BINARY:
        return evaluate_binary(r, n, out);
    case NODE_CONCAT:
        return evaluate_concat(r, n, out);
    case NODE_COMPARE:
        return evaluate_compare(r, n, out);
    case NODE_CHOICE:
        return evaluate_choice(r, n, out);
    default:
        return fail(ERR_INTERNAL, "a template's node %d is no expression", (int)n->kind);
    }
}

enum status jinja_evaluate(struct render *r, const struct node *n, struct value *out) {
    TRY(jinja_spend(r, 1));
    r->line = n->line;
    if (++r->depth > TEMPLATE_DEPTH) {
        return refuse(r, "calls or expressions nested deeper than %d", TEMPLATE_DEPTH);
    }
    enum status st = evaluate_kind(r, n, out);
    r->depth--;
    return st;
}
