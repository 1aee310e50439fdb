/* Statements: what they write, bind and repeat. */
#include "text/template_internal.h"

static enum status unpack(struct render *r, const struct node *target, struct value value) {
    struct sequence *s;
    TRY(jinja_elements(r, value, &s));
    if (s->n != target->n_parts) {
        return refuse(r, "%lld values for %d names", (long long)s->n, target->n_parts);
    }
    int64_t i = 0;
    for (const struct part *part = target->parts; part; part = part->next) {
        TRY(jinja_assign(r, part->value, s->items[i++]));
    }
    return OK;
}

enum status jinja_assign(struct render *r, const struct node *target, struct value value) {
    r->line = target->line;
    if (target->kind == NODE_NAME) {
        return jinja_scope_set(r, r->scope, target->name, value);
    }
    if (target->kind == NODE_TUPLE) {
        return unpack(r, target, value);
    }
    struct value space = jinja_scope_get(r, target->a->name);
    if (space.kind != VALUE_SPACE) {
        return refuse(r, "an attribute of a %s is assigned to; only namespaces have such", value_type(space));
    }
    struct value name = template_name_value(r->t, target->name);
    TRY(jinja_attribute_allowed(r, name));
    TRY(jinja_spend(r, space.dict->n / 4));
    space.dict->weight = 1; /* which says nothing of a namespace */
    return dict_put(&r->pool, space, name, value);
}

enum status jinja_capture(struct render *r, const struct node *body, struct scope *scope, struct value *out) {
    struct builder b = {.pool = &r->pool};
    struct builder *outer = r->out;
    struct scope *outer_scope = r->scope;
    r->out = &b;
    r->scope = scope;
    enum status st = jinja_execute(r, body);
    r->out = outer;
    r->scope = outer_scope;
    TRY(st);
    return builder_done(&b, out);
}

static enum status capture_here(struct render *r, const struct node *body, struct value *out) {
    struct scope *scope;
    TRY(jinja_scope_open(r, r->scope, &scope));
    return jinja_capture(r, body, scope, out);
}

/* A fresh scope for the next round, the old one where nothing looks into it any more. */
static enum status next_round(struct render *r, struct scope *outer) {
    if (r->scope == outer || r->scope->kept) {
        return jinja_scope_open(r, outer, &r->scope);
    }
    r->scope->n = 0;
    return OK;
}

/* The elements for which n->c holds. */
static enum status chosen(struct render *r, const struct node *n, struct sequence **items) {
    struct scope *outer = r->scope;
    struct value kept;
    TRY(sequence_new(&r->pool, VALUE_LIST, 0, &kept));
    for (int64_t i = 0; i < (*items)->n; i++) {
        struct value holds;
        TRY(next_round(r, outer));
        TRY(jinja_assign(r, n->a, (*items)->items[i]));
        TRY(jinja_evaluate(r, n->c, &holds));
        if (value_truth(holds)) {
            TRY(sequence_add(&r->pool, kept, (*items)->items[i]));
        }
    }
    r->scope = outer;
    *items = kept.sequence;
    return OK;
}

/* *whole: whether any round was run to its end. */
static enum status run_rounds(struct render *r, const struct node *n, struct sequence *items, bool *whole) {
    const char *name = template_find_name(r->t, "loop", 4);
    struct scope *outer = r->scope;
    struct loop *loop;
    TRY(POOL_ARRAY(&r->pool, loop, 1));
    *loop = (struct loop){.items = items};
    for (; loop->index < items->n && r->flow != FLOW_BREAK; loop->index++) {
        r->flow = FLOW_ON;
        TRY(jinja_spend(r, 1));
        TRY(next_round(r, outer));
        if (name) {
            TRY(jinja_scope_set(r, r->scope, name, (struct value){.kind = VALUE_LOOP, .loop = loop}));
        }
        TRY(jinja_assign(r, n->a, items->items[loop->index]));
        TRY(jinja_execute(r, n->body));
        *whole = *whole || r->flow == FLOW_ON;
    }
    r->flow = FLOW_ON;
    r->scope = outer;
    return OK;
}

static enum status execute_for(struct render *r, const struct node *n) {
    struct value of;
    struct sequence *items;
    TRY(jinja_evaluate(r, n->b, &of));
    r->line = n->line;
    TRY(jinja_elements(r, of, &items));
    if (n->c) {
        TRY(chosen(r, n, &items));
    }
    bool whole = false; /* as in jinja2, a round that is broken off does not count */
    TRY(run_rounds(r, n, items, &whole));
    return whole ? OK : jinja_execute(r, n->otherwise);
}

