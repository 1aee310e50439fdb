/* Faults on demand, so that a test can walk through every place where the system may say no.
 *
 * COLLIMATE_FAULT=KIND:N[@RANK] makes the N-th call of a kind fail on one rank (0 where none is named): open
 * (files and folders, for reading, writing and making), read, write, sync, close, rename, allocate,
 * collective. They are in every build, so that what is tested is what is shipped: where the variable is not
 * set a call costs one comparison. The counts and the plan are the process's, like the faults they stand for.
 * COLLIMATE_FAULT=KIND:?[@RANK] fails nothing and names on standard error the calls that are worth it: those
 * that came through a line of the program that none before them came through, at any depth. Together they go
 * through every way by which a failure of that kind is handed up.
 */
#ifndef COLLIMATE_UTIL_FAULT_H
#define COLLIMATE_UTIL_FAULT_H

#include <stdbool.h>

enum fault {
    FAULT_OPEN,
    FAULT_READ,
    FAULT_WRITE,
    FAULT_SYNC,
    FAULT_CLOSE,
    FAULT_RENAME,
    FAULT_ALLOCATE,
    FAULT_COLLECTIVE,
    FAULT_KINDS
};

/* Once, at the start, with this process's rank. A plan that cannot be read is none. */
void fault_init(int rank);
/* Counts a call; true, and errno set, where it is the one that is to fail. Says so on standard error, once.
 * Asked instead of a call that only this process makes, and after one that all ranks make together. */
bool fault_hits(enum fault kind);

#endif
