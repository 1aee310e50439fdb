#include "store/model_source.h"

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "io/file.h"
#include "io/safetensors.h"
#include "io/yaml.h"
#include "model/family.h"
#include "store/adapter_folder.h"
#include "util/mem.h"

enum { MOST_RUNS = 32 }; /* runs that began with each other's checkpoints */

bool model_is_checkpoint(const char *path) {
    return text_ends(path, ".h5");
}

/* "." for a name alone, ".." for that. */
static enum status put_parent(const char *path, struct text *out) {
    const char *slash = strrchr(path, '/');
    if (slash) {
        return text_printf(out, "%.*s", slash == path ? 1 : (int)(slash - path), path);
    }
    return text_puts(out, strcmp(path, ".") == 0 ? ".." : ".");
}

static bool has_config(const char *folder) {
    struct text path = {0};
    bool found = text_printf(&path, "%s/config.json", folder) == OK && access(path.data, F_OK) == 0;
    text_free(&path);
    return found;
}

static enum status take_model(void *context, const char *key, const char *value, int line) {
    (void)line;
    struct text *model = context;
    if (strcmp(key, "model") == 0) {
        text_clear(model);
        return text_puts(model, value);
    }
    return OK;
}

/* The folder behind one checkpoint, which may be another checkpoint. */
static enum status step_back(const char *checkpoint, struct text *out) {
    struct text folder = {0};
    struct text run = {0};
    struct text path = {0};
    enum status st;
    TRY_TO(done, put_parent(checkpoint, &folder));
    TRY_TO(done, put_parent(folder.data, &run));
    text_clear(out);
    TRY_TO(done, text_printf(out, "%s/model", run.data));
    if (has_config(out->data)) {
        goto done;
    }
    TRY_TO(done, text_printf(&path, "%s/config.yaml", run.data));
    if (access(path.data, F_OK) != 0) {
        st = fail(ERR_INPUT,
                  "%s: a checkpoint is read with its run's folder, and %s has neither model/ nor "
                  "config.yaml",
                  checkpoint, run.data);
        goto done;
    }
    text_clear(out);
    TRY_TO(done, yaml_read(path.data, take_model, out));
    if (out->len == 0) {
        st = fail(ERR_INPUT, "%s: names no model, whose configuration checkpoint %s has", path.data,
                  checkpoint);
    }
done:
    text_free(&folder);
    text_free(&run);
    text_free(&path);
    return st;
}

static enum status take_method(void *context, const char *key, const char *value, int line) {
    (void)line;
    bool *has_values = context;
    *has_values |= strcmp(key, "online.method") == 0 && strcmp(value, "ppo") == 0;
    return OK;
}

enum status model_source_has_values(const char *checkpoint, bool *out) {
    struct text folder = {0}, run = {0}, path = {0};
    enum status st;
    *out = false;
    TRY_TO(done, put_parent(checkpoint, &folder));
    TRY_TO(done, put_parent(folder.data, &run));
    TRY_TO(done, text_printf(&path, "%s/config.yaml", run.data));
    st = access(path.data, F_OK) == 0 ? yaml_read(path.data, take_method, out) : OK;
done:
    text_free(&folder);
    text_free(&run);
    text_free(&path);
    return st;
}

/* A file of weights, which says too little of its model. */
static enum status refuse_weights(const char *path) {
    static const char *const ends[] = {".safetensors", ".bin", ".pt", ".pth", ".gguf"};
    for (int i = 0; i < COUNT_OF(ends); i++) {
        if (text_ends(path, ends[i]) && access(path, F_OK) == 0 && !has_config(path)) {
            return fail(
                ERR_INPUT,
                "%s: is a file of weights; give the folder that has it, with config.json and the tokenizer "
                "(as safetensors: save_pretrained() of transformers writes them)",
                path);
        }
    }
    return OK;
}

