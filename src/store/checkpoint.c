#include "store/checkpoint.h"

#include "store/checkpoint_internal.h"
#include "util/json.h"
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
static enum status parts_open(struct comm *c, struct arena *a, struct optimizer *o, bool whole,
                              struct parts *p) {
    struct tensor *state[2];
    const char *names[2];
    int n_state = o ? optimizer_state(o, state, names) : 0;
    *p = (struct parts){.backend = a->backend, .n = 1 + n_state};
    for (int i = 0; i < p->n; i++) {
        struct checkpoint_array *to = &p->arrays[i];
        p->tensors[i] = i == 0 ? a->master : *state[i - 1];
        to->name = i == 0 ? "parameters" : names[i - 1];
        to->elements = a->elements;
        to->element_bytes = (int)dtype_size(p->tensors[i].type);
        to->shards = i > 0 && optimizer_is_sharded(o) ? &o->shards : NULL;
        to->part = whole ? (struct range){0, to->elements} : range_part(to->elements, c->rank, c->size);
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

static enum status print_state(const struct optimizer *optimizer, const struct checkpoint_state *s,
                               struct text *out) {
    TRY(text_printf(out, "\"step\": %lld, \"total\": %lld, \"updates\": %lld, \"sequence_tokens\": ",
                    (long long)s->step, (long long)s->total, (long long)optimizer->updates));
    TRY(text_json_number(out, s->sequence_tokens));
    return text_puts(out, ", \"random\": \"stateless: Philox of (seed, purpose, row, step)\"");
}

enum status checkpoint_save(struct comm *c, const struct checkpoint_options *o, struct optimizer *optimizer,
                            const struct checkpoint_state *state) {
    struct checkpoint_contents contents = {.step = state->step};
    struct parts parts = {0};
    enum status st = print_state(optimizer, state, &contents.state);
    st = st == OK ? parts_open(c, optimizer->arena, optimizer, false, &parts) : st;
    st = st == OK ? parts_move(&parts, true) : st;
    contents.arrays = parts.arrays;
    contents.n_arrays = parts.n;
    st = checkpoint_write(c, o, &contents, st);
    parts_close(&parts);
    text_free(&contents.state);
    return st;
}

static enum status take_state(const struct checkpoint_found *f, struct optimizer *optimizer,
                              struct checkpoint_state *state) {
    TRY(json_take_int(f->state, "step", f->path, &state->step));
    TRY(json_take_int(f->state, "total", f->path, &state->total));
    TRY(json_take_int(f->state, "updates", f->path, &optimizer->updates));
    return json_take_number(f->state, "sequence_tokens", f->path, &state->sequence_tokens);
}

/* Collective. What every rank holds whole, each reads whole. optimizer: NULL for the parameters alone. */
static enum status read_arrays(struct comm *c, const char *path, struct arena *a,
                               struct optimizer *optimizer) {
    struct parts parts = {0};
    enum status st = comm_agree(c, parts_open(c, a, optimizer, true, &parts));
    if (st == OK) {
        st = checkpoint_file_read(c, path, parts.arrays, parts.n);
    }
    if (st == OK) {
        st = parts_move(&parts, false);
    }
    if (st == OK) {
        st = arena_refresh(a);
    }
    parts_close(&parts);
    return comm_agree(c, st);
}

enum status checkpoint_load_parameters(struct comm *c, const char *path, struct arena *a) {
    return read_arrays(c, path, a, NULL);
}

enum status checkpoint_load(struct comm *c, const struct checkpoint_options *o, struct optimizer *optimizer,
                            struct checkpoint_state *state, bool *found) {
    struct checkpoint_found from;
    enum status st;
    TRY(checkpoint_find(c, o, &from));
    *found = from.path != NULL;
    if (!from.path) {
        return OK;
    }
    TRY_TO(done, comm_agree(c, take_state(&from, optimizer, state)));
    TRY_TO(done, read_arrays(c, from.path, optimizer->arena, optimizer));
    TRY_TO(done, checkpoint_set_aside(c, o->run, from.step));
done:
    checkpoint_found_close(&from);
    return st;
}
