#include "util/options_internal.h"

#include <errno.h>
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "util/mem.h"

static void *field(const struct options *o, int row) {
    return (char *)o->settings + o->table[row].offset;
}

bool options_listed(const char *list, size_t list_len, char separator, const char *word, size_t n) {
    for (const char *at = list, *past = list + list_len; at < past;) {
        const char *end = memchr(at, separator, (size_t)(past - at));
        size_t len = end ? (size_t)(end - at) : (size_t)(past - at);
        if (len == n && memcmp(at, word, n) == 0) {
            return true;
        }
        at += len + (end != NULL);
    }
    return false;
}

static bool is_word(const char *list, const char *word, size_t n) {
    return list && options_listed(list, strlen(list), ' ', word, n);
}

bool options_is_command(const struct options *o, const char *name, size_t n) {
    return (o->command && strlen(o->command) == n && memcmp(o->command, name, n) == 0) ||
           is_word(o->also, name, n);
}

bool options_takes(const struct options *o, int row) {
    const char *commands = o->table[row].commands;
    if (!o->command || strcmp(commands, "*") == 0 || is_word(commands, o->command, strlen(o->command))) {
        return true;
    }
    for (const char *at = o->also ? o->also : ""; *at;) {
        size_t n = strcspn(at, " ");
        if (is_word(commands, at, n)) {
            return true;
        }
        at += n + (at[n] == ' ');
    }
    return false;
}

int options_find(const struct options *o, const char *key, size_t n) {
    for (int i = 0; i < o->count; i++) {
        if (strlen(o->table[i].key) == n && memcmp(o->table[i].key, key, n) == 0) {
            return i;
        }
    }
    return -1;
}

static int find(const struct options *o, const char *key) {
    return options_find(o, key, strlen(key));
}

static const char *nearest(const struct options *o, const char *key) {
    const char *best = NULL;
    int least = INT_MAX;
    for (int i = 0; i < o->count; i++) {
        if (!options_takes(o, i)) {
            continue;
        }
        /* A key named without its section ("learning_rate") is near the full one. */
        const char *last = strrchr(o->table[i].key, '.');
        int distance = text_distance(o->table[i].key, key);
        if (last && text_distance(last + 1, key) + 1 < distance) {
            distance = text_distance(last + 1, key) + 1;
        }
        if (distance < least) {
            least = distance;
            best = o->table[i].key;
        }
    }
    return best;
}

static enum status parse_choice(const struct option *row, const char *value, const char *source, int *out) {
    int index = 0;
    const char *best = row->choices;
    int best_len = 0;
    int least = INT_MAX;
    for (const char *at = row->choices; *at; index++) {
        const char *end = strchr(at, '|');
        int len = end ? (int)(end - at) : (int)strlen(at);
        char word[64];
        snprintf(word, sizeof word, "%.*s", len, at);
        if (strcmp(word, value) == 0) {
            *out = index;
            return OK;
        }
        int distance = text_distance(word, value);
        if (distance < least) {
            least = distance;
            best = at;
            best_len = len;
        }
        at += len + (end != NULL);
    }
    return fail(ERR_USAGE, "%s: %s: \"%s\" is not one of %s; the nearest is \"%.*s\"", source, row->key,
                value, row->choices, best_len, best);
}

static enum status in_range(const struct option *row, double value, const char *text, const char *source) {
    if ((row->low != 0 || row->high != 0) && !(value >= row->low && value <= row->high)) {
        return fail(ERR_USAGE, "%s: %s: %s is outside %g to %g", source, row->key, text, row->low, row->high);
    }
    return OK;
}

static enum status parse_int(const struct option *row, const char *value, const char *source, int64_t *out) {
    char *end;
    errno = 0;
    long long whole = strtoll(value, &end, 10);
    if (end == value || *end != '\0' || errno != 0) {
        return fail(ERR_USAGE, "%s: %s: \"%s\" is not a whole number", source, row->key, value);
    }
    TRY(in_range(row, (double)whole, value, source));
    *out = whole;
    return OK;
}

static enum status parse_number(const struct option *row, const char *value, const char *source,
                                double *out) {
    char *end;
    double number = strtod(value, &end);
    if (end == value || *end != '\0' || !isfinite(number)) {
        return fail(ERR_USAGE, "%s: %s: \"%s\" is not a number", source, row->key, value);
    }
    TRY(in_range(row, number, value, source));
    *out = number;
    return OK;
}

static enum status parse_bool(const struct option *row, const char *value, const char *source, bool *out) {
    if (strcmp(value, "true") == 0 || strcmp(value, "false") == 0) {
        *out = value[0] == 't';
        return OK;
    }
    return fail(ERR_USAGE, "%s: %s: \"%s\" is neither true nor false", source, row->key, value);
}

