#include "train/checkpoint.h"

#include <stdio.h>
#include <string.h>

#include "io/checkpoint_file.h"
#include "io/file.h"
#include "util/json.h"
#include "util/log.h"
#include "util/mem.h"

enum { ARRAYS = 3 };

/* The arenas of a checkpoint with this rank's range of each on the host. */
struct parts {
    struct tensor arenas[ARRAYS];
    struct checkpoint_array arrays[ARRAYS];
    void *staging[ARRAYS]; /* where the back end's memory is not the host's */
    int n;
};

/* Part `index` of `count` of each of p->arenas. */
static enum status parts_allot(struct backend *b, int index, int count, struct parts *p) {
    for (int i = 0; i < p->n; i++) {
        struct checkpoint_array *a = &p->arrays[i];
        int64_t size = dtype_size(p->arenas[i].type);
        a->elements = p->arenas[i].columns;
        a->part = range_part(a->elements, index, count);
        a->element_bytes = (int)size;
        char *host = backend_host_address(b, p->arenas[i].data);
        if (host) {
            a->data = host + a->part.first * size;
            continue;
        }
        p->staging[i] = mem_aligned(a->part.last - a->part.first, (size_t)size);
        TRY(mem_ok(p->staging[i]));
        a->data = p->staging[i];
    }
    return OK;
}

static struct parts parameters_of(const struct model *m) {
    return (struct parts){.arenas = {m->master}, .arrays = {{.name = "parameters"}}, .n = 1};
}

/* The arenas of the parameters and of the optimizer's state. */
static enum status parts_open(struct optimizer *o, int index, int count, struct parts *p) {
    struct tensor *state[2];
    const char *names[2];
    int n_state = optimizer_state(o, state, names);
    *p = parameters_of(o->model);
    p->n += n_state;
    for (int i = 0; i < n_state; i++) {
        p->arenas[i + 1] = *state[i];
        p->arrays[i + 1].name = names[i];
    }
    return parts_allot(o->model->backend, index, count, p);
}

static void parts_close(struct parts *p) {
    for (int i = 0; i < p->n; i++) {
        mem_free(p->staging[i]);
    }
}

/* Copies this rank's parts between device and host, where they are not the same memory. */
static enum status parts_move(struct backend *b, struct parts *p, bool to_host) {
    TRY(backend_sync(b));
    for (int i = 0; i < p->n; i++) {
        const struct checkpoint_array *a = &p->arrays[i];
        if (!p->staging[i]) {
            continue;
        }
        int64_t bytes = (a->part.last - a->part.first) * a->element_bytes;
        char *device = (char *)p->arenas[i].data + a->part.first * a->element_bytes;
        TRY(to_host ? backend_read(b, a->data, device, bytes) : backend_write(b, device, a->data, bytes));
    }
    return OK;
}

static enum status print_state(const struct checkpoint_options *o, const struct optimizer *optimizer,
                               const struct checkpoint_state *s, struct text *out) {
    TRY(text_printf(out, "{\"step\": %lld, \"total\": %lld, \"updates\": %lld, \"sequence_tokens\": ",
                    (long long)s->step, (long long)s->total, (long long)optimizer->updates));
    TRY(text_json_number(out, s->sequence_tokens));
    TRY(text_puts(out, ", \"random\": \"stateless: Philox of (seed, purpose, row, step)\", \"facts\": {"));
    for (int i = 0; i < o->n_facts; i++) {
        TRY(text_puts(out, i ? ", " : ""));
        TRY(text_json(out, o->facts[i].name, strlen(o->facts[i].name)));
        TRY(text_puts(out, ": "));
        TRY(text_json(out, o->facts[i].value, strlen(o->facts[i].value)));
    }
    return text_puts(out, "}}");
}

