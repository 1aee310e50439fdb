#include "data/sidecar_find.h"

#include <string.h>
#include <unistd.h>

#include "util/log.h"
#include "util/mem.h"

/* What rank 0 sees at a path. */
struct found {
    int64_t exists;
    int64_t takes_updates; /* rows can be written into it, or it can be made where there is none */
    int64_t takes_another; /* its folder lets it be replaced */
};

/* Local. */
static bool can_write_folder(const char *path) {
    const char *slash = strrchr(path, '/');
    char *folder = slash ? mem_strndup(path, (size_t)(slash - path) + 1) : mem_strdup(".");
    bool can = folder && access(folder, W_OK) == 0;
    mem_free(folder);
    return can;
}

/* Collective. */
static enum status look(struct comm *c, const char *path, struct found *out) {
    *out = (struct found){0};
    if (c->rank == 0) {
        out->exists = access(path, F_OK) == 0;
        out->takes_another = can_write_folder(path);
        out->takes_updates = out->exists ? access(path, W_OK) == 0 : out->takes_another;
    }
    return comm_broadcast(c, 0, out, sizeof *out);
}

/* Collective. Is the file whole as it is? *stale: it is none that serves, which has been said. */
static enum status open_whole(struct comm *c, const struct sidecar_wanted *w, const char *path, bool *stale,
                              struct sidecar **out) {
    struct sidecar *s;
    bool lacks = false;
    enum status st = sidecar_open_read(c, path, w->key, w->rows, w->width, w->tokens, &s);
    *stale = st == ERR_DATA && w->is_automatic;
    if (*stale) {
        log_root(LOG_WARN, "%s: it is computed again", status_message()->text);
        status_clear();
        return OK;
    }
    TRY(st);
    st = w->lacks(w->context, s, &lacks);
    if (st != OK || lacks) {
        enum status closed = sidecar_close(s);
        return st == OK ? closed : st;
    }
    *out = s;
    return OK;
}

/* Collective. */
static enum status open_update(struct comm *c, const struct sidecar_wanted *w, const char *path, bool stale,
                               struct sidecar **out) {
    return w->tokens > 0 ? sidecar_open_tokens(c, path, w->key, w->rows, w->tokens, stale, out)
                         : sidecar_open(c, path, w->key, w->rows, w->width, stale, out);
}

/* Collective. *out stays NULL where the file, or one in its place, cannot be written. */
static enum status try_path(struct comm *c, const struct sidecar_wanted *w, const char *path,
                            struct sidecar **out) {
    struct found found;
    bool stale = false;
    TRY(look(c, path, &found));
    TRY(found.exists ? open_whole(c, w, path, &stale, out) : OK);
    bool can = stale ? found.takes_another : found.takes_updates;
    return !*out && can ? open_update(c, w, path, stale, out) : OK;
}

/* Local. The same name in the run's folder. */
static enum status move_to(const char *folder, struct text *path) {
    const char *slash = strrchr(path->data, '/');
    struct text moved = {0};
    enum status st = text_printf(&moved, "%s/%s", folder, slash ? slash + 1 : path->data);
    text_free(path);
    *path = moved;
    return st;
}

enum status sidecar_find(struct comm *c, const struct sidecar_wanted *w, struct text *path,
                         struct sidecar **out) {
    *out = NULL;
    TRY(try_path(c, w, path->data, out));
    if (!*out && w->is_automatic && *w->folder) {
        log_root(LOG_WARN, "%s cannot be written: it goes into %s instead", path->data, w->folder);
        TRY(comm_agree(c, move_to(w->folder, path)));
        TRY(try_path(c, w, path->data, out));
    }
    return *out ? OK
                : fail(ERR_WRITE,
                       "%s: has rows to be computed and cannot be written; name a file that can: %s",
                       path->data, w->named_by);
}
