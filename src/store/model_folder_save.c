/* Writing a model folder; rank 0 alone does it. */
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "io/file.h"
#include "model/family.h"
#include "store/model_carry.h"
#include "store/model_folder.h"
#include "store/model_folder_internal.h"
#include "store/value_head.h"
#include "util/log.h"
#include "util/mem.h"

static const float largest_half = 65504;

/* A folder's file, or the path itself where it is a file. NULL in *out where there is none. */
static enum status source_object(const char *source, const char *name, json_t **out) {
    char path[4096];
    struct stat info;
    *out = NULL;
    if (!source || !*source || stat(source, &info) != 0) {
        return OK;
    }
    bool is_folder = S_ISDIR(info.st_mode);
    if (!is_folder && strcmp(name, "config.json") != 0) {
        return OK;
    }
    snprintf(path, sizeof path, is_folder ? "%s/%s" : "%s%s", source, is_folder ? name : "");
    if (stat(path, &info) != 0) {
        return OK;
    }
    TRY(json_load(path, out));
    if (!json_is_object(*out)) {
        json_decref(*out);
        *out = NULL;
    }
    return OK;
}

static enum status write_in(const char *folder, const char *name, const struct text *t) {
    char path[4096];
    if (snprintf(path, sizeof path, "%s/%s", folder, name) >= (int)sizeof path) {
        return fail(ERR_WRITE, "%s: the path is too long", folder);
    }
    return file_write(path, t->data, t->len);
}

static enum status write_config(const struct model *m, const char *folder, const struct model_save *o,
                                enum stored_type type) {
    static const char *const names[] = {
        [STORED_F32] = "float32", [STORED_BF16] = "bfloat16", [STORED_F16] = "float16"};
    struct text out = {0};
    json_t *object = NULL;
    TRY(source_object(o->source, "config.json", &object));
    enum status st = model_config_print(&m->config, object, names[type], &out);
    st = st == OK ? write_in(folder, "config.json", &out) : st;
    json_decref(object);
    text_free(&out);
    return st;
}

/* Whether generation stops at id: eos_token_id is a number or a list. */
static bool stops_at(const json_t *object, int32_t id) {
    const json_t *stop = json_object_get(object, "eos_token_id");
    for (size_t i = 0; i < json_array_size(stop); i++) {
        if (json_integer_value(json_array_get(stop, i)) == id) {
            return true;
        }
    }
    return json_is_integer(stop) && json_integer_value(stop) == id;
}

/* Special ids of a model whose folder has no generation_config.json, or one for another tokenizer. All end
 * ids of config where it has several. */
static enum status set_ids(const struct model *m, const json_t *config, json_t *object) {
    const struct model_config *c = &m->config;
    const char *names[] = {"bos_token_id", "eos_token_id", "pad_token_id"};
    const int32_t ids[] = {c->begin_id, c->end_id, c->pad_id};
    int bad = 0;
    for (int i = 0; i < COUNT_OF(names); i++) {
        if (ids[i] >= 0) {
            bad |= json_object_set_new(object, names[i], json_integer(ids[i]));
        }
    }
    if (stops_at(config, c->end_id)) {
        bad |= json_object_set(object, names[1], json_object_get(config, names[1]));
    }
    return bad ? fail(ERR_SYSTEM, "out of memory: generation_config.json") : OK;
}

static enum status print_object(const json_t *object, const char *folder, const char *name) {
    struct text out = {0};
    char *printed = json_dumps(object, JSON_INDENT(2) | JSON_SORT_KEYS);
    enum status st =
        printed ? text_printf(&out, "%s\n", printed) : fail(ERR_SYSTEM, "out of memory: %s", name);
    st = st == OK ? write_in(folder, name, &out) : st;
    mem_free(printed);
    text_free(&out);
    return st;
}

/* generation_config.json: the source's as it is, also where it ends at other ids than config.json
 * (transformers generates by it, and saves it so), unless the end token has become another. */
