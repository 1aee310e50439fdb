/* Faults on demand, so that a test can walk through every place where the system may say no.
 *
 * COLLIMATE_FAULT=KIND:N[@RANK] makes the N-th call of a kind fail on one rank (0 where none is named): open,
 * write, rename, allocate, collective. They are in every build, so that what is tested is what is shipped:
 * where the variable is not set a call costs one comparison. The counts and the plan are the process's, like
 * the faults they stand for.
 */
#ifndef COLLIMATE_UTIL_FAULT_H
#define COLLIMATE_UTIL_FAULT_H

#include <stdbool.h>

enum fault { FAULT_OPEN, FAULT_WRITE, FAULT_RENAME, FAULT_ALLOCATE, FAULT_COLLECTIVE, FAULT_KINDS };

/* Once, at the start, with this process's rank. A plan that cannot be read is none. */
void fault_init(int rank);
/* Counts a call; true, and errno set, where it is the one that is to fail. Says so on standard error, once.
 */
bool fault_hits(enum fault kind);

#endif
