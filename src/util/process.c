#include "util/process.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "util/hash.h"

enum { HOST = 33, LINE = 1024, FIELD_STATE = 3, FIELD_START = 22 }; /* fields: proc(5), /proc/PID/stat */

struct process {
    char host[HOST];
    long pid;
    unsigned place;
    unsigned long long start;
};

static void read_line(const char *path, char line[LINE]) {
    FILE *file = fopen(path, "r");
    line[0] = '\0';
    if (file) {
        if (!fgets(line, LINE, file)) {
            line[0] = '\0';
        }
        fclose(file);
    }
}

/* Short, and without what a file's name or ours would be cut at. */
static void short_host(char out[HOST]) {
    char name[256] = "";
    (void)gethostname(name, sizeof name - 1);
    name[strcspn(name, "./")] = '\0';
    snprintf(out, HOST, "%.32s", *name ? name : "host");
}

/* Where process numbers mean what they mean here. */
static unsigned find_place(void) {
    char line[LINE], link[64] = "";
    read_line("/proc/sys/kernel/random/boot_id", line);
    (void)!readlink("/proc/self/ns/pid", link, sizeof link - 1);
    return (unsigned)hash_join(hash_bytes(line, strlen(line), 0), hash_bytes(link, strlen(link), 0));
}

/* The tick at which a process began; 0: there is none, or one that has ended and not been waited for. */
static unsigned long long start_of(long pid) {
    char path[64], line[LINE];
    snprintf(path, sizeof path, "/proc/%ld/stat", pid);
    read_line(path, line);
    const char *at = strrchr(line, ')'); /* the program's name may hold anything */
    for (int field = FIELD_STATE - 1; at && field < FIELD_START; field++) {
        at = strchr(at + 1, ' ');
        if (at && field == FIELD_STATE - 1 && strchr("ZX", at[1])) {
            return 0;
        }
    }
    return at ? strtoull(at, NULL, 10) : 0;
}

void process_name(char out[PROCESS_NAME]) {
    char host[HOST];
    short_host(host);
    snprintf(out, PROCESS_NAME, "%s-%ld-%08x-%llx", host, (long)getpid(), find_place(), start_of(getpid()));
}

/* From the end: a host's name may hold hyphens. */
static bool parse(const char *name, struct process *out) {
    char text[PROCESS_NAME], *parts[3], *end;
    snprintf(text, sizeof text, "%s", name);
    for (int i = 2; i >= 0; i--) {
        parts[i] = strrchr(text, '-');
        if (!parts[i]) {
            return false;
        }
        *parts[i]++ = '\0';
    }
    snprintf(out->host, sizeof out->host, "%.32s", text);
    out->pid = strtol(parts[0], &end, 10);
    bool whole = end > parts[0] && *end == '\0' && out->pid > 0;
    out->place = (unsigned)strtoul(parts[1], &end, 16);
    whole = whole && end == parts[1] + 8 && *end == '\0';
    out->start = strtoull(parts[2], &end, 16);
    return whole && end > parts[2] && *end == '\0';
}

bool process_is_name(const char *name) {
    struct process any;
    return strlen(name) < PROCESS_NAME && parse(name, &any);
}

enum process_life process_life(const char *name) {
    struct process p;
    char host[HOST];
    short_host(host);
    if (!process_is_name(name) || !parse(name, &p) || p.start == 0 || strcmp(p.host, host) != 0 ||
        p.place != find_place()) {
        return PROCESS_UNKNOWN;
    }
    return start_of(p.pid) == p.start ? PROCESS_LIVES : PROCESS_DEAD;
}
