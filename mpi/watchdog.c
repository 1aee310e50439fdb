#include "mpi/watchdog.h"

#include <fcntl.h>
#include <math.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "mpi/watchdog_internal.h"
#include "util/clock.h"
#include "util/lock.h"
#include "util/mem.h"

static const double least_s = 25, usual_s = 60;
/* The thread looks this often in a bound, and at least every most_turn_s. */
enum { TURNS = 10 };
static const double most_turn_s = 1;
/* A rank that has waited for the bound turns so often: word that all do passes every rank once. */
static const double waiting_turn_s = 0.05;

enum { EVENTS = 8 };

/* The same several times in a row is one event. */
struct event {
    double at_s; /* the newest */
    int64_t times;
    char what[96];
};

struct watchdog {
    int rank, size;
    char host[64];
    double bound_s;
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    struct pulse_ring ring; /* the thread's own */
    struct pulse heard;     /* the predecessor's newest pulse; the thread's own */
    double heard_s;
    double looked_s;      /* its last turn */
    clockid_t main_clock; /* processor time of the main line */
    double main_used_s;   /* what that was */
    double moved_s;       /* when that had changed, or the main line waited for others */
    /* Under the lock. */
    char phase[96];
    double phase_s;   /* clock of its beginning */
    double allowed_s; /* for the phase; INFINITY: any time */
    const char *wait; /* NULL: the main line waits for nobody */
    double wait_s;
    char failure[FAILURE_BYTES]; /* why the main line will not go on after the wait; "": it will */
    struct event events[EVENTS]; /* a ring */
    int64_t n_events;
    bool closing;
};

/* All that wait for a lost rank would speak at once. Its neighbor in the ring, who can name it, goes first;
 * of the others each gives those below it time to. Who ends first makes the launcher send the others SIGCONT
 * and SIGTERM, and they end without a word, the one that was stopped too. */
static double grace_s(const struct watchdog *w) {
    static const double to_launcher_s = 0.5, to_neighbor_s = 5, stagger_s = 1, most_s = 8;
    return (w->ring.is_open ? to_neighbor_s : to_launcher_s) + fmin(stagger_s * w->rank, most_s);
}

/* What the watchdog misses. */
enum miss {
    MISS_NEIGHBOR, /* its pulse */
    MISS_STEP,     /* the end of the main line's phase, or any work in it */
    MISS_RANKS     /* a rank that does not wait */
};

/* Appends to a line of limited length. */
struct line {
    char text[1600];
    size_t used;
};

static void __attribute__((format(printf, 2, 3))) put(struct line *l, const char *format, ...) {
    va_list args;
    va_start(args, format);
    int n = vsnprintf(l->text + l->used, sizeof l->text - l->used, format, args);
    va_end(args);
    l->used += n > 0 ? (size_t)n : 0;
    l->used = l->used < sizeof l->text ? l->used : sizeof l->text - 1;
}

/* What the main line does, and what it did before. */
static void put_doings(struct line *l, const struct watchdog *w, double now) {
    put(l, " while %s (for %.1f s)", w->phase, now - w->phase_s);
    if (w->wait) {
        put(l, ", waiting for the others in %s since %.1f s ago", w->wait, now - w->wait_s);
        put(l, "%s%s", *w->failure ? " after: " : "", w->failure);
    }
    int64_t first = w->n_events > EVENTS ? w->n_events - EVENTS : 0;
    for (int64_t i = first; i < w->n_events; i++) {
        const struct event *e = &w->events[i % EVENTS];
        put(l, "%s %s %.1f s ago", i == first ? "; before that:" : ",", e->what, now - e->at_s);
        if (e->times > 1) {
            put(l, " (the last of %lld)", (long long)e->times);
        }
    }
}

static void put_miss(struct line *l, const struct watchdog *w, enum miss miss, double silent_s) {
    char stamp[32];
    const struct pulse *heard = &w->heard;
    clock_stamp_ago(silent_s, stamp, sizeof stamp);
    if (miss == MISS_NEIGHBOR) {
        put(l, "no sign of rank %d%s%s for %.0f s (%s %s%s%s)", (w->rank + w->size - 1) % w->size,
            *heard->host ? " on " : "", heard->host, silent_s, *heard->phase ? "since" : "at all, from",
            stamp, *heard->phase ? ", when it was " : "", heard->phase);
    } else if (miss == MISS_STEP) {
        put(l, "nothing for %.0f s (since %s)", silent_s, stamp);
    } else {
        const struct other *o = &heard->round.other;
        put(l, "all %d ranks wait for each other for %.0f s (since %s", w->size, silent_s, stamp);
        if (*o->wait) {
            put(l, ", rank %d on %s in %s while %s%s%s", o->rank, o->host, o->wait, o->phase,
                *o->failure ? " after: " : "", o->failure);
        }
        put(l, ")");
    }
}

