#include "steer/steering_folder.h"

#include <math.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "io/file.h"
#include "io/safetensors.h"
#include "util/json.h"
#include "util/mem.h"
#include "util/text.h"

/* Of files whose z is bounded: programs that know version 1 alone would leave its tanh out. */
enum { VERSION = 1, VERSION_BOUNDED = 2 };
static const char *const aggregates[] = {"attention", "mean", "sum"};

bool steering_folder_is(const char *folder) {
    struct text path = {0};
    bool is = text_printf(&path, "%s/steering.json", folder) == OK && access(path.data, F_OK) == 0;
    text_free(&path);
    return is;
}

static enum status take_aggregate(const json_t *o, const char *path, enum network_aggregate *out) {
    const char *name = json_string_value(json_object_get(o, "aggregate"));
    for (int i = 0; i < COUNT_OF(aggregates); i++) {
        if (name && strcmp(name, aggregates[i]) == 0) {
            *out = (enum network_aggregate)i;
            return OK;
        }
    }
    return fail(ERR_DATA, "%s: aggregate is none of attention, mean and sum", path);
}

static enum status take_shape(const json_t *o, const char *path, struct steering_shape *out) {
    int64_t version;
    TRY(json_take_int(o, "version", path, &version));
    if (version < VERSION || version > VERSION_BOUNDED) {
        return fail(ERR_DATA, "%s: version %lld; this program reads %d to %d", path, (long long)version,
                    VERSION, VERSION_BOUNDED);
    }
    TRY(json_take_int(o, "embedding_width", path, &out->width));
    TRY(json_take_int(o, "hidden", path, &out->hidden));
    TRY(json_take_int(o, "heads", path, &out->heads));
    TRY(json_take_int(o, "layers", path, &out->layers));
    TRY(take_aggregate(o, path, &out->aggregate));
    out->inner_mlp = out->bounded = false; /* where the file does not have them */
    TRY(json_take_bool(o, "inner_mlp", path, &out->inner_mlp));
    TRY(json_take_bool(o, "bounded", path, &out->bounded));
    if (out->width < 1 || out->hidden < 1 || out->heads < 1 || out->layers < 1) {
        return fail(ERR_DATA, "%s: embedding_width, hidden, heads and layers must be 1 or more", path);
    }
    return out->hidden % out->heads == 0 ? OK
                                         : fail(ERR_DATA, "%s: %lld heads do not divide hidden, %lld", path,
                                                (long long)out->heads, (long long)out->hidden);
}

enum status steering_folder_open(const char *folder, struct steering *out) {
    struct text path = {0};
    struct steering_shape shape;
    json_t *o = NULL;
    const char *embedder;
    enum status st;
    TRY_TO(done, text_printf(&path, "%s/steering.json", folder));
    TRY_TO(done, json_load(path.data, &o));
    TRY_TO(done, take_shape(o, path.data, &shape));
    TRY_TO(done, json_take_string(o, "embedder", path.data, &embedder));
    TRY_TO(done, steering_open(&shape, 0, out));
    snprintf(out->embedder, sizeof out->embedder, "%s", embedder);
done:
    json_decref(o);
    text_free(&path);
    return st;
}

static enum status open_file(const char *folder, struct text *path, struct safetensors **out) {
    TRY(text_printf(path, "%s/steering.safetensors", folder));
    return safetensors_open_file(path->data, out);
}

static enum status read_tensor(struct safetensors *file, const char *path, const char *name, int64_t n,
                               float *to) {
    const struct stored_tensor *t = safetensors_find(file, name);
    if (!t || t->elements != n) {
        return fail(ERR_DATA, "%s: tensor %s is %s", path, name, t ? "of another shape" : "missing");
    }
    TRY(safetensors_read(file, t, 0, n, to));
    for (int64_t i = 0; i < n; i++) {
        if (!isfinite(to[i])) {
            return fail(ERR_DATA, "%s: tensor %s holds a number that is not finite", path, name);
        }
    }
    return OK;
}

/* Whether a parameter of the arena is the steering's. */
static bool is_own(const struct parameter *p) {
    return !lora_is_adapter(p);
}

static int64_t most_elements(const struct steering *s) {
    int64_t most = s->shape.width;
    for (int i = 0; i < s->arena->n; i++) {
        int64_t n = s->arena->parameters[i].rows * s->arena->parameters[i].columns;
        most = n > most ? n : most;
    }
    return most;
}

