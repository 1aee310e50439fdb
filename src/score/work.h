/* Many units of work over all ranks, for whatever scores, embeds or generates: the one way to deal it.
 *
 * Units are taken in order, a round at a time. In a round each rank computes its units alone; then all agree
 * on how that went, and what was computed is made safe by all of them together before the next round begins.
 * So a run that dies loses a round at most, and a rank that fails ends all of them with one message. Units
 * that are there are skipped, and between two rounds SIGUSR1 ends what another run can go on with.
 */
#ifndef COLLIMATE_SCORE_WORK_H
#define COLLIMATE_SCORE_WORK_H

#include "mpi/comm.h"
#include "util/log.h"

/* Which of a round's missing units a rank computes. */
enum work_deal {
    DEAL_IN_ORDER, /* a run of consecutive ones, rank after rank: what they write is in order */
    DEAL_BY_COST,  /* the most expensive first, onto the rank with the least; in that order */
    DEAL_TO_ALL,   /* its own share of each of them */
};

struct work {
    void *context;
    const char *label, *unit; /* of the progress line: "embed", "responses" */
    const char *phase;        /* for the watchdog, before what is done: "embedding from response" */
    int64_t n, round;         /* units in all, and in a round */
    enum work_deal deal;

    /* Local. What the units before this one come to, for the progress line; n: all. NULL: their number. */
    int64_t (*done_before)(void *context, int64_t unit);
    /* Local. Every rank is asked of every unit, which is missing where one says so. NULL: all are. */
    enum status (*is_missing)(void *context, int64_t unit, bool *out);
    int32_t (*cost)(void *context, int64_t unit); /* Local, with DEAL_BY_COST; at least 0 */
    /* Local. This rank's units of a round; n may be 0. */
    enum status (*compute)(void *context, const int64_t *units, int64_t n);
    /* Collective, after every rank's compute went well: what they computed is safe after it. */
    enum status (*write)(void *context);

    /* The words around what is done when SIGUSR1 ends the work: "stopped on SIGUSR1 after response 5 of 9" is
     * {"response ", " of 9"}. [0] NULL: it does not end it. */
    const char *stopped[2];
    bool goes_on; /* other work follows at once: SIGUSR1 ends it after the last round too */

    struct progress progress; /* while it runs: compute may update it */
};
/* Collective. Fails: as what it calls, on every rank; REQUEUE after SIGUSR1. */
enum status work_run(struct comm *c, struct work *w);

#endif
