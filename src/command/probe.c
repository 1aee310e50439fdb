#include "command/probe.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "io/file.h"
#include "store/checkpoint_file.h"
#include "util/clock.h"
#include "util/mem.h"

struct probe {
    struct comm *c;
    const char *folder;
    struct text path;
    struct checkpoint_array array;
    float *values;
    int64_t n; /* elements of a rank */
};

/* Whole numbers below 2^24, exact in fp32. */
static float value_at(int64_t i) {
    return (float)((i * 2654435761LL) % 16777213);
}

/* Local: the first rank of each host. */
static enum status see_folder(const struct probe *p, const char *first_host) {
    if (p->c->node_rank == 0 && access(p->folder, F_OK) != 0) {
        return fail(ERR_WRITE, "%s: is there on %s, not on %s; every host must see the same folder",
                    p->folder, first_host, p->c->host);
    }
    return OK;
}

/* The file is called as a temporary one, so that one that a killed process left is known for what it is. */
static enum status fill(struct probe *p) {
    struct text path = {0};
    enum status st = text_printf(&path, "%s/probe.h5", p->folder);
    st = st == OK ? file_temporary(path.data, p->c->owner, &p->path) : st;
    text_free(&path);
    TRY(st);
    TRY(NEW_ARRAY(p->values, p->n));
    p->array = (struct checkpoint_array){.name = "parameters",
                                         .elements = p->n * p->c->size,
                                         .part = range_part(p->n * p->c->size, p->c->rank, p->c->size),
                                         .element_bytes = sizeof(float),
                                         .data = p->values};
    for (int64_t i = 0; i < p->n; i++) {
        p->values[i] = value_at(p->array.part.first + i);
    }
    return OK;
}

/* Local. What another rank wrote: on another host, where ranks are dealt in turn or by node. */
static enum status compare(const struct probe *p) {
    for (int64_t i = 0; i < p->n; i++) {
        if (p->values[i] != value_at(p->array.part.first + i)) {
            return fail(ERR_WRITE, "%s: rank %d reads %g at element %lld, not what was written", p->path.data,
                        p->c->rank, (double)p->values[i], (long long)(p->array.part.first + i));
        }
    }
    return OK;
}

/* Collective. */
static enum status write_and_read(struct probe *p, struct probe_report *out) {
    struct comm *c = p->c;
    char host[sizeof c->host];
    memcpy(host, c->host, sizeof host);
    TRY(comm_broadcast(c, 0, host, sizeof host));
    TRY(comm_agree(c, see_folder(p, host)));
    TRY(comm_agree(c, fill(p)));
    double began = clock_seconds();
    TRY(checkpoint_file_write(c, p->path.data, "{}", &p->array, 1));
    out->write_s = clock_seconds() - began;
    /* Half the ranks further, so that with several hosts it is another one's. */
    p->array.part = range_part(p->array.elements, (c->rank + (c->size + 1) / 2) % c->size, c->size);
    memset(p->values, 0, (size_t)p->n * sizeof *p->values);
    began = clock_seconds();
    enum status st = checkpoint_file_read(c, p->path.data, &p->array, 1);
    if (st == ERR_INPUT && c->size > c->node_size) {
        note("writing and reading at %s; every host must see the same folder", p->folder);
    }
    TRY(st);
    TRY(comm_agree(c, compare(p)));
    out->read_s = clock_seconds() - began;
    return OK;
}

static enum status remove_file(const struct probe *p) {
    if (p->c->rank != 0 || p->path.len == 0 || unlink(p->path.data) == 0 || errno == ENOENT) {
        return OK;
    }
    return fail(ERR_WRITE, "%s: cannot be removed: %s", p->path.data, strerror(errno));
}

enum status probe_folder(struct comm *c, const char *folder, int64_t bytes, struct probe_report *out) {
    struct probe p = {.c = c, .folder = folder, .n = bytes / (int64_t)sizeof(float) + 1};
    *out = (struct probe_report){.bytes = (double)p.n * c->size * sizeof(float)};
    enum status st = write_and_read(&p, out);
    const struct message failure = *status_message();
    enum status removed = comm_agree(c, remove_file(&p));
    if (st != OK) {
        status_set(&failure);
    }
    text_free(&p.path);
    mem_free(p.values);
    return st == OK ? removed : st;
}
