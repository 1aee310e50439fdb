#include "store/value_head.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "io/safetensors.h"
#include "model/config.h"
#include "util/mem.h"
#include "util/text.h"

bool value_head_is(const struct parameter *p) {
    return text_ends(p->name, VALUE_HEAD);
}

/* -1: none. */
static int find(const struct arena *a) {
    for (int i = 0; i < a->n; i++) {
        if (value_head_is(&a->parameters[i])) {
            return i;
        }
    }
    return -1;
}

static enum status read_file(const char *path, struct arena *a, int i) {
    struct safetensors *file = NULL;
    float *values = NULL;
    int64_t width = a->parameters[i].columns;
    enum status st;
    TRY_TO(done, safetensors_open_file(path, &file));
    const struct stored_tensor *t = safetensors_find(file, VALUE_HEAD);
    if (!t || t->n_dims != 1 || t->shape[0] != width) {
        st = fail(ERR_DATA, "%s: expected one tensor %s of %lld numbers", path, VALUE_HEAD, (long long)width);
        goto done;
    }
    TRY_TO(done, NEW_ARRAY(values, width));
    TRY_TO(done, safetensors_read(file, t, 0, width, values));
    st = arena_write(a, i, 0, width, values);
done:
    safetensors_close(file);
    mem_free(values);
    return st;
}

enum status value_head_read(const char *folder, struct arena *a) {
    struct text path = {0};
    int i = find(a);
    TRY(text_printf(&path, "%s/value_head.safetensors", folder));
    enum status st = i >= 0 && access(path.data, F_OK) == 0 ? read_file(path.data, a, i) : OK;
    text_free(&path);
    return st;
}

/* An earlier run's, which says nothing of the model that is there now. */
static enum status remove_file(const char *folder) {
    struct text path = {0};
    enum status st = text_printf(&path, "%s/value_head.safetensors", folder);
    if (st == OK && unlink(path.data) != 0 && errno != ENOENT) {
        st = fail(ERR_WRITE, "%s: cannot be removed: %s", path.data, strerror(errno));
    }
    text_free(&path);
    return st;
}

enum status value_head_save(const char *folder, const struct arena *a) {
    struct safetensors_writer *w;
    float *values = NULL;
    int i = find(a);
    enum status st;
    if (i < 0) {
        return remove_file(folder);
    }
    int64_t width = a->parameters[i].columns;
    TRY(safetensors_create(folder, STORED_F32, 0, &w));
    safetensors_name(w, "value_head");
    TRY_TO(failed, safetensors_declare(w, VALUE_HEAD, 1, &width));
    TRY_TO(failed, NEW_ARRAY(values, width));
    TRY_TO(failed, arena_read(a, i, 0, width, values));
    TRY_TO(failed, safetensors_write(w, values, width));
    mem_free(values);
    return safetensors_finish(w);
failed:
    mem_free(values);
    safetensors_abandon(w);
    return st;
}
