/* Arrays of a file that is being written.
 *
 * An array is written in rounds of bounded memory. A round's chunks are dealt to the ranks in contiguous
 * ranges; every rank sends its rows to their owners and then writes whole chunks. So no chunk is compressed
 * by two ranks, which HDF5 would have to sort out itself, and the bytes in a chunk do not depend on the rank
 * count.
 *
 * Nor do the places of the chunks. HDF5 1.10 gives all chunks of a filtered array places when it is made, and
 * new ones when it knows what compression has left of them: in a collective write rank by rank, and a rank's
 * in the order of their first places. That is the order of the chunks for any rank count, because a round
 * holds the same chunks whatever the ranks, and because the first places rise from chunk to chunk: that takes
 * a file without holes, which is what h5_forget_holes makes of it.
 *
 * A collective write that fails on some ranks only (no space left) leaves the others waiting inside HDF5 1.10
 * for ever. So space is reserved before each array is made, by one rank and with an answer that all agree on.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "io/h5_internal.h"
#include "mpi/watchdog.h"
#include "util/fault.h"
#include "util/mem.h"

static const int64_t ROUND_BYTES =
    1 << 26; /* that the ranks write at once, a rank alone from where they lie */
static const int64_t SLACK_BYTES = 256
                                   << 10; /* reserved for HDF5's own structures, beside a 16th of the data */

/* One array on its way to the file. */
struct transit {
    struct h5_writer *w;
    const struct array_spec *spec;
    int64_t width, row_bytes, unit; /* rows of a chunk */
    int64_t round_chunks, rounds;   /* chunks of all ranks in a round */
    struct range *parts;            /* (size) rows that each rank brings, where shards is NULL */
    const struct shard_map *shards; /* else the rows that it brings, packed */
    const struct h5_rows *rows;     /* where they are read; NULL: they lie in memory */
    int64_t *send_bytes, *recv_bytes;
    char *send, *recv, *block; /* recv in rank order, block in row order */
    uint64_t *checks;          /* checked arrays: hashes of all blocks; 0 where another rank owns the block */
    hid_t array;
};

/* Chunks of a chunked array, blocks of another. */
static int64_t block_count(const struct transit *t) {
    return t->unit > 0 ? (t->spec->rows + t->unit - 1) / t->unit : 0;
}

static struct range clip(struct range a, struct range b) {
    struct range r = {a.first > b.first ? a.first : b.first, a.last < b.last ? a.last : b.last};
    if (r.last < r.first) {
        r.last = r.first;
    }
    return r;
}

/* Rows of chunks [first, first + n), dealt to the ranks: whole chunks, except for the array's end. */
static struct range share(const struct transit *t, int rank, int64_t first, int64_t n) {
    struct range chunks = range_part(n, rank, t->w->c->size);
    struct range own = {(first + chunks.first) * t->unit, (first + chunks.last) * t->unit};
    struct range rows = {0, t->spec->rows};
    return clip(own, rows);
}

