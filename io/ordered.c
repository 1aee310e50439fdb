#include "io/ordered.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "io/file.h"
#include "util/mem.h"
#include "util/text.h"

struct ordered_file {
    struct comm *comm;
    char *path;
    struct text temporary;
    int descriptor;
    int64_t end; /* of what all ranks have written */
};

static enum status open_temporary(struct ordered_file *f, int flags) {
    f->descriptor = open(f->temporary.data, O_WRONLY | O_CLOEXEC | flags, 0666);
    return f->descriptor >= 0 ? OK : fail(ERR_WRITE, "%s: %s", f->temporary.data, strerror(errno));
}

static void release(struct ordered_file *f) {
    if (f->descriptor >= 0) {
        close(f->descriptor);
    }
    mem_free(f->path);
    text_free(&f->temporary);
    mem_free(f);
}

enum status ordered_open(struct comm *c, const char *path, struct ordered_file **out) {
    struct ordered_file *f;
    enum status st = NEW_ARRAY(f, 1);
    if (st == OK) {
        f->comm = c;
        f->descriptor = -1;
        f->path = mem_strdup(path);
        st = mem_ok(f->path);
        st = st == OK ? text_printf(&f->temporary, "%s.tmp", path) : st;
    }
    if (st == OK && c->rank == 0) {
        st = open_temporary(f, O_CREAT | O_TRUNC);
    }
    st = comm_agree(c, st); /* the file is there before the others look for it */
    if (st == OK && c->rank != 0) {
        st = open_temporary(f, 0);
    }
    st = comm_agree(c, st);
    if (st == OK) {
        *out = f;
    } else if (f) {
        release(f);
    }
    return st;
}

static enum status write_at(const struct ordered_file *f, int64_t offset, const char *data, size_t len) {
    for (size_t done = 0; done < len;) {
        ssize_t now = pwrite(f->descriptor, data + done, len - done, (off_t)(offset + (int64_t)done));
        if (now < 0 && errno == EINTR) {
            continue;
        }
        if (now <= 0) {
            return fail(ERR_WRITE, "%s: %s", f->path,
                        now == 0 ? "nothing could be written" : strerror(errno));
        }
        done += (size_t)now;
    }
    return OK;
}

enum status ordered_append(struct ordered_file *f, enum status st, const char *data, size_t len) {
    TRY(comm_agree(f->comm, st));
    int64_t before;
    int64_t total;
    TRY(comm_scan_i64(f->comm, (int64_t)len, &before, &total));
    st = write_at(f, f->end + before, data, len);
    f->end += total;
    return comm_agree(f->comm, st);
}

enum status ordered_finish(struct ordered_file *f) {
    enum status st = file_sync(f->descriptor) == 0 ? OK : fail(ERR_WRITE, "%s: %s", f->path, strerror(errno));
    if (close(f->descriptor) != 0 && st == OK) {
        st = fail(ERR_WRITE, "%s: %s", f->path, strerror(errno));
    }
    f->descriptor = -1;
    st = comm_agree(f->comm, st);
    if (st == OK && f->comm->rank == 0) {
        st = rename(f->temporary.data, f->path) == 0 ? file_sync_folder(f->path)
                                                     : fail(ERR_WRITE, "%s: %s", f->path, strerror(errno));
    }
    st = comm_agree(f->comm, st);
    if (st != OK) {
        ordered_abandon(f);
        return st;
    }
    release(f);
    return OK;
}

void ordered_abandon(struct ordered_file *f) {
    if (!f) {
        return;
    }
    if (f->comm->rank == 0) {
        unlink(f->temporary.data); /* best effort: the failure that counts is recorded */
    }
    release(f);
}
