/* The folder of a run's checkpoints: step-N.h5, and `latest`, the name of the newest that is whole. */
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "io/file.h"
#include "store/checkpoint_file_internal.h"
#include "util/fault.h"
#include "util/log.h"
#include "util/mem.h"
#include "util/text.h"

/* Steps of run/checkpoints/step-N.h5, latest first. */
struct step_list {
    int64_t *steps;
    int64_t n, capacity;
};

static int later_first(const void *a, const void *b) {
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return x > y ? -1 : x < y;
}

/* The N of "step-N.h5", or -1. */
static int64_t step_of(const char *name) {
    const char prefix[] = "step-";
    char *end;
    if (strncmp(name, prefix, sizeof prefix - 1) != 0 || name[sizeof prefix - 1] < '0' ||
        name[sizeof prefix - 1] > '9') {
        return -1;
    }
    errno = 0;
    long long step = strtoll(name + sizeof prefix - 1, &end, 10);
    return errno == 0 && strcmp(end, ".h5") == 0 ? step : -1;
}

/* Local. A folder that is not there holds nothing. */
static enum status list_steps(const char *folder, struct step_list *out) {
    DIR *directory = fault_hits(FAULT_OPEN) ? NULL : opendir(folder);
    if (!directory) {
        return errno == ENOENT ? OK : fail(ERR_INPUT, "%s: cannot be read: %s", folder, strerror(errno));
    }
    enum status st = OK;
    for (struct dirent *entry = readdir(directory); entry && st == OK; entry = readdir(directory)) {
        int64_t step = step_of(entry->d_name);
        if (step >= 0) {
            st = GROW_ARRAY(out->steps, out->capacity, out->n + 1);
        }
        if (step >= 0 && st == OK) {
            out->steps[out->n++] = step;
        }
    }
    closedir(directory);
    if (st == OK && out->n > 1) {
        qsort(out->steps, (size_t)out->n, sizeof *out->steps, later_first);
    }
    return st;
}

/* Collective. Whether run/checkpoints/step-N.h5 is whole: *path, or *why not. */
static enum status try_step(struct comm *c, const char *run, int64_t step, char **path, struct message *why) {
    struct text name = {0};
    enum status st = comm_agree(c, text_printf(&name, "%s/checkpoints/step-%lld.h5", run, (long long)step));
    if (st == OK) {
        st = checkpoint_verify(c, name.data);
    }
    if (st == ERR_DATA || st == ERR_INPUT) {
        *why = *status_message();
        status_clear();
        st = OK;
    } else if (st == OK) {
        *path = mem_strdup(name.data);
        st = comm_agree(c, mem_ok(*path));
    }
    text_free(&name);
    return st;
}

/* Nothing is started anew over checkpoints that somebody may still want to save. */
static enum status all_damaged(const char *run, const struct step_list *list, const struct message *newest) {
    struct text names = {0};
    enum { NAMED = 8 };
    enum status st = OK;
    for (int64_t i = 0; list->steps && i < list->n && i < NAMED && st == OK; i++) {
        st = text_printf(&names, "%sstep-%lld.h5", i ? ", " : "", (long long)list->steps[i]);
    }
    if (st == OK) {
        st = fail(
            ERR_DATA,
            "%s/checkpoints: no checkpoint is whole, all %lld are damaged: %s%s; the newest: %.500s; put "
            "a good copy back, or start anew with train.resume=never",
            run, (long long)list->n, names.data ? names.data : "", list->n > NAMED ? ", …" : "",
            newest->text);
    }
    text_free(&names);
    return st;
}