static enum status assign(struct options *o, int i, const char *value, const char *source) {
    const struct option *row = &o->table[i];
    switch (row->type) {
    case OPTION_TEXT: {
        char *copy = mem_strdup(value);
        if (!copy) {
            return ERR_SYSTEM;
        }
        char **text = field(o, i);
        mem_free(*text);
        *text = copy;
        return OK;
    }
    case OPTION_CHOICE:
        return parse_choice(row, value, source, field(o, i));
    case OPTION_BOOL:
        return parse_bool(row, value, source, field(o, i));
    case OPTION_INT:
        return parse_int(row, value, source, field(o, i));
    case OPTION_NUMBER:
        return parse_number(row, value, source, field(o, i));
    }
    return fail(ERR_INTERNAL, "option %s has no type", row->key);
}

enum status options_open(struct options *o, const struct option *table, int count, void *settings,
                         const char *command) {
    *o = (struct options){.table = table, .count = count, .settings = settings, .command = command};
    TRY(NEW_ARRAY(o->source, count));
    for (int i = 0; i < count; i++) {
        TRY(assign(o, i, table[i].fallback, "default"));
    }
    return OK;
}

void options_close(struct options *o) {
    for (int i = 0; i < o->count; i++) {
        if (o->table[i].type == OPTION_TEXT) {
            char **text = field(o, i);
            mem_free(*text);
            *text = NULL;
        }
        if (o->source) {
            mem_free(o->source[i]);
        }
    }
    mem_free(o->source);
    *o = (struct options){0};
}

enum status options_set(struct options *o, const char *key, const char *value, const char *source) {
    int i = find(o, key);
    if (i < 0) {
        return fail(ERR_USAGE, "%s: unknown key \"%s\"; the nearest that %s knows is \"%s\"", source, key,
                    o->command, nearest(o, key));
    }
    if (!options_takes(o, i)) {
        return fail(ERR_USAGE, "%s: key \"%s\" has no effect in %s; it belongs to: %s", source, key,
                    o->command, o->table[i].commands);
    }
    TRY(assign(o, i, value, source));
    char *copy = mem_strdup(source);
    if (!copy) {
        return ERR_SYSTEM;
    }
    mem_free(o->source[i]);
    o->source[i] = copy;
    return OK;
}

bool options_knows(const struct options *o, const char *key) {
    return find(o, key) >= 0;
}

enum status options_set_argument(struct options *o, const char *argument) {
    const char *equals = strchr(argument, '=');
    if (!equals || equals == argument) {
        return access(argument, F_OK) == 0
                   ? fail(ERR_USAGE,
                          "command line: \"%s\" exists, but only a name that ends with .yaml is a "
                          "configuration; rename it, or say what it is for (input=%s, data=%s, …)",
                          argument, argument, argument)
                   : fail(ERR_USAGE, "command line: \"%s\" is neither key=value nor a file that exists",
                          argument);
    }
    if (!text_is_utf8(argument)) {
        return fail(ERR_USAGE, "command line: %.*s: the value is not UTF-8; a configuration cannot hold it",
                    (int)(equals - argument), argument);
    }
    char *key = mem_strndup(argument, (size_t)(equals - argument));
    if (!key) {
        return ERR_SYSTEM;
    }
    enum status st = options_set(o, key, equals + 1, "command line");
    mem_free(key);
    return st;
}

static enum status print_value(const struct options *o, int i, struct text *out) {
    const struct option *row = &o->table[i];
    switch (row->type) {
    case OPTION_TEXT:
        return text_puts(out, *(char **)field(o, i));
    case OPTION_CHOICE: {
        const char *at = row->choices;
        for (int skip = *(int *)field(o, i); skip > 0; skip--) {
            at = strchr(at, '|') + 1;
        }
        return text_append(out, at, strcspn(at, "|"));
    }
    case OPTION_BOOL:
        return text_puts(out, *(bool *)field(o, i) ? "true" : "false");
    case OPTION_INT:
        return text_printf(out, "%lld", (long long)*(int64_t *)field(o, i));
    case OPTION_NUMBER:
        return text_json_number(out, *(double *)field(o, i));
    }
    return fail(ERR_INTERNAL, "option %s has no type", row->key);
}

bool options_is_default(const struct options *o, int row) {
    const struct option *option = &o->table[row];
    if (option->type == OPTION_NUMBER) {
        return *(double *)field(o, row) == strtod(option->fallback, NULL);
    }
    struct text value = {0};
    bool same =
        print_value(o, row, &value) == OK && strcmp(value.data ? value.data : "", option->fallback) == 0;
    text_free(&value);
    return same;
}

enum status options_check(const struct options *o) {
    struct text lacks = {0};
    enum status st = OK;
    for (int i = 0; i < o->count && st == OK; i++) {
        st = o->source[i] ? options_lacks(o, i, &lacks) : OK;
        if (st == OK && lacks.len > 0) {
            st = fail(ERR_USAGE, "%s: key \"%s\" has no effect here; it needs %s", o->source[i],
                      o->table[i].key, lacks.data);
        }
    }
    text_free(&lacks);
    return st;
}

enum status options_narrow(struct options *o, const char *also) {
    o->also = also;
    for (int i = 0; i < o->count; i++) {
        if (o->source[i] && !options_takes(o, i)) {
            return fail(ERR_USAGE, "%s: key \"%s\" has no effect in %s; it belongs to: %s", o->source[i],
                        o->table[i].key, also, o->table[i].commands);
        }
    }
    return options_check(o);
}

