/* When a key has an effect: conditions on other keys, and their words. */
#include <string.h>

#include "util/options_internal.h"

/* A piece of a list. */
struct piece {
    const char *at;
    size_t len;
};

/* The next piece before `separator`; false at the end. */
static bool next_piece(struct piece *rest, char separator, struct piece *out) {
    if (rest->len == 0) {
        return false;
    }
    const char *end = memchr(rest->at, separator, rest->len);
    *out = (struct piece){rest->at, end ? (size_t)(end - rest->at) : rest->len};
    size_t taken = out->len + (end != NULL);
    *rest = (struct piece){rest->at + taken, rest->len - taken};
    return true;
}

/* Takes "command:" off a condition's front. */
static bool take_scope(struct piece *condition, struct piece *scope) {
    const char *end = memchr(condition->at, ':', condition->len);
    if (!end) {
        return false;
    }
    *scope = (struct piece){condition->at, (size_t)(end - condition->at)};
    condition->len -= scope->len + 1;
    condition->at = end + 1;
    return true;
}

/* One choice of a condition, taken apart. */
struct test {
    bool is_learned; /* "@words", which `key` is then */
    bool is_negated;
    struct piece key, values; /* values.at NULL: none */
};

static struct test parse(struct piece choice) {
    struct test t = {0};
    t.is_learned = choice.len > 0 && choice.at[0] == '@';
    t.is_negated = choice.len > 0 && choice.at[0] == '!';
    t.key = (struct piece){choice.at + (t.is_learned || t.is_negated),
                           choice.len - (t.is_learned || t.is_negated)};
    const char *equals = t.is_learned ? NULL : memchr(t.key.at, '=', t.key.len);
    if (equals) {
        size_t before = (size_t)(equals - t.key.at);
        t.values = (struct piece){equals + 1, t.key.len - before - 1};
        t.is_negated = before > 0 && equals[-1] == '!';
        t.key.len = before - t.is_negated;
    }
    return t;
}

static enum status test_holds(const struct options *o, const struct test *t, bool *out) {
    int row = t->is_learned ? -1 : options_find(o, t->key.at, t->key.len);
    *out = true;
    if (t->is_learned || (row >= 0 && !options_takes(o, row))) {
        return OK;
    }
    if (row < 0) {
        return fail(ERR_INTERNAL, "a condition names the unknown key \"%.*s\"", (int)t->key.len, t->key.at);
    }
    if (!t->values.at) {
        *out = options_is_default(o, row) == t->is_negated;
        return OK;
    }
    struct text value = {0};
    enum status st = options_value(o, o->table[row].key, &value);
    *out = options_listed(t->values.at, t->values.len, '|', value.data ? value.data : "", value.len) !=
           t->is_negated;
    text_free(&value);
    return st;
}

/* Any of the choices. */
static enum status condition_holds(const struct options *o, struct piece condition, bool *out) {
    struct piece choice;
    *out = false;
    while (!*out && next_piece(&condition, ',', &choice)) {
        const struct test t = parse(choice);
        TRY(test_holds(o, &t, out));
    }
    return OK;
}

static enum status print_condition(struct piece condition, struct text *out) {
    struct piece choice;
    for (bool first = true; next_piece(&condition, ',', &choice); first = false) {
        const struct test t = parse(choice);
        TRY(first ? OK : text_puts(out, " or "));
        TRY(text_append(out, t.key.at, t.key.len));
        if (t.values.at) {
            TRY(text_printf(out, "%s%.*s", t.is_negated ? " other than " : "=", (int)t.values.len,
                            t.values.at));
        } else if (!t.is_learned) {
            TRY(text_puts(out, t.is_negated ? " not to be set" : " to be set"));
        }
    }
    return OK;
}

static struct piece conditions_of(const struct options *o, int row) {
    const char *when = o->table[row].when ? o->table[row].when : "";
    return (struct piece){when, strlen(when)};
}

enum status options_lacks(const struct options *o, int row, struct text *out) {
    struct piece rest = conditions_of(o, row), condition, scope;
    bool holds = true;
    while (holds && next_piece(&rest, '&', &condition)) {
        bool is_meant = !take_scope(&condition, &scope) || options_is_command(o, scope.at, scope.len);
        TRY(is_meant ? condition_holds(o, condition, &holds) : OK);
    }
    return holds ? OK : print_condition(condition, out);
}

enum status options_print_when(const struct options *o, int row, struct text *out) {
    struct piece rest = conditions_of(o, row), condition, scope;
    while (next_piece(&rest, '&', &condition)) {
        bool is_scoped = take_scope(&condition, &scope);
        if (is_scoped && o->command && !options_is_command(o, scope.at, scope.len)) {
            continue;
        }
        TRY(out->len > 0 ? text_puts(out, ", ") : OK);
        TRY(is_scoped && !o->command ? text_printf(out, "%.*s: ", (int)scope.len, scope.at) : OK);
        TRY(print_condition(condition, out));
    }
    return OK;
}

static bool needs(const struct options *o, int row, const char *words) {
    struct piece rest = conditions_of(o, row), condition, scope;
    while (next_piece(&rest, '&', &condition)) {
        bool is_meant = !take_scope(&condition, &scope) || options_is_command(o, scope.at, scope.len);
        const struct test t = parse(condition);
        if (is_meant && t.is_learned && t.key.len == strlen(words) &&
            memcmp(t.key.at, words, t.key.len) == 0) {
            return true;
        }
    }
    return false;
}

enum status options_learn(const struct options *o, const char *words, bool holds) {
    for (int i = 0; i < o->count && !holds; i++) {
        if (o->source[i] && needs(o, i, words)) {
            return fail(ERR_USAGE, "%s: key \"%s\" has no effect here; it needs %s", o->source[i],
                        o->table[i].key, words);
        }
    }
    return OK;
}
