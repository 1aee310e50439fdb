#include "command/run_folder.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "command/outputs.h"
#include "io/file.h"
#include "util/clock.h"
#include "util/fault.h"
#include "util/log.h"
#include "util/mem.h"

static enum status write_config(struct run *run, const char *folder) {
    struct text path = {0};
    struct text config = {0};
    enum status st;
    TRY_TO(done, text_printf(&path, "%s/config.yaml", folder));
    TRY_TO(done, text_printf(&config, OUTPUT_CONFIG_BEGINS "%s\n", run->options->command));
    TRY_TO(done, options_print(run->options, true, &config));
    TRY_TO(done, file_write(path.data, config.data, config.len));
done:
    text_free(&path);
    text_free(&config);
    return st;
}

static enum status write_environment(struct run *run, const struct backend *b,
                                     const struct run_folder *folder, const struct run_end *end) {
    struct text path = {0};
    struct text json = {0};
    enum status st;
    TRY_TO(done, text_printf(&path, "%s/environment.json", folder->path));
    TRY_TO(done, environment_print(run, b, folder->started, end, &json));
    TRY_TO(done, text_puts(&json, "\n"));
    TRY_TO(done, file_write(path.data, json.data, json.len));
done:
    text_free(&path);
    text_free(&json);
    return st;
}

/* What was held back goes to the file first. */
static enum status open_log(struct run_folder *folder) {
    struct text path = {0};
    TRY(text_printf(&path, "%s/log.txt", folder->path));
    FILE *file = fault_hits(FAULT_OPEN) ? NULL : fopen(path.data, "a");
    enum status st = file ? OK : fail(ERR_WRITE, "%s: cannot append: %s", path.data, strerror(errno));
    text_free(&path);
    if (!file) {
        return st;
    }
    log_tee(file);
    fclose(folder->log); /* completes what is held */
    fwrite(folder->held, 1, folder->held_bytes, file);
    mem_free(folder->held); /* open_memstream allocates as mem does */
    folder->held = NULL;
    folder->log = file;
    return !fault_hits(FAULT_WRITE) && fflush(file) == 0
               ? OK
               : fail(ERR_WRITE, "%s/log.txt: cannot append: %s", folder->path, strerror(errno));
}

/* What a run that was killed in the middle of a write has left. */
static enum status sweep(const struct run_folder *folder, int *removed) {
    static const char *const parts[] = {"", "/checkpoints", "/model", "/adapter", "/rollouts"};
    for (int i = 0; i < COUNT_OF(parts); i++) {
        struct text path = {0};
        enum status st = text_printf(&path, "%s%s", folder->path, parts[i]);
        st = st == OK ? folder_sweep(path.data, lease_predecessor(folder->lease), removed) : st;
        text_free(&path);
        TRY(st);
    }
    return OK;
}

/* Local: rank 0. */
static enum status hold_log(struct run_folder *folder) {
    folder->log = open_memstream(&folder->held, &folder->held_bytes);
    log_tee(folder->log);
    return mem_ok(folder->log);
}

static enum status make_folder(struct run_folder *folder) {
    struct stat facts;
    folder->made = stat(folder->path, &facts) != 0;
    TRY(folder_make(folder->path));
    return hold_log(folder);
}

/* Collective. */
static enum status take_lease(struct run *run, struct run_folder *folder) {
    struct text path = {0};
    enum status st = comm_agree(run->comm, text_printf(&path, "%s/lease.json", folder->path));
    st = st == OK ? lease_take(run->comm, path.data, folder->path, &folder->lease) : st;
    text_free(&path);
    return st;
}

enum status run_folder_take(struct run *run, const char *path, struct run_folder *out) {
    *out = (struct run_folder){.path = path};
    clock_stamp(out->started, sizeof out->started);
    int removed = 0;
    enum status st = comm_agree(run->comm, run->comm->rank == 0 ? make_folder(out) : OK);
    st = st == OK ? take_lease(run, out) : st;
    if (st == OK && run->comm->rank == 0) {
        st = sweep(out, &removed);
    }
    if (st == OK && removed > 0) {
        log_root(LOG_INFO, "%s: removed %d temporary file%s of a run that was killed", path, removed,
                 removed == 1 ? "" : "s");
    }
    st = comm_agree(run->comm, st);
    return st == OK ? OK : run_folder_finish(run, NULL, out, st);
}

enum status run_folder_accept(struct run *run, const struct backend *b, struct run_folder *folder) {
    enum status st = OK;
    if (run->comm->rank == 0 && !folder->accepted) {
        st = write_config(run, folder->path);
        st = st == OK ? write_environment(run, b, folder, NULL) : st;
        st = st == OK ? open_log(folder) : st;
        folder->accepted = st == OK;
    }
    return comm_agree(run->comm, st);
}

/* Local: rank 0. */
static bool has_records(const char *folder) {
    static const char *const names[] = {"config.yaml", "environment.json", "log.txt", "checkpoints"};
    bool found = false;
    for (int i = 0; i < COUNT_OF(names) && !found; i++) {
        struct text path = {0};
        found = text_printf(&path, "%s/%s", folder, names[i]) != OK || access(path.data, F_OK) == 0;
        text_free(&path);
    }
    return found;
}

enum status run_folder_begin(struct run *run, const struct backend *b, struct run_folder *folder) {
    int64_t found = run->comm->rank == 0 && has_records(folder->path);
    TRY(comm_broadcast(run->comm, 0, &found, sizeof found));
    return found ? OK : run_folder_accept(run, b, folder);
}

/* Rank 0. A failure of the run comes before one of its records. */
static enum status close_records(struct run *run, const struct backend *b, struct run_folder *folder,
                                 enum status st) {
    const struct message failure = *status_message();
    struct run_end end = {.code = (int)st};
    clock_stamp(end.at, sizeof end.at);
    if (st != OK) {
        log_any(LOG_DEBUG, "ends with code %d", (int)st);
    }
    enum status written = folder->accepted ? lease_check(folder->lease) : OK;
    written = written == OK && folder->accepted ? write_environment(run, b, folder, &end) : written;
    log_tee(NULL);
    bool closed = fclose(folder->log) == 0;
    if ((!closed || fault_hits(FAULT_CLOSE)) && written == OK) {
        written = fail(ERR_WRITE, "%s/log.txt: cannot close: %s", folder->path, strerror(errno));
    }
    mem_free(folder->held);
    if (st == OK) {
        return written;
    }
    status_set(&failure);
    return st;
}

enum status run_folder_finish(struct run *run, const struct backend *b, struct run_folder *folder,
                              enum status st) {
    if (folder->log) {
        st = close_records(run, b, folder, st);
    }
    lease_release(folder->lease);
    if (folder->made && run->comm->rank == 0) {
        (void)rmdir(folder->path); /* where nothing was left in it */
    }
    *folder = (struct run_folder){0};
    return st;
}
