/* What one rank makes before it can be put in its place in a file: streams of bytes that are appended to, and
 * read at any place later. The first bytes of all streams lie in memory, as many as the owner allows; the
 * rest goes to a temporary file beside the output that has no name (it is unlinked as soon as it is open), so
 * that nothing of it is left, whatever ends the process.
 *
 * One thread appends. Others may read a stream that is not appended to meanwhile.
 */
#ifndef COLLIMATE_IO_SPOOL_H
#define COLLIMATE_IO_SPOOL_H

#include <stdint.h>

#include "util/status.h"

struct spool_plan {
    const char *beside; /* a file, in whose folder the temporary one is made; NULL: what exceeds the memory is
                           dropped, and cannot be read, but for each stream's first piece */
    int streams;
    int64_t memory; /* bytes that stay in it; beside them a piece for each stream, without a file two */
    int64_t piece;  /* bytes; 0: a MiB */
};
struct spool;
/* Local. The file is made when the memory is full. */
enum status spool_open(const struct spool_plan *plan, struct spool **out);
void spool_close(struct spool *s); /* NULL is fine */
/* Local. Fails: ERR_WRITE where the file cannot be made, or the disk is full. */
enum status spool_append(struct spool *s, int stream, const void *data, int64_t bytes);
/* Bytes of a stream so far. */
int64_t spool_bytes(const struct spool *s, int stream);
/* Local. Bytes [first, first + bytes), which have been appended. Fails: ERR_INPUT, ERR_INTERNAL. */
enum status spool_read(const struct spool *s, int stream, int64_t first, int64_t bytes, void *out);

#endif
