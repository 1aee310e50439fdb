/* The output folder: a checkpoint's own path (all ranks write one HDF5 file, it is flushed, read back,
 * compared and renamed), read again by other ranks than those that wrote, and room for what the run will
 * leave. */
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

#include "command/preflight/preflight.h"
#include "command/probe.h"
#include "command/run_folder.h"

enum { RANK_BYTES = 8 << 20 };
static const double poor_bytes_per_s = 20e6;

/* Local. Bytes of files that a run left in the folder's checkpoints: they are replaced. */
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

/* Bytes of the checkpoints that lie there at once, and of the model. */
static double run_bytes(const struct preflight *p, double *checkpoint) {
    const struct settings *s = p->run->settings;
    const struct estimate *n = &p->need;
    int64_t every = s->train.checkpoint_every, steps = p->trainer.training.steps;
    int64_t written = every > 0 ? (steps + every - 1) / every : 1;
    int64_t kept = s->train.checkpoint_keep + 1; /* one more while it is written */
    double arena = (double)n->parameters * dtype_size(p->trainer.session.backend->caps.master);
    *checkpoint = arena * (double)(1 + n->state_arenas);
    return *checkpoint * (double)(written < kept ? written : kept) + (double)n->parameters * sizeof(float);
}

static void say_room(struct preflight *p, int64_t free_bytes) {
    const char *folder = p->run->settings->output;
    char a[32], b[32], c[32];
    double checkpoint, need = run_bytes(p, &checkpoint);
    const char *sizes = preflight_size(need, a);
    preflight_size((double)free_bytes, b);
    preflight_size(checkpoint, c);
    if (need > (double)free_bytes) {
        preflight_refuse(p, ERR_WRITE, "output", "%s: %s free, %s needed: checkpoints of %s and the model",
                         folder, b, sizes, c);
    } else {
        preflight_say(p, FINDING_OK, "output", "%s free, %s needed: checkpoints of %s and the model", b,
                      sizes, c);
    }
}

static void say_speed(struct preflight *p, const struct probe_report *probe) {
    char size[32], rate[32], again[32];
    double checkpoint = 0, per_s = probe->bytes / probe->write_s;
    preflight_say(
        p, per_s < poor_bytes_per_s ? FINDING_WARN : FINDING_OK, "output",
        "%s: %s written by all ranks, verified and renamed (%s/s), read by other ranks and right (%s/s)",
        p->run->settings->output, preflight_size(probe->bytes, size), preflight_size(per_s, rate),
        preflight_size(probe->bytes / probe->read_s, again));
    if (p->has_need) {
        run_bytes(p, &checkpoint);
        preflight_say(p, FINDING_OK, "output", "a checkpoint takes about %s",
                      preflight_duration(checkpoint / per_s, size));
    }
}

/* Collective. */
static enum status find_room(struct preflight *p, const char *folder, int64_t *bytes) {
    struct statvfs info;
    enum status st = OK;
    *bytes = 0;
    if (p->comm->rank == 0 && statvfs(folder, &info) != 0) {
        st = fail(ERR_WRITE, "%s: free space cannot be seen: %s", folder, strerror(errno));
    } else if (p->comm->rank == 0) {
        *bytes = (int64_t)info.f_bavail * (int64_t)info.f_frsize + existing_bytes(folder);
    }
    TRY(comm_agree(p->comm, st));
    return comm_broadcast(p->comm, 0, bytes, sizeof *bytes);
}

/* Collective. The folder is this job's. */
static enum status look_at_folder(struct preflight *p, const char *folder) {
    struct probe_report probe;
    int64_t bytes = 0;
    TRY(probe_folder(p->comm, folder, RANK_BYTES, &probe));
    say_speed(p, &probe);
    TRY(find_room(p, folder, &bytes));
    if (p->has_need) {
        say_room(p, bytes);
    }
    return OK;
}

enum status preflight_output(struct preflight *p) {
    const char *path = p->run->settings->output;
    struct run_folder folder;
    enum status st = run_folder_take(p->run, path, &folder);
    if (st == OK) {
        st = run_folder_finish(p->run, NULL, &folder, look_at_folder(p, path));
    }
    preflight_failed(p, "output", st);
    return OK;
}
