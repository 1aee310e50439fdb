#include "train/checkpoint.h"

#include <stdio.h>
#include <string.h>

#include "io/checkpoint_file.h"
#include "io/file.h"
#include "util/json.h"
#include "util/log.h"
#include "util/mem.h"

enum { ARRAYS = 3 };

/* The arrays of a checkpoint with what this rank holds of each on the host. */
struct parts {
    struct backend *backend;
    struct tensor tensors[ARRAYS]; /* an arena, or packed shares of one */
    struct checkpoint_array arrays[ARRAYS];
    void *staging[ARRAYS]; /* where the back end's memory is not the host's */
    int n;
};

/* Elements of the tensor that go to the file, or come from it. */
static struct range held(const struct parts *p, int i) {
    return p->arrays[i].shards ? (struct range){0, p->tensors[i].columns} : p->arrays[i].part;
}

/* Makes a place on the host. */
static enum status part_open(struct parts *p, int i) {
    struct checkpoint_array *a = &p->arrays[i];
    struct range mine = held(p, i);
    char *host = backend_host_address(p->backend, p->tensors[i].data);
    if (host) {
        a->data = host + mine.first * a->element_bytes;
        return OK;
    }
    p->staging[i] = mem_aligned(mine.last - mine.first, (size_t)a->element_bytes);
    a->data = p->staging[i];
    return mem_ok(a->data);
}

/* o: NULL for the parameters alone. whole: this rank wants all of what every rank holds; otherwise its part.
 * Local. */
static enum status parts_open(struct comm *c, struct model *m, struct optimizer *o, bool whole,
                              struct parts *p) {
    struct tensor *state[2];
    const char *names[2];
    int n_state = o ? optimizer_state(o, state, names) : 0;
    *p = (struct parts){.backend = m->backend, .n = 1 + n_state};
    for (int i = 0; i < p->n; i++) {
        struct checkpoint_array *a = &p->arrays[i];
        p->tensors[i] = i == 0 ? m->master : *state[i - 1];
        a->name = i == 0 ? "parameters" : names[i - 1];
        a->elements = m->arena_elements;
        a->element_bytes = (int)dtype_size(p->tensors[i].type);
        a->shards = i > 0 && optimizer_is_sharded(o) ? &o->shards : NULL;
        a->part = whole ? (struct range){0, a->elements} : range_part(a->elements, c->rank, c->size);
        TRY(part_open(p, i));
    }
    return OK;
}

static void parts_close(struct parts *p) {
    for (int i = 0; i < p->n; i++) {
        mem_free(p->staging[i]);
    }
}

/* Copies between device and host, where they are not the same memory. Local. */
static enum status parts_move(struct parts *p, bool to_host) {
    TRY(backend_sync(p->backend));
    for (int i = 0; i < p->n; i++) {
        int size = p->arrays[i].element_bytes;
        struct range mine = held(p, i);
        int64_t bytes = (mine.last - mine.first) * size;
        char *device = (char *)p->tensors[i].data + mine.first * size;
        if (p->staging[i]) {
            TRY(to_host ? backend_read(p->backend, p->staging[i], device, bytes)
                        : backend_write(p->backend, device, p->staging[i], bytes));
        }
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
    TRY_TO(agreed, parts_open(c, optimizer->model, optimizer, false, &parts));
    TRY_TO(agreed, parts_move(&parts, true));
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

/* Appends the facts of a kind that are not what the checkpoint was made with. */
static enum status list_changed(const struct checkpoint_options *o, const json_t *stored, enum fact_kind kind,
                                struct text *changed) {
    for (int i = 0; i < o->n_facts; i++) {
        const struct fact *f = &o->facts[i];
        const char *was = json_string_value(json_object_get(stored, f->name));
        was = was ? was : f->fallback;
        if (f->kind == kind && (!was || strcmp(was, f->value) != 0)) {
            TRY(text_printf(changed, "%s%s (was %s, is %s)", changed->len ? ", " : "", f->name,
                            was ? was : "not set", f->value));
        }
    }
    return OK;
}

/* Names every fact that differs, and whether the run can go on all the same. */
static enum status compare_facts(const struct checkpoint_options *o, const json_t *stored, const char *path) {
    struct text fixed = {0}, rounding = {0}, harmless = {0};
    enum status st;
    TRY_TO(done, list_changed(o, stored, FACT_FIXED, &fixed));
    TRY_TO(done, list_changed(o, stored, FACT_ROUNDING, &rounding));
    TRY_TO(done, list_changed(o, stored, FACT_FREE, &harmless));
    if (fixed.len) {
        const char *also = rounding.len || harmless.len ? "; allowed beside them: " : "";
        const char *comma = rounding.len && harmless.len ? ", " : "";
        st = fail(ERR_USAGE,
                  "%s: this run would go on with other numbers: %s; set them back, choose another output, or "
                  "start anew with train.resume=never%s%s%s%s",
                  path, fixed.data, also, rounding.len ? rounding.data : "", comma,
                  harmless.len ? harmless.data : "");
        goto done;
    }
    if (rounding.len) {
        log_root(LOG_WARN, "%s: allowed, but from here on the numbers are the old run's to rounding only: %s",
                 path, rounding.data);
    }
    if (harmless.len) {
        log_root(LOG_INFO, "%s: allowed, the numbers do not depend on it: %s", path, harmless.data);
    }
done:
    text_free(&fixed);
    text_free(&rounding);
    text_free(&harmless);
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

/* Collective. What every rank holds whole, each reads whole. optimizer: NULL for the parameters alone. */
static enum status read_arrays(struct comm *c, const char *path, struct model *m,
                               struct optimizer *optimizer) {
    struct parts parts = {0};
    enum status st = comm_agree(c, parts_open(c, m, optimizer, true, &parts));
    if (st == OK) {
        st = checkpoint_file_read(c, path, parts.arrays, parts.n);
    }
    if (st == OK) {
        st = parts_move(&parts, false);
    }
    if (st == OK) {
        st = model_refresh(m);
    }
    parts_close(&parts);
    return comm_agree(c, st);
}

enum status checkpoint_load_parameters(struct comm *c, const char *path, struct model *m) {
    return read_arrays(c, path, m, NULL);
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
        return OK;
    }
    TRY_TO(done, checkpoint_file_read_state(c, path, &json));
    TRY_TO(done, comm_agree(c, take_state(o, json, path, optimizer, state)));
    TRY_TO(done, read_arrays(c, path, optimizer->model, optimizer));
    TRY_TO(done, checkpoint_set_aside(c, o->run, step));
    *found = true;
done:
    mem_free(path);
    mem_free(json);
    return st;
}
