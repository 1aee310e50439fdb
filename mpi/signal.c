/* Signals set a flag; the training loop agrees on it at a step boundary. */
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <string.h>
#include <time.h>

#include "mpi/comm.h"

/* Written by the handler: the one kind of state that has to be global. */
static volatile sig_atomic_t pending;
static atomic_int_fast64_t term_ns; /* clock of the first SIGTERM; lock-free, so fit for a handler */

static int64_t now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static void remember(int signal_number) {
    int wanted = signal_number == SIGINT ? SIGTERM : signal_number;
    if (wanted == SIGTERM && atomic_load(&term_ns) == 0) {
        atomic_store(&term_ns, now_ns());
    }
    if (wanted > pending) {
        pending = wanted;
    }
}

static void watch(int signal_number, int flags) {
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_handler = remember;
    sigemptyset(&action.sa_mask);
    action.sa_flags = SA_RESTART | flags;
    (void)sigaction(signal_number, &action, NULL);
}

void comm_watch_usr1(void) {
    watch(SIGUSR1, 0);
}

void comm_watch_signals(void) {
    watch(SIGUSR1, 0);
    watch(SIGTERM, 0);
    watch(SIGINT, SA_RESETHAND); /* a second interrupt ends the process at once */
}

int comm_signal(void) {
    return (int)pending;
}

double comm_signal_age(void) {
    int64_t came = atomic_load(&term_ns);
    return came ? 1e-9 * (double)(now_ns() - came) : 0;
}

enum status comm_stop_asked(struct comm *c, bool *asked) {
    int64_t seen = comm_signal() == SIGUSR1;
    enum status st = comm_max_i64(c, &seen, 1);
    *asked = st == OK && seen;
    return st;
}