bool options_is_set(const struct options *o, const char *key) {
    int i = find(o, key);
    return i >= 0 && o->source[i];
}

const char *options_source(const struct options *o, const char *key) {
    int i = find(o, key);
    return i >= 0 && o->source[i] ? o->source[i] : "default";
}

enum status options_value(const struct options *o, const char *key, struct text *out) {
    int i = find(o, key);
    if (i < 0) {
        return fail(ERR_INTERNAL, "options_value: unknown key \"%s\"", key);
    }
    return print_value(o, i, out);
}

/* A YAML scalar: plain where that is safe, else double-quoted (JSON strings are YAML). */
static enum status print_scalar(const struct options *o, int i, struct text *out) {
    struct text value = {0};
    enum status st;
    TRY_TO(done, print_value(o, i, &value));
    const char *s = value.data ? value.data : "";
    bool plain =
        *s && strspn(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_./+-") == strlen(s) &&
        s[0] != '-' && strcmp(s, "null") != 0;
    if (o->table[i].type == OPTION_TEXT && !plain) {
        st = text_json(out, s, value.len);
    } else {
        st = text_puts(out, s);
    }
done:
    text_free(&value);
    return st;
}

/* " {with …}", " (only with …)": a key's conditions between two words; nothing where it has none. */
static enum status print_when(const struct options *o, int i, const char *before, const char *after,
                              struct text *out) {
    struct text when = {0};
    enum status st = options_print_when(o, i, &when);
    if (st == OK && when.len > 0) {
        st = text_printf(out, "%s%s%s", before, when.data, after);
    }
    text_free(&when);
    return st;
}

static enum status print_comments(const struct options *o, int i, const char *indent, struct text *out) {
    const struct option *row = &o->table[i];
    TRY(text_printf(out, "%s# %s", indent, row->help));
    TRY(row->choices ? text_printf(out, " (%s)", row->choices) : OK);
    TRY(row->unit && *row->unit ? text_printf(out, " [%s]", row->unit) : OK);
    TRY(print_when(o, i, " {with ", "}", out));
    TRY(text_puts(out, "\n"));
    if (!o->command) {
        bool all = strcmp(row->commands, "*") == 0;
        TRY(text_printf(out, "%s# in: %s", indent, all ? "every command" : row->commands));
        TRY(row->low != 0 || row->high != 0 ? text_printf(out, "; %g to %g", row->low, row->high) : OK);
        TRY(text_puts(out, "\n"));
    }
    return OK;
}

/* Is a key of this command set whose name begins with these n bytes ("train.")? */
static bool any_set(const struct options *o, const char *section, size_t n) {
    for (int i = 0; i < o->count; i++) {
        if (o->source[i] && strncmp(o->table[i].key, section, n) == 0) {
            return true;
        }
    }
    return false;
}

enum status options_print(const struct options *o, bool comments, struct text *out) {
    const char *section = "";
    for (int i = 0; i < o->count; i++) {
        const struct option *row = &o->table[i];
        if (!options_takes(o, i)) {
            continue;
        }
        /* In the commented form a default is a comment: set by name it could be refused (no effect beside the
         * others) or mean something else than where it is not set. */
        bool defaults = comments && o->command;
        size_t n = strcspn(row->key, ".") + 1; /* with the point */
        /* "reference.adapter" stands whole: "reference" is a key too. */
        bool nested = row->key[n - 1] == '.' && options_find(o, row->key, n - 1) < 0;
        if (nested && strncmp(section, row->key, n) != 0) {
            bool empty = defaults && !any_set(o, row->key, n);
            TRY(text_printf(out, "%s%.*s:\n", empty ? "#" : "", (int)n - 1, row->key));
        }
        section = nested ? row->key : "";
        const char *indent = nested ? "  " : "";
        TRY(comments ? print_comments(o, i, indent, out) : OK);
        TRY(text_printf(out, "%s%s%s: ", indent, defaults && !o->source[i] ? "#" : "",
                        nested ? row->key + n : row->key));
        TRY(print_scalar(o, i, out));
        TRY(text_puts(out, "\n"));
    }
    return OK;
}

enum status options_help(const struct options *o, struct text *out) {
    static const char *const types[] = {"text", "choice", "true|false", "integer", "number"};
    for (int i = 0; i < o->count; i++) {
        const struct option *row = &o->table[i];
        if (!options_takes(o, i)) {
            continue;
        }
        const char *fallback = *row->fallback ? row->fallback : "(none)";
        TRY(text_printf(out, "  %-26s %-10s default %s", row->key, types[row->type], fallback));
        TRY(row->unit && *row->unit ? text_printf(out, " %s", row->unit) : OK);
        if (row->high != 0 || row->low != 0) {
            TRY(text_printf(out, ", %g to %g", row->low, row->high));
        }
        TRY(row->choices ? text_printf(out, "\n      one of %s", row->choices) : OK);
        TRY(text_printf(out, "\n      %s", row->help));
        TRY(print_when(o, i, " (only with ", ")", out));
        TRY(text_puts(out, "\n"));
    }
    return OK;
}
