/* Writing. All names and shapes are known before the first value, so each shard's header is written at once
 * and the values follow as one stream; files appear under their names only when all of them are complete. */
#include "io/safetensors.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "io/file.h"
#include "io/half.h"
#include "io/output.h"
#include "util/mem.h"
#include "util/text.h"

static const int64_t default_shard_bytes = 5000000000; /* transformers' own default */
enum { PIECE = 1 << 14, PATH_BYTES = 4096 };

struct declared {
    char *name;
    int n_dims;
    int64_t shape[4];
    int64_t elements;
    int shard;
};

struct safetensors_writer {
    char *folder;
    const char *made_by; /* NULL: it does not say; borrowed */
    const char *stem;    /* of the files' names; borrowed */
    enum stored_type type;
    int64_t shard_bytes;
    struct declared *tensors;
    int n_tensors;
    int64_t capacity;
    int n_shards;    /* 0 before the first value */
    int open_shard;  /* the shard that descriptor belongs to; shards below it are complete */
    int descriptor;  /* -1: none */
    int at;          /* tensor being written */
    int64_t written; /* elements of it so far */
    enum status st;  /* first failure; nothing is renamed after one */
    struct message message;
};

static int type_bytes(enum stored_type type) {
    return type == STORED_F64 ? 8 : type == STORED_F32 ? 4 : 2;
}

static const char *type_name(enum stored_type type) {
    static const char *const names[] = {"F32", "BF16", "F16", "F64"};
    return names[type];
}

static enum status remember(struct safetensors_writer *w, enum status st) {
    if (st != OK && w->st == OK) {
        w->st = st;
        w->message = *status_message();
    }
    return st;
}

enum status safetensors_create(const char *folder, enum stored_type type, int64_t shard_bytes,
                               struct safetensors_writer **out) {
    if (type == STORED_OTHER) {
        return fail(ERR_INTERNAL, "%s: tensors can be written as F32, BF16, F16 or F64", folder);
    }
    TRY(folder_make(folder));
    struct safetensors_writer *w;
    TRY(NEW_ARRAY(w, 1));
    w->folder = mem_strdup(folder);
    if (!w->folder) {
        mem_free(w);
        return ERR_SYSTEM;
    }
    w->type = type;
    w->stem = "model";
    w->shard_bytes = shard_bytes > 0 ? shard_bytes : default_shard_bytes;
    w->descriptor = -1;
    *out = w;
    return OK;
}

void safetensors_name(struct safetensors_writer *w, const char *stem) {
    w->stem = stem;
}

void safetensors_made_by(struct safetensors_writer *w, const char *made_by) {
    w->made_by = made_by;
}

enum status safetensors_declare(struct safetensors_writer *w, const char *name, int n_dims,
                                const int64_t *shape) {
    if (w->n_shards > 0 || n_dims < 0 || n_dims > COUNT_OF(w->tensors->shape)) {
        return remember(w, fail(ERR_INTERNAL, "%s: tensor \"%.80s\" is declared late or has %d dimensions",
                                w->folder, name, n_dims));
    }
    struct declared d = {.n_dims = n_dims, .elements = 1};
    for (int i = 0; i < n_dims; i++) {
        d.shape[i] = shape[i];
        TRY(remember(w, size_mul(d.elements, shape[i], name, &d.elements)));
    }
    int64_t bytes;
    TRY(remember(w, size_mul(d.elements, type_bytes(w->type), name, &bytes)));
    TRY(remember(w, GROW_ARRAY(w->tensors, w->capacity, w->n_tensors + 1)));
    d.name = mem_strdup(name);
    TRY(remember(w, mem_ok(d.name)));
    w->tensors[w->n_tensors++] = d;
    return OK;
}

/* Shards in declared order: a new one begins where the next tensor would not fit. */
static void deal_shards(struct safetensors_writer *w) {
    int64_t used = 0;
    int shard = 0;
    for (int i = 0; i < w->n_tensors; i++) {
        int64_t bytes = w->tensors[i].elements * type_bytes(w->type);
        if (used > 0 && bytes > w->shard_bytes - used) {
            shard++;
            used = 0;
        }
        w->tensors[i].shard = shard;
        used += bytes;
    }
    w->n_shards = shard + 1;
}

static void shard_name(const struct safetensors_writer *w, int shard, char *out, size_t size) {
    if (w->n_shards == 1) {
        snprintf(out, size, "%s.safetensors", w->stem);
    } else {
        snprintf(out, size, "%s-%05d-of-%05d.safetensors", w->stem, shard + 1, w->n_shards);
    }
}

