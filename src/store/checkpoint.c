#include "store/checkpoint.h"

#include "io/file.h"
#include "store/checkpoint_internal.h"
#include "util/log.h"
#include "util/mem.h"

enum { CHUNK = 1 << 20 }; /* values that are converted at a time */

/* Named arrays with what this rank moves of each on the host. */
struct parts {
    const struct named *named;
    struct checkpoint_array arrays[CHECKPOINT_ARRAYS];
    void
        *staging[CHECKPOINT_ARRAYS]; /* where files cannot be written from, or read into, the memory itself */
    int n;
};

/* What goes to the file of this rank's memory, or comes from it. */
static struct range moved(const struct parts *p, int i) {
    return p->arrays[i].shards ? (struct range){0, p->named[i].tensor.columns} : p->arrays[i].part;
}

/* The memory itself where it is the host's and of a type that files hold. */
static char *host_of(const struct named *a) {
    if (a->host) {
        return (char *)a->host;
    }
    return a->tensor.type == DTYPE_BF16 ? NULL : backend_host_address(a->backend, a->tensor.data);
}

/* Makes a place on the host. */
static enum status part_open(struct parts *p, int i) {
    struct checkpoint_array *a = &p->arrays[i];
    struct range mine = moved(p, i);
    char *host = host_of(&p->named[i]);
    if (host || mine.last == mine.first) {
        a->data = host ? host + mine.first * a->element_bytes : NULL;
        return OK;
    }
    p->staging[i] = mem_aligned(mine.last - mine.first, (size_t)a->element_bytes);
    a->data = p->staging[i];
    return mem_ok(a->data);
}

/* whole: this rank wants all of what every rank holds; otherwise its part. Local. */
static enum status parts_open(const struct comm *c, const struct named *named, int n, bool whole,
                              struct parts *p) {
    *p = (struct parts){.named = named};
    if (n > CHECKPOINT_ARRAYS) {
        return fail(ERR_INTERNAL, "a checkpoint of %d arrays; there is room for %d", n, CHECKPOINT_ARRAYS);
    }
    for (p->n = 0; p->n < n; p->n++) {
        const struct named *from = &named[p->n];
        bool is_double = from->host || from->tensor.type == DTYPE_F64;
        p->arrays[p->n] = (struct checkpoint_array){
            .name = from->name,
            .elements = from->elements,
            .part = whole ? (struct range){0, from->elements} : range_part(from->elements, c->rank, c->size),
            .element_bytes = (int)(is_double ? sizeof(double) : sizeof(float)),
            .shards = from->shards,
        };
        TRY(part_open(p, p->n));
    }
    return OK;
}

static void parts_close(struct parts *p) {
    for (int i = 0; i < CHECKPOINT_ARRAYS; i++) {
        mem_free(p->staging[i]);
    }
}

/* bf16 values of a back end from or to fp32 of the host. */
static enum status convert(const struct named *a, struct range mine, float *host, bool to_host) {
    double *wide;
    enum status st = OK;
    TRY(NEW_ARRAY(wide, CHUNK));
    for (int64_t first = mine.first; first < mine.last && st == OK; first += CHUNK) {
        int64_t n = mine.last - first < CHUNK ? mine.last - first : CHUNK;
        float *at = host + (first - mine.first);
        struct tensor values = tensor_columns(a->tensor, first, n);
        for (int64_t i = 0; i < n && !to_host; i++) {
            wide[i] = (double)at[i];
        }
        st = to_host ? backend_read_doubles(a->backend, wide, values)
                     : backend_write_doubles(a->backend, values, wide);
        for (int64_t i = 0; i < n && to_host && st == OK; i++) {
            at[i] = (float)wide[i];
        }
    }
    mem_free(wide);
    return st;
}

/* Between a back end's memory and its staging. */
static enum status part_move(const struct parts *p, int i, bool to_host) {
    const struct named *a = &p->named[i];
    struct range mine = moved(p, i);
    int size = p->arrays[i].element_bytes;
    if (!p->staging[i]) {
        return a->backend ? backend_sync(a->backend) : OK;
    }
    if (a->tensor.type == DTYPE_BF16) {
        return convert(a, mine, p->staging[i], to_host);
    }
    char *device = (char *)a->tensor.data + mine.first * size;
    int64_t bytes = (mine.last - mine.first) * size;
    return to_host ? backend_read(a->backend, p->staging[i], device, bytes)
                   : backend_write(a->backend, device, p->staging[i], bytes);
}

/* Local. */
static enum status parts_move(const struct parts *p, bool to_host) {
    for (int i = 0; i < p->n; i++) {
        TRY(part_move(p, i, to_host));
    }
    return OK;
}

/* Local. Rank 0 makes the folder. */
static enum status make_path(const struct comm *c, const struct checkpoint_options *o, int64_t step,
                             struct text *path) {
    TRY(text_printf(path, "%s/checkpoints", o->run));
    TRY(c->rank == 0 ? folder_make(path->data) : OK);
    return text_printf(path, "/step-%lld.h5", (long long)step);
}

enum status checkpoint_save(struct comm *c, const struct checkpoint_options *o,
                            const struct checkpoint_contents *contents, enum status made) {
    struct text json = {0};
    struct text path = {0};
    struct parts parts = {0};
    enum status st = made;
    st = st == OK ? parts_open(c, contents->arrays, contents->n_arrays, false, &parts) : st;
    st = st == OK ? parts_move(&parts, true) : st;
    st = st == OK ? lease_check(o->lease) : st;
    st = st == OK ? make_path(c, o, contents->step, &path) : st;
    st = st == OK ? checkpoint_print_state(o, &contents->state, &json) : st;
    TRY_TO(done, comm_agree(c, st));
    TRY_TO(done, checkpoint_file_write(c, path.data, json.data, parts.arrays, parts.n));
    TRY_TO(done, comm_agree(c, lease_check(o->lease))); /* the writing may have taken long */
    TRY_TO(done, checkpoint_prune(c, o->run, o->keep));
    log_root(LOG_INFO, "checkpoint %s", path.data);
done:
    parts_close(&parts);
    text_free(&json);
    text_free(&path);
    return st;
}

enum status checkpoint_read(struct comm *c, const char *path, const struct named *arrays, int n) {
    struct parts parts = {0};
    enum status st = comm_agree(c, parts_open(c, arrays, n, true, &parts));
    if (st == OK) {
        st = checkpoint_file_read(c, path, parts.arrays, parts.n);
    }
    if (st == OK) {
        st = comm_agree(c, parts_move(&parts, false));
    }
    parts_close(&parts);
    return st;
}

enum status checkpoint_load(struct comm *c, const struct checkpoint_options *o, const struct named *arrays,
                            int n, struct checkpoint_found *out) {
    TRY(checkpoint_find(c, o, out));
    if (!out->path) {
        return OK;
    }
    enum status st = checkpoint_read(c, out->path, arrays, n);
    if (st == OK) {
        st = checkpoint_set_aside(c, o->run, out->step);
    }
    if (st != OK) {
        checkpoint_found_close(out);
    }
    return st;
}
