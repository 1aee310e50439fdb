/* Reading. Every number of a header is checked before it is used: the header's length against the file, each
 * shape against overflow, each range against its shape, and all ranges together against the file: they must
 * tile its data without gap or overlap, as the format's own library demands. */
#include "io/safetensors.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "io/file.h"
#include "io/half.h"
#include "util/foreign.h"
#include "util/json.h"
#include "util/mem.h"
#include "util/regular.h"
#include "util/text.h"

/* 100 MB is the format's own limit on a header. */
enum { MAX_HEADER = 100000000, MAX_SHARDS = 100000, CONVERT_BYTES = 1 << 16 };

struct tensor {
    struct stored_tensor facts; /* first, so that a stored_tensor is a tensor */
    int shard;
    int element_bytes;
    int64_t begin, end; /* bytes in the file */
};

struct shard {
    char *path;
    int descriptor;
    int64_t size;
};

struct safetensors {
    struct shard *shards;
    int n_shards;
    int64_t shards_capacity;
    struct tensor *tensors; /* by shard, then by offset */
    int n_tensors;
    int64_t tensors_capacity;
    int *by_name; /* tensors in order of their names */
};

static const struct dtype {
    const char *name;
    enum stored_type type;
    int bytes;
} dtypes[] = {
    {"F32", STORED_F32, 4},    {"BF16", STORED_BF16, 2},     {"F16", STORED_F16, 2},
    {"F64", STORED_F64, 8},    {"I64", STORED_OTHER, 8},     {"U64", STORED_OTHER, 8},
    {"I32", STORED_OTHER, 4},  {"U32", STORED_OTHER, 4},     {"I16", STORED_OTHER, 2},
    {"U16", STORED_OTHER, 2},  {"I8", STORED_OTHER, 1},      {"U8", STORED_OTHER, 1},
    {"BOOL", STORED_OTHER, 1}, {"F8_E4M3", STORED_OTHER, 1}, {"F8_E5M2", STORED_OTHER, 1},
};

static enum status take_dtype(const json_t *entry, const char *where, struct tensor *t) {
    const char *name = NULL;
    TRY(json_take_string(entry, "dtype", where, &name));
    for (int i = 0; name && i < COUNT_OF(dtypes); i++) {
        if (strcmp(dtypes[i].name, name) == 0) {
            t->facts.type = dtypes[i].type;
            t->element_bytes = dtypes[i].bytes;
            return OK;
        }
    }
    return fail(ERR_DATA, "%s: unknown dtype \"%.40s\"", where, name ? name : "(none)");
}

static enum status take_shape(const json_t *entry, const char *where, struct tensor *t) {
    const json_t *shape = json_object_get(entry, "shape");
    size_t n = json_array_size(shape);
    if (!json_is_array(shape) || n > (size_t)COUNT_OF(t->facts.shape)) {
        return fail(ERR_DATA, "%s: \"shape\" must be a list of at most %d sizes", where,
                    COUNT_OF(t->facts.shape));
    }
    t->facts.n_dims = (int)n;
    t->facts.elements = 1;
    for (size_t i = 0; i < n; i++) {
        const json_t *size = json_array_get(shape, i);
        if (!json_is_integer(size) || json_integer_value(size) < 0) {
            return fail(ERR_DATA, "%s: sizes in \"shape\" must be integers from 0", where);
        }
        t->facts.shape[i] = json_integer_value(size);
        TRY(size_mul(t->facts.elements, t->facts.shape[i], where, &t->facts.elements));
    }
    return OK;
}

static enum status take_range(const json_t *entry, const char *where, int64_t data_bytes, struct tensor *t) {
    const json_t *range = json_object_get(entry, "data_offsets");
    const json_t *begin = json_array_get(range, 0);
    const json_t *end = json_array_get(range, 1);
    if (json_array_size(range) != 2 || !json_is_integer(begin) || !json_is_integer(end)) {
        return fail(ERR_DATA, "%s: \"data_offsets\" must be two integers", where);
    }
    t->begin = json_integer_value(begin);
    t->end = json_integer_value(end);
    if (t->begin < 0 || t->end < t->begin || t->end > data_bytes) {
        return fail(ERR_DATA,
                    "%s: data_offsets [%lld, %lld] are outside the file's %lld bytes of data; truncated?",
                    where, (long long)t->begin, (long long)t->end, (long long)data_bytes);
    }
    int64_t needed;
    TRY(size_mul(t->facts.elements, t->element_bytes, where, &needed));
    if (t->end - t->begin != needed) {
        return fail(ERR_DATA, "%s: data_offsets hold %lld bytes, the shape needs %lld", where,
                    (long long)(t->end - t->begin), (long long)needed);
    }
    return OK;
}

