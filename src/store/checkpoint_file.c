/* A checkpoint file: /state, the JSON text; /arrays/NAME, contiguous with hashes of their blocks beside
 * them; attributes hash.NAME (of the contents) and bytes.NAME (of an element); io/FORMATS.md. h5_finish
 * compares what lies on the disk with what was meant.
 */
#include <stdio.h>
#include <string.h>

#include "io/h5.h"
#include "store/checkpoint_file_internal.h"
#include "util/mem.h"

#define CHECKPOINT_CONTENT "checkpoint"
enum { CHECKPOINT_VERSION = 1, NAME_BYTES = 64 };

static const struct array_spec state_spec = {.name = "/state", .type = ARRAY_U8, .rows = -1, .checked = true};

/* spec.name points into name. */
static enum status array_spec_of(const char *path, const struct checkpoint_array *a, char name[NAME_BYTES],
                                 struct array_spec *spec) {
    int n = snprintf(name, NAME_BYTES, "/arrays/%s", a->name);
    if (n >= NAME_BYTES || strchr(a->name, '/') || (a->element_bytes != 4 && a->element_bytes != 8)) {
        return fail(ERR_INTERNAL, "%s: \"%s\" cannot be an array of a checkpoint", path, a->name);
    }
    *spec = (struct array_spec){.name = name,
                                .type = a->element_bytes == 4 ? ARRAY_F32 : ARRAY_F64,
                                .rows = a->elements,
                                .checked = true};
    return OK;
}

/* Writing. */

/* Collective. */
static enum status write_state(struct comm *c, struct h5_writer *w, const char *json) {
    struct array_spec spec = state_spec;
    int64_t length = c->rank == 0 ? (int64_t)strlen(json) : 0;
    struct range part = {0, length};
    TRY(comm_broadcast(c, 0, &length, sizeof length));
    spec.rows = length;
    return h5_write_array(w, &spec, part, c->rank == 0 ? json : "", NULL);
}

/* Collective. */
static enum status write_one(struct comm *c, struct h5_writer *w, const char *path,
                             const struct checkpoint_array *a) {
    char name[NAME_BYTES], attribute[NAME_BYTES + 8];
    struct array_spec spec;
    uint64_t hash;
    TRY(comm_agree(c, array_spec_of(path, a, name, &spec)));
    const void *data = a->data ? a->data : "";
    TRY(a->shards ? h5_write_shares(w, &spec, a->shards, data, &hash)
                  : h5_write_array(w, &spec, a->part, data, &hash));
    snprintf(attribute, sizeof attribute, "hash.%s", a->name);
    TRY(h5_put_u64(w, attribute, hash));
    snprintf(attribute, sizeof attribute, "bytes.%s", a->name);
    return h5_put_i64(w, attribute, a->element_bytes);
}

enum status checkpoint_file_write(struct comm *c, const char *path, const char *state_json,
                                  const struct checkpoint_array *arrays, int n_arrays) {
    struct h5_writer *w;
    TRY(h5_create(c, path, CHECKPOINT_CONTENT, CHECKPOINT_VERSION, FILE_FINAL, &w));
    enum status st = write_state(c, w, state_json);
    for (int i = 0; i < n_arrays && st == OK; i++) {
        st = write_one(c, w, path, &arrays[i]);
    }
    return h5_finish(w, st);
}

/* Reading. */

/* Local. */
static enum status read_state(const char *path, char **json) {
    struct h5_file *f;
    struct h5_column *column;
    enum status st;
    TRY(h5_open(path, CHECKPOINT_CONTENT, CHECKPOINT_VERSION, &f));
    TRY_TO(done, h5_column_open(f, &state_spec, 0, &column));
    TRY_TO(done, NEW_ARRAY(*json, h5_rows(column) + 1));
    TRY_TO(done, h5_read(column, 0, h5_rows(column), *json));
    if (strlen(*json) != (size_t)h5_rows(column)) {
        st = fail(ERR_DATA, "%s: /state is no text", path);
    }
done:
    h5_close(f);
    return st;
}

enum status checkpoint_file_read_state(struct comm *c, const char *path, char **state_json) {
    char *json = NULL;
    int64_t size = 0;
    enum status st = c->rank == 0 ? read_state(path, &json) : OK;
    TRY_TO(done, comm_agree(c, st));
    size = json ? (int64_t)strlen(json) + 1 : 0;
    TRY_TO(done, comm_broadcast(c, 0, &size, sizeof size));
    if (c->rank != 0) {
        json = mem_calloc(size, 1);
    }
    TRY_TO(done, comm_agree(c, json ? OK : ERR_SYSTEM));
    TRY_TO(done, comm_broadcast(c, 0, json, size));
done:
    if (st != OK) {
        mem_free(json);
        return st;
    }
    *state_json = json;
    return OK;
}

