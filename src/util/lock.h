/* Where threads of a process meet. */
#ifndef COLLIMATE_UTIL_LOCK_H
#define COLLIMATE_UTIL_LOCK_H

#include <pthread.h>

#include "util/status.h"

/* Local. Ended with pthread_mutex_destroy. Fails: ERR_SYSTEM. */
enum status lock_open(pthread_mutex_t *out);
/* Local. Its timed waits are by the monotonic clock. Ended with pthread_cond_destroy. Fails: ERR_SYSTEM. */
enum status condition_open(pthread_cond_t *out);

#endif
