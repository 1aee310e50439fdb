#include "util/json.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "util/fault.h"
#include "util/foreign.h"
#include "util/json_quick.h"
#include "util/mem.h"
#include "util/regular.h"

/* Integers above 64 bits become reals: Hugging Face writes "no limit" as 10^30, which Jansson refuses. Gives
 * a copy of data with e0 after integers of 19 digits and more. */
static enum status widen_integers(const char *data, size_t n, char **out, size_t *out_n) {
    enum { DIGITS = 19 };
    char *copy;
    TRY(NEW_ARRAY(copy, (int64_t)n + (int64_t)n / 8 + 16));
    size_t used = 0;
    size_t digits = 0; /* in a row */
    bool in_string = false;
    bool whole = true; /* no point or exponent before the digits */
    for (size_t i = 0; i < n; i++) {
        char c = data[i];
        bool digit = !in_string && c >= '0' && c <= '9';
        bool fraction = c == '.' || c == 'e' || c == 'E';
        if (!digit && digits >= DIGITS && whole && !fraction) {
            copy[used++] = 'e';
            copy[used++] = '0';
        }
        whole = digit || c == '-' || c == '+' ? whole : !fraction;
        digits = digit ? digits + 1 : 0;
        if (in_string && c == '\\' && i + 1 < n) {
            copy[used++] = c;
            c = data[++i];
        } else if (c == '"') {
            in_string = !in_string;
        }
        copy[used++] = c;
    }
    *out = copy;
    *out_n = used;
    return OK;
}

/* What json_quick() does not take. */
static enum status parse_slowly(const char *data, size_t n, const char *where, json_t **out) {
    json_error_t error;
    json_t *value = json_loadb(data, n, JSON_ALLOW_NUL | JSON_DECODE_ANY, &error);
    if (!value && json_error_code(&error) == json_error_numeric_overflow) {
        char *widened;
        size_t widened_n;
        TRY(widen_integers(data, n, &widened, &widened_n));
        value = json_loadb(widened, widened_n, JSON_ALLOW_NUL | JSON_DECODE_ANY, &error);
        mem_free(widened);
    }
    if (!value) {
        return fail(ERR_DATA, "%s: not valid JSON: %s (at its line %d, column %d)", where, error.text,
                    error.line, error.column);
    }
    *out = value;
    return OK;
}

enum status json_parse(const char *data, size_t n, const char *where, json_t **out) {
    TRY(json_quick(data, n, out));
    return *out ? OK : parse_slowly(data, n, where, out);
}

static enum status read_all(const char *path, char **data, size_t *n) {
    int descriptor;
    TRY(regular_open(path, &descriptor, NULL));
    if (foreign_refuse(descriptor, path) != OK) {
        close(descriptor);
        return ERR_DATA;
    }
    FILE *file = fault_hits(FAULT_OPEN) ? NULL : fdopen(descriptor, "rb");
    if (!file) {
        close(descriptor);
        return fail(ERR_SYSTEM, "%s: %s", path, strerror(errno));
    }
    enum status st = OK;
    char *bytes = NULL;
    int64_t capacity = 0;
    size_t used = 0;
    for (;;) {
        TRY_TO(done, GROW_ARRAY(bytes, capacity, (int64_t)used + 65536));
        size_t got = fread(bytes + used, 1, (size_t)capacity - used, file);
        used += got;
        if (got == 0) {
            break;
        }
    }
    if (ferror(file) || fault_hits(FAULT_READ)) {
        st = fail(ERR_INPUT, "%s: %s", path, strerror(errno));
        goto done;
    }
    *data = bytes;
    *n = used;
    bytes = NULL;
done:
    mem_free(bytes);
    fclose(file);
    return st;
}

/* Python's json.dumps writes NaN, which is no JSON. Gives a copy of data with null in its place. */
static enum status replace_nans(const char *data, size_t n, char **out, size_t *out_n) {
    char *copy;
    TRY(NEW_ARRAY(copy, (int64_t)n + (int64_t)n / 3 + 1));
    size_t used = 0;
    bool in_string = false;
    for (size_t i = 0; i < n; i++) {
        char c = data[i];
        if (!in_string && c == 'N' && n - i >= 3 && memcmp(data + i, "NaN", 3) == 0) {
            for (const char *null = "null"; *null; null++) {
                copy[used++] = *null;
            }
            i += 2;
            continue;
        }
        if (in_string && c == '\\' && i + 1 < n) {
            copy[used++] = c;
            c = data[++i];
        } else if (c == '"') {
            in_string = !in_string;
        }
        copy[used++] = c;
    }
    *out = copy;
    *out_n = used;
    return OK;
}

enum status json_parse_record(const char *data, size_t n, const char *where, json_t **out) {
    char *copy;
    size_t copy_n;
    TRY(json_quick(data, n, out));
    if (*out) {
        return OK;
    }
    if (!memmem(data, n, "NaN", 3)) {
        return parse_slowly(data, n, where, out);
    }
    TRY(replace_nans(data, n, &copy, &copy_n));
    enum status st = parse_slowly(copy, copy_n, where, out);
    mem_free(copy);
    return st;
}

enum status json_load(const char *path, json_t **out) {
    char *data;
    size_t n;
    TRY(read_all(path, &data, &n));
    enum status st = json_parse(data, n, path, out);
    mem_free(data);
    return st;
}

static json_t *present(const json_t *object, const char *key) {
    json_t *value = json_object_get(object, key);
    return json_is_null(value) ? NULL : value;
}

enum status json_take_int(const json_t *object, const char *key, const char *where, int64_t *out) {
    json_t *value = present(object, key);
    if (value && !json_is_integer(value)) {
        return fail(ERR_DATA, "%s: \"%s\" must be an integer", where, key);
    }
    if (value) {
        *out = json_integer_value(value);
    }
    return OK;
}

enum status json_take_number(const json_t *object, const char *key, const char *where, double *out) {
    json_t *value = present(object, key);
    if (value && !json_is_number(value)) {
        return fail(ERR_DATA, "%s: \"%s\" must be a number", where, key);
    }
    if (value) {
        *out = json_number_value(value);
    }
    return OK;
}

enum status json_take_bool(const json_t *object, const char *key, const char *where, bool *out) {
    json_t *value = present(object, key);
    if (value && !json_is_boolean(value)) {
        return fail(ERR_DATA, "%s: \"%s\" must be true or false", where, key);
    }
    if (value) {
        *out = json_is_true(value);
    }
    return OK;
}

enum status json_take_string(const json_t *object, const char *key, const char *where, const char **out) {
    json_t *value = present(object, key);
    if (value && !json_is_string(value)) {
        return fail(ERR_DATA, "%s: \"%s\" must be a string", where, key);
    }
    if (value) {
        *out = json_string_value(value);
    }
    return OK;
}

const char *json_library(void) {
    return jansson_version_str();
}
