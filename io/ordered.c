#include "io/ordered.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "io/file.h"
#include "io/output.h"
#include "util/fault.h"
#include "util/mem.h"

struct ordered_file {
    struct comm *comm;
    struct text path, temporary;
    int descriptor; /* of a stream: on rank 0 */
    bool is_stream;
    int64_t end; /* of what all ranks have written */
};

static enum status open_temporary(struct ordered_file *f, int flags) {
    f->descriptor = fault_hits(FAULT_OPEN) ? -1 : open(f->temporary.data, O_WRONLY | O_CLOEXEC | flags, 0666);
    return f->descriptor >= 0 ? OK : fail(ERR_WRITE, "%s: %s", f->path.data, strerror(errno));
}

static void release(struct ordered_file *f) {
    if (f->descriptor >= 0) {
        close(f->descriptor);
    }
    text_free(&f->path);
    text_free(&f->temporary);
    mem_free(f);
}

static enum status name_files(struct ordered_file *f, const char *path) {
    if (f->is_stream) {
        return text_puts(&f->path, *path ? path : "standard output");
    }
    TRY(output_follow(path, &f->path));
    return file_temporary(f->path.data, f->comm->owner, &f->temporary);
}

/* Rank 0's part: the file is there before the others look for it. */
static enum status open_first(struct ordered_file *f, const char *path) {
    return f->is_stream ? output_stream_open(*path ? path : "/dev/stdout", &f->descriptor)
                        : open_temporary(f, O_CREAT | O_TRUNC);
}

enum status ordered_open(struct comm *c, const char *path, struct ordered_file **out) {
    struct ordered_file *f;
    int64_t is_stream = c->rank == 0 && (!*path || output_is_stream(path));
    enum status st = NEW_ARRAY(f, 1);
    st = comm_agree(c, st);
    st = st == OK ? comm_broadcast(c, 0, &is_stream, sizeof is_stream) : st;
    if (st != OK || !f) {
        mem_free(f);
        return st;
    }
    *f = (struct ordered_file){.comm = c, .descriptor = -1, .is_stream = is_stream};
    st = name_files(f, path);
    st = st == OK && c->rank == 0 ? open_first(f, path) : st;
    st = comm_agree(c, st);
    st = st == OK && c->rank != 0 && !f->is_stream ? open_temporary(f, 0) : st;
    st = comm_agree(c, st);
    if (st != OK) {
        release(f);
        return st;
    }
    *out = f;
    return OK;
}

static enum status open_in_place(struct ordered_file *f, const char *path) {
    TRY(text_puts(&f->path, path));
    TRY(text_puts(&f->temporary, path));
    return OK;
}

enum status ordered_open_at(struct comm *c, const char *path, int64_t end, struct ordered_file **out) {
    struct ordered_file *f;
    enum status st = comm_agree(c, NEW_ARRAY(f, 1));
    if (st != OK || !f) {
        mem_free(f);
        return st;
    }
    *f = (struct ordered_file){.comm = c, .descriptor = -1, .end = end};
    st = open_in_place(f, path);
    st = st == OK && c->rank == 0 ? open_temporary(f, O_CREAT) : st;
    if (st == OK && c->rank == 0 && ftruncate(f->descriptor, (off_t)end) != 0) {
        st = fail(ERR_WRITE, "%s: %s", path, strerror(errno));
    }
    st = comm_agree(c, st);
    st = st == OK && c->rank != 0 ? open_temporary(f, 0) : st;
    st = comm_agree(c, st);
    if (st != OK) {
        release(f);
        return st;
    }
    *out = f;
    return OK;
}

enum status ordered_sync(struct ordered_file *f) {
    return comm_agree(f->comm, file_sync(f->descriptor) == 0
                                   ? OK
                                   : fail(ERR_WRITE, "%s: %s", f->path.data, strerror(errno)));
}

void ordered_keep(struct ordered_file *f) {
    if (f) {
        release(f);
    }
}

static enum status write_at(const struct ordered_file *f, int64_t offset, const char *data, size_t len) {
    return file_put(f->descriptor, offset, data, len) == 0
               ? OK
               : fail(ERR_WRITE, "%s: %s", f->path.data, strerror(errno));
}

/* The ranks' pieces to rank 0, in rank order, which writes them. */
static enum status write_gathered(struct ordered_file *f, const char *data, int64_t len) {
    struct comm *c = f->comm;
    int64_t *counts = NULL; /* sent, received, all */
    char *all = NULL;
    int64_t total = 0;
    enum status st = comm_agree(c, NEW_ARRAY(counts, 3 * (int64_t)c->size));
    TRY_TO(done, st);
    TRY_TO(done, comm_gather_i64(c, len, counts + 2 * c->size));
    counts[0] = len;
    for (int r = 0; r < c->size && c->rank == 0; r++) {
        counts[c->size + r] = counts[2 * c->size + r];
        total += counts[2 * c->size + r];
    }
    TRY_TO(done, comm_agree(c, NEW_ARRAY(all, total)));
    TRY_TO(done, comm_exchange(c, data, counts, all, counts + c->size));
    if (c->rank == 0) {
        st = output_stream_write(f->descriptor, f->path.data, all, (size_t)total);
    }
    st = comm_agree(c, st);
done:
    mem_free(counts);
    mem_free(all);
    return st;
}

enum status ordered_append(struct ordered_file *f, enum status st, const char *data, size_t len) {
    TRY(comm_agree(f->comm, st));
    if (f->is_stream) {
        return write_gathered(f, data, (int64_t)len);
    }
    int64_t before;
    int64_t total;
    TRY(comm_scan_i64(f->comm, (int64_t)len, &before, &total));
    st = write_at(f, f->end + before, data, len);
    f->end += total;
    return comm_agree(f->comm, st);
}

/* Local. What was written is safe, or handed to whoever reads the stream. */
static enum status end_writing(struct ordered_file *f) {
    int descriptor = f->descriptor;
    f->descriptor = -1;
    if (descriptor < 0) {
        return OK;
    }
    enum status st = f->is_stream || file_sync(descriptor) == 0
                         ? OK
                         : fail(ERR_WRITE, "%s: %s", f->path.data, strerror(errno));
    if (close(descriptor) != 0 && st == OK) {
        st = fail(ERR_WRITE, "%s: %s", f->path.data, strerror(errno));
    }
    return st;
}

enum status ordered_finish(struct ordered_file *f) {
    enum status st = comm_agree(f->comm, end_writing(f));
    if (st == OK && f->comm->rank == 0 && !f->is_stream) {
        st = output_put(f->temporary.data, f->path.data);
        st = st == OK ? file_sync_folder(f->path.data) : st;
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
    if (f->comm->rank == 0 && !f->is_stream) {
        unlink(f->temporary.data); /* best effort: the failure that counts is recorded */
    }
    release(f);
}
