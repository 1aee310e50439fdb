#include "mpi/watchdog.h"

#include <math.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "mpi/watchdog_internal.h"
#include "util/clock.h"
#include "util/mem.h"

static const double least_s = 25, usual_s = 60;

struct watchdog {
    int rank, size;
    char host[64];
    double bound_s;
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    /* Under the lock. */
    double last_s;    /* clock of the last beat */
    double allowed_s; /* bound until the next beat */
    char phase[96];
    bool closing;
};

/* All that wait for a lost rank would speak at once: each gives those below it time to. Who ends first makes
 * the launcher send the others SIGCONT and SIGTERM, and they end without a word, the one that was stopped
 * too. */
static bool another_spoke(const struct watchdog *w) {
    static const double least_wait_s = 0.5, stagger_s = 1, most_s = 8;
    double wait_s = fmin(least_wait_s + stagger_s * w->rank, most_s);
    struct timespec pause = {.tv_sec = (time_t)wait_s, .tv_nsec = (long)(fmod(wait_s, 1) * 1e9)};
    nanosleep(&pause, NULL);
    return comm_signal() == SIGTERM;
}

/* Ends the process from the watching thread: the main line may hold any lock, so no clean-up and no MPI. */
static void bite(const struct watchdog *w, double silent_s) {
    char stamp[32], line[512];
    if (another_spoke(w)) {
        _exit(ERR_LOST);
    }
    clock_stamp(stamp, sizeof stamp);
    int n =
        snprintf(line, sizeof line,
                 "collimate: watchdog: rank %d of %d on %s: nothing for %.0f s (until %s) while %s; a rank "
                 "or the network is lost, or raise train.watchdog_s (COLLIMATE_WATCHDOG)\n",
                 w->rank, w->size, w->host, silent_s, stamp, w->phase);
    if (n > 0 && write(STDERR_FILENO, line, (size_t)n) < 0) {
        _exit(ERR_LOST); /* nobody to tell */
    }
    _exit(ERR_LOST);
}

static void *watch(void *argument) {
    struct watchdog *w = argument;
    sigset_t all;
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, NULL);
    pthread_mutex_lock(&w->lock);
    while (!w->closing) {
        double silent = clock_seconds() - w->last_s;
        if (silent >= w->allowed_s) {
            bite(w, silent);
        }
        struct timespec until;
        clock_gettime(CLOCK_MONOTONIC, &until);
        double left = w->allowed_s - silent;
        left = left < w->bound_s ? left : w->bound_s; /* a beat may have ended a longer allowance */
        until.tv_sec += (time_t)left;
        until.tv_nsec += (long)((left - (double)(time_t)left) * 1e9);
        if (until.tv_nsec >= 1000000000) {
            until.tv_sec++;
            until.tv_nsec -= 1000000000;
        }
        pthread_cond_timedwait(&w->changed, &w->lock, &until);
    }
    pthread_mutex_unlock(&w->lock);
    return NULL;
}

enum status watchdog_start_any(const struct comm *c, double seconds, struct watchdog **out) {
    struct watchdog *w;
    TRY(NEW_ARRAY(w, 1));
    w->rank = c->rank;
    w->size = c->size;
    memcpy(w->host, c->host, sizeof w->host);
    w->bound_s = w->allowed_s = seconds;
    w->last_s = clock_seconds();
    snprintf(w->phase, sizeof w->phase, "starting");
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_mutex_init(&w->lock, NULL);
    pthread_cond_init(&w->changed, &attributes);
    pthread_condattr_destroy(&attributes);
    int rc = pthread_create(&w->thread, NULL, watch, w);
    if (rc != 0) {
        mem_free(w);
        return fail(ERR_SYSTEM,
                    "cannot start the watchdog thread (error %d); raise the limit of processes (ulimit -u)",
                    rc);
    }
    *out = w;
    return OK;
}

enum status watchdog_start(const struct comm *c, double seconds, struct watchdog **out) {
    const char *wanted = getenv("COLLIMATE_WATCHDOG");
    *out = NULL;
    if (wanted && strcmp(wanted, "off") == 0) {
        return OK;
    }
    if (seconds == 0 || wanted) {
        seconds = seconds == 0 ? usual_s : seconds;
        char *end = NULL;
        double value = wanted ? strtod(wanted, &end) : seconds;
        if (wanted && (end == wanted || *end || !(value > 0 && value < 1e9))) {
            return fail(ERR_USAGE, "COLLIMATE_WATCHDOG=%s: expected seconds or \"off\"", wanted);
        }
        seconds = value;
    }
    return watchdog_start_any(c, seconds < least_s ? least_s : seconds, out);
}

void watchdog_stop(struct watchdog *w) {
    if (!w) {
        return;
    }
    pthread_mutex_lock(&w->lock);
    w->closing = true;
    pthread_cond_broadcast(&w->changed);
    pthread_mutex_unlock(&w->lock);
    pthread_join(w->thread, NULL);
    pthread_cond_destroy(&w->changed);
    pthread_mutex_destroy(&w->lock);
    mem_free(w);
}

void watchdog_allow(struct watchdog *w, const char *phase, double seconds) {
    if (!w) {
        return;
    }
    pthread_mutex_lock(&w->lock);
    w->last_s = clock_seconds();
    w->allowed_s = seconds > w->bound_s ? seconds : w->bound_s;
    if (phase) {
        snprintf(w->phase, sizeof w->phase, "%s", phase);
    }
    pthread_mutex_unlock(&w->lock);
}

void watchdog_beat(struct watchdog *w, const char *phase) {
    watchdog_allow(w, phase, 0);
}