/* Rows that rank owns in a round. */
static struct range owned(const struct transit *t, int rank, int64_t round) {
    int64_t first = round * t->round_chunks;
    int64_t left = block_count(t) - first;
    return share(t, rank, first, left < t->round_chunks ? left : t->round_chunks);
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

/* The rows of a range that a rank brings, piece by piece and in order. */
struct pieces {
    const struct transit *t;
    struct range part;            /* where t->shards is NULL: the one piece, then nothing */
    struct shard_overlaps shares; /* elsewhere */
};

static struct pieces pieces_of(const struct transit *t, int rank, struct range rows) {
    return t->shards ? (struct pieces){.t = t, .shares = shard_overlaps(t->shards, rows, rank)}
                     : (struct pieces){.t = t, .part = clip(t->parts[rank], rows)};
}

static bool next_piece(struct pieces *p, struct range *out) {
    if (p->t->shards) {
        return shard_overlaps_next(&p->shares, out);
    }
    *out = p->part;
    p->part.first = p->part.last;
    return out->first < out->last;
}

static int64_t bytes_from(const struct transit *t, int rank, struct range rows) {
    if (t->shards) {
        return shard_overlap_count(t->shards, rows, rank) * t->row_bytes;
    }
    struct range part = clip(t->parts[rank], rows);
    return (part.last - part.first) * t->row_bytes;
}

/* Bytes that this rank sends to others, and gets from them, in a round, at most: what it brings of its own
 * rows moves nowhere. */
static void most_moved(const struct transit *t, int64_t *send, int64_t *recv) {
    const int rank = t->w->c->rank;
    *send = *recv = 0;
    for (int64_t round = 0; round < t->rounds; round++) {
        struct range rows = {round * t->round_chunks * t->unit, (round + 1) * t->round_chunks * t->unit};
        struct range own = owned(t, rank, round);
        int64_t stays = bytes_from(t, rank, own);
        int64_t sent = bytes_from(t, rank, clip(rows, (struct range){0, t->spec->rows})) - stays;
        int64_t got = (own.last - own.first) * t->row_bytes - stays;
        *send = sent > *send ? sent : *send;
        *recv = got > *recv ? got : *recv;
    }
}

static enum status transit_open(struct transit *t, struct range part) {
    struct comm *c = t->w->c;
    int64_t *ends = NULL;
    enum status st;
    TRY_TO(done, NEW_ARRAY(t->parts, c->size));
    TRY_TO(done, NEW_ARRAY(t->send_bytes, c->size));
    TRY_TO(done, NEW_ARRAY(t->recv_bytes, c->size));
    TRY_TO(done, NEW_ARRAY(ends, 2 * (int64_t)c->size));
    int64_t most = (t->round_chunks + c->size - 1) / c->size * t->unit; /* rows that a rank owns in a round */
    int64_t most_bytes = (most < t->spec->rows ? most : t->spec->rows) * t->row_bytes;
    TRY_TO(done, NEW_ARRAY(t->checks, t->spec->checked ? block_count(t) : 0));
    if (c->size > 1 || t->rows) { /* one rank writes from where its data lie */
        TRY_TO(done, NEW_ARRAY(t->block, most_bytes));
    }
    if (c->size > 1) {
        int64_t send, recv;
        t->parts[c->rank] = part;
        most_moved(t, &send, &recv);
        TRY_TO(done, NEW_ARRAY(t->send, send));
        TRY_TO(done, NEW_ARRAY(t->recv, recv));
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
    return st == OK && !t->shards ? check_tiles(t) : st;
}

static void transit_close(struct transit *t) {
    mem_free(t->parts);
    mem_free(t->send_bytes);
    mem_free(t->recv_bytes);
    mem_free(t->send);
    mem_free(t->recv);
    mem_free(t->block);
    mem_free(t->checks);
    if (t->array >= 0) {
        watchdog_wait(t->w->c->watchdog, "closing an array");
        H5Dclose(t->array);
        watchdog_go(t->w->c->watchdog);
    }
}

/* Local. Rows that this rank brings, to `to`. */
static enum status take_piece(const struct transit *t, struct range r, const char *data, char *to) {
    int64_t n = r.last - r.first;
    int64_t at = t->shards ? shard_packed(t->shards, r.first) : r.first - t->parts[t->w->c->rank].first;
    if (t->rows) {
        return t->rows->read(t->rows->context, at, n, to);
    }
    memcpy(to, data + at * t->row_bytes, (size_t)(n * t->row_bytes));
    return OK;
}

/* Local. This rank's rows of a range end to end to `to`; *bytes: how many. */
static enum status take_rows(const struct transit *t, struct range rows, const char *data, char *to,
                             int64_t *bytes) {
    struct pieces pieces = pieces_of(t, t->w->c->rank, rows);
    enum status st = OK;
    *bytes = 0;
    for (struct range r; next_piece(&pieces, &r);) {
        st = st == OK ? take_piece(t, r, data, to + *bytes) : st;
        *bytes += (r.last - r.first) * t->row_bytes;
    }
    return st;
}

/* Local. What this rank brings of its own rows goes to its places in the block. */
static enum status take_own(const struct transit *t, struct range own, const char *data) {
    struct pieces pieces = pieces_of(t, t->w->c->rank, own);
    enum status st = OK;
    for (struct range r; next_piece(&pieces, &r);) {
        st = st == OK ? take_piece(t, r, data, t->block + (r.first - own.first) * t->row_bytes) : st;
    }
    return st;
}

/* Puts what a rank brought of this rank's rows into its places in the block; returns its bytes. */
static int64_t place_rows(const struct transit *t, int rank, struct range own, const char *from) {
    struct pieces pieces = pieces_of(t, rank, own);
    int64_t bytes = 0;
    for (struct range r; next_piece(&pieces, &r);) {
        int64_t n = (r.last - r.first) * t->row_bytes;
        memcpy(t->block + (r.first - own.first) * t->row_bytes, from + bytes, (size_t)n);
        bytes += n;
    }
    return bytes;
}

/* Collective. The rows this rank owns in the round, in row order, in *block. */
static enum status move_rows(struct transit *t, int64_t round, const char *data, const char **block) {
    struct comm *c = t->w->c;
    struct range own = owned(t, c->rank, round);
    enum status st = OK;
    if (c->size == 1) {
        *block = t->rows ? t->block : data + own.first * t->row_bytes;
        return t->rows ? t->rows->read(t->rows->context, own.first, own.last - own.first, t->block) : OK;
    }
    char *to = t->send;
    for (int r = 0; r < c->size; r++) {
        enum status taken;
        t->send_bytes[r] = t->recv_bytes[r] = 0;
        if (r == c->rank) { /* nothing of its own passes through the exchange */
            taken = take_own(t, own, data);
        } else {
            taken = take_rows(t, owned(t, r, round), data, to, &t->send_bytes[r]);
            t->recv_bytes[r] = bytes_from(t, r, own);
        }
        st = st == OK ? taken : st;
        to += t->send_bytes[r];
    }
    TRY(t->rows ? comm_agree(c, st) : OK);
    TRY(comm_exchange(c, t->send, t->send_bytes, t->recv, t->recv_bytes));
    const char *from = t->recv;
    for (int r = 0; r < c->size; r++) {
        from += r != c->rank ? place_rows(t, r, own, from) : 0;
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
        watchdog_wait(t->w->c->watchdog, "writing an array");
        if (H5Dwrite(t->array, h5_memory_type(t->spec->type), memory, file, transfer,
                     count[0] > 0 ? (const void *)block : &nothing) < 0 ||
            fault_hits(FAULT_WRITE)) {
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
    watchdog_wait(t->w->c->watchdog, "making an array");
    if (space >= 0 && creation >= 0 && groups_create(t->w->file, spec->name)) {
        t->array = H5Dcreate2(t->w->file, spec->name, h5_disk_type(spec->type), space, H5P_DEFAULT, creation,
                              H5P_DEFAULT);
    }
    if (t->array < 0 || fault_hits(FAULT_WRITE)) {
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

/* Whether the file system says that it has less than what this file still lacks of `bytes`. Local. */
static bool lacks_room(int file, int64_t bytes) {
    struct statvfs room;
    struct stat facts;
    return fstatvfs(file, &room) == 0 && fstat(file, &facts) == 0 &&
           (double)room.f_bavail * (double)room.f_frsize + 512. * (double)facts.st_blocks < (double)bytes;
}

/* May this process make a file so large (ulimit -f, and what a batch system sets)? */
static bool is_over_limit(int64_t bytes) {
    struct rlimit limit;
    return getrlimit(RLIMIT_FSIZE, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY &&
           (rlim_t)bytes > limit.rlim_cur;
}

static enum status refuse_room(const struct transit *t, int64_t bytes, int error) {
    return fail(ERR_WRITE, "%s: no room for the %lld bytes of %s: %s", t->w->path, (long long)bytes,
                t->spec->name, strerror(error));
}

/* Local; rank 0 takes the blocks that the arrays so far can need at most, without making the file longer;
 * what is left over is given back at the end. Where a file system cannot do that it is asked for its room: a
 * disk that is full only on some ranks' way through HDF5 would leave the others waiting for them, and a file
 * that HDF5 could not close would end the process later. */
static enum status reserve(const struct transit *t) {
    int64_t bytes;
    TRY(size_mul(t->spec->rows, t->row_bytes, t->spec->name, &bytes));
    TRY(size_add(t->w->reserved_bytes, bytes + bytes / 16 + SLACK_BYTES, t->spec->name,
                 &t->w->reserved_bytes));
    if (is_over_limit(t->w->reserved_bytes)) {
        return refuse_room(t, bytes, EFBIG);
    }
    int file = t->w->c->rank == 0 && !fault_hits(FAULT_OPEN) ? open(t->w->tmp, O_WRONLY | O_CLOEXEC) : -1;
    if (file < 0) {
        return t->w->c->rank != 0 ? OK
                                  : fail(ERR_WRITE, "%s: cannot be opened: %s", t->w->path, strerror(errno));
    }
    bool has_room =
        !fault_hits(FAULT_WRITE) && fallocate(file, FALLOC_FL_KEEP_SIZE, 0, t->w->reserved_bytes) == 0;
    int error = has_room ? 0 : errno;
    bool is_full = error == ENOSPC || error == EDQUOT || error == EFBIG || error == EIO;
    if (error != 0 && !is_full && lacks_room(file, t->w->reserved_bytes)) {
        error = ENOSPC;
        is_full = true;
    }
    close(file);
    return is_full ? refuse_room(t, bytes, error) : OK;
}

/* Hashes of the blocks in a round, and their sum. */
static void hash_round(struct transit *t, struct range own, const char *block, uint64_t *sum) {
    for (int64_t at = own.first; at < own.last; at += t->unit) {
        int64_t n = own.last - at < t->unit ? own.last - at : t->unit;
        uint64_t hash =
            h5_block_hash(block + (at - own.first) * t->row_bytes, n * t->row_bytes, at / t->unit);
        if (t->spec->checked) {
            t->checks[at / t->unit] = hash;
        }
        *sum += hash;
    }
}

static enum status write_rounds(struct transit *t, const void *data, uint64_t *own_hash) {
    for (int64_t round = 0; round < t->rounds; round++) {
        const char *block;
        struct range own = owned(t, t->w->c->rank, round);
        TRY(move_rows(t, round, data, &block));
        hash_round(t, own, block, own_hash);
        TRY(write_round(t, own, block));
    }
    return OK;
}

/* Collective. The blocks' hashes as an array of their own. */
static enum status write_checks(struct transit *t) {
    char name[H5_NAME_BYTES];
    int64_t blocks = block_count(t);
    struct array_spec spec = {.name = name, .type = ARRAY_U64, .rows = blocks};
    TRY(h5_check_name(t->spec->name, name));
    TRY(comm_sum_u64(t->w->c, t->checks, blocks));
    struct range part = range_part(blocks, t->w->c->rank, t->w->c->size);
    return h5_write_array(t->w, &spec, part, t->checks + part.first, NULL);
}

static enum status transit_plan(struct transit *t) {
    const struct array_spec *spec = t->spec;
    if (spec->rows < 0 || spec->width < 0 || strlen(spec->name) >= sizeof t->w->written[0].name ||
        t->w->n_written == H5_MOST_ARRAYS) {
        return fail(ERR_INTERNAL, "%s: %s cannot be an array of the file", t->w->path, spec->name);
    }
    t->width = spec->width == 0 ? 1 : spec->width;
    TRY(size_mul(t->width, array_type_bytes(spec->type), spec->name, &t->row_bytes));
    t->unit = spec->chunk_rows > 0 ? spec->chunk_rows : H5_PLAIN_BLOCK_ROWS;
    if (spec->rows > 0 && t->unit > spec->rows) {
        t->unit = spec->rows; /* a chunk may not be longer than its array */
    }
    int64_t per_round = ROUND_BYTES / (t->unit * t->row_bytes);
    t->round_chunks = per_round < 1 ? 1 : per_round;
    t->rounds = (block_count(t) + t->round_chunks - 1) / t->round_chunks;
    return OK;
}

/* What the comparison after closing needs. */
static void keep_record(struct transit *t, uint64_t hash) {
    struct h5_written *record = &t->w->written[t->w->n_written++];
    memcpy(record->name, t->spec->name, strlen(t->spec->name) + 1);
    record->type = t->spec->type;
    record->width = t->spec->width;
    record->block_rows = t->unit;
    record->hash = hash;
    record->part = share(t, t->w->c->rank, 0, block_count(t));
}

/* Collective. part: where t->shards is NULL. */
static enum status write_array(struct transit *t, struct range part, const void *data, uint64_t *hash) {
    struct comm *c = t->w->c;
    int64_t brings = data || t->rows ? 1 : 0;
    uint64_t sum = 0;
    enum status st;
    TRY(comm_agree(c, transit_plan(t)));
    TRY(comm_max_i64(c, &brings, 1));
    TRY_TO(done, transit_open(t, part));
    TRY_TO(done, comm_agree(c, reserve(t)));
    if (t->spec->chunk_rows > 0 && block_count(t) > 1) {
        TRY_TO(done, t->w->has_filtered ? h5_forget_holes(t->w) : OK);
        t->w->has_filtered = true;
    }
    TRY_TO(done, array_create(t));
    if (brings) {
        st = data || t->rows || part.first == part.last
                 ? OK
                 : fail(ERR_INTERNAL, "%s: no data given", t->spec->name);
        TRY_TO(done, comm_agree(c, st));
        TRY_TO(done, write_rounds(t, data ? data : "", &sum));
        TRY_TO(done, h5_sum_hash(c, sum, &sum));
        keep_record(t, sum);
        TRY_TO(done, t->spec->checked ? write_checks(t) : OK);
    }
    if (hash) {
        *hash = sum;
    }
done:
    transit_close(t);
    return st;
}

enum status h5_write_array(struct h5_writer *w, const struct array_spec *spec, struct range part,
                           const void *data, uint64_t *hash) {
    struct transit t = {.w = w, .spec = spec, .array = H5I_INVALID_HID};
    return write_array(&t, part, data, hash);
}

enum status h5_write_rows(struct h5_writer *w, const struct array_spec *spec, struct range part,
                          const struct h5_rows *rows, uint64_t *hash) {
    struct transit t = {.w = w, .spec = spec, .rows = rows, .array = H5I_INVALID_HID};
    return write_array(&t, part, NULL, hash);
}

enum status h5_write_shares(struct h5_writer *w, const struct array_spec *spec,
                            const struct shard_map *shards, const void *packed, uint64_t *hash) {
    struct transit t = {.w = w, .spec = spec, .shards = shards, .array = H5I_INVALID_HID};
    return write_array(&t, (struct range){0, 0}, packed, hash);
}
