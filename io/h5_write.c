/* Writing a file once, by all ranks: its beginning, attributes, and its end, which is where a disk that was
 * full comes to light. Arrays are in h5_array.c. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "io/file.h"
#include "io/h5_internal.h"
#include "io/output.h"
#include "mpi/watchdog.h"
#include "util/fault.h"
#include "util/mem.h"

static void writer_free(struct h5_writer *w) {
    mem_free(w->path);
    mem_free(w->tmp);
    mem_free(w);
}

/* Collective. Ends a file that all ranks have agreed to give up; it is gone when any rank goes on. */
static void discard(struct h5_writer *w) {
    watchdog_wait(w->c->watchdog, "giving up a file");
    if (w->file >= 0) {
        (void)H5Fclose(w->file);
    }
    if (w->c->rank == 0 && w->tmp) {
        (void)unlink(w->tmp);
    }
    (void)comm_barrier(w->c);
    writer_free(w);
}

/* Rank 0 tries the folder with plain calls first: their errors say more than MPI-IO's. */
static enum status touch(const struct h5_writer *w) {
    if (w->c->rank != 0) {
        return OK;
    }
    int file = file_create(w->tmp);
    if (file < 0 || close(file) != 0) {
        return fail(ERR_WRITE, "%s: cannot be written: %s", w->path, strerror(errno));
    }
    return OK;
}

static enum status writer_new(struct comm *c, const char *path, struct h5_writer **out) {
    struct h5_writer *w;
    TRY(NEW_ARRAY(w, 1));
    *out = w;
    w->c = c;
    w->file = H5I_INVALID_HID;
    struct text target = {0}, temporary = {0};
    TRY(output_follow(path, &target));
    w->path = target.data; /* text and mem free alike */
    TRY(file_temporary(w->path, c->owner, &temporary));
    w->tmp = temporary.data;
    return touch(w);
}

static hid_t writer_access(const struct h5_writer *w) {
    hid_t access = h5_parallel_access(w->c);
    H5F_libver_t version = w->use == FILE_FINAL ? H5F_LIBVER_V110 : H5F_LIBVER_V18;
    if (access >= 0 && (H5Pset_libver_bounds(access, version, version) < 0 ||
                        H5Pset_all_coll_metadata_ops(access, true) < 0)) {
        H5Pclose(access);
        access = H5I_INVALID_HID;
    }
    return access;
}

/* Collective. */
static enum status create_shared(struct h5_writer *w) {
    struct h5_plain plain;
    TRY(comm_agree(w->c, h5_plain_open(w->tmp, &plain)));
    watchdog_wait(w->c->watchdog, "creating a file");
    hid_t access = writer_access(w);
    hid_t creation = H5Pcreate(H5P_FILE_CREATE);
    if (access >= 0 && creation >= 0 && H5Pset_obj_track_times(creation, false) >= 0) {
        w->file = H5Fcreate(plain.path, H5F_ACC_TRUNC, creation, access);
    }
    enum status st =
        w->file >= 0 && !fault_hits(FAULT_OPEN) ? OK : h5_fail(ERR_WRITE, w->path, "cannot be created");
    if (creation >= 0) {
        H5Pclose(creation);
    }
    if (access >= 0) {
        H5Pclose(access);
    }
    h5_plain_close(&plain);
    return comm_agree(w->c, st);
}

enum status h5_create(struct comm *c, const char *path, const char *content, int version, enum file_use use,
                      struct h5_writer **out) {
    struct h5_writer *w = NULL;
    h5_quiet();
    enum status st = comm_agree(c, writer_new(c, path, &w));
    if (!w) { /* no memory: the others meet at the barrier of discard() */
        TRY(comm_barrier(c));
        return st != OK ? st : ERR_INTERNAL;
    }
    if (st == OK) {
        w->use = use;
        st = create_shared(w);
    }
    if (st == OK) {
        st = h5_put_text(w, "content", content);
    }
    if (st == OK) {
        st = h5_put_i64(w, "format_version", version);
    }
    if (st != OK) {
        discard(w);
        return st;
    }
    *out = w;
    return OK;
}

/* Attributes. */

static enum status put(struct h5_writer *w, const char *name, hid_t disk, hid_t memory, const void *value) {
    hid_t space = H5Screate(H5S_SCALAR);
    watchdog_wait(w->c->watchdog, "writing an attribute");
    hid_t attribute = H5Acreate2(w->file, name, disk, space, H5P_DEFAULT, H5P_DEFAULT);
    enum status st = OK;
    if (attribute < 0 || H5Awrite(attribute, memory, value) < 0 || fault_hits(FAULT_WRITE)) {
        st = h5_fail(ERR_WRITE, w->path, "attribute \"%s\" cannot be written", name);
    }
    if (attribute >= 0) {
        H5Aclose(attribute);
    }
    if (space >= 0) {
        H5Sclose(space);
    }
    return comm_agree(w->c, st);
}

enum status h5_put_i64(struct h5_writer *w, const char *name, int64_t value) {
    TRY(comm_broadcast(w->c, 0, &value, sizeof value));
    return put(w, name, H5T_STD_I64LE, H5T_NATIVE_INT64, &value);
}

enum status h5_put_u64(struct h5_writer *w, const char *name, uint64_t value) {
    TRY(comm_broadcast(w->c, 0, &value, sizeof value));
    return put(w, name, H5T_STD_U64LE, H5T_NATIVE_UINT64, &value);
}

