/* Columns: arrays read by blocks (a chunk, or a run of rows where there are no chunks) that are kept decoded,
 * least recently used first out. HDF5's own chunk cache is off: it would hold the same chunks again and costs
 * about 10 us a row, where a row from a block here costs a copy. */
#include <string.h>

#include "io/file.h"
#include "io/h5_internal.h"
#include "util/mem.h"

static const int64_t BLOCK_BYTES = 1 << 18;      /* of a contiguous array's block */
static const int64_t CHUNK_BYTES_MOST = 1 << 26; /* of a chunk that we accept */
static const int64_t UPDATE_BYTES = 1 << 20;     /* written and read back at once */

struct kept_block {
    int64_t block; /* -1: none */
    uint64_t used; /* clock of the last use */
    char *data;
};

struct h5_column {
    struct h5_column *next;
    struct h5_file *file;
    char name[H5_NAME_BYTES];
    hid_t id;
    enum array_type type;
    int dimensions;
    bool chunked, deflated;
    int64_t rows, width, row_bytes;
    int64_t block_rows, n_blocks;
    int32_t *slot_of; /* (n_blocks) place of a block in slots, -1: not there */
    struct kept_block *slots;
    int32_t n_slots, n_used;
    uint64_t clock;
    struct h5_column *checks; /* hashes of the blocks; NULL: none */
};

int64_t h5_rows(const struct h5_column *column) {
    return column->rows;
}

int64_t h5_width(const struct h5_column *column) {
    return column->width;
}

static void column_free(struct h5_column *column) {
    if (column->id >= 0) {
        H5Dclose(column->id);
    }
    for (int32_t i = 0; i < column->n_used; i++) {
        mem_free(column->slots[i].data);
    }
    mem_free(column->slots);
    mem_free(column->slot_of);
    mem_free(column);
}

void h5_columns_close(struct h5_file *f) {
    while (f->columns) {
        struct h5_column *next = f->columns->next;
        column_free(f->columns);
        f->columns = next;
    }
}

static enum status bad(const struct h5_column *column, const char *what) {
    return h5_fail(ERR_DATA, column->file->path, "%s: %s", column->name, what);
}

/* A link or an external file could lead out of the file that the user named. */
static enum status check_link(struct h5_column *column) {
    H5L_info_t link;
    if (H5Lget_info(column->file->id, column->name, &link, H5P_DEFAULT) < 0) {
        return bad(column, "data set is missing");
    }
    if (link.type != H5L_TYPE_HARD) {
        return fail(ERR_DATA, "%s: %s is a link, not a data set", column->file->path, column->name);
    }
    return OK;
}

static enum status check_type(struct h5_column *column) {
    hid_t type = H5Dget_type(column->id);
    htri_t equal = type >= 0 ? H5Tequal(type, h5_disk_type(column->type)) : -1;
    if (type >= 0) {
        H5Tclose(type);
    }
    if (equal <= 0) {
        return fail(ERR_DATA, "%s: %s has another element type than the format says", column->file->path,
                    column->name);
    }
    return OK;
}

static enum status check_shape(struct h5_column *column, const struct array_spec *expected) {
    hsize_t size[2] = {0, 1};
    hid_t space = H5Dget_space(column->id);
    column->dimensions = expected->width == 0 ? 1 : 2;
    bool fits = space >= 0 && H5Sis_simple(space) > 0 &&
                H5Sget_simple_extent_ndims(space) == column->dimensions &&
                H5Sget_simple_extent_dims(space, size, NULL) == column->dimensions;
    if (space >= 0) {
        H5Sclose(space);
    }
    if (!fits || size[0] > INT64_MAX || size[1] > INT32_MAX || size[1] == 0) {
        return fail(ERR_DATA, "%s: %s has another shape than the format says", column->file->path,
                    column->name);
    }
    column->rows = (int64_t)size[0];
    column->width = (int64_t)size[1];
    if ((expected->rows >= 0 && column->rows != expected->rows) ||
        (expected->width > 0 && column->width != expected->width)) {
        return fail(ERR_DATA, "%s: %s is %lld x %lld where %lld x %lld are expected", column->file->path,
                    column->name, (long long)column->rows, (long long)column->width,
                    (long long)expected->rows, (long long)(expected->width > 0 ? expected->width : 1));
    }
    return size_mul(column->width, array_type_bytes(column->type), column->name, &column->row_bytes);
}