static enum status shard_path(const struct safetensors_writer *w, int shard, char *out) {
    char name[64];
    shard_name(w, shard, name, sizeof name);
    int n = snprintf(out, PATH_BYTES, "%s/%s", w->folder, name);
    return n < PATH_BYTES ? OK : fail(ERR_WRITE, "%s: the path is too long", w->folder);
}

/* Where it is written. */
static enum status shard_temporary(const struct safetensors_writer *w, int shard, char *out) {
    struct text temporary = {0};
    TRY(shard_path(w, shard, out));
    enum status st = file_temporary(out, NULL, &temporary);
    if (st == OK && temporary.len >= PATH_BYTES) {
        st = fail(ERR_WRITE, "%s: the path is too long", w->folder);
    }
    if (st == OK) {
        snprintf(out, PATH_BYTES, "%s", temporary.data);
    }
    text_free(&temporary);
    return st;
}

static enum status put(struct safetensors_writer *w, const void *data, size_t n) {
    return file_put(w->descriptor, -1, data, n) == 0
               ? OK
               : fail(ERR_WRITE, "%s: cannot write the model: %s", w->folder, strerror(errno));
}

static enum status header_text(const struct safetensors_writer *w, int shard, struct text *out) {
    const char *by = w->made_by;
    TRY(text_printf(out, "{\"__metadata__\":{\"format\":\"pt\"%s%s%s}", by ? ",\"made_by\":\"" : "",
                    by ? by : "", by ? "\"" : ""));
    int64_t at = 0;
    for (int i = 0; i < w->n_tensors; i++) {
        const struct declared *d = &w->tensors[i];
        if (d->shard != shard) {
            continue;
        }
        TRY(text_puts(out, ","));
        TRY(text_json(out, d->name, strlen(d->name)));
        TRY(text_printf(out, ":{\"dtype\":\"%s\",\"shape\":[", type_name(w->type)));
        for (int j = 0; j < d->n_dims; j++) {
            TRY(text_printf(out, "%s%lld", j > 0 ? "," : "", (long long)d->shape[j]));
        }
        int64_t end = at + d->elements * type_bytes(w->type);
        TRY(text_printf(out, "],\"data_offsets\":[%lld,%lld]}", (long long)at, (long long)end));
        at = end;
    }
    TRY(text_puts(out, "}"));
    while (out->len % 8 != 0) { /* values aligned to 8 bytes, as the format asks of writers */
        TRY(text_puts(out, " "));
    }
    return OK;
}

static enum status write_header(struct safetensors_writer *w, int shard) {
    struct text header = {0};
    enum status st = header_text(w, shard, &header);
    unsigned char prefix[8];
    for (int i = 0; i < 8; i++) {
        prefix[i] = (unsigned char)((uint64_t)header.len >> (8 * i));
    }
    if (st == OK) {
        st = put(w, prefix, sizeof prefix);
    }
    if (st == OK) {
        st = put(w, header.data, header.len);
    }
    text_free(&header);
    return st;
}

static enum status finish_shard(struct safetensors_writer *w) {
    int descriptor = w->descriptor;
    w->descriptor = -1;
    enum status st = OK;
    if (file_sync(descriptor) != 0) {
        st = fail(ERR_WRITE, "%s: cannot write the model: %s", w->folder, strerror(errno));
    }
    if (close(descriptor) != 0 && st == OK) {
        st = fail(ERR_WRITE, "%s: cannot write the model: %s", w->folder, strerror(errno));
    }
    return st;
}

static enum status begin_shard(struct safetensors_writer *w, int shard) {
    char path[PATH_BYTES];
    TRY(shard_temporary(w, shard, path));
    w->descriptor = file_create(path);
    if (w->descriptor < 0) {
        return fail(ERR_WRITE, "%s: cannot write the model: %s", w->folder, strerror(errno));
    }
    w->open_shard = shard;
    return write_header(w, shard);
}

/* Passes over complete tensors and puts the shard of the current one in place. */
static enum status settle(struct safetensors_writer *w) {
    if (w->n_shards == 0) {
        deal_shards(w);
        TRY(begin_shard(w, 0));
    }
    while (w->at < w->n_tensors && w->written == w->tensors[w->at].elements) {
        w->at++;
        w->written = 0;
        if (w->at < w->n_tensors && w->tensors[w->at].shard != w->open_shard) {
            TRY(finish_shard(w));
            TRY(begin_shard(w, w->tensors[w->at].shard));
        }
    }
    return OK;
}

