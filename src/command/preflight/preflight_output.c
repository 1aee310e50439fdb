/* The output folder: a checkpoint's own path (all ranks write one HDF5 file, it is flushed, read back,
 * compared and renamed), read again by other ranks than those that wrote, and room for what the run will
 * leave. */
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "command/preflight/preflight.h"
#include "io/file.h"
#include "store/checkpoint_file.h"
#include "util/clock.h"
#include "util/mem.h"

enum { RANK_ELEMENTS = 2 << 20 }; /* 8 MiB */
static const double poor_bytes_per_s = 20e6;

struct probe {
    const char *folder;
    bool made; /* the folder was not there before */
    struct text path;
    struct checkpoint_array array;
    float *values;
    double write_s, read_s;
};

/* Whole numbers below 2^24, exact in fp32. */
static float value_at(int64_t i) {
    return (float)((i * 2654435761LL) % 16777213);
}

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

static void say_room(struct preflight *p, const struct probe *probe, int64_t free_bytes) {
    char a[32], b[32], c[32];
    double checkpoint, need = run_bytes(p, &checkpoint);
    const char *sizes = preflight_size(need, a);
    preflight_size((double)free_bytes, b);
    preflight_size(checkpoint, c);
    if (need > (double)free_bytes) {
        preflight_refuse(p, ERR_WRITE, "output", "%s: %s free, %s needed: checkpoints of %s and the model",
                         probe->folder, b, sizes, c);
    } else {
        preflight_say(p, FINDING_OK, "output", "%s free, %s needed: checkpoints of %s and the model", b,
                      sizes, c);
    }
}

/* Local: rank 0. */
static enum status make_folder(struct probe *probe) {
    probe->made = access(probe->folder, F_OK) != 0;
    return folder_make(probe->folder);
}

/* Local: the first rank of each host, once rank 0 has made the folder. */
static enum status see_folder(const struct preflight *p, const struct probe *probe) {
    if (p->comm->node_rank == 0 && access(probe->folder, F_OK) != 0) {
        return fail(ERR_WRITE, "%s: is there on %s, not here; every host must see the same folder",
                    probe->folder, p->seats[0].host);
    }
    return OK;
}

static void remove_probe(const struct preflight *p, const struct probe *probe) {
    if (p->comm->rank != 0) {
        return;
    }
    if (probe->path.len) {
        unlink(probe->path.data); /* not there after a failure */
    }
    if (probe->made) {
        rmdir(probe->folder);
    }
}

static enum status fill(const struct preflight *p, struct probe *probe) {
    int64_t n = (int64_t)RANK_ELEMENTS * p->comm->size;
    TRY(text_printf(&probe->path, "%s/preflight.h5", probe->folder));
    TRY(NEW_ARRAY(probe->values, RANK_ELEMENTS));
    probe->array = (struct checkpoint_array){.name = "parameters",
                                             .elements = n,
                                             .part = range_part(n, p->comm->rank, p->comm->size),
                                             .element_bytes = sizeof(float),
                                             .data = probe->values};
    for (int64_t i = 0; i < RANK_ELEMENTS; i++) {
        probe->values[i] = value_at(probe->array.part.first + i);
    }
    return OK;
}

/* Local. What the next rank wrote: on another host, where ranks are dealt in turn or by node, for the last
 * one. */
static enum status compare(const struct preflight *p, const struct probe *probe) {
    for (int64_t i = 0; i < RANK_ELEMENTS; i++) {
        if (probe->values[i] != value_at(probe->array.part.first + i)) {
            return fail(ERR_WRITE, "%s: rank %d reads %g at element %lld, not what was written",
                        probe->path.data, p->comm->rank, (double)probe->values[i],
                        (long long)(probe->array.part.first + i));
        }
    }
    return OK;
}

/* Collective. */
static enum status write_and_read(struct preflight *p, struct probe *probe) {
    struct comm *c = p->comm;
    TRY(comm_agree(c, c->rank == 0 ? make_folder(probe) : OK));
    TRY(comm_agree(c, see_folder(p, probe)));
    TRY(comm_agree(c, fill(p, probe)));
    double began = clock_seconds();
    TRY(checkpoint_file_write(c, probe->path.data, "{}", &probe->array, 1));
    probe->write_s = clock_seconds() - began;
    /* Half the ranks further, so that with several hosts it is another one's. */
    probe->array.part = range_part(probe->array.elements, (c->rank + (c->size + 1) / 2) % c->size, c->size);
    memset(probe->values, 0, RANK_ELEMENTS * sizeof *probe->values);
    began = clock_seconds();
    enum status st = checkpoint_file_read(c, probe->path.data, &probe->array, 1);
    if (st == ERR_INPUT && p->nodes > 1) {
        note("writing and reading at %s; every host must see the same folder", probe->folder);
    }
    TRY(st);
    TRY(comm_agree(c, compare(p, probe)));
    probe->read_s = clock_seconds() - began;
    return OK;
}

static void say_speed(struct preflight *p, const struct probe *probe) {
    char size[32], rate[32], again[32];
    double bytes = (double)probe->array.elements * sizeof(float), checkpoint = 0;
    double per_s = bytes / probe->write_s;
    preflight_say(
        p, per_s < poor_bytes_per_s ? FINDING_WARN : FINDING_OK, "output",
        "%s: %s written by all ranks, verified and renamed (%s/s), read by other ranks and right (%s/s)",
        probe->folder, preflight_size(bytes, size), preflight_size(per_s, rate),
        preflight_size(bytes / probe->read_s, again));
    if (p->has_need) {
        run_bytes(p, &checkpoint);
        preflight_say(p, FINDING_OK, "output", "a checkpoint takes about %s",
                      preflight_duration(checkpoint / per_s, size));
    }
}

/* Collective. */
static enum status find_room(struct preflight *p, const struct probe *probe, int64_t *bytes) {
    struct statvfs info;
    enum status st = OK;
    *bytes = 0;
    if (p->comm->rank == 0 && statvfs(probe->folder, &info) != 0) {
        st = fail(ERR_WRITE, "%s: free space cannot be seen: %s", probe->folder, strerror(errno));
    } else if (p->comm->rank == 0) {
        *bytes = (int64_t)info.f_bavail * (int64_t)info.f_frsize + existing_bytes(probe->folder);
    }
    TRY(comm_agree(p->comm, st));
    return comm_broadcast(p->comm, 0, bytes, sizeof *bytes);
}

enum status preflight_output(struct preflight *p) {
    struct probe probe = {.folder = p->run->settings->output};
    int64_t bytes = 0;
    if (preflight_failed(p, "output", session_need(probe.folder, "output"))) {
        return OK;
    }
    enum status st = write_and_read(p, &probe);
    if (st == OK) {
        say_speed(p, &probe);
        st = find_room(p, &probe, &bytes);
    }
    if (!preflight_failed(p, "output", st) && p->has_need) {
        say_room(p, &probe, bytes);
    }
    remove_probe(p, &probe);
    text_free(&probe.path);
    mem_free(probe.values);
    return OK;
}
