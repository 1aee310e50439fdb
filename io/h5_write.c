/* Writing a file once, by all ranks.
 *
 * An array's chunks are dealt to the ranks in contiguous ranges; every rank sends its rows to their owners
 * and then writes whole chunks. So no chunk is compressed by two ranks, which HDF5 would have to sort out
 * itself, and the bytes in a chunk do not depend on the rank count. This goes in rounds of bounded memory. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "io/file.h"
#include "io/h5_internal.h"
#include "util/hash.h"
#include "util/mem.h"

static const int64_t ROUND_BYTES = 1 << 25; /* that a rank writes at once */
static const int64_t SLACK_BYTES = 256
                                   << 10; /* reserved for HDF5's own structures, beside a 16th of the data */
enum { MOST_ARRAYS = 64 };

/* What this rank wrote of an array, for the comparison after closing. */
struct written {
    char name[64];
    enum array_type type;
    int64_t width;
    struct range own;
    int64_t block_rows;
    uint64_t hash;
};

struct h5_writer {
    struct comm *c;
    hid_t file;
    char *path, *tmp;
    int64_t reserved_bytes; /* on rank 0: of the file system, so far */
    struct written written[MOST_ARRAYS];
    int n_written;
};

static void writer_free(struct h5_writer *w) {
    mem_free(w->path);
    mem_free(w->tmp);
    mem_free(w);
}