/* Ends the process from the watching thread: the main line may hold any lock, so no clean-up and no MPI. */
static void bite(const struct watchdog *w, enum miss miss, double now, double silent_s) {
    struct line line = {.used = 0};
    if (miss == MISS_STEP && comm_signal() == SIGTERM) {
        _exit(ERR_LOST); /* another spoke */
    }
    put(&line, "collimate: watchdog: rank %d of %d on %s: ", w->rank, w->size, w->host);
    put_miss(&line, w, miss, silent_s);
    put_doings(&line, w, now);
    put(&line, "; a rank, the network or a disk is lost, or raise watchdog_s (COLLIMATE_WATCHDOG)");
    line.text[line.used++] = '\n'; /* put() leaves room for it in place of the NUL */
    if (write(STDERR_FILENO, line.text, line.used) < 0) {
        _exit(ERR_LOST); /* nobody to tell */
    }
    _exit(ERR_LOST);
}

/* Whether all ranks wait for others, which none of them will end. Rank 0 asks round the ring; a rank passes
 * the question on where it has waited for the bound and for as long as the question has been under way: all
 * of them waited when it began. Under the lock; before the pulse is sent. */
static struct round ask_round(const struct watchdog *w, double now) {
    struct round r = w->heard.round;
    r.age_s = w->rank == 0 ? 0 : r.age_s + now - w->heard_s;
    if (!w->wait || now - w->wait_s < w->bound_s + r.age_s || (w->rank > 0 && r.ranks != w->rank)) {
        return (struct round){0};
    }
    if (w->rank == 0) {
        r = (struct round){.ranks = 0};
        snprintf(r.wait, sizeof r.wait, "%s", w->wait);
    } else if (!*r.other.wait && strcmp(r.wait, w->wait) != 0) {
        struct other *o = &r.other; /* the first that waits for something else says most */
        o->rank = w->rank;
        snprintf(o->host, sizeof o->host, "%s", w->host);
        snprintf(o->wait, sizeof o->wait, "%s", w->wait);
        snprintf(o->phase, sizeof o->phase, "%s", w->phase);
        snprintf(o->failure, sizeof o->failure, "%s", w->failure);
    }
    r.ranks++;
    return r;
}

/* Rank 0's question has come back, and it has waited itself since before it asked. Under the lock. */
static bool all_wait(const struct watchdog *w, double now) {
    const struct round *r = &w->heard.round;
    return w->ring.is_open && w->rank == 0 && r->ranks == w->size && w->wait &&
           now - w->wait_s >= w->bound_s + r->age_s + now - w->heard_s;
}

/* Whether this process has a pipe, a terminal or a socket as its standard streams, that whoever reads there
 * has let fill up: a pager, a slow program. Other sockets are MPI's, which may listen. */
static bool reader_is_slow(void) {
    enum { FILES = 1024 };
    struct pollfd files[FILES];
    for (int i = 0; i < FILES; i++) {
        files[i] = (struct pollfd){.fd = i, .events = POLLOUT};
    }
    if (poll(files, FILES, 0) < 0) {
        return true; /* as good as unknown */
    }
    for (int i = 0; i < FILES; i++) {
        struct stat facts;
        int mode = files[i].revents == 0 ? fcntl(i, F_GETFL) : -1;
        if (mode < 0 || (mode & O_ACCMODE) == O_RDONLY || fstat(i, &facts) != 0) {
            continue;
        }
        if (S_ISFIFO(facts.st_mode) || isatty(i) || (i <= STDERR_FILENO && S_ISSOCK(facts.st_mode))) {
            return true;
        }
    }
    return false;
}

/* The main line is in nobody's hands but its own and takes no processor time at all: a disk that does not
 * answer. A rank that is alone waits for no other in a collective call either, and keeps nobody waiting: it
 * may stand before a full pipe. Under the lock. */
static bool stands_still(struct watchdog *w, double now) {
    struct timespec used;
    bool is_alone = w->size == 1;
    if (clock_gettime(w->main_clock, &used) != 0) {
        return false;
    }
    double used_s = (double)used.tv_sec + 1e-9 * (double)used.tv_nsec;
    if (used_s != w->main_used_s || (w->wait && !is_alone)) {
        w->main_used_s = used_s;
        w->moved_s = now;
    }
    return now - w->moved_s >= w->bound_s + grace_s(w) && !(is_alone && reader_is_slow());
}

