/* A file that says who writes here: one job at a time, on any host.
 *
 * Rank 0 makes it with everything in it, where there is none (link(2), which file systems on a network keep
 * atomic too), and renews its pulse from a thread. Whoever finds one asks whether that process lives: of this
 * host the kernel knows; of another one shows by its pulse, which is looked at for as long as six of its
 * beats take. No two clocks are compared, and no lock of the file system is believed in. A lease whose
 * process is dead or silent is taken over; whoever wakes up to find that ends (75), and has put nothing in
 * its place by then: it asks before it does.
 */
#ifndef COLLIMATE_IO_LEASE_H
#define COLLIMATE_IO_LEASE_H

#include "mpi/comm.h"

struct lease;
/* Collective. Takes the lease at path for this job; what: what it is of, for messages. Only rank 0 gets
 * something. Fails: ERR_WRITE naming who holds it, or why the file cannot be made. */
enum status lease_take(struct comm *c, const char *path, const char *what, struct lease **out);
/* Local. Whether it is still this job's; asked before anything is put in a place that others write to. NULL
 * is fine. Fails: ERR_LOST naming who has taken it over. */
enum status lease_check(const struct lease *l);
/* Local. The process whose lease was taken over, as process_name() says; NULL: none. */
const char *lease_predecessor(const struct lease *l);
/* Local. Ends the pulse and removes the file, if it is still this job's. NULL is fine. */
void lease_release(struct lease *l);

#endif