enum status checkpoint_latest(struct comm *c, const char *run, char **path, int64_t *step) {
    struct step_list list = {0}; /* the other ranks have n, and get the steps one by one */
    struct text folder = {0};
    struct message why, newest = {0};
    enum status st = OK;
    *path = NULL;
    if (c->rank == 0) {
        st = text_printf(&folder, "%s/checkpoints", run);
        st = st == OK ? list_steps(folder.data, &list) : st;
    }
    TRY_TO(done, comm_agree(c, st));
    TRY_TO(done, comm_broadcast(c, 0, &list.n, sizeof list.n));
    for (int64_t i = 0; i < list.n && !*path; i++) {
        int64_t now = c->rank == 0 ? list.steps[i] : 0;
        TRY_TO(done, comm_broadcast(c, 0, &now, sizeof now));
        TRY_TO(done, try_step(c, run, now, path, &why));
        *step = now;
        newest = i == 0 ? why : newest;
        if (!*path) {
            log_root(LOG_WARN, "%s; %s", why.text,
                     i + 1 < list.n ? "taking the checkpoint before it" : "there is none before it");
        }
    }
    if (list.n > 0 && !*path) {
        st = comm_agree(c, c->rank == 0 ? all_damaged(run, &list, &newest) : OK);
    }
done:
    text_free(&folder);
    mem_free(list.steps);
    return st;
}

/* Local, rank 0. */
static enum status write_latest(const struct text *folder, int64_t step) {
    char name[48];
    struct text latest = {0};
    snprintf(name, sizeof name, "step-%lld.h5\n", (long long)step);
    enum status st = text_printf(&latest, "%s/latest", folder->data);
    st = st == OK ? file_write(latest.data, name, strlen(name)) : st;
    text_free(&latest);
    return st;
}

/* Local, rank 0. Out of the way, but there for whoever wants to know what happened to it. */
static enum status set_aside(const struct text *folder, int64_t step) {
    struct text from = {0}, to = {0};
    enum status st = text_printf(&from, "%s/step-%lld.h5", folder->data, (long long)step);
    st = st == OK ? text_printf(&to, "%s.damaged", from.data) : st;
    if (st == OK && (fault_hits(FAULT_RENAME) || rename(from.data, to.data) != 0)) {
        st = fail(ERR_WRITE, "%s: cannot be renamed: %s", from.data, strerror(errno));
    }
    if (st == OK) {
        log_root(LOG_WARN, "%s is kept as %s", from.data, to.data);
    }
    text_free(&from);
    text_free(&to);
    return st;
}

enum status checkpoint_set_aside(struct comm *c, const char *run, int64_t step) {
    struct step_list list = {0};
    struct text folder = {0};
    enum status st = OK;
    if (c->rank == 0) {
        st = text_printf(&folder, "%s/checkpoints", run);
        st = st == OK ? list_steps(folder.data, &list) : st;
        st = st == OK ? write_latest(&folder, step) : st; /* first, so that it never names what is gone */
        for (int64_t i = 0; i < list.n && list.steps[i] > step && st == OK; i++) {
            st = set_aside(&folder, list.steps[i]);
        }
    }
    text_free(&folder);
    mem_free(list.steps);
    return comm_agree(c, st);
}

static enum status remove_file(const struct text *folder, const char *name) {
    struct text path = {0};
    enum status st = text_printf(&path, "%s/%s", folder->data, name);
    if (st == OK && unlink(path.data) != 0 && errno != ENOENT) {
        st = fail(ERR_WRITE, "%s: cannot be removed: %s", path.data, strerror(errno));
    }
    text_free(&path);
    return st;
}

/* Local, rank 0. `latest` changes before what it named goes. */
static enum status prune(const struct text *folder, const struct step_list *list, int keep) {
    char name[48];
    TRY(list->n == 0 || keep == 0 ? remove_file(folder, "latest") : write_latest(folder, list->steps[0]));
    for (int64_t i = keep; i < list->n; i++) {
        snprintf(name, sizeof name, "step-%lld.h5", (long long)list->steps[i]);
        TRY(remove_file(folder, name));
    }
    return OK;
}

enum status checkpoint_prune(struct comm *c, const char *run, int keep) {
    struct step_list list = {0};
    struct text folder = {0};
    enum status st = OK;
    if (c->rank == 0) {
        st = text_printf(&folder, "%s/checkpoints", run);
        st = st == OK ? list_steps(folder.data, &list) : st;
        st = st == OK ? prune(&folder, &list, keep < 0 ? 0 : keep) : st;
    }
    text_free(&folder);
    mem_free(list.steps);
    return comm_agree(c, st);
}
