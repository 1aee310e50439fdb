/* Filters on sequences. */
#include <string.h>

#include "text/template_internal.h"

static enum status filter_length(struct render *r, const struct call *c, struct value *out) {
    int64_t n;
    TRY(jinja_length_of(r, c->self, &n));
    *out = value_int(n);
    return OK;
}

static enum status filter_list(struct render *r, const struct call *c, struct value *out) {
    struct sequence *s;
    TRY(jinja_elements(r, c->self, &s));
    return jinja_listed(r, VALUE_LIST, s, out);
}

static enum status filter_first(struct render *r, const struct call *c, struct value *out) {
    struct sequence *s;
    bool last = c->name[0] == 'l';
    if (last && c->self.kind == VALUE_STREAM) {
        return refuse(r, "'last' of a generator");
    }
    TRY(jinja_elements(r, c->self, &s));
    *out = s->n == 0 ? value_undefined(WHY_ELEMENT, NULL) : s->items[last ? s->n - 1 : 0];
    return OK;
}

static enum status filter_reverse(struct render *r, const struct call *c, struct value *out) {
    const struct value bounds[3] = {value_none(), value_none(), value_int(-1)};
    struct sequence *s;
    if (is_string(c->self)) {
        return jinja_slice(r, c->self, bounds, out);
    }
    TRY(jinja_elements(r, c->self, &s));
    struct value list = {.kind = VALUE_LIST, .sequence = s};
    TRY(jinja_slice(r, list, bounds, out));
    out->kind = VALUE_STREAM;
    return OK;
}

static enum status filter_items(struct render *r, const struct call *c, struct value *out) {
    struct arguments none = {0};
    TRY(sequence_new(&r->pool, VALUE_STREAM, 0, out));
    if (c->self.kind == VALUE_UNDEFINED) {
        return OK;
    }
    if (c->self.kind != VALUE_DICT) {
        return refuse(r, "'items' takes a dict, not a %s", value_type(c->self));
    }
    const struct function *items = jinja_function_find(template_dict_methods, "items");
    TRY(jinja_call_function(r, "method", items, c->self, &none, out));
    out->kind = VALUE_STREAM;
    return OK;
}

static enum status filter_join(struct render *r, const struct call *c, struct value *out) {
    struct builder b = {.pool = &r->pool};
    struct value between = {.kind = VALUE_UNDEFINED};
    struct sequence *s;
    TRY(jinja_elements(r, c->self, &s));
    TRY(is_given(c->args[0]) ? jinja_text_of(r, c->args[0], &between) : OK);
    for (int64_t i = 0; i < s->n; i++) {
        struct value v = s->items[i];
        if (is_given(c->args[1]) && c->args[1].kind != VALUE_NONE) {
            TRY(jinja_attribute_path(r, v, c->args[1], &v));
        }
        TRY(jinja_spend(r, 1));
        TRY(i > 0 ? jinja_print_value(r, between, &b) : OK);
        TRY(jinja_print_value(r, v, &b));
    }
    return builder_done(&b, out);
}

/* Sorting. */

struct sorter {
    const char *name;
    struct value path; /* attribute to sort by, or MISSING */
    bool case_matters, reverse;
    bool equal_first; /* keys are lists of one: equal ones need no order */
};
/* What an element is sorted by. */
static enum status sort_key(struct render *r, const struct sorter *how, struct value v, struct value *out) {
    *out = v;
    if (is_given(how->path) && how->path.kind != VALUE_NONE) {
        if (is_string(how->path) && memchr(how->path.string->s, ',', how->path.string->n)) {
            return lacking(r, "filter '%s' by several attributes is not supported", how->name);
        }
        TRY(jinja_attribute_path(r, v, how->path, out));
    }
    return is_string(*out) && !how->case_matters ? jinja_cased(r, out->string, CASE_LOWER, out) : OK;
}

struct keyed {
    struct value key, value;
};

static enum status merge(struct render *r, const struct sorter *how, const struct keyed *from,
                         struct keyed *to, const int64_t bounds[3]) {
    int64_t left = bounds[0];
    int64_t right = bounds[1];
    for (int64_t at = bounds[0]; at < bounds[2]; at++) {
        bool takes_right = left == bounds[1];
        TRY(jinja_spend(r, 1));
        if (!takes_right && right < bounds[2]) {
            int order = 0;
            if (!how->equal_first || !values_equal(from[right].key, from[left].key)) {
                TRY(values_order(r, from[right].key, from[left].key, &order));
            }
            takes_right = how->reverse ? order == 1 : order == -1;
        }
        to[at] = takes_right ? from[right++] : from[left++];
    }
    return OK;
}

