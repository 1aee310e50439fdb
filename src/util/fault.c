#include "util/fault.h"

#include <errno.h>
#include <execinfo.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct {
    const char *name;
    int error;
} kinds[FAULT_KINDS] = {{"open", EMFILE},  {"read", EIO},   {"write", ENOSPC},    {"sync", EIO},
                        {"close", ENOSPC}, {"rename", EIO}, {"allocate", ENOMEM}, {"collective", EIO}};

static int planned = FAULT_KINDS; /* none */
static bool lists;                /* names places and fails none */
static long place;
static atomic_long calls;

void fault_init(int rank) {
    const char *plan = getenv("COLLIMATE_FAULT");
    const char *colon = plan ? strchr(plan, ':') : NULL;
    char *end;
    if (!colon) {
        return;
    }
    bool wants_list = colon[1] == '?';
    long at = strtol(colon + 1, &end, 10);
    end += wants_list;
    long where = *end == '@' ? strtol(end + 1, NULL, 10) : 0;
    for (int i = 0; i < FAULT_KINDS && (at > 0 || wants_list) && where == rank; i++) {
        size_t n = strlen(kinds[i].name);
        if ((size_t)(colon - plan) == n && strncmp(plan, kinds[i].name, n) == 0) {
            planned = i;
            place = at;
            lists = wants_list;
        }
    }
}

/* Whether nothing came from this place before. Full, it forgets nothing and learns nothing. */
static bool is_new(uintptr_t from) {
    enum { MOST = 1 << 14 };
    static uintptr_t seen[MOST];
    static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
    bool found = false;
    pthread_mutex_lock(&lock);
    int i = (int)(from % MOST), steps = 0;
    while (seen[i] != 0 && seen[i] != from && steps++ < MOST) {
        i = (i + 1) % MOST;
    }
    if (seen[i] == 0) {
        seen[i] = from;
        found = true;
    }
    pthread_mutex_unlock(&lock);
    return found;
}

static void list(enum fault kind, long n) {
    enum { DEEP = 16, OWN = 2 };
    void *callers[DEEP + OWN];
    int found = backtrace(callers, DEEP + OWN);
    bool is_worth_it = false;
    for (int i = OWN; i < found; i++) {
        is_worth_it |= is_new((uintptr_t)callers[i]);
    }
    if (is_worth_it) {
        fprintf(stderr, "fault: place %s:%ld\n", kinds[kind].name, n);
    }
}

bool fault_hits(enum fault kind) {
    if ((int)kind != planned) {
        return false;
    }
    long n = atomic_fetch_add(&calls, 1) + 1;
    if (lists) {
        list(kind, n);
    }
    if (lists || n != place) {
        return false;
    }
    fprintf(stderr, "fault: %s:%ld\n", kinds[kind].name, place);
    errno = kinds[kind].error;
    return true;
}