/* One look around, with one clock for all comparisons. Under the lock. */
static void look(struct watchdog *w, double now) {
    struct pulse mine = {.rank = w->rank, .is_last = w->closing, .round = ask_round(w, now)};
    snprintf(mine.host, sizeof mine.host, "%s", w->host);
    snprintf(mine.phase, sizeof mine.phase, "%s", w->phase);
    if (pulse_turn(&w->ring, &mine, &w->heard)) {
        w->heard_s = now;
    }
    if (now - w->heard_s >= w->bound_s) {
        bite(w, MISS_NEIGHBOR, now, now - w->heard_s);
    }
    if (w->closing) {
        return;
    }
    if (all_wait(w, now)) {
        bite(w, MISS_RANKS, now, now - w->wait_s);
    }
    if (now - w->phase_s >= w->allowed_s + grace_s(w)) {
        bite(w, MISS_STEP, now, now - w->phase_s);
    }
    if (stands_still(w, now)) {
        bite(w, MISS_STEP, now, now - w->moved_s);
    }
}

/* Waits for a change or for `seconds`. Under the lock. */
static void doze(struct watchdog *w, double seconds) {
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    double at = (double)until.tv_nsec * 1e-9 + seconds;
    until.tv_sec += (time_t)at;
    until.tv_nsec = (long)(fmod(at, 1) * 1e9);
    pthread_cond_timedwait(&w->changed, &w->lock, &until);
}

static void *watch(void *argument) {
    static const double overslept = 3, closing_turn_s = 0.001;
    struct watchdog *w = argument;
    sigset_t all;
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, NULL);
    pthread_mutex_lock(&w->lock);
    while (!w->closing || !pulse_is_done(&w->ring)) {
        double turn_s = fmin(w->bound_s / TURNS, most_turn_s);
        double now = clock_seconds(), gap_s = now - w->looked_s;
        if (gap_s > overslept * turn_s + 1) { /* this process was stopped: what it missed is nobody's fault */
            w->heard_s += gap_s;
            w->phase_s += gap_s;
            w->wait_s += gap_s;
            w->moved_s += gap_s;
        }
        w->looked_s = now;
        look(w, now);
        if (!w->closing || !pulse_is_done(&w->ring)) {
            bool waits = w->wait && now - w->wait_s >= w->bound_s;
            doze(w, w->closing ? closing_turn_s : waits ? fmin(turn_s, waiting_turn_s) : turn_s);
        }
    }
    pthread_mutex_unlock(&w->lock);
    return NULL;
}

static enum status start_thread(struct watchdog *w) {
    TRY(lock_open(&w->lock));
    TRY(condition_open(&w->changed));
    int rc = pthread_create(&w->thread, NULL, watch, w);
    return rc == 0 ? OK
                   : fail(ERR_SYSTEM,
                          "cannot start the watchdog thread (error %d); raise the limit of processes "
                          "(ulimit -u)",
                          rc);
}

enum status watchdog_start_any(struct comm *c, double seconds, struct watchdog **out) {
    struct watchdog *w;
    TRY(NEW_ARRAY(w, 1));
    w->rank = c->rank;
    w->size = c->size;
    memcpy(w->host, c->host, sizeof w->host);
    w->bound_s = seconds;
    w->allowed_s = INFINITY;
    w->phase_s = w->heard_s = w->looked_s = w->moved_s = clock_seconds();
    snprintf(w->phase, sizeof w->phase, "starting");
    int rc = pthread_getcpuclockid(pthread_self(), &w->main_clock);
    enum status st = rc == 0 ? OK : fail(ERR_SYSTEM, "no clock of a thread's processor time (error %d)", rc);
    st = st == OK ? start_thread(w) : st;
    if (st != OK) {
        mem_free(w);
        return st;
    }
    *out = w;
    return OK;
}

/* Collective: MPI duplicates a communicator for it. */
static enum status join_ring(struct comm *c) {
    struct watchdog *w = c->watchdog;
    pthread_mutex_lock(&w->lock);
    enum status st = pulse_open(c, &w->ring);
    w->heard_s = clock_seconds();
    pthread_mutex_unlock(&w->lock);
    return comm_agree(c, st);
}

static void end_thread(struct watchdog *w) {
    pthread_mutex_lock(&w->lock);
    w->closing = true;
    pthread_cond_broadcast(&w->changed);
    pthread_mutex_unlock(&w->lock);
    pthread_join(w->thread, NULL);
    pulse_close(&w->ring);
    pthread_cond_destroy(&w->changed);
    pthread_mutex_destroy(&w->lock);
    mem_free(w);
}

