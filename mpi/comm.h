/* Ranks and what they say to each other. The only room that calls MPI.
 *
 * Every function says Collective or Local. MPI errors stay fatal (Open MPI 4.1 has no recovery from a lost
 * rank); what these functions return concerns this program's own failures. Communicators are dup'ed per
 * purpose, so that a communication thread and the main line never meet. Counts are int64 and cut into
 * pieces. One rank without mpirun is a world of one.
 */
#ifndef COLLIMATE_MPI_COMM_H
#define COLLIMATE_MPI_COMM_H

#include <stddef.h>
#include <stdint.h>

#include "util/process.h"
#include "util/status.h"

struct comm_private;
struct watchdog;
struct comm {
    int rank, size;
    int node_rank, node_size; /* among the ranks of this host */
    char host[64];
    char owner[PROCESS_NAME]; /* rank 0, as process_name() says: whose this job's files are */
    struct comm_private *mpi;
    struct watchdog *watchdog; /* NULL: none; watchdog.h */
};

/* Collective. Starts MPI (thread level MULTIPLE; a lower level is accepted and noted) and makes the world. */
enum status comm_start(int *argc, char ***argv, struct comm **out);
/* Collective. Ends MPI. */
void comm_finish(struct comm *c);
/* Local: ends every rank at once, for when nobody may be listening. Prints the current message once per job
 * where it can (first rank to get there). Never returns. */
void comm_abort(struct comm *c, enum status code);
/* Library and header version, one line. Local; works before comm_start. */
const char *comm_library(void);
/* Local. MPI reads and writes a device's memory by itself (Open MPI with CUDA says so; others: false). */
bool comm_takes_device_memory(void);

/* Collective. All in place; every rank gets the result. */
enum status comm_barrier(struct comm *c);
enum status comm_sum_f64(struct comm *c, double *values, int64_t n);
enum status comm_sum_i64(struct comm *c, int64_t *values, int64_t n);
enum status comm_sum_u64(struct comm *c, uint64_t *values, int64_t n); /* modulo 2^64 */
enum status comm_max_f64(struct comm *c, double *values, int64_t n);
enum status comm_max_i64(struct comm *c, int64_t *values, int64_t n);
enum status comm_min_i64(struct comm *c, int64_t *values, int64_t n);
enum status comm_broadcast(struct comm *c, int root, void *data, int64_t bytes);
/* *before = sum of value over lower ranks, *total = over all. */
enum status comm_scan_i64(struct comm *c, int64_t value, int64_t *before, int64_t *total);
/* counts[size] bytes per rank; recv holds their sum, in rank order. */
enum status comm_gather_bytes(struct comm *c, const void *send, int64_t bytes, void *recv,
                              const int64_t *counts);
enum status comm_gather_i64(struct comm *c, int64_t value, int64_t *values /* size */);
/* n elements of `size` bytes of each rank, in rank order, in memory that is theirs: mem_free. out is NULL
 * after a failure. */
enum status comm_gather_all(struct comm *c, const void *mine, int64_t n, size_t size, void *out /* T ** */,
                            int64_t *total);
/* send_counts/recv_counts[size] in bytes, buffers in rank order. */
enum status comm_exchange(struct comm *c, const void *send, const int64_t *send_counts, void *recv,
                          const int64_t *recv_counts);

/* Collective. One verdict for all ranks: OK if st is OK everywhere; otherwise every rank returns the lowest
 * failing rank's code and holds its message ("rank 2 of 4 on node07 (and 1 more): …"; no prefix for one
 * rank). */
enum status comm_verdict(struct comm *c, enum status st);
static inline enum status comm_agree(struct comm *c, enum status st) {
    enum status verdict = comm_verdict(c, st);
    return verdict == OK ? st : verdict; /* st is OK then: shown to compilers and to static analysis */
}

/* Collective. Fails with ERR_INTERNAL naming `what` if value differs between ranks. */
enum status comm_same(struct comm *c, uint64_t value, const char *what);

/* Ranges: part `index` of `count` equal-as-possible contiguous parts of [0, n). Local. */
struct range {
    int64_t first, last; /* [first, last) */
};
struct range range_part(int64_t n, int64_t index, int64_t count);
/* The at most `most` members of r from `first` on: for reading a range block by block. */
struct range range_block(struct range r, int64_t first, int64_t most);

/* Signals asked for by the user, seen at step boundaries: Local. comm_signal() is the highest pending of
 * SIGUSR1 (checkpoint and stop) and SIGTERM, or 0; the flag is agreed on in the step's closing reduction. */
void comm_watch_signals(void);
/* Local. The same for SIGUSR1 alone, which ends no command then. */
void comm_watch_usr1(void);
/* Local. A write past a size limit (SIGXFSZ) or to a pipe that nobody reads (SIGPIPE) is from now on an error
 * of that write, which has a message and a code, and not the end of the rank. */
void comm_ignore_write_signals(void);
int comm_signal(void);
/* Local. Seconds since the first SIGTERM (or SIGINT) came, or since the SIGCONT that mpirun sends a second
 * before it; 0: none has come. */
double comm_signal_age(void);
/* Collective. For commands that go on from where they were: *asked where a rank has seen SIGUSR1. */
enum status comm_stop_asked(struct comm *c, bool *asked);

#endif
