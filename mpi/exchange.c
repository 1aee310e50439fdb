/* Collectives whose counts differ between ranks. */
#include <string.h>

#include "mpi/comm_internal.h"
#include "mpi/watchdog.h"
#include "util/mem.h"

/* One broadcast after the other: for results too large for int displacements. */
static enum status gather_large(struct lane *l, const void *send, char *recv, const int64_t *counts) {
    int64_t piece = lane_piece(l, 1);
    for (int r = 0; r < l->size; r++) {
        if (r == l->rank && counts[r] > 0) {
            memcpy(recv, send, (size_t)counts[r]);
        }
        for (int64_t first = 0; first < counts[r]; first += piece) {
            int n = (int)(counts[r] - first < piece ? counts[r] - first : piece);
            TRY(mpi_ok(MPI_Bcast(recv + first, n, MPI_BYTE, r, l->comm), "MPI_Bcast"));
            watchdog_moves(l->watchdog);
        }
        recv += counts[r];
    }
    return OK;
}

enum status comm_gather_bytes(struct comm *c, const void *send, int64_t bytes, void *recv,
                              const int64_t *counts) {
    struct lane *l = &c->mpi->world;
    int64_t total = 0;
    for (int r = 0; r < c->size; r++) {
        TRY(size_add(total, counts[r], "gathered bytes", &total));
    }
    lane_begin(l, "gather", total);
    if (counts[c->rank] != bytes) { /* the caller's counts are wrong: the others are already waiting */
        fail(ERR_INTERNAL, "comm_gather_bytes: %lld bytes to send, but the counts say %lld", (long long)bytes,
             (long long)counts[c->rank]);
        comm_abort(c, ERR_INTERNAL);
    }
    l->bytes += (double)total * (l->size - 1) / l->size;
    if (total > l->piece_bytes) {
        TRY(gather_large(l, send, recv, counts));
        lane_end(l);
        return OK;
    }
    int *n;
    if (NEW_ARRAY(n, 2 * (int64_t)c->size) != OK) {
        comm_abort(c, ERR_SYSTEM);
    }
    int *at = n + c->size;
    for (int r = 0, sum = 0; r < c->size; r++) {
        n[r] = (int)counts[r];
        at[r] = sum;
        sum += n[r];
    }
    enum status st =
        mpi_ok(MPI_Allgatherv(send, (int)bytes, MPI_BYTE, recv, n, at, MPI_BYTE, l->comm), "MPI_Allgatherv");
    lane_end(l);
    mem_free(n);
    return st;
}

enum status comm_gather_i64(struct comm *c, int64_t value, int64_t *values) {
    struct lane *l = &c->mpi->world;
    lane_begin(l, "gather one", 1);
    TRY(mpi_ok(MPI_Allgather(&value, 1, MPI_INT64_T, values, 1, MPI_INT64_T, l->comm), "MPI_Allgather"));
    lane_end(l);
    return OK;
}

enum status comm_gather_all(struct comm *c, const void *mine, int64_t n, size_t size, void *out,
                            int64_t *total) {
    int64_t *counts = NULL;
    char *all = NULL;
    *total = 0;
    enum status st = comm_agree(c, NEW_ARRAY(counts, c->size));
    st = st == OK ? comm_gather_i64(c, n, counts) : st;
    for (int r = 0; r < c->size && st == OK; r++) {
        *total += counts[r];
        counts[r] *= (int64_t)size;
    }
    if (st == OK) {
        all = mem_calloc(*total > 0 ? *total : 1, size);
        st = comm_agree(c, mem_ok(all));
    }
    st = st == OK ? comm_gather_bytes(c, n > 0 ? mine : "", n * (int64_t)size, all, counts) : st;
    mem_free(counts);
    if (st != OK) {
        mem_free(all);
        all = NULL;
    }
    memcpy(out, &all, sizeof all);
    return st;
}

struct stream {
    char *data;
    int64_t bytes;
    int peer;
};

static int piece_of(const struct stream *s, int64_t first, int64_t piece) {
    int64_t left = s->bytes - first;
    return (int)(left < 0 ? 0 : left < piece ? left : piece);
}

/* Both directions of one round, piece by piece. Every rank posts its p-th receive and send together, so the
 * p-th pieces complete everywhere before the next: no deadlock, and bounded buffering. */
static enum status exchange_round(struct lane *l, const struct stream *out, const struct stream *in) {
    int64_t piece = lane_piece(l, 1);
    int64_t longest = out->bytes > in->bytes ? out->bytes : in->bytes;
    for (int64_t first = 0; first < longest; first += piece) {
        int n_in = piece_of(in, first, piece), n_out = piece_of(out, first, piece);
        MPI_Request requests[2];
        int n = 0;
        if (n_in > 0) {
            TRY(mpi_ok(MPI_Irecv(in->data + first, n_in, MPI_BYTE, in->peer, 0, l->comm, &requests[n++]),
                       "MPI_Irecv"));
        }
        if (n_out > 0) {
            TRY(mpi_ok(MPI_Isend(out->data + first, n_out, MPI_BYTE, out->peer, 0, l->comm, &requests[n++]),
                       "MPI_Isend"));
        }
        TRY(mpi_ok(MPI_Waitall(n, requests, MPI_STATUSES_IGNORE), "MPI_Waitall"));
        watchdog_moves(l->watchdog);
    }
    return OK;
}

static int64_t sum_before(const int64_t *counts, int rank) {
    int64_t sum = 0;
    for (int r = 0; r < rank; r++) {
        sum += counts[r];
    }
    return sum;
}

enum status comm_exchange(struct comm *c, const void *send, const int64_t *send_counts, void *recv,
                          const int64_t *recv_counts) {
    struct lane *l = &c->mpi->world;
    lane_begin(l, "exchange", -1);
    for (int step = 0; step < c->size; step++) {
        int to = (c->rank + step) % c->size, from = (c->rank - step + c->size) % c->size;
        struct stream out = {(char *)(uintptr_t)send + sum_before(send_counts, to), send_counts[to], to};
        struct stream in = {(char *)recv + sum_before(recv_counts, from), recv_counts[from], from};
        if (step > 0) {
            TRY(exchange_round(l, &out, &in));
            l->bytes += (double)out.bytes;
        } else if (in.bytes != out.bytes) {
            fail(ERR_INTERNAL, "comm_exchange: a rank sends itself %lld bytes but expects %lld",
                 (long long)out.bytes, (long long)in.bytes);
            comm_abort(c, ERR_INTERNAL);
        } else if (in.bytes > 0) {
            memcpy(in.data, out.data, (size_t)in.bytes);
        }
    }
    lane_end(l);
    return OK;
}
