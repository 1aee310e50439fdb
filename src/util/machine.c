#include "util/machine.h"

#include <dirent.h>
#include <netdb.h>
#include <resolv.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "util/clock.h"
#include "util/mem.h"

static bool has_core(const struct machine_cores *c, int i) {
    return i < MACHINE_CORES && c->mask[i / 8] >> (i % 8) & 1;
}

void machine_cores(struct machine_cores *out) {
    cpu_set_t set;
    *out = (struct machine_cores){0};
    if (sched_getaffinity(0, sizeof set, &set) != 0) {
        return;
    }
    for (int i = 0; i < MACHINE_CORES && i < CPU_SETSIZE; i++) {
        if (CPU_ISSET(i, &set)) {
            out->mask[i / 8] |= (uint8_t)(1 << i % 8);
            out->count++;
        }
    }
}

int machine_most_threads(void) {
    enum { EACH = 8, EVERYWHERE = 64, MOST = 4096 };
    long processors = sysconf(_SC_NPROCESSORS_ONLN);
    long most = processors > MOST / EACH ? MOST : processors * EACH;
    return most > EVERYWHERE ? (int)most : EVERYWHERE;
}

enum status machine_cores_print(const struct machine_cores *cores, struct text *out) {
    const char *separator = "";
    for (int first = 0; first < MACHINE_CORES; first++) {
        int last = first;
        if (!has_core(cores, first)) {
            continue;
        }
        for (; has_core(cores, last + 1); last++) {
        }
        TRY(text_printf(out, last > first ? "%s%d-%d" : "%s%d", separator, first, last));
        separator = ",";
        first = last;
    }
    return OK;
}

/* First line of a small file, without its end. */
static bool read_line(const char *path, char *out, int size) {
    FILE *file = fopen(path, "r");
    bool got = file && fgets(out, size, file);
    if (file) {
        fclose(file);
    }
    if (got) {
        out[strcspn(out, "\n")] = '\0';
    }
    return got;
}

/* The number after `name` in a file of "name number" lines; 0 where there is none. */
static int64_t read_field(const char *path, const char *name) {
    char line[256];
    int64_t value = 0;
    size_t n = strlen(name);
    FILE *file = fopen(path, "r");
    while (file && fgets(line, sizeof line, file)) {
        if (strncmp(line, name, n) == 0 && (line[n] == ' ' || line[n] == ':')) {
            value = strtoll(line + n + 1, NULL, 10);
            break;
        }
    }
    if (file) {
        fclose(file);
    }
    return value;
}

/* "max" and version 1's way of saying so are no limits. */
static int64_t read_bytes(const char *folder, const char *name) {
    char path[1200], line[64];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    if (!read_line(path, line, sizeof line) || line[0] < '0' || line[0] > '9') {
        return 0;
    }
    long long value = strtoll(line, NULL, 10);
    return value > 0 && value < (long long)1 << 60 ? value : 0;
}

/* Limit and use of one group; the tightest of a group and those around it counts. */
static void take_group(const char *folder, bool v2, struct machine_memory *out) {
    char stat[1200];
    int64_t limit = read_bytes(folder, v2 ? "memory.max" : "memory.limit_in_bytes");
    int64_t used = read_bytes(folder, v2 ? "memory.current" : "memory.usage_in_bytes");
    snprintf(stat, sizeof stat, "%s/memory.stat", folder);
    used -= read_field(stat, v2 ? "inactive_file" : "total_inactive_file");
    used = used > 0 ? used : 0;
    if (limit > 0 && (out->group == 0 || limit - used < out->group - out->group_used)) {
        out->group = limit;
        out->group_used = used;
    }
}

/* path: of the group in its hierarchy, "/a/b"; it and those above it. A container sees its own as the root.
 */
static void take_groups(const char *root, char *path, bool v2, struct machine_memory *out) {
    char folder[1024];
    for (;;) {
        snprintf(folder, sizeof folder, "%s%s", root, path);
        take_group(folder, v2, out);
        char *slash = strrchr(path, '/');
        if (!slash) {
            return;
        }
        *slash = '\0';
    }
}

