/* What options.c and options_when.c share. */
#ifndef COLLIMATE_UTIL_OPTIONS_INTERNAL_H
#define COLLIMATE_UTIL_OPTIONS_INTERNAL_H

#include "util/options.h"

/* The row of a key of n bytes, -1: none. */
int options_find(const struct options *o, const char *key, size_t n);
bool options_is_default(const struct options *o, int row);
/* Is `word` one of the words of a list separated by `separator`? */
bool options_listed(const char *list, size_t list_len, char separator, const char *word, size_t n);
/* Does the command have this name, or take the keys of one that has? */
bool options_is_command(const struct options *o, const char *name, size_t n);

/* Local. Appends what a key's first condition that does not hold asks for, in words; nothing where all hold.
 */
enum status options_lacks(const struct options *o, int row, struct text *out);
/* Local. Appends all of a key's conditions in words; those of other commands only where o->command is NULL.
 */
enum status options_print_when(const struct options *o, int row, struct text *out);

#endif