static enum status execute_if(struct render *r, const struct node *n) {
    struct value condition;
    TRY(jinja_evaluate(r, n->a, &condition));
    return jinja_execute(r, value_truth(condition) ? n->body : n->otherwise);
}

static enum status execute_set(struct render *r, const struct node *n) {
    struct value v;
    TRY(jinja_evaluate(r, n->b, &v));
    return jinja_assign(r, n->a, v);
}

static enum status execute_set_block(struct render *r, const struct node *n) {
    struct value v;
    TRY(capture_here(r, n->body, &v));
    if (n->b) {
        r->filtered = v;
        TRY(jinja_evaluate(r, n->b, &v));
    }
    return jinja_assign(r, n->a, v);
}

static enum status new_macro(struct render *r, const struct node *n, struct value *out) {
    struct macro *macro;
    TRY(POOL_ARRAY(&r->pool, macro, 1));
    *macro = (struct macro){.node = n, .name = n->name, .scope = r->scope};
    jinja_scope_keep(r->scope);
    *out = (struct value){.kind = VALUE_MACRO, .macro = macro};
    return OK;
}

static enum status execute_macro(struct render *r, const struct node *n) {
    struct value macro;
    TRY(new_macro(r, n, &macro));
    return jinja_scope_set(r, r->scope, n->name, macro);
}

/* The call is made with the block as its argument `caller`. */
static enum status execute_call_block(struct render *r, const struct node *n) {
    struct value caller;
    struct value v;
    struct node call = *n->a;
    struct node block = {.kind = NODE_CONSTANT, .line = n->line};
    struct part last = {.form = PART_NAMED, .name = n->name, .value = &block};
    TRY(new_macro(r, n, &caller));
    block.constant = caller;
    last.next = call.parts;
    call.parts = &last;
    TRY(jinja_evaluate(r, &call, &v));
    return jinja_print_value(r, v, r->out);
}

static enum status execute_filtered(struct render *r, const struct node *n) {
    struct value v;
    TRY(capture_here(r, n->body, &v));
    r->filtered = v;
    TRY(jinja_evaluate(r, n->a, &v));
    return jinja_print_value(r, v, r->out);
}

static enum status execute_with(struct render *r, const struct node *n) {
    struct scope *outer = r->scope;
    struct scope *inner;
    TRY(jinja_scope_open(r, outer, &inner));
    for (const struct part *part = n->parts; part; part = part->next) {
        struct value v;
        TRY(jinja_evaluate(r, part->value, &v));
        r->scope = inner;
        TRY(jinja_assign(r, part->key, v));
        r->scope = outer;
    }
    r->scope = inner;
    TRY(jinja_execute(r, n->body));
    r->scope = outer;
    return OK;
}

static enum status execute_generation(struct render *r, const struct node *n) {
    struct scope *outer = r->scope;
    uint8_t marks = r->out->marks;
    TRY(jinja_scope_open(r, outer, &r->scope));
    r->out->marks |= MARK_GENERATION;
    TRY(jinja_execute(r, n->body));
    r->out->marks = marks;
    r->scope = outer;
    return OK;
}

static enum status execute_one(struct render *r, const struct node *n) {
    struct value v;
    switch (n->kind) {
    case NODE_TEXT:
        return builder_string(r->out, n->constant.string);
    case NODE_PRINT:
        TRY(jinja_evaluate(r, n->a, &v));
        return jinja_print_value(r, v, r->out);
    case NODE_FOR:
        return execute_for(r, n);
    case NODE_IF:
        return execute_if(r, n);
    case NODE_SET:
        return execute_set(r, n);
    case NODE_SET_BLOCK:
        return execute_set_block(r, n);
    case NODE_MACRO:
        return execute_macro(r, n);
    case NODE_CALL_BLOCK:
        return execute_call_block(r, n);
    case NODE_FILTERED:
        return execute_filtered(r, n);
    case NODE_WITH:
        return execute_with(r, n);
    case NODE_GENERATION:
        return execute_generation(r, n);
    case NODE_BREAK:
    case NODE_CONTINUE:
        r->flow = n->kind == NODE_BREAK ? FLOW_BREAK : FLOW_CONTINUE;
        return OK;
    default:
        return fail(ERR_INTERNAL, "a template's node %d is no statement", (int)n->kind);
    }
}

enum status jinja_execute(struct render *r, const struct node *body) {
    if (++r->depth > TEMPLATE_DEPTH) {
        return refuse(r, "calls or statements nested deeper than %d", TEMPLATE_DEPTH);
    }
    for (const struct node *n = body; n && r->flow == FLOW_ON; n = n->next) {
        TRY(jinja_spend(r, 1));
        r->line = n->line;
        TRY(execute_one(r, n));
    }
    r->depth--;
    return OK;
}
