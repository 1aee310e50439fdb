/* What the watchdog's files share, and bounds below 25 s for its own test. */
#ifndef COLLIMATE_MPI_WATCHDOG_INTERNAL_H
#define COLLIMATE_MPI_WATCHDOG_INTERNAL_H

#include "mpi/comm_internal.h"
#include "mpi/watchdog.h"

/* Collective. Any bound. */
enum status watchdog_start_any(struct comm *c, double seconds, struct watchdog **out);

/* What a rank tells the next one from time to time. */
struct pulse {
    int32_t rank, is_last; /* is_last: none will follow */
    char host[sizeof((struct comm *)0)->host];
    char phase[96];
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
