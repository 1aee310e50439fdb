/* HDF5 behind one door. Nothing else in the program calls H5*.
 *
 * Two ways to a file. A struct h5_writer makes a new file, once, by all ranks: a temporary file is written,
 * flushed, closed, read back and compared by hash (OMPIO reports success on a full disk), fsynced and
 * renamed. A struct h5_file opens one that exists: h5_open by this rank alone and read-only (no MPI-IO
 * underneath, so reads are Local and never wait), h5_open_shared by all ranks for updates in place.
 *
 * Arrays are one- or two-dimensional with a fixed little-endian type. Filters need collective writes of whole
 * chunks, so a writer first moves the rows to the ranks that own their chunks; chunk size and order depend on
 * the row count alone, never on the rank count. Large arrays that nothing would compress are contiguous with
 * hashes of their blocks beside them: HDF5 1.10 writes filtered chunks twice (the first time with nothing).
 * Errors carry path, array and HDF5's innermost reason; HDF5 itself stays silent. HDF5 is not thread-safe:
 * one thread at a time.
 */
#ifndef COLLIMATE_IO_H5_H
#define COLLIMATE_IO_H5_H

#include "mpi/shard.h"

enum array_type { ARRAY_I8, ARRAY_U8, ARRAY_I32, ARRAY_I64, ARRAY_U64, ARRAY_F32, ARRAY_F64 };
int array_type_bytes(enum array_type type);

/* Local, works before MPI starts. "1.10.8 parallel, filters deflate shuffle fletcher32", of the library that
 * runs. */
void h5_library(char out[128]);

/* Writing. */

/* FILE_FINAL: never written again; checksummed metadata (1.10 format). FILE_UPDATED: opened again for updates
 * by h5_open_shared; a format without "in use" marks, so that a killed run leaves it readable. */
enum file_use { FILE_FINAL, FILE_UPDATED };

struct array_spec {
    const char *name; /* "/prompts/tokens"; groups are made */
    enum array_type type;
    int deflate;        /* 0: not compressed; 1 to 9: after a byte shuffle */
    int64_t chunk_rows; /* 0: contiguous without filters; otherwise chunked and fletcher32-checksummed */
    int64_t rows;
    int64_t width; /* elements a row; 0: one-dimensional */
    bool
        checked; /* contiguous only: hashes of its blocks lie beside it in NAME.check, and reading compares */
};

struct h5_writer;
/* Collective. content and version say what the file is: h5_open checks them. Fails: ERR_WRITE. */
enum status h5_create(struct comm *c, const char *path, const char *content, int version, enum file_use use,
                      struct h5_writer **out);
/* Rows of a block where an array is contiguous (all rows where there are fewer). */
enum { H5_PLAIN_BLOCK_ROWS = 1 << 16 };
/* Collective. part: this rank's rows; the parts of all ranks tile the array in any order. data NULL on all
 * ranks: the array is made and left unwritten (contiguous only). *hash (may be NULL): of the contents, the
 * same for any rank count and any filter. */
enum status h5_write_array(struct h5_writer *w, const struct array_spec *spec, struct range part,
                           const void *data, uint64_t *hash);
/* Rows [first, first + n) of a rank's part, counted from its first. Local. */
struct h5_rows {
    enum status (*read)(void *context, int64_t first, int64_t n, void *out);
    void *context;
};
/* Collective. The same array from rows that are read as they are written, some 64 MiB at a time over all
 * ranks. rows: not NULL on any rank. Fails also as its read does. */
enum status h5_write_rows(struct h5_writer *w, const struct array_spec *spec, struct range part,
                          const struct h5_rows *rows, uint64_t *hash);
/* Collective. The same array from packed shares (mpi/shard.h) of rows without a width. */
enum status h5_write_shares(struct h5_writer *w, const struct array_spec *spec,
                            const struct shard_map *shards, const void *packed, uint64_t *hash);
/* Collective. Attributes of the file; rank 0's value wins. */
enum status h5_put_text(struct h5_writer *w, const char *name, const char *value);
enum status h5_put_i64(struct h5_writer *w, const char *name, int64_t value);
enum status h5_put_u64(struct h5_writer *w, const char *name, uint64_t value);
/* Collective. Ends the file and frees w: with st OK everywhere it is flushed, verified and renamed; otherwise
 * the temporary file is removed and the worst status comes back. */
enum status h5_finish(struct h5_writer *w, enum status st);

/* Reading. */

struct h5_file;
/* Local. Fails: ERR_INPUT if it cannot be read, ERR_DATA if it is no such file, damaged or newer. */
enum status h5_open(const char *path, const char *content, int version, struct h5_file **out);
/* Local. What a file of ours is ("preferences", …), freed with mem_free. Fails as h5_open does. */
enum status h5_content(const char *path, char **content);
/* Collective. Read and write in place. Reads through it stay Local. */
enum status h5_open_shared(struct comm *c, const char *path, const char *content, int version,
                           struct h5_file **out);
/* Local for h5_open, Collective for h5_open_shared. NULL is fine. Its columns go with it. */
void h5_close(struct h5_file *f);
/* Collective. Closes a shared file, whose updates h5_settle has made durable. Fails: ERR_WRITE. */
enum status h5_close_shared(struct h5_file *f);
const char *h5_path(const struct h5_file *f);
/* Local. */
bool h5_has(struct h5_file *f, const char *name);
bool h5_has_attribute(struct h5_file *f, const char *name);
enum status h5_get_text(struct h5_file *f, const char *name, char **out); /* mem_free */
enum status h5_get_i64(struct h5_file *f, const char *name, int64_t *out);
enum status h5_get_u64(struct h5_file *f, const char *name, uint64_t *out);
/* Name of attribute i, in name order; false past the last. */
bool h5_attribute_name(struct h5_file *f, int64_t i, char *name, size_t size);

/* An array open for reading, with a cache of its blocks: random rows cost a copy when their block is there.
 */
struct h5_column;
/* Local. width: as in array_spec (-1: any). rows < 0: any number. Checks type, shape, filters, and that every
 * chunk is there, so that sizes taken from the file are bounded by the file. Owned by f. */
enum status h5_column_open(struct h5_file *f, const struct array_spec *expected, int64_t cache_bytes,
                           struct h5_column **out);
int64_t h5_rows(const struct h5_column *column);
int64_t h5_width(const struct h5_column *column);
/* Local. Rows [first, first + count). Fails: ERR_DATA out of range or damaged. */
enum status h5_read(struct h5_column *column, int64_t first, int64_t count, void *out);
/* Local on a shared file and a contiguous array: rows ids[i] := row i of data; rows of different ranks must
 * differ. Other ranks see them after h5_settle. Fails: ERR_WRITE, also when reading back differs. */
enum status h5_update(struct h5_column *column, const int64_t *ids, int64_t n, const void *data);
/* Collective. Ends a round of updates: makes them durable, agrees on st and forgets what was cached. */
enum status h5_settle(struct h5_file *f, enum status st);

/* A content hash is the sum over blocks (chunks) of their hashes, each with its number as seed, modulo 2^64:
 * independent of how blocks are dealt to ranks. Local: one block's. Collective: the sum over all ranks. */
uint64_t h5_block_hash(const void *data, int64_t bytes, int64_t block);
/* Local. Of an array that is chunked or `checked`: the sum over this rank's blocks as the file holds them
 * now. The ranks' sums add up to the array's content hash. */
enum status h5_hash_share(struct h5_column *column, int rank, int ranks, uint64_t *own);
enum status h5_sum_hash(struct comm *c, uint64_t own, uint64_t *total);

#endif