/* A stable merge sort from the bottom up. */
static enum status sort_keyed(struct render *r, const struct sorter *how, struct keyed **items, int64_t n) {
    struct keyed *other;
    TRY(POOL_ARRAY(&r->pool, other, n));
    for (int64_t width = 1; width < n; width *= 2) {
        for (int64_t at = 0; at < n; at += 2 * width) {
            int64_t middle = at + width < n ? at + width : n;
            int64_t end = at + 2 * width < n ? at + 2 * width : n;
            const int64_t bounds[3] = {at, middle, end};
            TRY(merge(r, how, *items, other, bounds));
        }
        struct keyed *sorted = other;
        other = *items;
        *items = sorted;
    }
    return OK;
}

static enum status sorted(struct render *r, const struct sorter *how, const struct sequence *s,
                          struct value *out) {
    struct keyed *items;
    TRY(jinja_spend(r, s->n));
    TRY(POOL_ARRAY(&r->pool, items, s->n));
    for (int64_t i = 0; i < s->n; i++) {
        items[i].value = s->items[i];
        TRY(sort_key(r, how, s->items[i], &items[i].key));
    }
    TRY(sort_keyed(r, how, &items, s->n));
    TRY(sequence_new(&r->pool, VALUE_LIST, s->n, out));
    for (int64_t i = 0; i < s->n; i++) {
        TRY(sequence_add(&r->pool, *out, items[i].value));
    }
    return OK;
}

static enum status filter_sort(struct render *r, const struct call *c, struct value *out) {
    struct sequence *s;
    struct sorter how = {.name = c->name,
                         .path = c->args[2],
                         .case_matters = value_truth(c->args[1]),
                         .reverse = value_truth(c->args[0]),
                         .equal_first = true};
    TRY(jinja_elements(r, c->self, &s));
    return sorted(r, &how, s, out);
}

static enum status filter_dictsort(struct render *r, const struct call *c, struct value *out) {
    struct arguments none = {0};
    struct value pairs;
    bool by_value = is_given(c->args[1]) && value_is(c->args[1], "value");
    struct sorter how = {.name = c->name,
                         .path = value_int(by_value),
                         .case_matters = value_truth(c->args[0]),
                         .reverse = value_truth(c->args[2])};
    TRY(jinja_undefined_used(r, c->self));
    if (c->self.kind != VALUE_DICT) {
        return refuse(r, "'dictsort' takes a dict, not a %s", value_type(c->self));
    }
    const struct function *items = jinja_function_find(template_dict_methods, "items");
    TRY(jinja_call_function(r, "method", items, c->self, &none, &pairs));
    return sorted(r, &how, pairs.sequence, out);
}

/* The least or the greatest. */
static enum status filter_min(struct render *r, const struct call *c, struct value *out) {
    struct sequence *s;
    struct value best = {.kind = VALUE_MISSING};
    int wanted = strcmp(c->name, "min") == 0 ? -1 : 1;
    struct sorter how = {.name = c->name, .path = c->args[1], .case_matters = value_truth(c->args[0])};
    *out = value_undefined(WHY_ELEMENT, NULL);
    TRY(jinja_elements(r, c->self, &s));
    TRY(jinja_spend(r, s->n));
    for (int64_t i = 0; i < s->n; i++) {
        struct value key;
        int order = wanted;
        TRY(sort_key(r, &how, s->items[i], &key));
        TRY(is_given(best) ? values_order(r, key, best, &order) : OK);
        if (order == wanted) {
            best = key;
            *out = s->items[i];
        }
    }
    return OK;
}

static enum status filter_unique(struct render *r, const struct call *c, struct value *out) {
    struct sequence *s;
    struct value seen;
    struct sorter how = {.name = c->name, .path = c->args[1], .case_matters = value_truth(c->args[0])};
    TRY(jinja_elements(r, c->self, &s));
    TRY(dict_new(&r->pool, 0, &seen));
    TRY(sequence_new(&r->pool, VALUE_STREAM, 0, out));
    for (int64_t i = 0; i < s->n; i++) {
        struct value key;
        TRY(sort_key(r, &how, s->items[i], &key));
        TRY(jinja_spend(r, 1 + seen.dict->n * value_weight(key)));
        if (!dict_find(seen.dict, key)) {
            TRY(dict_put(&r->pool, seen, key, value_none()));
            TRY(sequence_add(&r->pool, *out, s->items[i]));
        }
    }
    return OK;
}

static enum status filter_sum(struct render *r, const struct call *c, struct value *out) {
    struct sequence *s;
    *out = is_given(c->args[1]) ? c->args[1] : value_int(0);
    TRY(jinja_elements(r, c->self, &s));
    TRY(jinja_spend(r, s->n));
    for (int64_t i = 0; i < s->n; i++) {
        struct value v = s->items[i];
        if (is_given(c->args[0]) && c->args[0].kind != VALUE_NONE) {
            TRY(jinja_attribute_path(r, v, c->args[0], &v));
        }
        if (is_string(*out)) {
            return refuse(r, "'sum' of strings");
        }
        TRY(jinja_operate(r, OP_ADD, *out, v, out));
    }
    return OK;
}

/* map, select, reject, selectattr, rejectattr: arguments are for another filter or test. */

