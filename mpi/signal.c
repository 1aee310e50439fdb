/* Signals set a flag; the training loop agrees on it at a step boundary. */
#include <signal.h>
#include <string.h>

#include "mpi/comm.h"

/* Written by the handler: the one kind of state that has to be global. */
static volatile sig_atomic_t pending;

static void remember(int signal_number) {
    int wanted = signal_number == SIGINT ? SIGTERM : signal_number;
    if (wanted > pending) {
        pending = wanted;
    }
}

void comm_watch_signals(void) {
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_handler = remember;
    sigemptyset(&action.sa_mask);
    action.sa_flags = SA_RESTART;
    (void)sigaction(SIGUSR1, &action, NULL);
    (void)sigaction(SIGTERM, &action, NULL);
    action.sa_flags |= SA_RESETHAND; /* a second interrupt ends the process at once */
    (void)sigaction(SIGINT, &action, NULL);
}

int comm_signal(void) {
    return (int)pending;
}