enum status h5_put_text(struct h5_writer *w, const char *name, const char *value) {
    int64_t size = (int64_t)strlen(value ? value : "") + 1;
    TRY(comm_broadcast(w->c, 0, &size, sizeof size));
    char *text = mem_calloc(size, 1);
    enum status st = comm_agree(w->c, mem_ok(text));
    if (st == OK && w->c->rank == 0 && value) {
        memcpy(text, value, (size_t)size);
    }
    st = st == OK ? comm_broadcast(w->c, 0, text, size) : st;
    hid_t type = H5Tcopy(H5T_C_S1);
    if (st == OK &&
        (type < 0 || H5Tset_size(type, (size_t)size) < 0 || H5Tset_cset(type, H5T_CSET_UTF8) < 0)) {
        st = h5_fail(ERR_INTERNAL, w->path, "attribute \"%s\" has no type", name);
    }
    st = comm_agree(w->c, st);
    if (st == OK) {
        st = put(w, name, type, type, text);
    }
    if (type >= 0) {
        H5Tclose(type);
    }
    mem_free(text);
    return st;
}

/* Ending. */

/* This rank's share of an array's hash, as it is in the file. */
static enum status read_back(struct h5_file *f, const struct h5_written *record, uint64_t *hash) {
    struct array_spec spec = {.name = record->name, .type = record->type, .rows = -1, .width = record->width};
    struct h5_column *column;
    char *block = NULL;
    enum status st = OK;
    TRY(h5_column_open(f, &spec, 0, &column));
    int64_t row_bytes = h5_width(column) * array_type_bytes(record->type);
    TRY(NEW_ARRAY(block, record->block_rows * row_bytes));
    for (int64_t at = record->part.first; at < record->part.last; at += record->block_rows) {
        int64_t left = record->part.last - at;
        int64_t n = left < record->block_rows ? left : record->block_rows;
        TRY_TO(done, h5_read(column, at, n, block));
        *hash += h5_block_hash(block, n * row_bytes, at / record->block_rows);
    }
done:
    mem_free(block);
    return st;
}

/* Collective. What was written is read back through another open. */
static enum status verify(const struct h5_writer *w) {
    struct h5_file *f;
    uint64_t hashes[H5_MOST_ARRAYS] = {0};
    enum status st = h5_open(w->tmp, NULL, 0, &f);
    if (st == OK) {
        for (int i = 0; i < w->n_written && st == OK; i++) {
            st = read_back(f, &w->written[i], &hashes[i]);
        }
        h5_close(f);
    }
    enum status summed = comm_sum_u64(w->c, hashes, w->n_written); /* whatever st is: nobody waits */
    for (int i = 0; i < w->n_written && st == OK && summed == OK; i++) {
        if (hashes[i] != w->written[i].hash) {
            st = fail(ERR_WRITE, "%s: %s reads back differently", w->tmp, w->written[i].name);
        }
    }
    if (st == ERR_SYSTEM) {
        return st; /* no memory to read it back in */
    }
    if (st != OK) { /* whatever the reader said, it is the writing that failed */
        struct message message = *status_message();
        return fail(ERR_WRITE, "%s: what was written does not read back; is the disk full? %.600s", w->path,
                    message.text);
    }
    return summed;
}

/* path: what it will be, for messages. */
static enum status sync_file(const char *temporary, const char *path) {
    int file = fault_hits(FAULT_OPEN) ? -1 : open(temporary, O_RDWR | O_CLOEXEC);
    if (file < 0) {
        return fail(ERR_WRITE, "%s: cannot be opened for fsync: %s", path, strerror(errno));
    }
    struct stat facts;
    int rc = fstat(file, &facts);
    rc = rc == 0 ? ftruncate(file, facts.st_size) : rc; /* gives back what was reserved behind the end */
    rc = rc == 0 ? file_sync(file) : rc;
    int saved = errno;
    close(file);
    return rc == 0 ? OK : fail(ERR_WRITE, "%s: fsync: %s", path, strerror(saved));
}

static enum status put_in_place(const struct h5_writer *w) {
    TRY(sync_file(w->tmp, w->path));
    TRY(output_put(w->tmp, w->path));
    return file_sync_folder(w->path);
}

/* Collective. */
static enum status flush_and_close(struct h5_writer *w) {
    enum status st = OK;
    watchdog_wait(w->c->watchdog, "closing a file");
    if (H5Fclose(w->file) < 0 || fault_hits(FAULT_CLOSE)) {
        st = h5_fail(ERR_WRITE, w->path, "cannot be closed; is the disk full?");
    }
    w->file = H5I_INVALID_HID;
    return comm_agree(w->c, st);
}

enum status h5_forget_holes(struct h5_writer *w) {
    struct h5_plain plain;
    TRY(comm_agree(w->c, h5_plain_open(w->tmp, &plain)));
    hid_t access = writer_access(w);
    enum status st = access >= 0 ? OK : h5_fail(ERR_SYSTEM, w->path, "no parallel access");
    st = comm_agree(w->c, st);
    st = st == OK ? flush_and_close(w) : st;
    if (st == OK) {
        watchdog_wait(w->c->watchdog, "opening a file");
        w->file = H5Fopen(plain.path, H5F_ACC_RDWR, access);
        st = w->file >= 0 && !fault_hits(FAULT_OPEN) ? OK
                                                     : h5_fail(ERR_WRITE, w->path, "cannot be opened again");
        st = comm_agree(w->c, st);
    }
    h5_plain_close(&plain);
    if (access >= 0) {
        H5Pclose(access);
    }
    return st;
}

enum status h5_finish(struct h5_writer *w, enum status st) {
    st = comm_agree(w->c, st);
    if (st == OK) {
        st = flush_and_close(w);
    }
    if (st == OK) {
        st = comm_agree(w->c, verify(w));
    }
    if (st == OK) {
        st = comm_agree(w->c, w->c->rank == 0 ? put_in_place(w) : OK);
    }
    if (st != OK) {
        discard(w);
        return st;
    }
    writer_free(w);
    return OK;
}