/* Only the filters that we write: others would make HDF5 look for plug-ins. */
static enum status check_filters(struct h5_column *column, hid_t creation) {
    int n = H5Pget_nfilters(creation);
    for (int i = 0; i < n; i++) {
        unsigned flags;
        size_t n_values = 0;
        H5Z_filter_t filter = H5Pget_filter2(creation, (unsigned)i, &flags, &n_values, NULL, 0, NULL, NULL);
        column->deflated = column->deflated || filter == H5Z_FILTER_DEFLATE;
        if (filter != H5Z_FILTER_DEFLATE && filter != H5Z_FILTER_SHUFFLE && filter != H5Z_FILTER_FLETCHER32) {
            return fail(ERR_DATA, "%s: %s uses filter %d, which the format does not have", column->file->path,
                        column->name, (int)filter);
        }
    }
    return n < 0 ? bad(column, "filters cannot be read") : OK;
}

/* Every chunk is there: the row count is then bounded by what the file really holds. */
static enum status check_chunks(struct h5_column *column, hid_t creation) {
    hsize_t chunk[2] = {0, 1}, found = 0;
    int64_t bytes;
    if (H5Pget_chunk(creation, 2, chunk) != column->dimensions || chunk[0] == 0 || chunk[0] > INT32_MAX ||
        (int64_t)chunk[1] != column->width) {
        return bad(column, "chunks have another shape than the format says");
    }
    TRY(size_mul((int64_t)chunk[0], column->row_bytes, column->name, &bytes));
    if (bytes > CHUNK_BYTES_MOST) {
        return fail(ERR_DATA, "%s: %s has chunks of %lld bytes, more than the format allows",
                    column->file->path, column->name, (long long)bytes);
    }
    column->block_rows = (int64_t)chunk[0];
    int64_t wanted = column->rows / column->block_rows + (column->rows % column->block_rows != 0);
    hid_t space = H5Dget_space(column->id); /* 1.10 does not take H5S_ALL here */
    herr_t counted = H5Dget_num_chunks(column->id, space, &found);
    if (space >= 0) {
        H5Sclose(space);
    }
    if (counted < 0 || (int64_t)found != wanted) {
        return fail(ERR_DATA, "%s: %s lacks chunks (%lld of %lld); the file is damaged", column->file->path,
                    column->name, (long long)found, (long long)wanted);
    }
    return check_filters(column, creation);
}

static enum status check_plain(struct h5_column *column, hid_t creation) {
    int64_t bytes;
    TRY(size_mul(column->rows, column->row_bytes, column->name, &bytes));
    if (H5Pget_external_count(creation) != 0) {
        return fail(ERR_DATA, "%s: %s lies in another file", column->file->path, column->name);
    }
    hsize_t file_bytes = 0;
    if (H5Fget_filesize(column->file->id, &file_bytes) < 0 || bytes > (int64_t)file_bytes ||
        (bytes > 0 && (int64_t)H5Dget_storage_size(column->id) != bytes)) {
        return fail(ERR_DATA, "%s: %s is larger than the file; it is truncated or damaged",
                    column->file->path, column->name);
    }
    int64_t rows = BLOCK_BYTES / column->row_bytes;
    column->block_rows = rows < 1 ? 1 : rows;
    return OK;
}

/* The hashes beside a contiguous array set its blocks. */
static enum status open_checks(struct h5_column *column) {
    enum { CHECK_CACHE = 1 << 18 };
    char name[H5_NAME_BYTES];
    int64_t rows = column->rows < H5_PLAIN_BLOCK_ROWS ? column->rows : H5_PLAIN_BLOCK_ROWS;
    if (column->chunked) {
        return fail(ERR_DATA, "%s: %s is chunked, which the format does not have", column->file->path,
                    column->name);
    }
    column->block_rows = rows < 1 ? 1 : rows;
    struct array_spec spec = {.name = name,
                              .type = ARRAY_U64,
                              .rows = (column->rows + column->block_rows - 1) / column->block_rows};
    TRY(h5_check_name(column->name, name));
    return h5_column_open(column->file, &spec, CHECK_CACHE, &column->checks);
}

static enum status check_storage(struct h5_column *column) {
    enum status st;
    hid_t creation = H5Dget_create_plist(column->id);
    H5D_layout_t layout = creation >= 0 ? H5Pget_layout(creation) : H5D_LAYOUT_ERROR;
    if (layout == H5D_CHUNKED) {
        column->chunked = true;
        st = check_chunks(column, creation);
    } else if (layout == H5D_CONTIGUOUS) {
        st = check_plain(column, creation);
    } else {
        st = bad(column, "is stored in a way that the format does not have");
    }
    if (creation >= 0) {
        H5Pclose(creation);
    }
    return st;
}

