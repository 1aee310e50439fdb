/* For the watchdog's own test: bounds below 25 s. */
#ifndef COLLIMATE_MPI_WATCHDOG_INTERNAL_H
#define COLLIMATE_MPI_WATCHDOG_INTERNAL_H

#include "mpi/watchdog.h"

enum status watchdog_start_any(const struct comm *c, double seconds, struct watchdog **out);

#endif
