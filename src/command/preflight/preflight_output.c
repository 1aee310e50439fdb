/* The output folder: a checkpoint's own path (all ranks write one HDF5 file, it is flushed, read back,
 * compared and renamed), read again by other ranks than those that wrote, and room for what the run will
 * leave. */

#include "command/preflight/preflight.h"
#include "command/probe.h"
#include "command/run_folder.h"

enum { RANK_BYTES = 8 << 20 };
static const double poor_bytes_per_s = 20e6;

static void say_room(struct preflight *p, int64_t free_bytes) {
    char a[32], b[32], c[32];
    double checkpoint, need = needs_disk(&p->trainer, &p->need, &checkpoint);
    const char *sizes = needs_size(need, a);
    needs_size((double)free_bytes, b);
    needs_size(checkpoint, c);
    if (need <= (double)free_bytes) { /* else the list of checks has refused it */
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
        p->run->settings->output, needs_size(probe->bytes, size), needs_size(per_s, rate),
        needs_size(probe->bytes / probe->read_s, again));
    if (p->has_need) {
        needs_disk(&p->trainer, &p->need, &checkpoint);
        preflight_say(p, FINDING_OK, "output", "a checkpoint takes about %s",
                      needs_duration(checkpoint / per_s, size));
    }
}

/* Collective. The folder is this job's. */
static enum status look_at_folder(struct preflight *p, const char *folder) {
    struct probe_report probe;
    int64_t bytes = 0;
    TRY(probe_folder(p->comm, folder, RANK_BYTES, &probe));
    say_speed(p, &probe);
    TRY(needs_free(p->comm, folder, &bytes));
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
