/* A growing byte string, always NUL-terminated. Zero-initialised is empty. */
#ifndef COLLIMATE_UTIL_TEXT_H
#define COLLIMATE_UTIL_TEXT_H

#include <stddef.h>
#include <stdint.h>

#include "util/status.h"

struct text {
    char *data;
    size_t len;
    int64_t capacity;
};

enum status text_append(struct text *t, const char *bytes, size_t n);
enum status text_puts(struct text *t, const char *s);
enum status text_printf(struct text *t, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* Appends s as a JSON string with its quotes, which is a double-quoted YAML scalar too; invalid UTF-8 becomes
 * U+FFFD. */
enum status text_json(struct text *t, const char *s, size_t n);
bool text_is_utf8(const char *s);
/* Appends v in the shortest form that reads back as the same double; null when not finite. */
enum status text_json_number(struct text *t, double v);
void text_clear(struct text *t);
void text_free(struct text *t);

/* Edit distance of two short names; used to name the nearest known key. */
int text_distance(const char *a, const char *b);
/* Names of a list with commas between them. Of files: the whole is one name where a file is called so, and
 * empty ones are left out. */
struct names {
    char **list;
    int n;
    int64_t capacity;
};
/* Append; freed in any case. names_split: of files. */
enum status names_add(struct names *names, const char *name, size_t n);
enum status names_split(struct names *names, const char *list);
void names_free(struct names *names);
/* Code points of UTF-8. */
int64_t text_characters(const char *s, size_t n);
bool text_starts(const char *s, const char *prefix);
bool text_ends(const char *s, const char *suffix);

#endif
