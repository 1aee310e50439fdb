#include "util/fault.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct {
    const char *name;
    int error;
} kinds[FAULT_KINDS] = {
    {"open", EMFILE}, {"write", ENOSPC}, {"rename", EIO}, {"allocate", ENOMEM}, {"collective", EIO}};

static int planned = FAULT_KINDS; /* none */
static long place;
static atomic_long calls;

void fault_init(int rank) {
    const char *plan = getenv("COLLIMATE_FAULT");
    const char *colon = plan ? strchr(plan, ':') : NULL;
    char *end;
    long at = colon ? strtol(colon + 1, &end, 10) : 0;
    long where = at > 0 && *end == '@' ? strtol(end + 1, NULL, 10) : 0;
    for (int i = 0; i < FAULT_KINDS && at > 0 && where == rank; i++) {
        if (strncmp(plan, kinds[i].name, strlen(kinds[i].name)) == 0) {
            planned = i;
            place = at;
        }
    }
}

bool fault_hits(enum fault kind) {
    if ((int)kind != planned || atomic_fetch_add(&calls, 1) + 1 != place) {
        return false;
    }
    fprintf(stderr, "fault: %s:%ld\n", kinds[kind].name, place);
    errno = kinds[kind].error;
    return true;
}