static enum status write_generation(const struct model *m, const char *folder, const char *source) {
    json_t *config = NULL;
    json_t *object = NULL;
    enum status st;
    TRY_TO(done, source_object(source, "config.json", &config));
    TRY_TO(done, source_object(source, "generation_config.json", &object));
    bool is_kept = object && (stops_at(object, m->config.end_id) || stops_at(config, m->config.end_id));
    object = object ? object : json_object();
    TRY_TO(done, is_kept ? OK : set_ids(m, config, object));
    st = print_object(object, folder, "generation_config.json");
done:
    json_decref(config);
    json_decref(object);
    return st;
}

static enum status write_parameter(struct safetensors_writer *w, struct model *m, int i) {
    const struct parameter *p = &m->base->parameters[i];
    int64_t elements = p->rows * p->columns, piece = parameter_piece(p);
    float *values;
    enum status st = OK;
    TRY(NEW_ARRAY(values, piece));
    for (int64_t first = 0; first < elements && st == OK; first += piece) {
        int64_t count = elements - first < piece ? elements - first : piece;
        st = arena_read(m->base, i, first, count, values);
        st = st == OK ? safetensors_write(w, values, count) : st;
    }
    mem_free(values);
    return st;
}

/* A weight that fp16 has no number for would become infinite. */
static enum status find_largest(struct model *m, float *out) {
    enum status st = OK;
    *out = 0;
    for (int i = 0; i < m->base->n && st == OK; i++) {
        const struct parameter *p = &m->base->parameters[i];
        int64_t n = p->rows * p->columns;
        float *values;
        TRY(NEW_ARRAY(values, n));
        st = arena_read(m->base, i, 0, n, values);
        for (int64_t k = 0; k < n && st == OK; k++) {
            *out = fmaxf(*out, fabsf(values[k]));
        }
        mem_free(values);
    }
    return st;
}

static enum status choose_type(struct model *m, const char *folder, enum stored_type wanted,
                               enum stored_type *out) {
    float largest = 0;
    *out = wanted;
    if (wanted != STORED_F16) {
        return OK;
    }
    TRY(find_largest(m, &largest));
    if (largest > largest_half) {
        log_root(LOG_WARN, "%s: written as fp32: a weight of %g is too large for fp16", folder,
                 (double)largest);
        *out = STORED_F32;
    }
    return OK;
}

static enum status write_weights(struct model *m, const char *folder, const struct model_save *o,
                                 enum stored_type type) {
    struct safetensors_writer *w;
    enum status st = OK;
    TRY(safetensors_create(folder, type, o->shard_bytes, &w));
    safetensors_made_by(w, o->made_by);
    int n = m->base->n - m->config.value_head; /* which is the last */
    for (int i = 0; i < n; i++) {
        int64_t shape[2];
        int dims = parameter_stored_shape(&m->base->parameters[i], shape);
        TRY_TO(failed, safetensors_declare(w, m->base->parameters[i].name, dims, shape));
    }
    for (int i = 0; i < n; i++) {
        TRY_TO(failed, write_parameter(w, m, i));
    }
    return safetensors_finish(w);
failed:
    safetensors_abandon(w);
    return st;
}

static enum status save_here(struct model *m, const char *folder, const struct model_save *o) {
    enum stored_type type;
    TRY(folder_make(folder));
    TRY(choose_type(m, folder, o->type, &type));
    TRY(model_carry(o->carries ? o->source : NULL, o->tokenizer, folder));
    TRY(write_config(m, folder, o, type));
    TRY(write_generation(m, folder, o->source));
    TRY(value_head_save(folder, m->base));
    return write_weights(m, folder, o, type);
}

enum status model_folder_save(struct comm *c, struct model *m, const char *folder,
                              const struct model_save *options) {
    static const struct model_save none = {0};
    enum status st = c->rank == 0 ? save_here(m, folder, options ? options : &none) : OK;
    return comm_agree(c, st);
}