static int by_begin(const void *a, const void *b) {
    const struct tensor *x = a;
    const struct tensor *y = b;
    int order = (x->begin > y->begin) - (x->begin < y->begin);
    return order != 0 ? order : (x->end > y->end) - (x->end < y->end);
}

/* The tensors from `first` on belong to one file: sorts them and checks that they tile its data. */
static enum status check_tiling(struct safetensors *s, int first, const char *path, int64_t data_bytes) {
    if (s->n_tensors > first) { /* none: there may be no array yet */
        qsort(s->tensors + first, (size_t)(s->n_tensors - first), sizeof *s->tensors, by_begin);
    }
    int64_t at = 0;
    for (int i = first; i < s->n_tensors; i++) {
        const struct tensor *t = &s->tensors[i];
        if (t->begin != at) {
            return fail(ERR_DATA, "%s: tensor \"%.80s\" %s the one before it", path, t->facts.name,
                        t->begin < at ? "overlaps" : "leaves a gap after");
        }
        at = t->end;
    }
    if (at != data_bytes) {
        return fail(ERR_DATA, "%s: %lld bytes of data, but the header describes %lld", path,
                    (long long)data_bytes, (long long)at);
    }
    return OK;
}

static enum status take_tensor(struct safetensors *s, int shard, const char *name, const json_t *entry,
                               int64_t data_begin) {
    char where[256];
    snprintf(where, sizeof where, "%s: tensor \"%.80s\"", s->shards[shard].path, name);
    if (!json_is_object(entry)) {
        return fail(ERR_DATA, "%s: expected an object", where);
    }
    struct tensor t = {.shard = shard};
    TRY(take_dtype(entry, where, &t));
    TRY(take_shape(entry, where, &t));
    TRY(take_range(entry, where, s->shards[shard].size - data_begin, &t));
    TRY(GROW_ARRAY(s->tensors, s->tensors_capacity, s->n_tensors + 1));
    t.facts.name = mem_strdup(name);
    TRY(mem_ok(t.facts.name));
    s->tensors[s->n_tensors++] = t;
    return OK;
}

static enum status read_header(struct safetensors *s, int shard, json_t **header, int64_t *data_begin) {
    const struct shard *f = &s->shards[shard];
    unsigned char prefix[8] = {0};
    if (f->size < (int64_t)sizeof prefix) {
        return fail(ERR_DATA, "%s: %lld bytes; a safetensors file has at least 8", f->path,
                    (long long)f->size);
    }
    TRY(file_read_at(f->descriptor, f->path, 0, prefix, sizeof prefix));
    uint64_t length = 0;
    for (int i = 0; i < 8; i++) {
        length |= (uint64_t)prefix[i] << (8 * i);
    }
    if (length > MAX_HEADER || (int64_t)length > f->size - 8) {
        return fail(ERR_DATA, "%s: a header of %llu bytes in a file of %lld; truncated, or not safetensors",
                    f->path, (unsigned long long)length, (long long)f->size);
    }
    char *text = mem_calloc((int64_t)length + 1, 1);
    TRY(mem_ok(text));
    enum status st = file_read_at(f->descriptor, f->path, sizeof prefix, text, (size_t)length);
    if (st == OK) {
        st = json_parse(text, (size_t)length, f->path, header);
    }
    mem_free(text);
    *data_begin = 8 + (int64_t)length;
    return st;
}

static enum status open_shard(struct safetensors *s, const char *path) {
    TRY(GROW_ARRAY(s->shards, s->shards_capacity, s->n_shards + 1));
    struct shard *f = &s->shards[s->n_shards];
    *f = (struct shard){.path = mem_strdup(path), .descriptor = -1};
    TRY(mem_ok(f->path));
    s->n_shards++;
    TRY(regular_open(path, &f->descriptor, &f->size));
    return foreign_refuse(f->descriptor, path);
}

static enum status read_shard(struct safetensors *s, const char *path) {
    TRY(open_shard(s, path));
    int shard = s->n_shards - 1;
    int first = s->n_tensors;
    json_t *header = NULL;
    int64_t data_begin = 0;
    TRY(read_header(s, shard, &header, &data_begin));
    enum status st = OK;
    if (!json_is_object(header)) {
        st = fail(ERR_DATA, "%s: the header is not a JSON object", path);
    }
    const char *name;
    json_t *entry;
    json_object_foreach(header, name, entry) {
        if (st == OK && strcmp(name, "__metadata__") != 0) {
            st = take_tensor(s, shard, name, entry, data_begin);
        }
    }
    json_decref(header);
    TRY(st);
    TRY(check_tiling(s, first, path, s->shards[shard].size - data_begin));
    for (int i = first; i < s->n_tensors; i++) {
        s->tensors[i].begin += data_begin;
        s->tensors[i].end += data_begin;
    }
    return OK;
}

