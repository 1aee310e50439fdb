#include "command/needs.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

#include "util/mem.h"

const char *needs_size(double bytes, char out[32]) {
    static const char *const units[] = {"B", "KB", "MB", "GB", "TB", "PB"};
    int i = 0;
    for (; bytes >= 999.5 && i < COUNT_OF(units) - 1; i++) {
        bytes /= 1000;
    }
    snprintf(out, 32, i == 0 || bytes >= 99.95 ? "%.0f %s" : "%.1f %s", bytes, units[i]);
    return out;
}

const char *needs_duration(double seconds, char out[32]) {
    static const struct {
        double seconds;
        const char *unit;
    } units[] = {{86400, "days"}, {3600, "h"}, {60, "min"}, {1, "s"}};
    int i = 0;
    for (; i < COUNT_OF(units) - 1 && seconds < 1.5 * units[i].seconds; i++) {
    }
    snprintf(out, 32, "%.3g %s", seconds / units[i].seconds, units[i].unit);
    return out;
}

/* Memory. */

double needs_host(const struct estimate *e, bool is_apart) {
    return is_apart ? (double)(e->baseline + e->batches + e->gradients) : (double)e->total;
}

static enum status compare(const char *what, double need, double have) {
    char a[32], b[32];
    needs_size(need, a);
    needs_size(have, b);
    return need <= have
               ? OK
               : fail(ERR_SYSTEM,
                      "%s: %s needed, %s left; take more hosts or fewer ranks a host, "
                      "train.recompute=layers, a smaller train.micro_tokens, or an optimizer with less state",
                      what, a, b);
}

enum status needs_memory(const struct trainer *t, const struct estimate *e) {
    const struct comm *c = t->session.comm;
    const struct backend_caps *caps = &t->session.backend->caps;
    bool is_apart = strcmp(caps->name, "cuda") == 0, is_open = t->session.model;
    struct machine_memory memory;
    char what[192];
    machine_memory(&memory);
    /* What the processes hold already is in the estimate and no longer in what is left; an open model twice.
     */
    double need = needs_host(e, is_apart) - (is_open && !is_apart ? (double)(e->base + e->model) : 0);
    double held = (double)e->baseline;
    int64_t left = machine_memory_left(&memory);
    if (left > 0) {
        bool group = memory.group > 0 && left < memory.available;
        snprintf(what, sizeof what, "%s, %d ranks%s", c->host, c->node_size,
                 group ? " in a control group with a limit" : "");
        TRY(compare(what, need * c->node_size, (double)left + held * c->node_size));
    }
    if (memory.process > 0) {
        snprintf(what, sizeof what, "rank %d, limit of its address space", c->rank);
        TRY(compare(what, need, (double)memory.process));
    }
    if (is_apart && !is_open && caps->memory_free > 0) {
        snprintf(what, sizeof what, "rank %d, %.20s: %.40s", c->rank, caps->name, caps->description);
        TRY(compare(what, (double)(e->total - e->baseline - e->batches), (double)caps->memory_free));
    }
    return OK;
}

/* Disk. */

double needs_disk(const struct trainer *t, const struct estimate *e, double *checkpoint) {
    const struct settings *s = t->session.settings;
    int64_t every = s->train.checkpoint_every, steps = t->training.steps;
    int64_t written = every > 0 ? (steps + every - 1) / every : 1;
    int64_t kept = s->train.checkpoint_keep + 1; /* one more while it is written */
    double arena = (double)e->parameters * dtype_size(t->session.backend->caps.master);
    *checkpoint = arena * (double)(1 + e->state_arenas);
    return *checkpoint * (double)(written < kept ? written : kept) + (double)e->parameters * sizeof(float);
}

/* Bytes of files that a run left in the folder's checkpoints: they are replaced. */
static int64_t existing_bytes(const char *output) {
    char folder[4096], path[4096 + 256];
    int64_t bytes = 0;
    struct stat info;
    snprintf(folder, sizeof folder, "%s/checkpoints", output);
    DIR *open = opendir(folder);
    for (struct dirent *entry = open ? readdir(open) : NULL; entry; entry = readdir(open)) {
        snprintf(path, sizeof path, "%s/%s", folder, entry->d_name);
        bytes += stat(path, &info) == 0 && S_ISREG(info.st_mode) ? (int64_t)info.st_size : 0;
    }
    if (open) {
        closedir(open);
    }
    return bytes;
}

/* The folder, or the nearest above it that is there. */
static enum status look_at_disk(const char *folder, int64_t *bytes) {
    struct statvfs info;
    char *at = mem_strdup(folder);
    TRY(mem_ok(at));
    int rc = statvfs(at, &info);
    while (rc != 0 && errno == ENOENT && strcmp(at, ".") != 0 && strcmp(at, "/") != 0) {
        char *slash = strrchr(at, '/');
        if (slash) {
            slash[slash == at] = '\0';
        } else {
            snprintf(at, 2, ".");
        }
        rc = statvfs(at, &info);
    }
    mem_free(at);
    if (rc != 0) {
        return fail(ERR_WRITE, "%s: free space cannot be seen: %s", folder, strerror(errno));
    }
    *bytes = (int64_t)info.f_bavail * (int64_t)info.f_frsize + existing_bytes(folder);
    return OK;
}

enum status needs_free(struct comm *c, const char *folder, int64_t *bytes) {
    *bytes = 0;
    TRY(comm_agree(c, c->rank == 0 ? look_at_disk(folder, bytes) : OK));
    return comm_broadcast(c, 0, bytes, sizeof *bytes);
}

enum status needs_room(const struct trainer *t, const struct estimate *e) {
    const char *folder = t->session.settings->output;
    char a[32], b[32], d[32];
    double checkpoint, need = needs_disk(t, e, &checkpoint);
    int64_t bytes;
    TRY(needs_free(t->session.comm, folder, &bytes));
    return need <= (double)bytes
               ? OK
               : fail(ERR_WRITE,
                      "%s: %s free, %s needed: checkpoints of %s and the model; make room, or set "
                      "train.checkpoint_keep lower",
                      folder, needs_size((double)bytes, a), needs_size(need, b), needs_size(checkpoint, d));
}