enum status model_source_folder(const char *path, struct text *out) {
    TRY(refuse_weights(path));
    struct text now = {0};
    struct text next = {0};
    enum status st;
    TRY_TO(done, text_puts(&now, path));
    for (int i = 0; model_is_checkpoint(now.data); i++) {
        if (i == MOST_RUNS) {
            st = fail(ERR_DATA, "%s: more than %d runs that began with each other's checkpoints", path,
                      MOST_RUNS);
            goto done;
        }
        TRY_TO(done, step_back(now.data, &next));
        text_clear(&now);
        TRY_TO(done, text_puts(&now, next.data));
    }
    TRY_TO(done, text_puts(out, now.data));
done:
    text_free(&now);
    text_free(&next);
    return st;
}

static const struct stored_tensor *find_weight(const struct safetensors *file, const char *base,
                                               const char *of) {
    char name[96];
    snprintf(name, sizeof name, "%s.weight", of);
    const struct stored_tensor *t = safetensors_find(file, name);
    return t || !text_starts(name, base) ? t : safetensors_find(file, name + strlen(base));
}

static enum status is_equal(struct safetensors *file, const struct stored_tensor *a,
                            const struct stored_tensor *b, bool *equal) {
    enum { PIECE = 1 << 18 };
    float *values;
    enum status st = OK;
    *equal = a->n_dims == b->n_dims && memcmp(a->shape, b->shape, (size_t)a->n_dims * sizeof *a->shape) == 0;
    TRY(NEW_ARRAY(values, 2 * PIECE));
    for (int64_t first = 0; first < a->elements && *equal && st == OK; first += PIECE) {
        int64_t n = a->elements - first < PIECE ? a->elements - first : PIECE;
        st = safetensors_read(file, a, first, n, values);
        st = st == OK ? safetensors_read(file, b, first, n, values + PIECE) : st;
        for (int64_t i = 0; i < n && *equal && st == OK; i++) {
            *equal = values[i] == values[PIECE + i];
        }
    }
    mem_free(values);
    return st;
}

/* A head beside the embedding that config.json ties it to: transformers ties the two only where they are
 * equal. */
static enum status look_for_head(const char *folder, struct model_config *c) {
    struct safetensors *file;
    const struct family_names *names = &c->family->names;
    bool equal = true;
    if (!c->tied || c->head != HEAD_LANGUAGE || !safetensors_are_in(folder)) {
        return OK;
    }
    TRY(safetensors_open(folder, &file));
    const struct stored_tensor *head = find_weight(file, names->base, names->head);
    const struct stored_tensor *embed = find_weight(file, names->base, names->embed);
    enum status st = head && embed ? is_equal(file, head, embed, &equal) : OK;
    safetensors_close(file);
    c->untied = st == OK && !equal;
    c->tied = !c->untied;
    return st;
}

enum status model_source_shape(const char *path, struct model_config *out) {
    struct text file = {0};
    struct stat info;
    char *data = NULL;
    size_t len;
    enum status st;
    bool is_folder = stat(path, &info) == 0 && S_ISDIR(info.st_mode);
    TRY_TO(done, text_printf(&file, "%s%s", path, is_folder ? "/config.json" : ""));
    TRY_TO(done, file_read(file.data, &data, &len));
    st = model_config_parse(data, len, file.data, out);
done:
    text_free(&file);
    mem_free(data);
    return st;
}

enum status model_source_config(const char *folder, struct model_config *out) {
    struct text path = {0};
    char *data = NULL;
    size_t len;
    enum status st;
    if (!has_config(folder) && adapter_folder_is(folder)) {
        return fail(
            ERR_INPUT,
            "%s: a PEFT adapter, not a whole model: give it as adapter=FOLDER beside the model=FOLDER "
            "that it was made for",
            folder);
    }
    TRY_TO(done, text_printf(&path, "%s/config.json", folder));
    TRY_TO(done, file_read(path.data, &data, &len));
    TRY_TO(done, model_config_parse(data, len, path.data, out));
    st = look_for_head(folder, out);
done:
    text_free(&path);
    mem_free(data);
    return st;
}

enum status model_source_find(const char *path, struct model_config *out) {
    struct text folder = {0};
    enum status st = model_source_folder(path, &folder);
    st = st == OK ? model_source_config(folder.data, out) : st;
    text_free(&folder);
    return st;
}