static enum status put_values(struct safetensors_writer *w, const float *data, int64_t n) {
    _Alignas(64) unsigned char buffer[PIECE * sizeof(double)];
    uint16_t *halves = (uint16_t *)buffer;
    double *doubles = (double *)buffer;
    if (w->type == STORED_F32) {
        return put(w, data, (size_t)n * sizeof *data);
    }
    for (int64_t done = 0; done < n;) {
        int64_t m = n - done < PIECE ? n - done : PIECE;
        for (int64_t i = 0; i < m; i++) {
            float v = data[done + i];
            if (w->type == STORED_F64) {
                doubles[i] = (double)v;
            } else {
                halves[i] = w->type == STORED_BF16 ? half_to_bf16(v) : half_to_fp16(v);
            }
        }
        TRY(put(w, buffer, (size_t)m * (size_t)type_bytes(w->type)));
        done += m;
    }
    return OK;
}

enum status safetensors_write(struct safetensors_writer *w, const float *data, int64_t count) {
    if (w->st != OK) {
        status_set(&w->message);
        return w->st;
    }
    while (count > 0) {
        TRY(remember(w, settle(w)));
        if (w->at == w->n_tensors) {
            return remember(w, fail(ERR_INTERNAL, "%s: more values than were declared", w->folder));
        }
        int64_t room = w->tensors[w->at].elements - w->written;
        int64_t n = count < room ? count : room;
        TRY(remember(w, put_values(w, data, n)));
        w->written += n;
        data += n;
        count -= n;
    }
    return OK;
}

static enum status write_index(const struct safetensors_writer *w) {
    struct text index = {0};
    struct text path = {0};
    int64_t total = 0;
    for (int i = 0; i < w->n_tensors; i++) {
        total += w->tensors[i].elements * type_bytes(w->type);
    }
    enum status st;
    const char *by = w->made_by;
    TRY_TO(done, text_printf(&index, "{\n  \"metadata\": {\"total_size\": %lld%s%s%s},\n  \"weight_map\": {",
                             (long long)total, by ? ", \"made_by\": \"" : "", by ? by : "", by ? "\"" : ""));
    for (int i = 0; i < w->n_tensors; i++) {
        char name[64];
        shard_name(w, w->tensors[i].shard, name, sizeof name);
        TRY_TO(done, text_puts(&index, i > 0 ? ",\n    " : "\n    "));
        TRY_TO(done, text_json(&index, w->tensors[i].name, strlen(w->tensors[i].name)));
        TRY_TO(done, text_printf(&index, ": \"%s\"", name));
    }
    TRY_TO(done, text_puts(&index, "\n  }\n}\n"));
    TRY_TO(done, text_printf(&path, "%s/%s.safetensors.index.json", w->folder, w->stem));
    st = file_write(path.data, index.data, index.len);
done:
    text_free(&index);
    text_free(&path);
    return st;
}

/* Readers prefer a single file to an index: the one that does not belong to this model goes. */
static enum status remove_stale(const struct safetensors_writer *w) {
    char path[PATH_BYTES];
    const char *name = w->n_shards > 1 ? ".safetensors" : ".safetensors.index.json";
    int n = snprintf(path, sizeof path, "%s/%s%s", w->folder, w->stem, name);
    if (n >= PATH_BYTES || (unlink(path) != 0 && errno != ENOENT)) {
        return fail(ERR_WRITE, "%s/%s%s: cannot remove the older model's file", w->folder, w->stem, name);
    }
    return OK;
}

static enum status publish(struct safetensors_writer *w) {
    TRY(settle(w));
    if (w->at < w->n_tensors) {
        return fail(ERR_INTERNAL, "%s: tensor \"%.80s\" has only %lld of its values", w->folder,
                    w->tensors[w->at].name, (long long)w->written);
    }
    TRY(finish_shard(w));
    for (int i = 0; i < w->n_shards; i++) {
        char from[PATH_BYTES];
        char to[PATH_BYTES];
        TRY(shard_temporary(w, i, from));
        TRY(shard_path(w, i, to));
        TRY(output_put(from, to));
    }
    TRY(w->n_shards > 1 ? write_index(w) : OK);
    TRY(remove_stale(w));
    char path[PATH_BYTES];
    TRY(shard_path(w, 0, path));
    return file_sync_folder(path);
}

enum status safetensors_finish(struct safetensors_writer *w) {
    if (w->st == OK) {
        remember(w, publish(w));
    }
    enum status st = w->st;
    struct message message = w->message;
    safetensors_abandon(w);
    if (st != OK) {
        status_set(&message);
    }
    return st;
}

void safetensors_abandon(struct safetensors_writer *w) {
    if (!w) {
        return;
    }
    if (w->descriptor >= 0) {
        close(w->descriptor);
    }
    for (int i = 0; i < w->n_shards; i++) {
        char path[PATH_BYTES];
        if (shard_temporary(w, i, path) == OK) {
            unlink(path); /* gone already where it was renamed */
        }
    }
    for (int i = 0; i < w->n_tensors; i++) {
        mem_free(w->tensors[i].name);
    }
    mem_free(w->tensors);
    mem_free(w->folder);
    mem_free(w);
}
