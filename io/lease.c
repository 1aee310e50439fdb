#include "io/lease.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "io/file.h"
#include "mpi/launch.h"
#include "mpi/watchdog.h"
#include "util/clock.h"
#include "util/fault.h"
#include "util/json.h"
#include "util/lock.h"
#include "util/log.h"
#include "util/mem.h"

enum { LEASE_BYTES = 1024, BEATS = 6, MOST_TURNS = 8 };
static const double beat_s = 5, look_s = 0.1;

struct lease {
    struct comm *comm;
    char *path, *what;
    char stamp[32]; /* when it was taken */
    char predecessor[PROCESS_NAME];
    int64_t pulse;
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool closing, beats; /* beats: there is a thread */
};

/* What a lease says. */
struct holder {
    char text[LEASE_BYTES]; /* the whole file: whether it changes */
    char owner[PROCESS_NAME], host[64], job[64], since[32];
    int64_t pid;
    double beat_s;
};

/* The file's text. The pulse has a fixed width, so that it can be renewed in place. */
static void print(const struct lease *l, char out[LEASE_BYTES]) {
    const char *job = launch_job();
    snprintf(out, LEASE_BYTES,
             "{\"owner\": \"%s\", \"host\": \"%s\", \"pid\": %ld, \"job\": \"%.60s\", \"since\": \"%s\", "
             "\"beat_s\": %g, \"pulse\": %12lld}\n",
             l->comm->owner, l->comm->host, (long)getpid(), text_is_utf8(job) ? job : "", l->stamp, beat_s,
             (long long)l->pulse);
}

static void take_word(const json_t *object, const char *key, char *out, size_t size) {
    const char *value = json_string_value(json_object_get(object, key));
    snprintf(out, size, "%.*s", (int)size - 1, value ? value : "");
}

/* What stands in an open lease: nobody's that could be named leaves *h without an owner. */
static void read_holder(int file, const char *path, struct holder *h) {
    json_t *object;
    *h = (struct holder){.beat_s = beat_s};
    ssize_t n = pread(file, h->text, sizeof h->text - 1, 0);
    if (json_parse(h->text, n > 0 ? (size_t)n : 0, path, &object) != OK) {
        status_clear(); /* it may still be written to */
        return;
    }
    take_word(object, "owner", h->owner, sizeof h->owner);
    take_word(object, "host", h->host, sizeof h->host);
    take_word(object, "job", h->job, sizeof h->job);
    take_word(object, "since", h->since, sizeof h->since);
    h->pid = json_integer_value(json_object_get(object, "pid"));
    double beat = json_number_value(json_object_get(object, "beat_s"));
    h->beat_s = beat > 0 && beat < 60 ? beat : beat_s;
    json_decref(object);
}

/* *there: a file is there, whatever it says. Local. */
static enum status look(const char *path, struct holder *h, bool *there) {
    *h = (struct holder){.beat_s = beat_s};
    int file = fault_hits(FAULT_OPEN) ? -1 : open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    *there = file >= 0;
    if (file < 0) {
        return errno == ENOENT ? OK : fail(ERR_WRITE, "%s: cannot be read: %s", path, strerror(errno));
    }
    read_holder(file, path, h);
    close(file);
    return OK;
}

static enum status refuse(const struct lease *l, const struct holder *h) {
    return fail(ERR_WRITE,
                "%s: process %lld on %s%s%s has held it since %s (%s); wait until it has ended, or choose "
                "another output",
                l->what, (long long)h->pid, *h->host ? h->host : "a host that it does not name",
                *h->job ? ", job " : "", h->job, *h->since ? h->since : "a time that it does not name",
                l->path);
}

static void pause_s(double seconds) {
    struct timespec left = {.tv_sec = (time_t)seconds, .tv_nsec = (long)((seconds - floor(seconds)) * 1e9)};
    nanosleep(&left, NULL);
}

/* Whether a holder that only its pulse can tell of is silent. Takes some of its beats. */
static enum status wait_for_pulse(const struct lease *l, const struct holder *seen, bool *silent) {
    double until = clock_seconds() + BEATS * seen->beat_s;
    enum status st = OK;
    log_root(LOG_INFO, "%s: whether process %lld on %s still lives shows within %.3g s", l->path,
             (long long)seen->pid, *seen->host ? seen->host : "another host", BEATS * seen->beat_s);
    watchdog_wait(l->comm->watchdog, "a pulse of whoever holds the folder");
    for (*silent = true; *silent && st == OK && clock_seconds() < until;) {
        struct holder now;
        bool there;
        pause_s(look_s);
        watchdog_moves(l->comm->watchdog);
        st = look(l->path, &now, &there);
        *silent = there && strcmp(now.text, seen->text) == 0;
    }
    watchdog_go(l->comm->watchdog);
    return st;
}