static enum status read_numbers(struct safetensors *file, const char *path, const char *name, int64_t n,
                                float *values, double *to) {
    TRY(read_tensor(file, path, name, n, values));
    for (int64_t j = 0; j < n; j++) {
        to[j] = (double)values[j];
    }
    return OK;
}

enum status steering_folder_read(const char *folder, struct steering *s) {
    struct safetensors *file = NULL;
    struct text path = {0};
    float *values = NULL;
    enum status st;
    TRY_TO(done, open_file(folder, &path, &file));
    TRY_TO(done, NEW_ARRAY(values, most_elements(s)));
    for (int i = 0; i < s->arena->n; i++) {
        const struct parameter *p = &s->arena->parameters[i];
        int64_t n = p->rows * p->columns;
        if (is_own(p)) {
            TRY_TO(done, read_tensor(file, path.data, p->name, n, values));
            TRY_TO(done, arena_write(s->arena, i, 0, n, values));
        }
    }
    TRY_TO(done, read_numbers(file, path.data, "embedding.mean", s->shape.width, values, s->mean));
    TRY_TO(done, read_numbers(file, path.data, "embedding.scale", s->shape.width, values, s->scale));
    st = arena_refresh(s->arena);
done:
    mem_free(values);
    safetensors_close(file);
    text_free(&path);
    return st;
}

static enum status declare_all(struct safetensors_writer *w, const struct steering *s) {
    for (int i = 0; i < s->arena->n; i++) {
        const struct parameter *p = &s->arena->parameters[i];
        const int64_t shape[] = {p->n_dims == 1 ? p->columns : p->rows, p->columns};
        TRY(is_own(p) ? safetensors_declare(w, p->name, p->n_dims, shape) : OK);
    }
    TRY(safetensors_declare(w, "embedding.mean", 1, &s->shape.width));
    return safetensors_declare(w, "embedding.scale", 1, &s->shape.width);
}

static enum status write_numbers(struct safetensors_writer *w, const double *from, int64_t n, float *values) {
    for (int64_t j = 0; j < n; j++) {
        values[j] = (float)from[j];
    }
    return safetensors_write(w, values, n);
}

static enum status write_all(struct safetensors_writer *w, const struct steering *s, float *values) {
    TRY(declare_all(w, s));
    for (int i = 0; i < s->arena->n; i++) {
        const struct parameter *p = &s->arena->parameters[i];
        int64_t n = p->rows * p->columns;
        TRY(is_own(p) ? arena_read(s->arena, i, 0, n, values) : OK);
        TRY(is_own(p) ? safetensors_write(w, values, n) : OK);
    }
    TRY(write_numbers(w, s->mean, s->shape.width, values));
    return write_numbers(w, s->scale, s->shape.width, values);
}

static enum status write_shape(const struct steering *s, const char *folder) {
    struct text path = {0}, out = {0};
    const struct steering_shape *f = &s->shape;
    enum status st;
    TRY_TO(done, text_printf(&path, "%s/steering.json", folder));
    TRY_TO(done,
           text_printf(&out,
                       "{\n  \"version\": %d,\n  \"embedding_width\": %lld,\n  \"hidden\": %lld,\n"
                       "  \"heads\": %lld,\n  \"layers\": %lld,\n  \"aggregate\": \"%s\",\n"
                       "  \"inner_mlp\": %s,\n  \"bounded\": %s,\n  \"embedder\": ",
                       f->bounded ? VERSION_BOUNDED : VERSION, (long long)f->width, (long long)f->hidden,
                       (long long)f->heads, (long long)f->layers, aggregates[f->aggregate],
                       f->inner_mlp ? "true" : "false", f->bounded ? "true" : "false"));
    TRY_TO(done, text_json(&out, s->embedder, strlen(s->embedder)));
    TRY_TO(done, text_puts(&out, "\n}\n"));
    st = file_write(path.data, out.data, out.len);
done:
    text_free(&out);
    text_free(&path);
    return st;
}

static enum status save_here(const struct steering *s, const char *folder) {
    struct safetensors_writer *w;
    float *values;
    TRY(folder_make(folder));
    TRY(write_shape(s, folder));
    TRY(safetensors_create(folder, STORED_F32, 0, &w));
    safetensors_name(w, "steering");
    enum status st = NEW_ARRAY(values, most_elements(s));
    st = st == OK ? write_all(w, s, values) : st;
    mem_free(values);
    if (st != OK) {
        safetensors_abandon(w);
        return st;
    }
    return safetensors_finish(w);
}

enum status steering_folder_save(struct comm *c, const struct steering *s, const char *folder) {
    return comm_agree(c, c->rank == 0 ? save_here(s, folder) : OK);
}
