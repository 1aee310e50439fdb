/* What the files of this room share; nobody else includes it but this room's tests. */
#ifndef COLLIMATE_MPI_COMM_INTERNAL_H
#define COLLIMATE_MPI_COMM_INTERNAL_H

#include <mpi.h>

#include "mpi/collective_times.h"
#include "mpi/comm.h"

/* Times of a lane's collectives by kind, and the one under way. */
enum { LANE_KINDS = COLLECTIVE_TIMES / 2 };
struct lane_times {
    struct collective_time rows[LANE_KINDS];
    int n;
    const char *kind;
    double began, bytes;
};
struct comm_times {
    struct lane_times world, buckets;
    bool buckets_have_thread;
};

/* A communicator with one user: collectives on it come in one order, on one thread. */
struct lane {
    MPI_Comm comm;
    MPI_Comm check;      /* for the lockstep check; MPI_COMM_NULL: off */
    const char *name;    /* "world", "buckets": for the check's message */
    uint64_t sequence;   /* collectives so far */
    double bytes;        /* nominal traffic of this rank: what a ring would send */
    int64_t piece_bytes; /* largest single MPI call; tests shrink it */
    int rank, size;
    struct watchdog *watchdog; /* of the main line; NULL: none, or the lane of another thread */
    struct lane_times *times;  /* NULL: nobody asked */
};

struct comm_private {
    struct lane world;
    MPI_Comm file, node;
    MPI_Win abort_window; /* one flag per host: who takes it first prints the last message */
    int *abort_flag;
    int thread_level;
    bool started_here;        /* this comm called MPI_Init_thread */
    struct comm_times *times; /* NULL: nobody asked */
};

/* MPI's errors are fatal by themselves; this is for implementations that return all the same. */
enum status mpi_ok(int rc, const char *what);

/* Collective over parent's ranks. A lane of its own, with its own communicator. */
enum status lane_open(struct lane *l, MPI_Comm parent, const char *name);
void lane_close(struct lane *l);
/* Collective. In place over n elements, in pieces. */
enum status lane_allreduce(struct lane *l, void *values, int64_t n, MPI_Datatype type, MPI_Op op);
/* Collective, only where COLLIMATE_CHECK names `collectives`: every rank must be at the same call with the
 * same count, or all end with one message that says who is where. count -1: may differ between ranks. */
void lane_check(struct lane *l, const char *kind, int64_t count);
/* Around every collective: the check, the watchdog knows what this rank waits in, and the time is taken where
 * somebody asked. */
void lane_begin(struct lane *l, const char *kind, int64_t count);
void lane_end(struct lane *l);
void lane_times_begin(struct lane *l, const char *kind);
void lane_times_end(struct lane *l);
/* Elements in a piece of at most l->piece_bytes, at least 1. */
int64_t lane_piece(const struct lane *l, int element_bytes);

#endif
