/* The ring of pulses. Errors of MPI are fatal by themselves; should one return, the ring falls silent and the
 * neighbor notices. */
#include "mpi/watchdog_internal.h"

enum status pulse_open(struct comm *c, struct pulse_ring *ring) {
    *ring = (struct pulse_ring){.sending = MPI_REQUEST_NULL, .receiving = MPI_REQUEST_NULL};
    if (!c->mpi || c->size < 2 || c->mpi->thread_level != MPI_THREAD_MULTIPLE) {
        return OK;
    }
    TRY(lane_open(&ring->lane, c->mpi->world.comm, "pulses"));
    ring->is_open = true;
    return OK;
}

static void send(struct pulse_ring *ring, const struct pulse *mine) {
    int gone = 1;
    if (ring->sent_last || (ring->sending != MPI_REQUEST_NULL &&
                            (MPI_Test(&ring->sending, &gone, MPI_STATUS_IGNORE) != MPI_SUCCESS || !gone))) {
        return;
    }
    const struct lane *l = &ring->lane;
    ring->out = *mine;
    ring->sent_last = mine->is_last;
    (void)MPI_Isend(&ring->out, sizeof ring->out, MPI_BYTE, (l->rank + 1) % l->size, 0, l->comm,
                    &ring->sending);
}

static bool receive(struct pulse_ring *ring, struct pulse *heard) {
    const struct lane *l = &ring->lane;
    bool has_come = false;
    while (!ring->heard_last) {
        int come = 0;
        if (ring->receiving == MPI_REQUEST_NULL &&
            MPI_Irecv(&ring->in, sizeof ring->in, MPI_BYTE, (l->rank + l->size - 1) % l->size, 0, l->comm,
                      &ring->receiving) != MPI_SUCCESS) {
            break;
        }
        if (MPI_Test(&ring->receiving, &come, MPI_STATUS_IGNORE) != MPI_SUCCESS || !come) {
            break;
        }
        *heard = ring->in;
        ring->heard_last = ring->in.is_last;
        has_come = true;
    }
    return has_come;
}

bool pulse_turn(struct pulse_ring *ring, const struct pulse *mine, struct pulse *heard) {
    if (!ring->is_open) {
        return true;
    }
    send(ring, mine);
    return receive(ring, heard);
}

bool pulse_is_done(const struct pulse_ring *ring) {
    if (!ring->is_open) {
        return true;
    }
    return ring->sent_last && ring->heard_last;
}

void pulse_close(struct pulse_ring *ring) {
    if (ring->is_open) {
        (void)MPI_Wait(&ring->sending, MPI_STATUS_IGNORE); /* the neighbor receives until the last */
        lane_close(&ring->lane);
        ring->is_open = false;
    }
}
