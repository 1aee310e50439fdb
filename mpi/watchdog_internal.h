/* What the watchdog's files share, and bounds below 25 s for its own test. */
#ifndef COLLIMATE_MPI_WATCHDOG_INTERNAL_H
#define COLLIMATE_MPI_WATCHDOG_INTERNAL_H

#include "mpi/comm_internal.h"
#include "mpi/watchdog.h"

/* Local. Any bound; in no ring. */
enum status watchdog_start_any(struct comm *c, double seconds, struct watchdog **out);

enum { PHASE_BYTES = 96, WAIT_BYTES = 32, FAILURE_BYTES = 256, HOST_BYTES = sizeof((struct comm *)0)->host };

/* A rank that waits for something else than rank 0 does; *wait 0: none. */
struct other {
    int32_t rank;
    char host[HOST_BYTES], wait[WAIT_BYTES], phase[PHASE_BYTES], failure[FAILURE_BYTES];
};

/* Rank 0's question whether all ranks wait for others, on its way round the ring. */
struct round {
    int32_t ranks;         /* from rank 0 on, which wait; 0: no question */
    double age_s;          /* since rank 0 asked */
    char wait[WAIT_BYTES]; /* what rank 0 waits in */
    struct other other;
};

/* What a rank tells the next one from time to time. */
struct pulse {
    int32_t rank, is_last; /* is_last: none will follow */
    char host[HOST_BYTES], phase[PHASE_BYTES];
    struct round round;
};

/* The ring of pulses: from each rank to the next. One user, the watching thread; no function waits. */
struct pulse_ring {
    struct lane lane;
    MPI_Request sending, receiving; /* MPI_REQUEST_NULL: none */
    struct pulse out, in;
    bool is_open, sent_last, heard_last;
};
/* Collective. Not opened where there is one rank, or MPI is not for several threads. */
enum status pulse_open(struct comm *c, struct pulse_ring *ring);
/* Local. Sends mine unless the one before is still under way; *heard becomes the newest that has come.
 * Returns whether one has. */
bool pulse_turn(struct pulse_ring *ring, const struct pulse *mine, struct pulse *heard);
/* Local. The last pulse has gone, and the predecessor's has come. */
bool pulse_is_done(const struct pulse_ring *ring);
void pulse_close(struct pulse_ring *ring);

#endif
