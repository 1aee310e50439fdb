/* A thread in every rank that ends the process when a rank or the network is lost.
 *
 * Open MPI 4.1 does not notice a stopped rank or a dead link; without this a job hangs until its time is up.
 * Four things end a process, in every command, with ERR_LOST (75) and one line, upon which the launcher ends
 * the others:
 *   - its neighbor is silent. The threads send a pulse round the ring of ranks; a rank whose predecessor has
 *     not sent one for `bound` seconds names it, and what it last said;
 *   - all main lines wait for others, each in the same wait for `bound` seconds: none of them will go on (a
 *     rank left a collective write that the others are still in). Rank 0 says so, and names one that waits
 *     elsewhere;
 *   - its own main line waits for nobody and takes no processor time at all (a disk that does not answer).
 *     A rank that is alone waits for nobody whatever it is in, and may stand before a pipe that nobody reads.
 *     Local work may take any time: it shows by what it computes, so nothing is to be reported from within;
 *   - its own main line went over a bound that it set itself: training knows how long a step takes.
 * The first two need MPI_THREAD_MULTIPLE. The last two speak seconds later than a neighbor would, and one
 * rank after the other, so that one line is the rule. The line says rank, host, what the main line does (the
 * step, in training) and waits for, since when, and what it did last. The bound is at least 25 s: mpirun
 * itself needs about 10 s to notice a lost node, and a rank that goes before that leaves mpirun waiting for
 * ever.
 *
 * A process that was stopped as a whole (a suspended job) notices that its own thread overslept and starts to
 * count anew.
 */
#ifndef COLLIMATE_MPI_WATCHDOG_H
#define COLLIMATE_MPI_WATCHDOG_H

#include "mpi/comm.h"

struct watchdog;
/* Collective. Sets c->watchdog, before any file is read that could say how long its bound is to be: 60 s, or
 * what COLLIMATE_WATCHDOG in rank 0's environment says; less than 25 becomes 25. COLLIMATE_WATCHDOG=off: no
 * thread, c->watchdog stays NULL (fine for all others). Fails: ERR_USAGE, ERR_SYSTEM. */
enum status watchdog_start(struct comm *c);
/* Collective. The bound is so long from here on; 0 and COLLIMATE_WATCHDOG as above. */
enum status watchdog_set(struct comm *c, double seconds);
/* Collective. */
void watchdog_stop(struct comm *c);

/* Local, from the main line. It begins something that may take any time. phase is for the user ("scoring
 * rows") and is copied. */
void watchdog_phase(struct watchdog *w, const char *phase, ...) __attribute__((format(printf, 2, 3)));
/* The same, of something that takes `seconds` at most (or the watchdog's bound, if that is longer) until the
 * next phase. */
void watchdog_allow(struct watchdog *w, const char *phase, double seconds);
/* Local, from the main line: it waits for other ranks in `what` (a constant; "allreduce"), and goes on. */
void watchdog_wait(struct watchdog *w, const char *what);
void watchdog_go(struct watchdog *w);
/* The same, within a wait: it will not go on, why. */
void watchdog_failed(struct watchdog *w, const char *why);
/* Local, from the main line: what it waits in goes on by itself (the next piece of a long transfer). */
void watchdog_moves(struct watchdog *w);

#endif
