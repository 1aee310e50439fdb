/* Side-cars and checkpoints. */
#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "command/inspect/inspect.h"
#include "io/h5.h"
#include "store/checkpoint_file.h"
#include "util/hash.h"
#include "util/mem.h"

enum { READ_ROWS = 1 << 14, NAME_BYTES = 256 };

/* Integers that name contents are printed as hashes. */
static enum status put_attribute(struct h5_file *f, const char *name, struct text *out) {
    char *value;
    uint64_t number;
    if (h5_get_text(f, name, &value) == OK) {
        enum status st = text_printf(out, "%-14s %.2000s\n", name, value);
        mem_free(value);
        return st;
    }
    status_clear(); /* not a text: then a number */
    TRY(h5_get_u64(f, name, &number));
    char hash[17];
    hash_text(number, hash);
    return number > INT32_MAX ? text_printf(out, "%-14s %s\n", name, hash)
                              : text_printf(out, "%-14s %llu\n", name, (unsigned long long)number);
}

static enum status put_attributes(struct h5_file *f, struct text *out) {
    char name[NAME_BYTES];
    for (int64_t i = 0; h5_attribute_name(f, i, name, sizeof name); i++) {
        bool elsewhere =
            strcmp(name, "content") == 0 || text_starts(name, "bytes.") || text_starts(name, "hash.");
        TRY(elsewhere ? OK : put_attribute(f, name, out));
    }
    return OK;
}

/* Rows of a side-car that have been computed: count of at least 0, or done. */
static enum status put_done(struct h5_file *f, bool embeddings, struct text *out) {
    const struct array_spec spec = {
        .name = embeddings ? "/done" : "/count", .type = embeddings ? ARRAY_U8 : ARRAY_I32, .rows = -1};
    struct h5_column *column;
    TRY(h5_column_open(f, &spec, 0, &column));
    int64_t rows = h5_rows(column);
    int64_t done = 0;
    int32_t *counts;
    TRY(NEW_ARRAY(counts, READ_ROWS));
    const uint8_t *marks = (const uint8_t *)counts;
    enum status st = OK;
    for (int64_t at = 0; at < rows && st == OK; at += READ_ROWS) {
        int64_t n = rows - at < READ_ROWS ? rows - at : READ_ROWS;
        st = h5_read(column, at, n, counts);
        for (int64_t i = 0; i < n && st == OK; i++) {
            done += embeddings ? marks[i] != 0 : counts[i] >= 0;
        }
    }
    mem_free(counts);
    return st == OK
               ? text_printf(out, "responses      %lld, %lld computed\n", (long long)rows, (long long)done)
               : st;
}

static enum status put_width(struct h5_file *f, struct text *out) {
    const struct array_spec spec = {.name = "/values", .type = ARRAY_F32, .rows = -1, .width = -1};
    struct h5_column *column;
    TRY(h5_column_open(f, &spec, 0, &column));
    return text_printf(out, "width          %lld\n", (long long)h5_width(column));
}

/* Arrays of a checkpoint, which its hash.NAME attributes list. */
static enum status put_arrays(struct h5_file *f, struct text *out) {
    static const char prefix[] = "hash.";
    char attribute[NAME_BYTES];
    for (int64_t i = 0; h5_attribute_name(f, i, attribute, sizeof attribute); i++) {
        if (!text_starts(attribute, prefix)) {
            continue;
        }
        char key[NAME_BYTES + 16];
        const char *name = attribute + strlen(prefix);
        int64_t bytes;
        uint64_t hash;
        char hash_digits[17];
        TRY(h5_get_u64(f, attribute, &hash));
        hash_text(hash, hash_digits);
        snprintf(key, sizeof key, "bytes.%s", name);
        TRY(h5_get_i64(f, key, &bytes));
        snprintf(key, sizeof key, "/arrays/%s", name);
        const struct array_spec spec = {.name = key, .type = bytes == 8 ? ARRAY_F64 : ARRAY_F32, .rows = -1};
        struct h5_column *column;
        TRY(h5_column_open(f, &spec, 0, &column));
        TRY(text_printf(out, "array          %s, %lld elements of %lld bytes, hash %s\n", name,
                        (long long)h5_rows(column), (long long)bytes, hash_digits));
    }
    return OK;
}

/* Local. */
static enum status put_file(const char *path, const char *content, struct text *out) {
    struct h5_file *f;
    bool embeddings = strcmp(content, "embeddings") == 0;
    TRY(h5_open(path, content, INT_MAX, &f));
    enum status st = text_printf(out, "%s: %s\n", path, content);
    if (st == OK) {
        st = put_attributes(f, out);
    }
    if (st == OK && (embeddings || strcmp(content, "reference") == 0)) {
        st = put_done(f, embeddings, out);
    }
    if (st == OK && embeddings) {
        st = put_width(f, out);
    }
    if (st == OK && strcmp(content, "checkpoint") == 0) {
        st = put_arrays(f, out);
    }
    h5_close(f);
    return st;
}

enum status inspect_other(struct comm *c, const char *path, const char *content, struct text *out) {
    TRY(comm_agree(c, put_file(path, content, out)));
    if (strcmp(content, "checkpoint") != 0) {
        return OK;
    }
    char *state;
    TRY(checkpoint_file_read_state(c, path, &state));
    enum status st = text_printf(out, "state          %s\n", state);
    mem_free(state);
    return st;
}
