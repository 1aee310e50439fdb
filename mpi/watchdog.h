/* A thread in every rank that ends the process when nothing has happened for too long.
 *
 * Open MPI 4.1 does not notice a stopped rank or a dead link; without this a job hangs until its time is up.
 * The main line says what it is about to wait for and beats at every step; silence for longer than the bound
 * prints one line (rank, host, what it waits for, since when) and ends the process with ERR_LOST (75), upon
 * which mpirun ends the others. The bound is at least 25 s: mpirun itself needs about 10 s to notice a lost
 * node, and a rank that goes before that leaves mpirun waiting for ever (PLATFORM 1).
 */
#ifndef COLLIMATE_MPI_WATCHDOG_H
#define COLLIMATE_MPI_WATCHDOG_H

#include "mpi/comm.h"

struct watchdog;
/* Local. seconds: 0 is 60, and COLLIMATE_WATCHDOG in the environment wins; less than 25 becomes 25.
 * COLLIMATE_WATCHDOG=off: no thread, *out is NULL (fine for all others). */
enum status watchdog_start(const struct comm *c, double seconds, struct watchdog **out);
void watchdog_stop(struct watchdog *w);
/* Alive. phase says what comes now ("step 17: summing gradients") and is copied; NULL keeps it. */
void watchdog_beat(struct watchdog *w, const char *phase);
/* While a single thing may rightly take long (writing a checkpoint): the bound becomes seconds until the next
 * beat. */
void watchdog_allow(struct watchdog *w, const char *phase, double seconds);

#endif
