#include "store/adapter_folder.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "io/file.h"
#include "model/family.h"
#include "store/model_folder_internal.h"
#include "store/value_head.h"
#include "util/hash.h"
#include "util/mem.h"
#include "util/text.h"

#define PREFIX "base_model.model."

/* Also under the name that PEFT's files of the bare model have. */
static const struct stored_tensor *find(const struct safetensors *file, const char *name) {
    const struct stored_tensor *t = safetensors_find(file, name);
    char bare[128];
    const char *rest = strchr(name + strlen(PREFIX), '.');
    if (!t && rest) {
        snprintf(bare, sizeof bare, PREFIX "%s", rest + 1);
        t = safetensors_find(file, bare);
    }
    return t;
}

static enum status check_shape(const struct parameter *p, const struct stored_tensor *t, const char *path) {
    int64_t shape[2];
    int dims = parameter_stored_shape(p, shape);
    if (t->n_dims != dims || t->shape[0] != shape[0] || (dims == 2 && t->shape[1] != shape[1])) {
        return fail(ERR_DATA,
                    "%s: tensor %s has %d dimensions, %lld x %lld; the model and r give %lld x %lld", path,
                    t->name, t->n_dims, (long long)(t->n_dims > 0 ? t->shape[0] : 1),
                    (long long)(t->n_dims > 1 ? t->shape[1] : 1), (long long)shape[0],
                    (long long)(dims > 1 ? shape[1] : 1));
    }
    return OK;
}

static enum status read_one(struct safetensors *file, const char *path, struct arena *a, int i) {
    const struct parameter *p = &a->parameters[i];
    const struct stored_tensor *t = find(file, p->name);
    float *values;
    if (!t) {
        return fail(ERR_DATA, "%s: tensor %s is missing", path, p->name);
    }
    TRY(check_shape(p, t, path));
    TRY(NEW_ARRAY(values, t->elements));
    enum status st = safetensors_read(file, t, 0, t->elements, values);
    st = st == OK ? arena_write(a, i, 0, t->elements, values) : st;
    mem_free(values);
    return st;
}

/* Every tensor has a place. */
static enum status check_extra(const struct safetensors *file, const char *path, const struct arena *a) {
    for (int i = 0; i < safetensors_count(file); i++) {
        const struct stored_tensor *t = safetensors_at(file, i);
        bool found = false;
        for (int k = 0; k < a->n && !found; k++) {
            found = lora_is_adapter(&a->parameters[k]) && find(file, a->parameters[k].name) == t;
        }
        if (!found) {
            return fail(ERR_DATA,
                        "%s: tensor %.200s has no place in the model that adapter_config.json describes",
                        path, t->name);
        }
    }
    return OK;
}

bool adapter_folder_is(const char *folder) {
    struct text path = {0};
    bool is = text_printf(&path, "%s/adapter_config.json", folder) == OK && access(path.data, F_OK) == 0;
    text_free(&path);
    return is;
}

enum status adapter_folder_read(const char *folder, struct lora *l) {
    struct safetensors *file = NULL;
    struct arena *a = lora_arena(l);
    struct text path = {0};
    enum status st;
    TRY_TO(done, text_printf(&path, "%s/adapter_model.safetensors", folder));
    TRY_TO(done, safetensors_open_file(path.data, &file));
    for (int i = 0; i < a->n; i++) {
        bool is_read = lora_is_adapter(&a->parameters[i]) && !value_head_is(&a->parameters[i]);
        TRY_TO(done, is_read ? read_one(file, path.data, a, i) : OK);
    }
    TRY_TO(done, check_extra(file, path.data, a));
    TRY_TO(done, value_head_read(folder, a));
    st = arena_refresh(a);
done:
    safetensors_close(file);
    text_free(&path);
    return st;
}

enum status adapter_hash(const struct lora *l, uint64_t *out) {
    const struct lora_layout *layout = lora_layout_of(l);
    TRY(arena_hash(lora_arena(l), out));
    for (int64_t i = 0; i < layout->n; i++) {
        const struct lora_module *m = &layout->modules[i];
        *out = hash_join(*out, hash_bytes(m->name, strlen(m->name), (uint64_t)m->rank));
        *out = hash_join(*out, hash_bytes(&m->scale, sizeof m->scale, 0));
    }
    return OK;
}

static enum status write_config(const json_t *config, const char *folder) {
    struct text path = {0};
    struct text out = {0};
    char *printed = json_dumps(config, JSON_INDENT(2) | JSON_SORT_KEYS);
    enum status st =
        printed ? text_printf(&out, "%s\n", printed) : fail(ERR_SYSTEM, "out of memory: adapter_config.json");
    st = st == OK ? text_printf(&path, "%s/adapter_config.json", folder) : st;
    st = st == OK ? file_write(path.data, out.data, out.len) : st;
    mem_free(printed);
    text_free(&out);
    text_free(&path);
    return st;
}

static enum status declare_one(struct safetensors_writer *w, const struct parameter *p) {
    int64_t shape[2];
    int dims = parameter_stored_shape(p, shape);
    return safetensors_declare(w, p->name, dims, shape);
}

static enum status write_one(struct safetensors_writer *w, const struct arena *a, int i) {
    int64_t n = a->parameters[i].rows * a->parameters[i].columns;
    float *values;
    TRY(NEW_ARRAY(values, n));
    enum status st = arena_read(a, i, 0, n, values);
    st = st == OK ? safetensors_write(w, values, n) : st;
    mem_free(values);
    return st;
}

static enum status save_here(const struct arena *a, const char *folder, const struct adapter_save *o) {
    struct safetensors_writer *w;
    enum status st = OK;
    TRY(folder_make(folder));
    TRY(write_config(o->config, folder));
    TRY(value_head_save(folder, a));
    int n = a->n - (a->n > 0 && value_head_is(&a->parameters[a->n - 1])); /* the last, where there is one */
    TRY(safetensors_create(folder, o->type, 0, &w));
    safetensors_name(w, "adapter_model");
    for (int i = 0; i < n; i++) {
        TRY_TO(failed, lora_is_adapter(&a->parameters[i]) ? declare_one(w, &a->parameters[i]) : OK);
    }
    for (int i = 0; i < n; i++) {
        TRY_TO(failed, lora_is_adapter(&a->parameters[i]) ? write_one(w, a, i) : OK);
    }
    return safetensors_finish(w);
failed:
    safetensors_abandon(w);
    return st;
}

enum status adapter_folder_save(struct comm *c, const struct lora *l, const char *folder,
                                const struct adapter_save *options) {
    return comm_agree(c, c->rank == 0 ? save_here(lora_arena(l), folder, options) : OK);
}