/* Collective. Ends a file that all ranks have agreed to give up; it is gone when any rank goes on. */
static void discard(struct h5_writer *w) {
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
static enum status touch(const struct comm *c, const char *tmp) {
    if (c->rank != 0) {
        return OK;
    }
    int file = open(tmp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (file < 0 || close(file) != 0) {
        return fail(ERR_WRITE, "%s: cannot be written: %s", tmp, strerror(errno));
    }
    return OK;
}

static enum status writer_new(struct comm *c, const char *path, struct h5_writer **out) {
    struct h5_writer *w;
    TRY(NEW_ARRAY(w, 1));
    *out = w;
    w->c = c;
    w->file = H5I_INVALID_HID;
    size_t size = strlen(path) + sizeof ".tmp";
    TRY(NEW_ARRAY(w->tmp, (int64_t)size));
    snprintf(w->tmp, size, "%s.tmp", path);
    w->path = mem_strdup(path);
    return w->path ? touch(c, w->tmp) : status_code();
}

static hid_t file_create(struct h5_writer *w, enum file_use use) {
    hid_t file = H5I_INVALID_HID;
    hid_t access = h5_parallel_access(w->c);
    hid_t creation = H5Pcreate(H5P_FILE_CREATE);
    H5F_libver_t version = use == FILE_FINAL ? H5F_LIBVER_V110 : H5F_LIBVER_V18;
    if (access >= 0 && H5Pset_libver_bounds(access, version, version) >= 0 &&
        H5Pset_all_coll_metadata_ops(access, true) >= 0 && creation >= 0 &&
        H5Pset_obj_track_times(creation, false) >= 0) {
        file = H5Fcreate(w->tmp, H5F_ACC_TRUNC, creation, access);
    }
    if (creation >= 0) {
        H5Pclose(creation);
    }
    if (access >= 0) {
        H5Pclose(access);
    }
    return file;
}

enum status h5_create(struct comm *c, const char *path, const char *content, int version, enum file_use use,
                      struct h5_writer **out) {
    struct h5_writer *w = NULL;
    h5_quiet();
    enum status st = comm_agree(c, writer_new(c, path, &w));
    if (!w) {
        return st != OK ? st : ERR_INTERNAL;
    }
    if (st == OK) {
        w->file = file_create(w, use);
        if (w->file < 0) {
            st = h5_fail(ERR_WRITE, path, "cannot be created");
        }
        st = comm_agree(c, st);
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
    hid_t attribute = H5Acreate2(w->file, name, disk, space, H5P_DEFAULT, H5P_DEFAULT);
    enum status st = OK;
    if (attribute < 0 || H5Awrite(attribute, memory, value) < 0) {
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
    TRY(comm_agree(w->c, text ? OK : status_code()));
    if (w->c->rank == 0 && value) {
        memcpy(text, value, (size_t)size);
    }
    enum status st = comm_broadcast(w->c, 0, text, size);
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

/* Arrays. */

/* One array on its way to the file. */
struct transit {
    struct h5_writer *w;
    const struct array_spec *spec;
    int64_t width, row_bytes, unit; /* rows of a chunk */
    int64_t round_rows, rounds;     /* whole chunks */
    struct range *parts;            /* (size) rows that each rank brings */
    int64_t *send_bytes, *recv_bytes;
    char *send, *recv, *block; /* recv in rank order, block in row order */
    hid_t array;
};

static struct range clip(struct range a, struct range b) {
    struct range r = {a.first > b.first ? a.first : b.first, a.last < b.last ? a.last : b.last};
    if (r.last < r.first) {
        r.last = r.first;
    }
    return r;
}

/* Rows that rank owns in a round: whole chunks, except for the array's end. */
static struct range owned(const struct transit *t, int rank, int64_t round) {
    int64_t chunks = (t->spec->rows + t->unit - 1) / t->unit;
    struct range own = range_part(chunks, rank, t->w->c->size);
    struct range all = {own.first * t->unit, own.last * t->unit};
    struct range now = {all.first + round * t->round_rows, all.first + (round + 1) * t->round_rows};
    struct range rows = {0, t->spec->rows};
    return clip(clip(all, now), rows);
}

static int64_t round_count(const struct transit *t) {
    int64_t chunks = (t->spec->rows + t->unit - 1) / t->unit, most = 0;
    for (int r = 0; r < t->w->c->size; r++) {
        struct range own = range_part(chunks, r, t->w->c->size);
        most = own.last - own.first > most ? own.last - own.first : most;
    }
    int64_t per_round = t->round_rows / t->unit;
    return (most + per_round - 1) / per_round;
}

/* Every row is brought exactly once. The same verdict on every rank, for all see the same parts. */
static enum status check_tiles(const struct transit *t) {
    int64_t at = 0;
    int size = t->w->c->size;
    for (int taken = 0; taken < size;
         taken++) { /* at most size steps: each finds the part that starts at `at` */
        int next = -1;
        for (int r = 0; r < size && next < 0; r++) {
            if (t->parts[r].first == at && t->parts[r].last > at) {
                next = r;
            }
        }
        if (next < 0) {
            break;
        }
        at = t->parts[next].last;
    }
    int64_t sum = 0;
    for (int r = 0; r < size; r++) {
        sum += t->parts[r].last - t->parts[r].first;
    }
    if (at != t->spec->rows || sum != at) {
        return fail(ERR_INTERNAL, "%s: the ranks' parts do not tile the %lld rows of %s", t->w->path,
                    (long long)t->spec->rows, t->spec->name);
    }
    return OK;
}

static enum status transit_open(struct transit *t, struct range part) {
    struct comm *c = t->w->c;
    int64_t *ends = NULL;
    enum status st;
    TRY_TO(done, NEW_ARRAY(t->parts, c->size));
    TRY_TO(done, NEW_ARRAY(t->send_bytes, c->size));
    TRY_TO(done, NEW_ARRAY(t->recv_bytes, c->size));
    TRY_TO(done, NEW_ARRAY(ends, 2 * (int64_t)c->size));
    int64_t most_bytes = t->round_rows < t->spec->rows ? t->round_rows : t->spec->rows;
    most_bytes *= t->row_bytes;
    if (c->size > 1) { /* one rank writes from where its data lie */
        int64_t part_bytes = (part.last - part.first) * t->row_bytes;
        TRY_TO(done, NEW_ARRAY(t->recv, most_bytes));
        TRY_TO(done, NEW_ARRAY(t->block, most_bytes));
        TRY_TO(done,
               NEW_ARRAY(t->send, part_bytes < c->size * most_bytes ? part_bytes : c->size * most_bytes));
    }
done:
    st = comm_agree(c, st);
    if (st == OK) {
        st = comm_gather_i64(c, part.first, ends);
    }
    if (st == OK) {
        st = comm_gather_i64(c, part.last, ends + c->size);
    }
    for (int r = 0; st == OK && ends && r < c->size; r++) {
        t->parts[r] = (struct range){ends[r], ends[c->size + r]};
    }
    mem_free(ends);
    return st == OK ? check_tiles(t) : st;
}

static void transit_close(struct transit *t) {
    mem_free(t->parts);
    mem_free(t->send_bytes);
    mem_free(t->recv_bytes);
    mem_free(t->send);
    mem_free(t->recv);
    mem_free(t->block);
    if (t->array >= 0) {
        H5Dclose(t->array);
    }
}

/* Collective. The rows this rank owns in the round, in row order, in *block. */
static enum status move_rows(struct transit *t, int64_t round, const char *data, const char **block) {
    struct comm *c = t->w->c;
    struct range mine = t->parts[c->rank], own = owned(t, c->rank, round);
    if (c->size == 1) {
        *block = data + own.first * t->row_bytes;
        return OK;
    }
    char *to = t->send;
    for (int r = 0; r < c->size; r++) {
        struct range out = clip(mine, owned(t, r, round)), in = clip(t->parts[r], own);
        t->send_bytes[r] = (out.last - out.first) * t->row_bytes;
        t->recv_bytes[r] = (in.last - in.first) * t->row_bytes;
        if (t->send_bytes[r] > 0) {
            memcpy(to, data + (out.first - mine.first) * t->row_bytes, (size_t)t->send_bytes[r]);
            to += t->send_bytes[r];
        }
    }
    TRY(comm_exchange(c, t->send, t->send_bytes, t->recv, t->recv_bytes));
    const char *from = t->recv;
    for (int r = 0; r < c->size; r++) {
        struct range in = clip(t->parts[r], own);
        if (t->recv_bytes[r] > 0) {
            memcpy(t->block + (in.first - own.first) * t->row_bytes, from, (size_t)t->recv_bytes[r]);
            from += t->recv_bytes[r];
        }
    }
    *block = t->block;
    return OK;
}

/* Collective. Ranks without rows take part with nothing selected. */
static enum status write_round(struct transit *t, struct range own, const char *block) {
    int dimensions = t->spec->width == 0 ? 1 : 2;
    hsize_t start[2] = {(hsize_t)own.first, 0};
    hsize_t count[2] = {(hsize_t)(own.last - own.first), (hsize_t)t->width};
    hid_t memory = H5Screate_simple(dimensions, count, NULL);
    hid_t file = H5Dget_space(t->array);
    hid_t transfer = H5Pcreate(H5P_DATASET_XFER);
    enum status st = OK;
    bool ready =
        memory >= 0 && file >= 0 && transfer >= 0 && H5Pset_dxpl_mpio(transfer, H5FD_MPIO_COLLECTIVE) >= 0;
    if (ready && count[0] > 0) {
        ready = H5Sselect_hyperslab(file, H5S_SELECT_SET, start, NULL, count, NULL) >= 0;
    } else if (ready) {
        ready = H5Sselect_none(file) >= 0 && H5Sselect_none(memory) >= 0;
    }
    if (!ready) {
        st = h5_fail(ERR_SYSTEM, t->w->path, "%s: cannot select rows", t->spec->name);
    }
    st = comm_agree(t->w->c, st);
    if (st == OK) {
        char nothing = 0;
        if (H5Dwrite(t->array, h5_memory_type(t->spec->type), memory, file, transfer,
                     count[0] > 0 ? (const void *)block : &nothing) < 0) {
            st = h5_fail(ERR_WRITE, t->w->path, "%s: cannot be written; is the disk full?", t->spec->name);
        }
        st = comm_agree(t->w->c, st);
    }
    const hid_t spaces[2] = {memory, file};
    for (int i = 0; i < 2; i++) {
        if (spaces[i] >= 0) {
            H5Sclose(spaces[i]);
        }
    }
    if (transfer >= 0) {
        H5Pclose(transfer);
    }
    return st;
}

static hid_t array_properties(const struct transit *t) {
    const struct array_spec *spec = t->spec;
    hid_t creation = H5Pcreate(H5P_DATASET_CREATE);
    bool done = creation >= 0 && H5Pset_obj_track_times(creation, false) >= 0 &&
                H5Pset_fill_time(creation, H5D_FILL_TIME_NEVER) >= 0;
    if (done && spec->chunk_rows > 0 && spec->rows > 0) {
        hsize_t chunk[2] = {(hsize_t)t->unit, (hsize_t)t->width};
        done = H5Pset_chunk(creation, spec->width == 0 ? 1 : 2, chunk) >= 0 &&
               (spec->deflate == 0 ||
                (H5Pset_shuffle(creation) >= 0 && H5Pset_deflate(creation, (unsigned)spec->deflate) >= 0)) &&
               H5Pset_fletcher32(creation) >= 0;
    }
    if (!done && creation >= 0) {
        H5Pclose(creation);
        creation = H5I_INVALID_HID;
    }
    return creation;
}

/* The groups on the way to an array, without the times that HDF5 would stamp them with: the same contents
 * give the same file, byte for byte. */
static bool groups_create(hid_t file, const char *array) {
    hid_t creation = H5Pcreate(H5P_GROUP_CREATE);
    bool done = creation >= 0 && H5Pset_obj_track_times(creation, false) >= 0;
    for (const char *slash = strchr(array + 1, '/'); done && slash; slash = strchr(slash + 1, '/')) {
        char path[256];
        snprintf(path, sizeof path, "%.*s", (int)(slash - array), array);
        htri_t there = H5Lexists(file, path, H5P_DEFAULT);
        hid_t group =
            there == 0 ? H5Gcreate2(file, path, H5P_DEFAULT, creation, H5P_DEFAULT) : H5I_INVALID_HID;
        done = there > 0 || group >= 0;
        if (group >= 0) {
            H5Gclose(group);
        }
    }
    if (creation >= 0) {
        H5Pclose(creation);
    }
    return done;
}

/* Collective. */
static enum status array_create(struct transit *t) {
    const struct array_spec *spec = t->spec;
    hsize_t size[2] = {(hsize_t)spec->rows, (hsize_t)t->width};
    enum status st = OK;
    hid_t space = H5Screate_simple(spec->width == 0 ? 1 : 2, size, NULL);
    hid_t creation = array_properties(t);
    if (space >= 0 && creation >= 0 && groups_create(t->w->file, spec->name)) {
        t->array = H5Dcreate2(t->w->file, spec->name, h5_disk_type(spec->type), space, H5P_DEFAULT, creation,
                              H5P_DEFAULT);
    }
    if (t->array < 0) {
        st = h5_fail(ERR_WRITE, t->w->path, "%s: cannot be created", spec->name);
    }
    if (creation >= 0) {
        H5Pclose(creation);
    }
    if (space >= 0) {
        H5Sclose(space);
    }
    return comm_agree(t->w->c, st);
}

/* Local, rank 0. Takes the blocks that the arrays so far can need at most, without making the file longer;
 * what is left over is given back at the end. File systems that cannot do this say so, and we go on without.
 */
static enum status reserve(const struct transit *t) {
    int64_t bytes;
    TRY(size_mul(t->spec->rows, t->row_bytes, t->spec->name, &bytes));
    TRY(size_add(t->w->reserved_bytes, bytes + bytes / 16 + SLACK_BYTES, t->spec->name,
                 &t->w->reserved_bytes));
    int file = open(t->w->tmp, O_WRONLY | O_CLOEXEC);
    if (file < 0) {
        return fail(ERR_WRITE, "%s: cannot be opened: %s", t->w->tmp, strerror(errno));
    }
    int rc = fallocate(file, FALLOC_FL_KEEP_SIZE, 0, t->w->reserved_bytes), saved = errno;
    close(file);
    if (rc != 0 && (saved == ENOSPC || saved == EDQUOT || saved == EFBIG || saved == EIO)) {
        return fail(ERR_WRITE, "%s: no room for the %.1f MiB of %s: %s", t->w->path,
                    (double)bytes / (1 << 20), t->spec->name, strerror(saved));
    }
    return OK;
}

static enum status write_rounds(struct transit *t, const void *data, uint64_t *own_hash) {
    for (int64_t round = 0; round < t->rounds; round++) {
        const char *block;
        struct range own = owned(t, t->w->c->rank, round);
        TRY(move_rows(t, round, data, &block));
        *own_hash += h5_blocks_hash(block, own.last - own.first, t->row_bytes, t->unit, own.first);
        TRY(write_round(t, own, block));
    }
    return OK;
}

static enum status transit_plan(struct transit *t) {
    const struct array_spec *spec = t->spec;
    if (spec->rows < 0 || spec->width < 0 || strlen(spec->name) >= sizeof t->w->written[0].name ||
        t->w->n_written == MOST_ARRAYS) {
        return fail(ERR_INTERNAL, "%s: %s cannot be an array of the file", t->w->path, spec->name);
    }
    t->width = spec->width == 0 ? 1 : spec->width;
    TRY(size_mul(t->width, array_type_bytes(spec->type), spec->name, &t->row_bytes));
    t->unit = spec->chunk_rows > 0 ? spec->chunk_rows : H5_PLAIN_BLOCK_ROWS;
    if (spec->rows > 0 && t->unit > spec->rows) {
        t->unit = spec->rows; /* a chunk may not be longer than its array */
    }
    int64_t per_round = ROUND_BYTES / (t->unit * t->row_bytes);
    t->round_rows = t->unit * (per_round < 1 ? 1 : per_round);
    t->rounds = round_count(t);
    return OK;
}

enum status h5_write_array(struct h5_writer *w, const struct array_spec *spec, struct range part,
                           const void *data, uint64_t *hash) {
    struct transit t = {.w = w, .spec = spec, .array = H5I_INVALID_HID};
    int64_t brings = data ? 1 : 0;
    uint64_t own_hash = 0;
    enum status st;
    TRY(comm_agree(w->c, transit_plan(&t)));
    TRY(comm_max_i64(w->c, &brings, 1));
    TRY_TO(done, transit_open(&t, part));
    TRY_TO(done, comm_agree(w->c, w->c->rank == 0 ? reserve(&t) : OK));
    TRY_TO(done, array_create(&t));
    if (brings) {
        st = data || part.first == part.last ? OK : fail(ERR_INTERNAL, "%s: no data given", spec->name);
        TRY_TO(done, comm_agree(w->c, st));
        TRY_TO(done, write_rounds(&t, data ? data : "", &own_hash));
        struct written *record = &w->written[w->n_written++];
        memcpy(record->name, spec->name, strlen(spec->name) + 1);
        record->type = spec->type;
        record->width = spec->width;
        record->block_rows = t.unit;
        record->hash = own_hash;
        record->own = (struct range){owned(&t, w->c->rank, 0).first, 0};
        record->own.last = record->own.first;
        for (int64_t round = 0; round < t.rounds; round++) {
            struct range now = owned(&t, w->c->rank, round);
            record->own.last += now.last - now.first;
        }
    }
    if (hash) {
        TRY_TO(done, h5_sum_hash(w->c, own_hash, hash));
    }
done:
    transit_close(&t);
    return st;
}

/* Ending. */

static enum status verify_array(struct h5_file *f, const struct written *record) {
    struct array_spec spec = {.name = record->name, .type = record->type, .rows = -1, .width = record->width};
    struct h5_column *column;
    char *block = NULL;
    uint64_t hash = 0;
    enum status st;
    TRY(h5_column_open(f, &spec, 0, &column));
    int64_t row_bytes = h5_width(column) * array_type_bytes(record->type);
    TRY(NEW_ARRAY(block, record->block_rows * row_bytes));
    for (int64_t at = record->own.first; at < record->own.last; at += record->block_rows) {
        int64_t n = record->own.last - at < record->block_rows ? record->own.last - at : record->block_rows;
        TRY_TO(done, h5_read(column, at, n, block));
        hash += h5_blocks_hash(block, n, row_bytes, record->block_rows, at);
    }
    st = hash == record->hash ? OK : fail(ERR_WRITE, "%s: %s reads back differently", f->path, record->name);
done:
    mem_free(block);
    return st;
}

/* Local. What this rank wrote is read back through another open. */
static enum status verify(const struct h5_writer *w) {
    struct h5_file *f;
    enum status st = h5_open(w->tmp, NULL, 0, &f);
    if (st == OK) {
        for (int i = 0; i < w->n_written && st == OK; i++) {
            st = verify_array(f, &w->written[i]);
        }
        h5_close(f);
    }
    if (st != OK) { /* whatever the reader said, it is the writing that failed */
        struct message message = *status_message();
        return fail(ERR_WRITE, "%s: what was written does not read back; is the disk full? %.600s", w->path,
                    message.text);
    }
    return OK;
}

static enum status sync_file(const char *path) {
    int file = open(path, O_RDWR | O_CLOEXEC);
    if (file < 0) {
        return fail(ERR_WRITE, "%s: cannot be opened for fsync: %s", path, strerror(errno));
    }
    struct stat facts;
    int rc = fstat(file, &facts);
    rc = rc == 0 ? ftruncate(file, facts.st_size) : rc; /* gives back what was reserved behind the end */
    rc = rc == 0 ? fsync(file) : rc;
    int saved = errno;
    close(file);
    return rc == 0 ? OK : fail(ERR_WRITE, "%s: fsync: %s", path, strerror(saved));
}

static enum status put_in_place(const struct h5_writer *w) {
    TRY(sync_file(w->tmp));
    if (rename(w->tmp, w->path) != 0) {
        return fail(ERR_WRITE, "%s: cannot rename %s: %s", w->path, w->tmp, strerror(errno));
    }
    return file_sync_folder(w->path);
}

/* Collective. */
static enum status flush_and_close(struct h5_writer *w) {
    enum status st = OK;
    if (H5Fflush(w->file, H5F_SCOPE_GLOBAL) < 0) {
        st = h5_fail(ERR_WRITE, w->path, "cannot be flushed; is the disk full?");
    }
    TRY(comm_agree(w->c, st));
    if (H5Fclose(w->file) < 0) {
        st = h5_fail(ERR_WRITE, w->path, "cannot be closed; is the disk full?");
    }
    w->file = H5I_INVALID_HID;
    return comm_agree(w->c, st);
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