/* A shard's name must stay inside the folder. */
static enum status check_shard_name(const char *index, const char *file) {
    if (*file == '\0' || *file == '.' || strchr(file, '/')) {
        return fail(ERR_DATA, "%s: shard \"%.80s\" is not a file name in this folder", index, file);
    }
    return OK;
}

static enum status read_shards(struct safetensors *s, const char *folder, const char *index, json_t *map) {
    struct text path = {0};
    json_t *seen = json_object(); /* file name -> shard number */
    enum status st = seen ? OK : fail(ERR_SYSTEM, "%s: out of memory", index);
    const char *tensor;
    json_t *value;
    json_object_foreach(map, tensor, value) {
        const char *file = json_string_value(value);
        if (st == OK && !file) {
            st = fail(ERR_DATA, "%s: tensor \"%.80s\": expected the name of a shard", index, tensor);
        }
        if (st != OK || json_object_get(seen, file)) {
            continue;
        }
        TRY_TO(done, check_shard_name(index, file));
        if (s->n_shards == MAX_SHARDS) {
            st = fail(ERR_DATA, "%s: more than %d shards", index, MAX_SHARDS);
            goto done;
        }
        text_clear(&path);
        TRY_TO(done, text_printf(&path, "%s/%s", folder, file));
        TRY_TO(done, read_shard(s, path.data));
        if (json_object_set_new(seen, file, json_true()) != 0) {
            st = fail(ERR_SYSTEM, "%s: out of memory", index);
        }
    }
done:
    json_decref(seen);
    text_free(&path);
    return st;
}

static enum status read_index(struct safetensors *s, const char *folder, const char *index) {
    json_t *root;
    TRY(json_load(index, &root));
    json_t *map = json_object_get(root, "weight_map");
    enum status st = json_is_object(map) ? OK : fail(ERR_DATA, "%s: no \"weight_map\" object", index);
    if (st == OK) {
        st = read_shards(s, folder, index, map);
    }
    if (st == OK && (size_t)s->n_tensors < json_object_size(map)) {
        st = fail(ERR_DATA, "%s: lists %zu tensors, but the shards hold %d", index, json_object_size(map),
                  s->n_tensors);
    }
    json_decref(root);
    return st;
}

/* qsort_r of glibc hands the context last. */
static int by_tensor_name(const void *a, const void *b, void *context) {
    const struct tensor *tensors = context;
    return strcmp(tensors[*(const int *)a].facts.name, tensors[*(const int *)b].facts.name);
}

static enum status sort_names(struct safetensors *s, const char *where) {
    TRY(NEW_ARRAY(s->by_name, s->n_tensors));
    for (int i = 0; i < s->n_tensors; i++) {
        s->by_name[i] = i;
    }
    qsort_r(s->by_name, (size_t)s->n_tensors, sizeof *s->by_name, by_tensor_name, s->tensors);
    for (int i = 1; i < s->n_tensors; i++) {
        const char *name = s->tensors[s->by_name[i]].facts.name;
        if (strcmp(s->tensors[s->by_name[i - 1]].facts.name, name) == 0) {
            return fail(ERR_DATA, "%s: tensor \"%.80s\" is in two shards", where, name);
        }
    }
    return OK;
}

static bool has_entry(const char *folder, const char *name) {
    struct text path = {0};
    bool found = text_printf(&path, "%s/%s", folder, name) == OK && access(path.data, F_OK) == 0;
    text_free(&path);
    return found;
}

bool safetensors_are_in(const char *folder) {
    return has_entry(folder, "model.safetensors") || has_entry(folder, "model.safetensors.index.json");
}

/* Weights in another form, by their names. */
static enum status refuse_folder(const char *folder) {
    static const struct {
        const char *name, *what;
    } others[] = {
        {"adapter_config.json",
         "a PEFT adapter, not a whole model: give it as adapter=FOLDER beside the model=FOLDER that it was "
         "made for, or merge the two (collimate merge; peft's merge_and_unload())"},
        {"pytorch_model.bin",
         "weights in pytorch_model.bin: load the folder in transformers and save it anew "
         "(save_pretrained() writes safetensors)"},
        {"pytorch_model.bin.index.json",
         "weights in pytorch_model-*.bin: load the folder in transformers and "
         "save it anew (save_pretrained() writes safetensors)"},
    };
    for (int i = 0; i < COUNT_OF(others); i++) {
        if (has_entry(folder, others[i].name)) {
            return fail(ERR_INPUT, "%s: holds %s", folder, others[i].what);
        }
    }
    return fail(ERR_INPUT, "%s: no model.safetensors and no model.safetensors.index.json", folder);
}