/* Arguments from the i-th on. */
static struct arguments from_argument(const struct arguments *a, int64_t i) {
    struct arguments rest = *a;
    rest.values = i < a->n ? a->values + i : NULL;
    rest.n = i < a->n ? a->n - i : 0;
    return rest;
}

static enum status name_of(struct render *r, struct value v, const char **out) {
    char *name;
    if (!is_string(v)) {
        return refuse(r, "a filter or test is named by a %s", value_type(v));
    }
    TRY(POOL_ARRAY(&r->pool, name, (int64_t)v.string->n + 1));
    memcpy(name, v.string->s, v.string->n);
    *out = name;
    return OK;
}

static enum status map_attribute(struct render *r, const struct call *c, const struct sequence *s,
                                 struct value *out) {
    struct value path = {.kind = VALUE_MISSING};
    struct value fallback = {.kind = VALUE_MISSING};
    for (int64_t i = 0; i < c->all->n_named; i++) {
        bool is_path = strcmp(c->all->named[i].name, "attribute") == 0;
        if (!is_path && strcmp(c->all->named[i].name, "default") != 0) {
            return refuse(r, "'map' has no argument '%.100s'", c->all->named[i].name);
        }
        *(is_path ? &path : &fallback) = c->all->named[i].value;
    }
    if (!is_given(path)) {
        return refuse(r, "'map' needs a filter or an attribute");
    }
    for (int64_t i = 0; i < s->n; i++) {
        struct value v;
        TRY(jinja_spend(r, 1));
        TRY(jinja_attribute_path(r, s->items[i], path, &v));
        v = v.kind == VALUE_UNDEFINED && is_given(fallback) ? fallback : v;
        TRY(sequence_add(&r->pool, *out, v));
    }
    return OK;
}

static enum status filter_map(struct render *r, const struct call *c, struct value *out) {
    struct sequence *s;
    const char *name;
    struct arguments rest = from_argument(c->all, 1);
    TRY(sequence_new(&r->pool, VALUE_STREAM, 0, out));
    if (!value_truth(c->self)) {
        return OK; /* none of anything that is empty or false, as in jinja2 */
    }
    TRY(jinja_elements(r, c->self, &s));
    if (c->all->n == 0) {
        return map_attribute(r, c, s, out);
    }
    TRY(name_of(r, c->all->values[0], &name));
    for (int64_t i = 0; i < s->n; i++) {
        struct value v;
        TRY(jinja_spend(r, 1));
        TRY(jinja_apply_filter(r, name, s->items[i], &rest, &v));
        TRY(sequence_add(&r->pool, *out, v));
    }
    return OK;
}

static enum status filter_select(struct render *r, const struct call *c, struct value *out) {
    bool by_attribute = strstr(c->name, "attr") != NULL;
    bool wanted = c->name[0] == 's';
    const char *test = NULL;
    struct sequence *s;
    struct arguments rest = from_argument(c->all, 1 + by_attribute);
    TRY(sequence_new(&r->pool, VALUE_STREAM, 0, out));
    if (!value_truth(c->self)) {
        return OK;
    }
    if (by_attribute && c->all->n == 0) {
        return refuse(r, "'%s' needs an attribute", c->name);
    }
    TRY(c->all->n > by_attribute ? name_of(r, c->all->values[by_attribute], &test) : OK);
    TRY(jinja_elements(r, c->self, &s));
    for (int64_t i = 0; i < s->n; i++) {
        struct value v = s->items[i];
        TRY(jinja_spend(r, 1));
        TRY(by_attribute ? jinja_attribute_path(r, v, c->all->values[0], &v) : OK);
        bool holds = value_truth(v);
        TRY(test ? jinja_apply_test(r, test, v, &rest, &holds) : OK);
        TRY(holds == wanted ? sequence_add(&r->pool, *out, s->items[i]) : OK);
    }
    return OK;
}

const struct function template_sequence_filters[] = {
    {"length", "", 0, filter_length},
    {"count", "", 0, filter_length},
    {"list", "", 0, filter_list},
    {"first", "", 0, filter_first},
    {"last", "", 0, filter_first},
    {"reverse", "", 0, filter_reverse},
    {"items", "", 0, filter_items},
    {"join", "d attribute", 0, filter_join},
    {"sort", "reverse case_sensitive attribute", 0, filter_sort},
    {"dictsort", "case_sensitive by reverse", 0, filter_dictsort},
    {"min", "case_sensitive attribute", 0, filter_min},
    {"max", "case_sensitive attribute", 0, filter_min},
    {"unique", "case_sensitive attribute", 0, filter_unique},
    {"sum", "attribute start", 0, filter_sum},
    {"map", NULL, 0, filter_map},
    {"select", NULL, 0, filter_select},
    {"reject", NULL, 0, filter_select},
    {"selectattr", NULL, 0, filter_select},
    {"rejectattr", NULL, 0, filter_select},
    {0},
};