enum status checkpoint_file_elements(const char *path, const char *name, int64_t *elements) {
    const struct checkpoint_array any = {.name = name, .elements = -1, .element_bytes = 4};
    struct h5_file *f;
    struct h5_column *column;
    struct array_spec spec;
    char full[NAME_BYTES];
    TRY(array_spec_of(path, &any, full, &spec));
    TRY(h5_open(path, CHECKPOINT_CONTENT, CHECKPOINT_VERSION, &f));
    enum status st = h5_column_open(f, &spec, 0, &column);
    if (st == OK) {
        *elements = h5_rows(column);
    }
    h5_close(f);
    return st;
}

/* Local. */
static enum status read_one(struct h5_column *column, const struct checkpoint_array *a) {
    if (!a->shards) {
        return h5_read(column, a->part.first, a->part.last - a->part.first, a->data);
    }
    char *to = a->data;
    for (int64_t unit = 0, units = shard_units(a->shards); unit < units; unit++) {
        struct range r = shard_range(a->shards, unit, a->shards->rank);
        TRY(h5_read(column, r.first, r.last - r.first, to));
        to += (r.last - r.first) * a->element_bytes;
    }
    return OK;
}

/* Local. */
static enum status read_parts(const char *path, const struct checkpoint_array *arrays, int n_arrays) {
    struct h5_file *f;
    enum status st = OK;
    TRY(h5_open(path, CHECKPOINT_CONTENT, CHECKPOINT_VERSION, &f));
    for (int i = 0; i < n_arrays; i++) {
        const struct checkpoint_array *a = &arrays[i];
        char name[NAME_BYTES];
        struct array_spec spec;
        struct h5_column *column;
        TRY_TO(done, array_spec_of(path, a, name, &spec));
        TRY_TO(done, h5_column_open(f, &spec, 0, &column));
        TRY_TO(done, read_one(column, a));
    }
done:
    h5_close(f);
    return st;
}

enum status checkpoint_file_read(struct comm *c, const char *path, const struct checkpoint_array *arrays,
                                 int n_arrays) {
    return comm_agree(c, read_parts(path, arrays, n_arrays));
}

/* Verifying. */

/* What the file says of its arrays, and the hash of this rank's share of each. */
struct inventory {
    int n;
    struct {
        char name[NAME_BYTES];
        uint64_t hash, own;
    } arrays[CHECKPOINT_ARRAYS];
};

/* Local. Reads this rank's share of one array. */
static enum status hash_share(const struct comm *c, struct h5_file *f, const char *name, uint64_t *own) {
    char full[NAME_BYTES + 16];
    int64_t bytes;
    struct h5_column *column;
    snprintf(full, sizeof full, "bytes.%.63s", name);
    TRY(h5_get_i64(f, full, &bytes));
    snprintf(full, sizeof full, "/arrays/%.63s", name);
    struct array_spec spec = {
        .name = full, .type = bytes == 4 ? ARRAY_F32 : ARRAY_F64, .rows = -1, .checked = true};
    TRY(h5_column_open(f, &spec, 0, &column));
    return h5_hash_share(column, c->rank, c->size, own);
}

/* Local. */
static enum status take_inventory(const struct comm *c, const char *path, struct inventory *out) {
    struct h5_file *f;
    char attribute[NAME_BYTES + 8];
    const char prefix[] = "hash.";
    enum status st = OK;
    TRY(h5_open(path, CHECKPOINT_CONTENT, CHECKPOINT_VERSION, &f));
    for (int64_t i = 0; h5_attribute_name(f, i, attribute, sizeof attribute); i++) {
        const char *name = attribute + sizeof prefix - 1;
        if (strncmp(attribute, prefix, sizeof prefix - 1) != 0) {
            continue;
        }
        if (out->n == CHECKPOINT_ARRAYS || strlen(name) >= NAME_BYTES - sizeof "/arrays/") {
            st = fail(ERR_DATA, "%s: more or longer names of arrays than the format has", path);
            goto done;
        }
        memcpy(out->arrays[out->n].name, name, strlen(name) + 1);
        TRY_TO(done, h5_get_u64(f, attribute, &out->arrays[out->n].hash));
        TRY_TO(done, hash_share(c, f, name, &out->arrays[out->n].own));
        out->n++;
    }
done:
    h5_close(f);
    return st;
}

enum status checkpoint_verify(struct comm *c, const char *path) {
    struct inventory found = {0};
    char *json = NULL;
    enum status st = take_inventory(c, path, &found);
    if (st == OK && c->rank == 0) {
        st = read_state(path, &json);
        mem_free(json);
    }
    TRY(comm_agree(c, st));
    TRY(comm_same(c, (uint64_t)found.n, path));
    for (int i = 0; i < found.n; i++) {
        uint64_t sum;
        TRY(h5_sum_hash(c, found.arrays[i].own, &sum));
        if (sum != found.arrays[i].hash) {
            return comm_agree(c, fail(ERR_DATA, "%s: %s is not what was written; the file is damaged", path,
                                      found.arrays[i].name));
        }
    }
    return OK;
}
