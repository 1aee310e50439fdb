/* Signals set a flag; the training loop agrees on it at a step boundary. */
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <string.h>
#include <time.h>

#include "mpi/comm.h"

/* Written by the handler: the one kind of state that has to be global. */
static volatile sig_atomic_t pending;
/* Clocks, lock-free and so fit for a handler: of the newest SIGCONT, and of when the end began. */
static atomic_int_fast64_t cont_ns, term_ns;
/* mpirun that is told to end wakes its ranks with SIGCONT, and sends SIGTERM 1 s and SIGKILL 2 s after that.
 */
static const int_fast64_t wake_ns = 1500000000;

static int64_t now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static void remember(int signal_number) {
    int wanted = signal_number == SIGINT ? SIGTERM : signal_number;
    if (signal_number == SIGCONT) {
        atomic_store(&cont_ns, now_ns());
        return;
    }
    if (wanted == SIGTERM && atomic_load(&term_ns) == 0) {
        int_fast64_t now = now_ns(), woken = atomic_load(&cont_ns);
        atomic_store(&term_ns, woken && now - woken < wake_ns ? woken : now);
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

void comm_ignore_write_signals(void) {
    (void)signal(SIGXFSZ, SIG_IGN);
    (void)signal(SIGPIPE, SIG_IGN);
}

void comm_watch_signals(void) {
    watch(SIGUSR1, 0);
    watch(SIGCONT, 0);
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
