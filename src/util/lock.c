#include "util/lock.h"

#include <string.h>
#include <time.h>

enum status lock_open(pthread_mutex_t *out) {
    int rc = pthread_mutex_init(out, NULL);
    return rc == 0 ? OK : fail(ERR_SYSTEM, "a lock cannot be made: %s", strerror(rc));
}

enum status condition_open(pthread_cond_t *out) {
    pthread_condattr_t attributes;
    int rc = pthread_condattr_init(&attributes);
    if (rc == 0) {
        rc = pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
        rc = rc == 0 ? pthread_cond_init(out, &attributes) : rc;
        pthread_condattr_destroy(&attributes);
    }
    return rc == 0 ? OK : fail(ERR_SYSTEM, "a condition cannot be made: %s", strerror(rc));
}
