/* One verdict for all ranks, and the check that they all march in step. */
#include <stdio.h>
#include <string.h>

#include "mpi/comm_internal.h"
#include "mpi/watchdog.h"
#include "util/hash.h"
#include "util/mem.h"

/* Marks a message that is already every rank's, so that agreeing again further up adds no second prefix. */
static const char agreed_mark[] = "all ranks";

struct agreement {
    int32_t code, line, agreed;
    char host[sizeof((struct comm *)0)->host];
    char text[sizeof((struct message *)0)->text];
};

static void own_agreement(const struct comm *c, enum status st, struct agreement *v) {
    const struct message *m = status_message();
    bool fits = m->code == st && m->text[0];
    v->code = st;
    v->line = fits ? m->line : 0;
    v->agreed = fits && m->file == agreed_mark;
    snprintf(v->host, sizeof v->host, "%s", c->host);
    snprintf(v->text, sizeof v->text, "%s", fits ? m->text : status_name(st));
}

static void adopt(const struct comm *c, const struct agreement *v, int rank, int others) {
    struct message m = {.code = (enum status)v->code, .file = agreed_mark, .line = v->line};
    char more[32] = "";
    if (others > 0) {
        snprintf(more, sizeof more, " (and %d more)", others);
    }
    if (c->size == 1 || v->agreed) {
        snprintf(m.text, sizeof m.text, "%s", v->text);
    } else {
        snprintf(m.text, sizeof m.text, "rank %d of %d on %s%s: %.880s", rank, c->size, v->host, more,
                 v->text);
    }
    status_set(&m);
}

enum status comm_verdict(struct comm *c, enum status st) {
    struct lane *l = &c->mpi->world;
    struct {
        int fine, rank;
    } mine = {st == OK, c->rank}, lowest;
    lane_begin(l, "agree", 1);
    if (st != OK) {
        /* The others may be in a collective that failed here alone: the watchdog has to say why. */
        watchdog_failed(l->watchdog, status_message()->text);
    }
    TRY(mpi_ok(MPI_Allreduce(&mine, &lowest, 1, MPI_2INT, MPI_MINLOC, l->comm), "MPI_Allreduce"));
    lane_end(l);
    if (lowest.fine) {
        return OK;
    }
    int failed = st != OK;
    TRY(mpi_ok(MPI_Allreduce(MPI_IN_PLACE, &failed, 1, MPI_INT, MPI_SUM, l->comm), "MPI_Allreduce"));
    struct agreement v = {0};
    if (lowest.rank == c->rank) {
        own_agreement(c, st, &v);
    }
    TRY(mpi_ok(MPI_Bcast(&v, sizeof v, MPI_BYTE, lowest.rank, l->comm), "MPI_Bcast"));
    adopt(c, &v, lowest.rank, failed - 1);
    return (enum status)v.code;
}

/* Names the lowest rank whose value differs from rank 0's. Every rank comes here, and says the same. */
static enum status name_difference(struct comm *c, uint64_t value, const char *what) {
    struct lane *l = &c->mpi->world;
    uint64_t root = value;
    TRY(mpi_ok(MPI_Bcast(&root, 1, MPI_UINT64_T, 0, l->comm), "MPI_Bcast"));
    struct {
        int same, rank;
    } mine = {value == root, c->rank}, lowest;
    TRY(mpi_ok(MPI_Allreduce(&mine, &lowest, 1, MPI_2INT, MPI_MINLOC, l->comm), "MPI_Allreduce"));
    uint64_t other = value;
    TRY(mpi_ok(MPI_Bcast(&other, 1, MPI_UINT64_T, lowest.rank, l->comm), "MPI_Bcast"));
    struct message m = {.code = ERR_INTERNAL, .file = agreed_mark, .line = __LINE__};
    snprintf(m.text, sizeof m.text,
             "%.400s differs between ranks: 0x%016llx on rank 0, 0x%016llx on rank %d of %d; the ranks "
             "must see the same files and settings",
             what, (unsigned long long)root, (unsigned long long)other, lowest.rank, c->size);
    status_set(&m);
    return ERR_INTERNAL;
}

enum status comm_same(struct comm *c, uint64_t value, const char *what) {
    uint64_t bounds[2] = {value, ~value}; /* max of ~value is ~min */
    TRY(lane_allreduce(&c->mpi->world, bounds, 2, MPI_UINT64_T, MPI_MAX));
    return bounds[0] == ~bounds[1] ? OK : name_difference(c, value, what);
}

/* Where a rank stands, for the lockstep message. */
struct place {
    char kind[24];
    uint64_t sequence;
    int64_t count;
};

static void report_places(const struct lane *l, const struct place *mine) {
    struct place *places;
    if (NEW_ARRAY(places, l->size) == OK &&
        MPI_Gather(mine, sizeof *mine, MPI_BYTE, places, sizeof *mine, MPI_BYTE, 0, l->check) ==
            MPI_SUCCESS &&
        l->rank == 0) {
        char text[900];
        size_t used = 0;
        text[0] = '\0';
        for (int r = 0; r < l->size && used < sizeof text; r++) {
            used += (size_t)snprintf(text + used, sizeof text - used, "%srank %d: %s of %lld", r ? ", " : "",
                                     r, places[r].kind, (long long)places[r].count);
        }
        fprintf(stderr, "collimate: ranks are out of step at collective %llu of \"%s\": %s\n",
                (unsigned long long)mine->sequence, l->name, text);
        fflush(stderr);
        MPI_Abort(l->check, ERR_INTERNAL);
    }
    mem_free(places);
    MPI_Barrier(l->check); /* until rank 0 ends us */
}

/* PETSc's check: MAX over {h, ~h} shows in one reduction whether all h are equal. The hash covers the number
 * of the call, its kind and count, so that a rank that skipped one is caught at once and not after the sums
 * have gone wrong. */
void lane_check(struct lane *l, const char *kind, int64_t count) {
    l->sequence++;
    if (l->check == MPI_COMM_NULL) {
        return;
    }
    struct place mine = {.sequence = l->sequence, .count = count};
    snprintf(mine.kind, sizeof mine.kind, "%s", kind);
    uint64_t h = hash_bytes(&mine, sizeof mine, 0);
    uint64_t bounds[2] = {h, ~h};
    if (MPI_Allreduce(MPI_IN_PLACE, bounds, 2, MPI_UINT64_T, MPI_MAX, l->check) != MPI_SUCCESS ||
        bounds[0] != ~bounds[1]) {
        report_places(l, &mine);
    }
}
