#include "mpi/collective_times.h"

#include <string.h>

#include "mpi/comm_internal.h"
#include "util/clock.h"
#include "util/mem.h"

enum status collective_times_start(struct comm *c) {
    struct comm_private *p = c->mpi;
    if (!p->times) {
        TRY(NEW_ARRAY(p->times, 1));
    }
    *p->times = (struct comm_times){0};
    p->world.times = &p->times->world;
    return OK;
}

void lane_times_begin(struct lane *l, const char *kind) {
    if (l->times) {
        l->times->kind = kind;
        l->times->bytes = l->bytes;
        l->times->began = clock_seconds();
    }
}

/* The row of a kind: a new one where it is the first of its kind, the last one where there are too many. */
static struct collective_time *row_of(struct lane_times *t, const char *line) {
    for (int i = 0; i < t->n; i++) {
        if (strcmp(t->rows[i].kind, t->kind) == 0) {
            return &t->rows[i];
        }
    }
    if (t->n == LANE_KINDS) {
        t->rows[LANE_KINDS - 1].kind = "others";
        return &t->rows[LANE_KINDS - 1];
    }
    t->rows[t->n] = (struct collective_time){.line = line, .kind = t->kind};
    return &t->rows[t->n++];
}

void lane_times_end(struct lane *l) {
    if (l->times) {
        struct collective_time *row = row_of(l->times, l->name);
        row->calls++;
        row->seconds += clock_seconds() - l->times->began;
        row->bytes += l->bytes - l->times->bytes;
    }
}

int collective_times_read(const struct comm *c, struct collective_time out[COLLECTIVE_TIMES]) {
    const struct comm_times *t = c->mpi->times;
    int n = 0;
    for (int i = 0; t && i < t->world.n; i++) {
        out[n++] = t->world.rows[i];
    }
    for (int i = 0; t && i < t->buckets.n; i++) {
        out[n] = t->buckets.rows[i];
        out[n++].is_beside = t->buckets_have_thread;
    }
    return n;
}