/* What rank 0's environment and the setting say; 0: no watchdog. */
static enum status wanted_bound(double seconds, double *out) {
    const char *wanted = getenv("COLLIMATE_WATCHDOG");
    double value = seconds == 0 ? usual_s : seconds;
    *out = 0;
    if (wanted && strcmp(wanted, "off") == 0) {
        return OK;
    }
    if (wanted) {
        char *end = NULL;
        value = strtod(wanted, &end);
        if (end == wanted || *end || !(value > 0 && value < 1e9)) {
            return fail(ERR_USAGE, "COLLIMATE_WATCHDOG=%s: expected seconds or \"off\"", wanted);
        }
    }
    *out = value < least_s ? least_s : value;
    return OK;
}

/* Collective. */
static enum status agree_on_bound(struct comm *c, double seconds, double *out) {
    TRY(comm_agree(c, c->rank == 0 ? wanted_bound(seconds, out) : OK));
    return comm_broadcast(c, 0, out, sizeof *out);
}

enum status watchdog_start(struct comm *c) {
    double bound_s = 0;
    TRY(agree_on_bound(c, 0, &bound_s));
    if (bound_s == 0) {
        return OK;
    }
    enum status st = comm_agree(c, watchdog_start_any(c, bound_s, &c->watchdog));
    if (st != OK) { /* some ranks have one, in no ring yet */
        if (c->watchdog) {
            end_thread(c->watchdog);
            c->watchdog = NULL;
        }
        return st;
    }
    c->mpi->world.watchdog = c->watchdog;
    return join_ring(c);
}

enum status watchdog_set(struct comm *c, double seconds) {
    double bound_s = 0;
    TRY(agree_on_bound(c, seconds, &bound_s));
    if (c->watchdog) {
        pthread_mutex_lock(&c->watchdog->lock);
        c->watchdog->bound_s = bound_s;
        pthread_mutex_unlock(&c->watchdog->lock);
    }
    return OK;
}

void watchdog_stop(struct comm *c) {
    struct watchdog *w = c->watchdog;
    if (!w) {
        return;
    }
    c->watchdog = NULL;
    if (c->mpi) {
        c->mpi->world.watchdog = NULL;
    }
    end_thread(w);
}

/* Under the lock. */
static void record(struct watchdog *w, double at_s, const char *what) {
    struct event *last = &w->events[(w->n_events + EVENTS - 1) % EVENTS];
    if (w->n_events > 0 && strcmp(last->what, what) == 0) {
        last->at_s = at_s;
        last->times++;
        return;
    }
    struct event *e = &w->events[w->n_events++ % EVENTS];
    e->at_s = at_s;
    e->times = 1;
    snprintf(e->what, sizeof e->what, "%s", what);
}

static void begin(struct watchdog *w, const char *phase, double allowed_s) {
    double now = clock_seconds();
    pthread_mutex_lock(&w->lock);
    record(w, w->phase_s, w->phase);
    w->phase_s = now;
    w->allowed_s = fmax(allowed_s, w->bound_s);
    snprintf(w->phase, sizeof w->phase, "%s", phase);
    pthread_mutex_unlock(&w->lock);
}

void watchdog_allow(struct watchdog *w, const char *phase, double seconds) {
    if (w) {
        begin(w, phase, seconds);
    }
}

void watchdog_phase(struct watchdog *w, const char *phase, ...) {
    char text[sizeof w->phase];
    if (!w) {
        return;
    }
    va_list args;
    va_start(args, phase);
    vsnprintf(text, sizeof text, phase, args);
    va_end(args);
    begin(w, text, INFINITY);
}

void watchdog_wait(struct watchdog *w, const char *what) {
    if (!w) {
        return;
    }
    double now = clock_seconds();
    pthread_mutex_lock(&w->lock);
    w->wait = what;
    w->wait_s = now;
    w->failure[0] = '\0';
    pthread_mutex_unlock(&w->lock);
}

void watchdog_failed(struct watchdog *w, const char *why) {
    if (!w) {
        return;
    }
    pthread_mutex_lock(&w->lock);
    snprintf(w->failure, sizeof w->failure, "%s", why);
    pthread_mutex_unlock(&w->lock);
}

void watchdog_moves(struct watchdog *w) {
    if (!w) {
        return;
    }
    double now = clock_seconds();
    pthread_mutex_lock(&w->lock);
    w->wait_s = now;
    pthread_mutex_unlock(&w->lock);
}

void watchdog_go(struct watchdog *w) {
    if (!w) {
        return;
    }
    pthread_mutex_lock(&w->lock);
    if (w->wait) {
        record(w, w->wait_s, w->wait);
    }
    w->wait = NULL;
    pthread_mutex_unlock(&w->lock);
}
