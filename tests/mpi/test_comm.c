/* Collectives against closed forms, on any number of ranks, with counts that span several pieces. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mpi/collective_times.h"
#include "mpi/comm.h"
#include "mpi/comm_handle.h"
#include "mpi/comm_internal.h"
#include "tests/check.h"
#include "util/mem.h"

static void test_reductions(struct comm *c) {
    enum { N = 1000 };
    double f[N];
    int64_t i64[N];
    int p = c->size;
    for (int i = 0; i < N; i++) {
        f[i] = i + c->rank;
        i64[i] = (int64_t)i << 33 | c->rank;
    }
    CHECK(comm_sum_f64(c, f, N) == OK);
    CHECK(comm_max_i64(c, i64, N) == OK);
    for (int i = 0; i < N; i++) {
        CHECK(f[i] == (double)i * p + p * (p - 1) / 2.0);
        CHECK(i64[i] == ((int64_t)i << 33 | (p - 1)));
    }
    int64_t low = 100 + c->rank, sum = c->rank + 1;
    double high = -1.0 - c->rank;
    CHECK(comm_min_i64(c, &low, 1) == OK && low == 100);
    CHECK(comm_sum_i64(c, &sum, 1) == OK && sum == p * (p + 1) / 2);
    CHECK(comm_max_f64(c, &high, 1) == OK && high == -1.0);
    CHECK(comm_sum_f64(c, NULL, 0) == OK);
}

static void test_broadcast(struct comm *c) {
    char data[1001];
    memset(data, c->rank, sizeof data);
    CHECK(comm_broadcast(c, c->size - 1, data, sizeof data) == OK);
    for (size_t i = 0; i < sizeof data; i++) {
        CHECK(data[i] == c->size - 1);
    }
}

static void test_scan(struct comm *c) {
    int64_t before, total;
    CHECK(comm_scan_i64(c, c->rank + 1, &before, &total) == OK);
    CHECK(before == (int64_t)c->rank * (c->rank + 1) / 2);
    CHECK(total == (int64_t)c->size * (c->size + 1) / 2);
}

/* Rank r sends 100 r bytes of value r: rank 0 none. */
static void test_gather(struct comm *c) {
    int64_t counts[64], bytes = 100 * (int64_t)c->rank;
    CHECK(comm_gather_i64(c, bytes, counts) == OK);
    char send[6400], recv[64 * 6400 / 2];
    memset(send, 'a' + c->rank, sizeof send);
    CHECK(comm_gather_bytes(c, send, bytes, recv, counts) == OK);
    int64_t at = 0;
    for (int r = 0; r < c->size; r++) {
        CHECK(counts[r] == 100 * r);
        for (int64_t i = 0; i < counts[r]; i++) {
            CHECK(recv[at++] == 'a' + r);
        }
    }
}

/* Rank r has r elements. */
static void test_gather_all(struct comm *c) {
    int64_t mine[64], n;
    int64_t *all = NULL;
    for (int i = 0; i < c->rank; i++) {
        mine[i] = 100 * c->rank + i;
    }
    CHECK(comm_gather_all(c, c->rank > 0 ? mine : NULL, c->rank, sizeof *mine, &all, &n) == OK);
    CHECK(n == (int64_t)c->size * (c->size - 1) / 2);
    for (int64_t r = 0, at = 0; r < c->size; r++) {
        for (int64_t i = 0; i < r; i++) {
            CHECK(all[at++] == 100 * r + i);
        }
    }
    mem_free(all);
}

/* Rank r sends 10 (r + 1) + to bytes to rank `to`; odd ranks receive nothing from rank 0. */
static int64_t share(int from, int to) {
    return from == 0 && to % 2 ? 0 : 10 * (from + 1) + to;
}

static void test_exchange(struct comm *c) {
    int64_t send_counts[64], recv_counts[64];
    char send[4096], recv[4096];
    int64_t at = 0;
    for (int r = 0; r < c->size; r++) {
        send_counts[r] = share(c->rank, r);
        recv_counts[r] = share(r, c->rank);
        memset(send + at, 16 * c->rank + r, (size_t)send_counts[r]);
        at += send_counts[r];
    }
    CHECK(comm_exchange(c, send, send_counts, recv, recv_counts) == OK);
    at = 0;
    for (int r = 0; r < c->size; r++) {
        for (int64_t i = 0; i < recv_counts[r]; i++) {
            CHECK((unsigned char)recv[at++] == 16 * r + c->rank);
        }
    }
}

static void test_ranges(void) {
    for (int64_t n = 0; n < 20; n++) {
        int64_t next = 0;
        for (int i = 0; i < 7; i++) {
            struct range r = range_part(n, i, 7);
            CHECK(r.first == next && r.last - r.first >= n / 7 && r.last - r.first <= (n + 6) / 7);
            next = r.last;
        }
        CHECK(next == n);
    }
    struct range r = range_part((int64_t)1 << 40, 1, 2);
    CHECK(r.first == (int64_t)1 << 39 && r.last == (int64_t)1 << 40);
}

/* Times by kind, from the moment that they are asked for. */
static void test_times(struct comm *c) {
    struct collective_time times[COLLECTIVE_TIMES];
    char data[1000] = "";
    double values[10] = {0};
    CHECK(collective_times_read(c, times) == 0);
    CHECK(collective_times_start(c) == OK);
    CHECK(comm_broadcast(c, 0, data, sizeof data) == OK);
    CHECK(comm_barrier(c) == OK);
    CHECK(comm_sum_f64(c, values, 10) == OK && comm_sum_f64(c, values, 5) == OK);
    int n = collective_times_read(c, times);
    CHECK(n == 3);
    static const char *const kinds[] = {"broadcast", "barrier", "allreduce"};
    static const int64_t calls[] = {1, 1, 2};
    double share = (double)(c->size - 1) / c->size; /* of a ring's traffic */
    const double bytes[] = {1000 * share, 0, 2 * 15 * 8 * share};
    for (int i = 0; i < n; i++) {
        CHECK(strcmp(times[i].line, "world") == 0 && strcmp(times[i].kind, kinds[i]) == 0);
        CHECK(times[i].calls == calls[i] && !times[i].is_beside);
        CHECK(fabs(times[i].bytes - bytes[i]) < 1e-9);
        CHECK(times[i].seconds >= 0 && times[i].seconds < 100);
    }
}

int main(int argc, char **argv) {
    struct comm *c;
    setenv("COLLIMATE_CHECK", "collectives", 1);
    if (comm_start(&argc, &argv, &c) != OK) {
        return 1;
    }
    CHECK(strlen(comm_library()) > 3 && c->host[0]);
    CHECK(c->node_size >= 1 && c->node_rank < c->node_size && c->rank < c->size);
    CHECK(comm_file_handle(c) != MPI_COMM_NULL && comm_file_handle(c) != MPI_COMM_WORLD);
    int64_t pieces[] = {(int64_t)1 << 30, 97};
    for (int i = 0; i < COUNT_OF(pieces); i++) {
        c->mpi->world.piece_bytes = pieces[i];
        test_reductions(c);
        test_broadcast(c);
        test_scan(c);
        test_gather(c);
        test_gather_all(c);
        test_exchange(c);
        CHECK(comm_barrier(c) == OK);
    }
    test_ranges();
    test_times(c);
    comm_finish(c);
    return failures != 0;
}
