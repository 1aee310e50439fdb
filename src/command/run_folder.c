#include "command/run_folder.h"

#include <errno.h>
#include <string.h>

#include "command/outputs.h"
#include "io/file.h"
#include "util/clock.h"
#include "util/log.h"

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

static enum status open_log(struct run_folder *folder) {
    struct text path = {0};
    TRY(text_printf(&path, "%s/log.txt", folder->path));
    folder->log = fopen(path.data, "a");
    enum status st = OK;
    if (!folder->log) {
        st = fail(ERR_WRITE, "%s: cannot append: %s", path.data, strerror(errno));
    }
    text_free(&path);
    log_tee(folder->log);
    return st;
}

/* What a run that was killed in the middle of a write has left. */
static enum status sweep(const char *folder, int *removed) {
    static const char *const parts[] = {"", "/checkpoints", "/model"};
    for (int i = 0; i < COUNT_OF(parts); i++) {
        struct text path = {0};
        enum status st = text_printf(&path, "%s%s", folder, parts[i]);
        st = st == OK ? folder_sweep(path.data, removed) : st;
        text_free(&path);
        TRY(st);
    }
    return OK;
}

enum status run_folder_open(struct run *run, const struct backend *b, const char *path,
                            struct run_folder *out) {
    *out = (struct run_folder){.path = path};
    clock_stamp(out->started, sizeof out->started);
    int removed = 0;
    enum status st = OK;
    if (run->comm->rank == 0) {
        st = folder_make(path);
        st = st == OK ? sweep(path, &removed) : st;
        st = st == OK ? write_config(run, path) : st;
        st = st == OK ? write_environment(run, b, out, NULL) : st;
        st = st == OK ? open_log(out) : st;
    }
    if (st == OK && removed > 0) {
        log_root(LOG_INFO, "%s: removed %d temporary file%s of a run that was killed", path, removed,
                 removed == 1 ? "" : "s");
    }
    return comm_agree(run->comm, st);
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
    enum status written = write_environment(run, b, folder, &end);
    log_tee(NULL);
    if (fclose(folder->log) != 0 && written == OK) {
        written = fail(ERR_WRITE, "%s/log.txt: cannot close: %s", folder->path, strerror(errno));
    }
    if (st == OK) {
        return written;
    }
    status_set(&failure);
    return st;
}

enum status run_folder_finish(struct run *run, const struct backend *b, struct run_folder *folder,
                              enum status st) {
    if (run->comm->rank == 0 && folder->log) {
        st = close_records(run, b, folder, st);
    }
    *folder = (struct run_folder){0};
    return st;
}
