/* One text file written by all ranks in rank order, without any rank holding it: JSON Lines, CSV.
 *
 * In rounds: each rank hands in its piece, a scan gives every piece its place, the ranks write side by side.
 * If the rounds cover consecutive rows and each rank a contiguous part of a round, the file does not depend
 * on the rank count. Written under a temporary name, synced, renamed at the end; beside a link's target.
 * Where the output is no file but a stream (io/output.h; no name at all: standard output), the pieces go
 * through rank 0.
 */
#ifndef COLLIMATE_IO_ORDERED_H
#define COLLIMATE_IO_ORDERED_H

#include "mpi/comm.h"

struct ordered_file;
/* Collective. path "": standard output. Fails: ERR_WRITE. */
enum status ordered_open(struct comm *c, const char *path, struct ordered_file **out);
/* Collective. A file that is appended to where it stands, from byte `end` on: what lies behind is cut off,
 * and it is made where it is not there. Ended by ordered_keep(). Fails: ERR_WRITE. */
enum status ordered_open_at(struct comm *c, const char *path, int64_t end, struct ordered_file **out);
/* Collective. What was appended is safe. */
enum status ordered_sync(struct ordered_file *f);
/* Local. Frees, and leaves what was appended. NULL is fine. */
void ordered_keep(struct ordered_file *f);

/* Collective. This rank's piece of the round (len may be 0). st: how its making went on this rank; a failure
 * is agreed on instead of writing. */
enum status ordered_append(struct ordered_file *f, enum status st, const char *data, size_t len);
/* Collective. Syncs, renames, frees. Fails: ERR_WRITE. */
enum status ordered_finish(struct ordered_file *f);
/* Collective. Frees and removes the temporary file; for after a failure. NULL is fine. */
void ordered_abandon(struct ordered_file *f);

#endif
