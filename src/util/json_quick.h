/* JSON of the common kind, read several times as fast as Jansson reads it. */
#ifndef COLLIMATE_UTIL_JSON_QUICK_H
#define COLLIMATE_UTIL_JSON_QUICK_H

#include <stddef.h>

#include <jansson.h>

#include "util/status.h"

/* Local. One value of n bytes, the same that json_loadb gives with JSON_ALLOW_NUL and JSON_DECODE_ANY; the
 * caller calls json_decref(*out). *out NULL: the text is wrong, or uncommon (integers of more than 18 digits,
 * deep nesting); Jansson has to say. Fails: ERR_SYSTEM (memory), with *out NULL. */
enum status json_quick(const char *data, size_t n, json_t **out);

#endif