static enum status block_cache_open(struct h5_column *column, int64_t cache_bytes) {
    column->n_blocks = column->rows / column->block_rows + (column->rows % column->block_rows != 0);
    int64_t slots = cache_bytes / (column->block_rows * column->row_bytes);
    slots = slots > column->n_blocks ? column->n_blocks : slots;
    slots = slots < 1 ? 1 : slots;
    int fitting;
    TRY(to_int(slots, column->name, &fitting));
    column->n_slots = fitting;
    TRY(NEW_ARRAY(column->slots, slots));
    TRY(NEW_ARRAY(column->slot_of, column->n_blocks));
    for (int64_t i = 0; i < column->n_blocks; i++) {
        column->slot_of[i] = -1;
    }
    return OK;
}

enum status h5_column_open(struct h5_file *f, const struct array_spec *expected, int64_t cache_bytes,
                           struct h5_column **out) {
    struct h5_column *column;
    enum status st;
    TRY(NEW_ARRAY(column, 1));
    column->file = f;
    column->type = expected->type;
    column->id = H5I_INVALID_HID;
    size_t length = strlen(expected->name);
    if (length >= sizeof column->name) {
        st = fail(ERR_INTERNAL, "%s: array name %s is too long", f->path, expected->name);
        goto done;
    }
    memcpy(column->name, expected->name, length + 1);
    if (!h5_has(f, expected->name)) {
        st = fail(ERR_DATA, "%s: %s is missing", f->path, expected->name);
        goto done;
    }
    TRY_TO(done, check_link(column));
    hid_t access = H5Pcreate(H5P_DATASET_ACCESS);
    if (access >= 0) {
        (void)H5Pset_chunk_cache(access, 1, 0, 1.0);
    }
    column->id = H5Dopen2(f->id, expected->name, access >= 0 ? access : H5P_DEFAULT);
    st = column->id < 0 ? bad(column, "cannot be opened") : OK;
    if (access >= 0) {
        H5Pclose(access);
    }
    TRY_TO(done, st);
    TRY_TO(done, check_type(column));
    TRY_TO(done, check_shape(column, expected));
    TRY_TO(done, check_storage(column));
    TRY_TO(done, expected->checked ? open_checks(column) : OK);
    TRY_TO(done, block_cache_open(column, cache_bytes));
done:
    if (st != OK) {
        column_free(column);
        return st;
    }
    column->next = f->columns;
    f->columns = column;
    *out = column;
    return OK;
}

/* Moves rows [first, first + n) between memory and file, independently of other ranks. */
static enum status transfer(struct h5_column *column, int64_t first, int64_t n, void *in, const void *out) {
    hsize_t start[2] = {(hsize_t)first, 0}, count[2] = {(hsize_t)n, (hsize_t)column->width};
    hid_t memory = H5Screate_simple(column->dimensions, count, NULL);
    hid_t file = H5Dget_space(column->id);
    hid_t type = h5_memory_type(column->type);
    bool done =
        memory >= 0 && file >= 0 && H5Sselect_hyperslab(file, H5S_SELECT_SET, start, NULL, count, NULL) >= 0;
    if (done) {
        done = in ? H5Dread(column->id, type, memory, file, H5P_DEFAULT, in) >= 0
                  : H5Dwrite(column->id, type, memory, file, H5P_DEFAULT, out) >= 0;
    }
    enum status st = OK;
    if (!done && in) {
        st = bad(column, "cannot be read; the file is damaged or truncated");
    } else if (!done) {
        st = h5_fail(ERR_WRITE, column->file->path, "%s: cannot be written; is the disk full?", column->name);
    }
    if (file >= 0) {
        H5Sclose(file);
    }
    if (memory >= 0) {
        H5Sclose(memory);
    }
    return st;
}

static enum status free_slot(struct h5_column *column, int32_t *out) {
    if (column->n_used < column->n_slots) {
        struct kept_block *slot = &column->slots[column->n_used];
        slot->data = mem_aligned(column->block_rows, (size_t)column->row_bytes);
        TRY(mem_ok(slot->data));
        slot->block = -1;
        *out = column->n_used++;
        return OK;
    }
    int32_t oldest = 0;
    for (int32_t i = 1; i < column->n_used; i++) {
        if (column->slots[i].used < column->slots[oldest].used) {
            oldest = i;
        }
    }
    if (column->slots[oldest].block >= 0) {
        column->slot_of[column->slots[oldest].block] = -1;
        column->slots[oldest].block = -1;
    }
    *out = oldest;
    return OK;
}

/* Reads a block from the file into a slot, and compares it with its hash where there is one. */
static enum status load_block(struct h5_column *column, int64_t block, char *to) {
    int64_t first = block * column->block_rows;
    int64_t left = column->rows - first;
    int64_t n = left < column->block_rows ? left : column->block_rows;
    if (column->deflated) {
        TRY(h5_check_inflates(column->file->path, column->name, column->id, first,
                              column->block_rows * column->row_bytes));
    }
    TRY(transfer(column, first, n, to, NULL));
    if (column->checks) {
        uint64_t hash;
        TRY(h5_read(column->checks, block, 1, &hash));
        if (hash != h5_block_hash(to, n * column->row_bytes, block)) {
            return fail(ERR_DATA, "%s: %s is damaged between rows %lld and %lld", column->file->path,
                        column->name, (long long)first, (long long)(first + n));
        }
    }
    return OK;
}