/* /proc/self/cgroup: "0::/path" for version 2, "4:memory:/path" for version 1. */
static void read_groups(struct machine_memory *out) {
    char line[768];
    FILE *file = fopen("/proc/self/cgroup", "r");
    while (file && fgets(line, sizeof line, file)) {
        line[strcspn(line, "\n")] = '\0';
        char *names = strchr(line, ':');
        char *path = names ? strchr(names + 1, ':') : NULL;
        if (!path) {
            continue;
        }
        *path++ = '\0';
        if (strncmp(line, "0:", 2) == 0) {
            take_groups("/sys/fs/cgroup", path, true, out);
        } else if (strstr(names + 1, "memory")) {
            take_groups("/sys/fs/cgroup/memory", path, false, out);
        }
    }
    if (file) {
        fclose(file);
    }
}

void machine_memory(struct machine_memory *out) {
    struct rlimit limit;
    *out = (struct machine_memory){
        .total = read_field("/proc/meminfo", "MemTotal") * 1024,
        .available = read_field("/proc/meminfo", "MemAvailable") * 1024,
    };
    if (getrlimit(RLIMIT_AS, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY) {
        out->process = (int64_t)limit.rlim_cur;
    }
    read_groups(out);
}

int64_t machine_memory_left(const struct machine_memory *m) {
    int64_t group = m->group - m->group_used;
    if (m->group == 0) {
        return m->available;
    }
    return m->available == 0 || group < m->available ? group : m->available;
}

static void take_link(const char *name, double bytes_per_s, struct machine_link *out) {
    if (out->name[0] == '\0' || bytes_per_s > out->bytes_per_s) {
        snprintf(out->name, sizeof out->name, "%.31s", name);
        out->bytes_per_s = bytes_per_s;
    }
}

static void take_infiniband(const char *device, struct machine_link *out) {
    char path[512], line[64];
    snprintf(path, sizeof path, "/sys/class/infiniband/%.200s/ports/1/rate", device);
    if (read_line(path, line, sizeof line)) {
        take_link(device, strtod(line, NULL) * 1e9 / 8, out); /* "100 Gb/sec (4X EDR)" */
    }
}

static void take_ethernet(const char *device, struct machine_link *out) {
    char path[512], line[64];
    snprintf(path, sizeof path, "/sys/class/net/%.200s/operstate", device);
    if (strcmp(device, "lo") == 0 || !read_line(path, line, sizeof line) || strcmp(line, "up") != 0) {
        return;
    }
    snprintf(path, sizeof path, "/sys/class/net/%.200s/speed", device);
    double megabits = read_line(path, line, sizeof line) ? strtod(line, NULL) : 0;
    take_link(device, megabits > 0 ? megabits * 1e6 / 8 : 0, out);
}

void machine_link(struct machine_link *out) {
    static const struct {
        const char *folder;
        void (*take)(const char *device, struct machine_link *out);
    } kinds[] = {{"/sys/class/infiniband", take_infiniband}, {"/sys/class/net", take_ethernet}};
    *out = (struct machine_link){0};
    for (int i = 0; i < COUNT_OF(kinds) && out->bytes_per_s == 0; i++) {
        DIR *folder = opendir(kinds[i].folder);
        for (struct dirent *entry = folder ? readdir(folder) : NULL; entry; entry = readdir(folder)) {
            if (entry->d_name[0] != '.') {
                kinds[i].take(entry->d_name, out);
            }
        }
        if (folder) {
            closedir(folder);
        }
    }
}

double machine_find_name(void) {
    char name[256] = "";
    struct addrinfo *found = NULL;
    double began = clock_seconds();
    (void)gethostname(name, sizeof name - 1);
    if (res_init() == 0) { /* of servers that do not answer one try tells enough */
        _res.retrans = 2;
        _res.retry = 1;
    }
    int rc = getaddrinfo(name, NULL, NULL, &found);
    double took = clock_seconds() - began;
    if (rc == 0) {
        freeaddrinfo(found);
    }
    return rc == 0 ? took : -took - 1e-9;
}