/* Puts the file aside if it still is what was seen: two that take over at once do not remove each other's. */
static enum status put_aside(struct lease *l, const struct holder *seen) {
    struct text aside = {0};
    struct holder now;
    bool there;
    enum status st;
    TRY_TO(done, file_temporary(l->path, NULL, &aside));
    if (fault_hits(FAULT_RENAME) || rename(l->path, aside.data) != 0) {
        st = errno == ENOENT ? OK : fail(ERR_WRITE, "%s: cannot be taken over: %s", l->path, strerror(errno));
        goto done;
    }
    TRY_TO(done, look(aside.data, &now, &there));
    if (strcmp(now.text, seen->text) != 0) {
        (void)!link(aside.data, l->path); /* another one's: back */
        st = refuse(l, &now);
    } else {
        snprintf(l->predecessor, sizeof l->predecessor, "%s", seen->owner);
    }
    unlink(aside.data);
done:
    text_free(&aside);
    return st;
}

/* Somebody's lease is there: he lives (refused), or his lease is gone after this. */
static enum status meet(struct lease *l) {
    struct holder h, now;
    bool there, dead;
    TRY(look(l->path, &h, &there));
    if (!there) {
        return OK;
    }
    enum process_life life = process_life(h.owner);
    dead = life == PROCESS_DEAD;
    if (life == PROCESS_UNKNOWN) {
        TRY(wait_for_pulse(l, &h, &dead));
        TRY(look(l->path, &now, &there));
        if (!there) {
            return OK; /* it has ended */
        }
    }
    if (!dead) {
        return refuse(l, &h);
    }
    log_root(LOG_INFO, "%s: process %lld on %s is gone, its lease is taken over", l->path, (long long)h.pid,
             *h.host ? h.host : "another host");
    return put_aside(l, &h);
}

static enum status write_text(const char *path, int flags, const char *text) {
    int file = fault_hits(FAULT_OPEN) ? -1 : open(path, O_WRONLY | O_CLOEXEC | flags, 0666);
    size_t len = strlen(text);
    if (file < 0) {
        return fail(ERR_WRITE, "%s: cannot be written: %s", path, strerror(errno));
    }
    bool written = !fault_hits(FAULT_WRITE) && write(file, text, len) == (ssize_t)len;
    if (close(file) != 0 || !written) {
        return fail(ERR_WRITE, "%s: cannot be written: %s", path, strerror(errno));
    }
    return OK;
}

/* Makes the file where there is none. *made: it is this job's now. */
static enum status make(struct lease *l, bool *made) {
    struct text whole = {0};
    char text[LEASE_BYTES];
    enum status st;
    print(l, text);
    TRY_TO(done, file_temporary(l->path, NULL, &whole));
    st = write_text(whole.data, O_CREAT | O_TRUNC, text);
    if (st != OK) {
        unlink(whole.data);
        goto done;
    }
    *made = !fault_hits(FAULT_RENAME) && link(whole.data, l->path) == 0;
    int error = *made ? 0 : errno;
    unlink(whole.data);
    if (error != 0 && error != EEXIST) { /* a file system without links */
        st = write_text(l->path, O_CREAT | O_EXCL, text);
        *made = st == OK;
        st = access(l->path, F_OK) == 0 ? OK : st;
    }
done:
    text_free(&whole);
    return st;
}

/* Local: rank 0. */
static enum status acquire(struct lease *l) {
    bool made = false;
    for (int i = 0; i < MOST_TURNS; i++) {
        TRY(make(l, &made));
        if (made) {
            return OK;
        }
        TRY(meet(l));
    }
    return fail(ERR_WRITE, "%s: others take it and leave it all the time; start again", l->what);
}

/* The pulse. */

