/* Typed reading of JSON objects (Jansson) with messages that name file and key. */
#ifndef COLLIMATE_UTIL_JSON_H
#define COLLIMATE_UTIL_JSON_H

#include <stddef.h>
#include <stdint.h>

#include <jansson.h>

#include "util/status.h"

/* Parses one JSON value of n bytes; `where` ("pairs.jsonl, line 7") begins the message. Duplicate keys: the
 * last wins, as in Python; integers beyond 64 bits become reals. The caller calls json_decref(*out). Fails:
 * ERR_DATA with line and column. */
enum status json_parse(const char *data, size_t n, const char *where, json_t **out);
/* The same for a record of data, where NaN, which Python writes, is null. */
enum status json_parse_record(const char *data, size_t n, const char *where, json_t **out);
/* Reads and parses a whole file. Fails: ERR_INPUT if it cannot be read, ERR_DATA. */
enum status json_load(const char *path, json_t **out);

/* Getters: a missing key (or null) leaves *out as it was; another type or range is ERR_DATA. */
enum status json_take_int(const json_t *object, const char *key, const char *where, int64_t *out);
enum status json_take_number(const json_t *object, const char *key, const char *where, double *out);
enum status json_take_bool(const json_t *object, const char *key, const char *where, bool *out);
/* Borrowed from the object. */
enum status json_take_string(const json_t *object, const char *key, const char *where, const char **out);

/* Local. "2.14": the version of Jansson that runs. */
const char *json_library(void);

#endif