enum status safetensors_open(const char *folder, struct safetensors **out) {
    struct safetensors *s;
    TRY(NEW_ARRAY(s, 1));
    struct text path = {0};
    enum status st;
    TRY_TO(done, text_printf(&path, "%s/model.safetensors", folder));
    if (has_entry(folder, "model.safetensors")) {
        TRY_TO(done, read_shard(s, path.data));
    } else if (safetensors_are_in(folder)) {
        TRY_TO(done, text_puts(&path, ".index.json"));
        TRY_TO(done, read_index(s, folder, path.data));
    } else {
        st = refuse_folder(folder);
        goto done;
    }
    TRY_TO(done, sort_names(s, folder));
    *out = s;
    s = NULL;
done:
    safetensors_close(s);
    text_free(&path);
    return st;
}

enum status safetensors_open_file(const char *path, struct safetensors **out) {
    struct safetensors *s;
    TRY(NEW_ARRAY(s, 1));
    enum status st = read_shard(s, path);
    st = st == OK ? sort_names(s, path) : st;
    if (st != OK) {
        safetensors_close(s);
        return st;
    }
    *out = s;
    return OK;
}

void safetensors_close(struct safetensors *s) {
    if (!s) {
        return;
    }
    for (int i = 0; i < s->n_tensors; i++) {
        mem_free((void *)s->tensors[i].facts.name);
    }
    for (int i = 0; i < s->n_shards; i++) {
        if (s->shards[i].descriptor >= 0) {
            close(s->shards[i].descriptor);
        }
        mem_free(s->shards[i].path);
    }
    mem_free(s->by_name);
    mem_free(s->tensors);
    mem_free(s->shards);
    mem_free(s);
}

int safetensors_count(const struct safetensors *s) {
    return s->n_tensors;
}

const struct stored_tensor *safetensors_at(const struct safetensors *s, int i) {
    return &s->tensors[i].facts;
}

const struct stored_tensor *safetensors_find(const struct safetensors *s, const char *name) {
    int low = 0;
    int high = s->n_tensors;
    while (low < high) {
        int middle = low + (high - low) / 2;
        const struct tensor *t = &s->tensors[s->by_name[middle]];
        int order = strcmp(t->facts.name, name);
        if (order == 0) {
            return &t->facts;
        }
        if (order < 0) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return NULL;
}

static void widen(enum stored_type type, const void *stored, int64_t n, float *out) {
    const uint16_t *halves = stored;
    const double *doubles = stored;
    switch (type) {
    case STORED_BF16:
        for (int64_t i = 0; i < n; i++) {
            out[i] = half_from_bf16(halves[i]);
        }
        break;
    case STORED_F16:
        for (int64_t i = 0; i < n; i++) {
            out[i] = half_from_fp16(halves[i]);
        }
        break;
    case STORED_F64:
        for (int64_t i = 0; i < n; i++) {
            out[i] = (float)doubles[i];
        }
        break;
    case STORED_F32:
    case STORED_OTHER:
        memcpy(out, stored, (size_t)n * sizeof *out);
        break;
    }
}

enum status safetensors_read(struct safetensors *s, const struct stored_tensor *t, int64_t first,
                             int64_t count, float *out) {
    const struct tensor *tensor = (const struct tensor *)t;
    const struct shard *f = &s->shards[tensor->shard];
    if (t->type == STORED_OTHER) {
        return fail(ERR_DATA, "%s: tensor \"%.80s\" does not hold floating-point numbers", f->path, t->name);
    }
    if (first < 0 || count < 0 || count > t->elements || first > t->elements - count) {
        return fail(ERR_INTERNAL, "%s: elements [%lld, +%lld) are outside tensor \"%.80s\"", f->path,
                    (long long)first, (long long)count, t->name);
    }
    int64_t at = tensor->begin + first * tensor->element_bytes;
    if (t->type == STORED_F32) {
        return file_read_at(f->descriptor, f->path, at, out, (size_t)count * sizeof *out);
    }
    _Alignas(64) unsigned char buffer[CONVERT_BYTES];
    int64_t per_piece = CONVERT_BYTES / tensor->element_bytes;
    for (int64_t done = 0; done < count;) {
        int64_t n = count - done < per_piece ? count - done : per_piece;
        TRY(file_read_at(f->descriptor, f->path, at + done * tensor->element_bytes, buffer,
                         (size_t)(n * tensor->element_bytes)));
        widen(t->type, buffer, n, out + done);
        done += n;
    }
    return OK;
}