static enum status judge(const struct lease *l, const struct holder *now) {
    return !*now->owner || strcmp(now->owner, l->comm->owner) == 0
               ? OK
               : fail(ERR_LOST,
                      "%s: process %lld on %s has taken it over, for this one gave no sign of life (was it "
                      "stopped?); nothing more is written there",
                      l->what, (long long)now->pid, now->host);
}

/* Renews it. Whoever has taken the lease over ends this job; one that is gone is made again. A disk that is
 * full or read-only is no matter here: what the run itself writes will say so. What is looked at and what is
 * written to is one open file: taken over in between it is nobody's any more. */
static void beat(struct lease *l) {
    struct holder now;
    char text[LEASE_BYTES];
    bool made;
    l->pulse++;
    int file = open(l->path, O_RDWR | O_CLOEXEC | O_NONBLOCK);
    if (file < 0) {
        if (errno == ENOENT && make(l, &made) != OK) {
            status_clear();
        }
        return;
    }
    read_holder(file, l->path, &now);
    if (judge(l, &now) != OK) {
        comm_abort(l->comm, ERR_LOST);
    }
    print(l, text);
    (void)!pwrite(file, text, strlen(text), 0);
    close(file);
}

static void *keep(void *argument) {
    struct lease *l = argument;
    sigset_t all;
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, NULL);
    pthread_mutex_lock(&l->lock);
    while (!l->closing) {
        struct timespec until;
        clock_gettime(CLOCK_MONOTONIC, &until);
        until.tv_sec += (time_t)beat_s;
        int rc = pthread_cond_timedwait(&l->changed, &l->lock, &until);
        if (rc == ETIMEDOUT && !l->closing) {
            pthread_mutex_unlock(&l->lock); /* a disk may take its time */
            beat(l);
            pthread_mutex_lock(&l->lock);
        }
    }
    pthread_mutex_unlock(&l->lock);
    return NULL;
}

static enum status start_thread(struct lease *l) {
    TRY(lock_open(&l->lock));
    TRY(condition_open(&l->changed));
    int rc = pthread_create(&l->thread, NULL, keep, l);
    l->beats = rc == 0;
    return rc == 0 ? OK
                   : fail(ERR_SYSTEM,
                          "cannot start the thread that keeps %s (error %d); raise the limit of processes "
                          "(ulimit -u)",
                          l->path, rc);
}

static void stop_thread(struct lease *l) {
    if (!l->beats) {
        return;
    }
    pthread_mutex_lock(&l->lock);
    l->closing = true;
    pthread_cond_broadcast(&l->changed);
    pthread_mutex_unlock(&l->lock);
    pthread_join(l->thread, NULL);
    pthread_cond_destroy(&l->changed);
    pthread_mutex_destroy(&l->lock);
}

static void lease_free(struct lease *l) {
    mem_free(l->path);
    mem_free(l->what);
    mem_free(l);
}

static enum status take_here(struct comm *c, const char *path, const char *what, struct lease **out) {
    struct lease *l;
    TRY(NEW_ARRAY(l, 1));
    l->comm = c;
    l->path = mem_strdup(path);
    l->what = mem_strdup(what);
    clock_stamp(l->stamp, sizeof l->stamp);
    enum status st = mem_ok(l->path);
    st = st == OK ? mem_ok(l->what) : st;
    st = st == OK ? acquire(l) : st;
    if (st != OK) {
        lease_free(l);
        return st;
    }
    *out = l;
    return start_thread(l);
}

enum status lease_take(struct comm *c, const char *path, const char *what, struct lease **out) {
    *out = NULL;
    enum status st = comm_agree(c, c->rank == 0 ? take_here(c, path, what, out) : OK);
    if (st != OK) {
        lease_release(*out);
        *out = NULL;
    }
    return st;
}

enum status lease_check(const struct lease *l) {
    struct holder now;
    bool there = false;
    if (!l || look(l->path, &now, &there) != OK || !there) { /* its pulse sees to it */
        status_clear();
        return OK;
    }
    return judge(l, &now);
}

const char *lease_predecessor(const struct lease *l) {
    return l && *l->predecessor ? l->predecessor : NULL;
}

void lease_release(struct lease *l) {
    struct holder now;
    bool there;
    if (!l) {
        return;
    }
    stop_thread(l);
    const struct message failure = *status_message();
    if (look(l->path, &now, &there) == OK && there && strcmp(now.owner, l->comm->owner) == 0) {
        unlink(l->path);
    }
    status_set(&failure);
    lease_free(l);
}