/* Copies n rows from row `inside` of a block. */
static enum status copy_rows(struct h5_column *column, int64_t block, int64_t inside, int64_t n, char *out) {
    int32_t place = column->slot_of[block];
    if (place < 0) {
        TRY(free_slot(column, &place));
        struct kept_block *slot = &column->slots[place];
        TRY(load_block(column, block, slot->data));
        slot->block = block;
        column->slot_of[block] = place;
    }
    column->slots[place].used = ++column->clock;
    memcpy(out, column->slots[place].data + inside * column->row_bytes, (size_t)(n * column->row_bytes));
    return OK;
}

enum status h5_read(struct h5_column *column, int64_t first, int64_t count, void *out) {
    if (first < 0 || count < 0 || first > column->rows - count) {
        return fail(ERR_DATA, "%s: rows %lld to %lld of %s do not exist; it has %lld", column->file->path,
                    (long long)first, (long long)first + count, column->name, (long long)column->rows);
    }
    char *to = out;
    while (count > 0) {
        int64_t inside = first % column->block_rows;
        int64_t n = column->block_rows - inside < count ? column->block_rows - inside : count;
        TRY(copy_rows(column, first / column->block_rows, inside, n, to));
        to += n * column->row_bytes;
        first += n;
        count -= n;
    }
    return OK;
}

static enum status update_run(struct h5_column *column, int64_t first, int64_t n, const char *data,
                              char *scratch) {
    TRY(transfer(column, first, n, NULL, data));
    if (transfer(column, first, n, scratch, NULL) != OK ||
        memcmp(scratch, data, (size_t)(n * column->row_bytes)) != 0) {
        return fail(ERR_WRITE, "%s: %s: reads back differently; is the disk full?", column->file->path,
                    column->name);
    }
    return OK;
}

enum status h5_update(struct h5_column *column, const int64_t *ids, int64_t n, const void *data) {
    enum status st = OK;
    char *scratch = NULL;
    const char *bytes = data;
    if (!column->file->c || column->chunked) {
        return fail(ERR_INTERNAL, "%s: %s is not open for updates", column->file->path, column->name);
    }
    int64_t most = UPDATE_BYTES / column->row_bytes;
    most = most < 1 ? 1 : most;
    TRY(NEW_ARRAY(scratch, most * column->row_bytes));
    for (int64_t i = 0, run; i < n; i += run) {
        if (ids[i] < 0 || ids[i] >= column->rows) {
            st = fail(ERR_INTERNAL, "%s: row %lld is outside %s", column->file->path, (long long)ids[i],
                      column->name);
            goto done;
        }
        for (run = 1; i + run < n && run < most && ids[i + run] == ids[i] + run; run++) {
        }
        if (ids[i] + run > column->rows) {
            run = column->rows - ids[i];
        }
        TRY_TO(done, update_run(column, ids[i], run, bytes + i * column->row_bytes, scratch));
    }
done:
    mem_free(scratch);
    return st;
}

/* An update changes no metadata and HDF5 holds no data of a contiguous array back, so that every rank can
 * make its own rows durable, which a run that dies later leaves behind and the other ranks see. H5Fflush
 * would do it in collective calls, in which the others would wait for a rank whose disk fails. */
enum status h5_settle(struct h5_file *f, enum status st) {
    for (struct h5_column *column = f->columns; column; column = column->next) {
        for (int32_t i = 0; i < column->n_used; i++) {
            if (column->slots[i].block >= 0) {
                column->slot_of[column->slots[i].block] = -1;
                column->slots[i].block = -1;
            }
        }
    }
    return comm_agree(f->c, st == OK ? file_sync_path(f->path) : st);
}

enum status h5_hash_share(struct h5_column *column, int rank, int ranks, uint64_t *own) {
    struct range blocks = range_part(column->n_blocks, rank, ranks);
    char *block = NULL;
    enum status st;
    *own = 0;
    TRY_TO(done, NEW_ARRAY(block, column->block_rows * column->row_bytes));
    for (int64_t i = blocks.first; i < blocks.last; i++) {
        int64_t first = i * column->block_rows, left = column->rows - first;
        int64_t n = left < column->block_rows ? left : column->block_rows;
        TRY_TO(done, h5_read(column, first, n, block));
        *own += h5_block_hash(block, n * column->row_bytes, i);
    }
done:
    mem_free(block);
    return st;
}
