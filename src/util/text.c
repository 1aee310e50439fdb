#include "util/text.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <utf8proc.h>

#include "util/mem.h"

static enum status text_room(struct text *t, size_t extra) {
    return GROW_ARRAY(t->data, t->capacity, (int64_t)(t->len + extra + 1));
}

enum status text_append(struct text *t, const char *bytes, size_t n) {
    TRY(text_room(t, n));
    if (n > 0) {
        memcpy(t->data + t->len, bytes, n);
    }
    t->len += n;
    t->data[t->len] = '\0';
    return OK;
}

enum status text_puts(struct text *t, const char *s) {
    return text_append(t, s, strlen(s));
}

enum status text_printf(struct text *t, const char *format, ...) {
    va_list args;
    va_start(args, format);
    int n = vsnprintf(NULL, 0, format, args);
    va_end(args);
    if (n < 0) {
        return fail(ERR_INTERNAL, "bad format string");
    }
    TRY(text_room(t, (size_t)n));
    va_start(args, format);
    vsnprintf(t->data + t->len, (size_t)n + 1, format, args);
    va_end(args);
    t->len += (size_t)n;
    return OK;
}

/* What YAML refuses or folds in a double-quoted string: control characters, line separators, the byte order
 * mark, non-characters (YAML 1.1, section 4.1; beyond the first plane all are taken). */
static bool needs_escape(utf8proc_int32_t point) {
    bool control = point < 0x20 || (point >= 0x7F && point < 0xA0);
    bool separator = point == 0x2028 || point == 0x2029;
    return control || separator || point == 0xFEFF || point == 0xFFFE || point == 0xFFFF;
}

enum status text_json(struct text *t, const char *s, size_t n) {
    TRY(text_puts(t, "\""));
    for (size_t i = 0; i < n;) {
        unsigned char c = (unsigned char)s[i];
        if (c == '"' || c == '\\') {
            TRY(text_printf(t, "\\%c", c));
            i++;
        } else if (c == '\n') {
            TRY(text_puts(t, "\\n"));
            i++;
        } else if (c == '\t') {
            TRY(text_puts(t, "\\t"));
            i++;
        } else if (c == '\r') {
            TRY(text_puts(t, "\\r"));
            i++;
        } else {
            utf8proc_int32_t point;
            utf8proc_ssize_t used =
                utf8proc_iterate((const utf8proc_uint8_t *)s + i, (utf8proc_ssize_t)(n - i), &point);
            if (used <= 0) {
                TRY(text_puts(t, "\xef\xbf\xbd"));
            } else if (needs_escape(point)) {
                TRY(text_printf(t, "\\u%04x", (unsigned)point));
            } else {
                TRY(text_append(t, s + i, (size_t)used));
            }
            i += used > 0 ? (size_t)used : 1;
        }
    }
    return text_puts(t, "\"");
}

bool text_is_utf8(const char *s) {
    while (*s) {
        utf8proc_int32_t point;
        utf8proc_ssize_t used = utf8proc_iterate((const utf8proc_uint8_t *)s, -1, &point);
        if (used <= 0) {
            return false;
        }
        s += used;
    }
    return true;
}

enum status text_json_number(struct text *t, double v) {
    if (!isfinite(v)) {
        return text_puts(t, "null");
    }
    char digits[40];
    for (int precision = 6; precision <= 17; precision++) {
        snprintf(digits, sizeof digits, "%.*g", precision, v);
        if (strtod(digits, NULL) == v) {
            break;
        }
    }
    return text_puts(t, digits);
}

void text_clear(struct text *t) {
    t->len = 0;
    if (t->data) {
        t->data[0] = '\0';
    }
}

void text_free(struct text *t) {
    mem_free(t->data);
    *t = (struct text){0};
}

int text_distance(const char *a, const char *b) {
    enum { LONGEST = 63 };
    int n = (int)strlen(a);
    int m = (int)strlen(b);
    if (n > LONGEST || m > LONGEST) {
        return LONGEST;
    }
    int row[LONGEST + 1];
    for (int j = 0; j <= m; j++) {
        row[j] = j;
    }
    for (int i = 1; i <= n; i++) {
        int diagonal = row[0];
        row[0] = i;
        for (int j = 1; j <= m; j++) {
            int best = diagonal + (a[i - 1] != b[j - 1]);
            if (row[j] + 1 < best) {
                best = row[j] + 1;
            }
            if (row[j - 1] + 1 < best) {
                best = row[j - 1] + 1;
            }
            diagonal = row[j];
            row[j] = best;
        }
    }
    return row[m];
}

enum status names_add(struct names *names, const char *name, size_t n) {
    TRY(GROW_ARRAY(names->list, names->capacity, names->n + 1));
    names->list[names->n] = mem_strndup(name, n);
    TRY(mem_ok(names->list[names->n]));
    names->n++;
    return OK;
}

enum status names_split(struct names *names, const char *list) {
    for (const char *at = list; *at;) {
        size_t n = access(at, F_OK) == 0 ? strlen(at) : strcspn(at, ",");
        TRY(n > 0 ? names_add(names, at, n) : OK);
        at += n + (at[n] == ',');
    }
    return OK;
}

void names_free(struct names *names) {
    for (int i = 0; i < names->n; i++) {
        mem_free(names->list[i]);
    }
    mem_free(names->list);
    *names = (struct names){0};
}

int64_t text_characters(const char *s, size_t n) {
    int64_t characters = 0;
    for (size_t i = 0; i < n; i++) {
        characters += ((unsigned char)s[i] & 0xc0) != 0x80; /* no continuation byte */
    }
    return characters;
}

bool text_starts(const char *s, const char *prefix) {
    return strncmp(s, prefix, strlen(prefix)) == 0;
}

bool text_ends(const char *s, const char *suffix) {
    size_t n = strlen(s);
    size_t m = strlen(suffix);
    return n >= m && strcmp(s + n - m, suffix) == 0;
}