enum status checkpoint_save(struct comm *c, const struct checkpoint_options *o, struct optimizer *optimizer,
                            const struct checkpoint_state *state) {
    struct text json = {0};
    struct text path = {0};
    struct parts parts = {0};
    enum status st;
    TRY_TO(agreed, text_printf(&path, "%s/checkpoints", o->run));
    TRY_TO(agreed, c->rank == 0 ? folder_make(path.data) : OK);
    TRY_TO(agreed, text_printf(&path, "/step-%lld.h5", (long long)state->step));
    TRY_TO(agreed, print_state(o, optimizer, state, &json));
    TRY_TO(agreed, parts_open(optimizer, c->rank, c->size, &parts));
    TRY_TO(agreed, parts_move(optimizer->model->backend, &parts, true));
agreed:
    TRY_TO(done, comm_agree(c, st));
    TRY_TO(done, checkpoint_file_write(c, path.data, json.data, parts.arrays, parts.n));
    TRY_TO(done, checkpoint_prune(c, o->run, o->keep));
    log_root(LOG_INFO, "checkpoint %s", path.data);
done:
    parts_close(&parts);
    text_free(&json);
    text_free(&path);
    return st;
}

/* Names every fact that is not what the checkpoint was made with. */
static enum status compare_facts(const struct checkpoint_options *o, const json_t *stored, const char *path) {
    struct text changed = {0};
    enum status st = OK;
    for (int i = 0; i < o->n_facts && st == OK; i++) {
        const char *was = json_string_value(json_object_get(stored, o->facts[i].name));
        if (!was || strcmp(was, o->facts[i].value) != 0) {
            st = text_printf(&changed, "%s%s (was %s, is %s)", changed.len ? ", " : "", o->facts[i].name,
                             was ? was : "not set", o->facts[i].value);
        }
    }
    if (st == OK && changed.len) {
        st = fail(ERR_USAGE,
                  "%s: this run would go on with other numbers: %s; set them back, choose another output, or "
                  "start anew with train.resume=never",
                  path, changed.data);
    }
    text_free(&changed);
    return st;
}

static enum status take_state(const struct checkpoint_options *o, const char *json, const char *path,
                              struct optimizer *optimizer, struct checkpoint_state *state) {
    json_t *root;
    TRY(json_parse(json, strlen(json), path, &root));
    enum status st;
    TRY_TO(done, compare_facts(o, json_object_get(root, "facts"), path));
    TRY_TO(done, json_take_int(root, "step", path, &state->step));
    TRY_TO(done, json_take_int(root, "total", path, &state->total));
    TRY_TO(done, json_take_int(root, "updates", path, &optimizer->updates));
    TRY_TO(done, json_take_number(root, "sequence_tokens", path, &state->sequence_tokens));
done:
    json_decref(root);
    return st;
}

/* Fills the parts' arenas; st: of opening them here. */
static enum status read_parts(struct comm *c, const char *path, struct model *m, struct parts *parts,
                              enum status st) {
    st = comm_agree(c, st);
    if (st == OK) {
        st = checkpoint_file_read(c, path, parts->arrays, parts->n);
    }
    if (st == OK) {
        st = parts_move(m->backend, parts, false);
    }
    if (st == OK) {
        st = model_refresh(m);
    }
    parts_close(parts);
    return comm_agree(c, st);
}

/* Every rank holds all arenas, so each reads them whole. */
static enum status read_arrays(struct comm *c, const char *path, struct optimizer *optimizer) {
    struct parts parts = {0};
    enum status st = parts_open(optimizer, 0, 1, &parts);
    return read_parts(c, path, optimizer->model, &parts, st);
}

enum status checkpoint_load_parameters(struct comm *c, const char *path, struct model *m) {
    struct parts parts = parameters_of(m);
    enum status st = parts_allot(m->backend, 0, 1, &parts);
    return read_parts(c, path, m, &parts, st);
}

enum status checkpoint_load(struct comm *c, const struct checkpoint_options *o, struct optimizer *optimizer,
                            struct checkpoint_state *state, bool *found) {
    char *path = NULL;
    char *json = NULL;
    int64_t step;
    enum status st;
    *found = false;
    TRY(checkpoint_latest(c, o->run, &path, &step));
    if (!path) {
        return checkpoint_set_aside(c, o->run, -1);
    }
    TRY_TO(done, checkpoint_file_read_state(c, path, &json));
    TRY_TO(done, comm_agree(c, take_state(o, json, path, optimizer, state)));
    TRY_TO(done, read_arrays(c, path, optimizer));
    TRY_TO(done, checkpoint_set_aside(c, o->run, step));
    *found = true;
done:
    mem_free(path);
    mem_free(json);
    return st;
}
