/* Whole files: reading (inflated where gzip), atomic replacement, folders; and a byte stream over a file. */
#ifndef COLLIMATE_IO_FILE_H
#define COLLIMATE_IO_FILE_H

#include <stddef.h>
#include <stdint.h>

#include "util/status.h"
#include "util/text.h"

/* What a file that is read as a whole may hold: configurations and tokenizers take some MiB, the metrics of a
 * million steps half a GiB; gzip inflates to a thousand times its size, and none of these comes packed. */
#define FILE_BYTES ((int64_t)4 << 30)
#define FILE_INFLATED_BYTES ((int64_t)256 << 20)
/* Whole file, inflated if it is gzip. Local; *data is NUL-terminated and freed with mem_free. Fails:
 * ERR_INPUT; ERR_DATA for damaged gzip, or more than FILE_BYTES. */
enum status file_read(const char *path, char **data, size_t *len);
/* Atomic replace: writes a temporary file, fsync, rename, fsync of the folder; beside a link's target, and
 * into a stream (io/output.h). Local. Fails: ERR_WRITE. */
enum status file_write(const char *path, const char *data, size_t len);
/* A new or empty file to write to. Local. -1 and errno where it cannot be. */
int file_create(const char *path);
/* All of n bytes, at an offset, or, where that is -1, where the descriptor stands. Local. 0, or -1 and errno.
 */
int file_put(int descriptor, int64_t offset, const void *data, size_t n);
/* fsync, piece by piece: a long one shows to the watchdog that it goes on. Local. 0, or -1 and errno. */
int file_sync(int descriptor);
/* The same of a file that others may have open too. Local. Fails: ERR_WRITE. */
enum status file_sync_path(const char *path);
/* mkdir -p. Local. Fails: ERR_WRITE. */
enum status folder_make(const char *path);
/* Appends the name under which path is written until it is whole, beside it: OWNER.NAME.tmp, so that writers
 * of one file never meet; a long NAME is cut. owner: comm->owner where all ranks write; NULL: this process.
 * Local. */
enum status file_temporary(const char *path, const char *owner, struct text *out);
/* Removes the temporary files that the dead left in a folder: processes of this host that live no more;
 * `dead` (NULL: none), a process that is known to be; versions of this program that named no owner. A folder
 * that is not there has none. *removed counts up. Local. Fails: ERR_WRITE. */
enum status folder_sweep(const char *path, const char *dead, int *removed);
/* Makes a rename or a new entry in path's folder durable. Local. Fails: ERR_WRITE. */
enum status file_sync_folder(const char *path);
/* All of n bytes at an offset; a file that ends before is ERR_DATA. Local. */
enum status file_read_at(int descriptor, const char *path, int64_t offset, void *out, size_t n);

/* A file as a stream of bytes, inflated where it is gzip (several members in a row are one stream, as gunzip
 * reads them). */
struct file_stream;
/* Local. begin: offset of the first byte read; must be 0 for gzip. Fails: ERR_INPUT. */
enum status stream_open(const char *path, int64_t begin, struct file_stream **out);
void stream_close(struct file_stream *s);
bool stream_is_gzip(const struct file_stream *s);
/* Local. The next piece, borrowed until the next call; *n is 0 at the end only. What it gives comes from raw
 * bytes before raw_limit: the stream stops there first (then *n is 0 too) and goes on with a higher limit.
 * Fails: ERR_INPUT; ERR_DATA for gzip that is damaged or ends early (file and offset are named). */
enum status stream_next(struct file_stream *s, int64_t raw_limit, const char **data, size_t *n);
/* Bytes given so far, after inflation. */
int64_t stream_position(const struct file_stream *s);

/* Local. "1.2.13": the version of zlib that runs. */
const char *zlib_library(void);

#endif
