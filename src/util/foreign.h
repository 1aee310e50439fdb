/* Files that are not what they are given as: told by their first bytes, with what to do about it. */
#ifndef COLLIMATE_UTIL_FOREIGN_H
#define COLLIMATE_UTIL_FOREIGN_H

#include "util/status.h"

/* Local. Fails: ERR_DATA in one line where an open file is a Git LFS pointer, a column table (Parquet,
 * Arrow), compressed with what is not read here (zstd, xz, bzip2, lz4), an archive, a pickle or GGUF. */
enum status foreign_refuse(int descriptor, const char *path);
/* Local. The same for a path that is to hold records, which an HDF5 file does not; what cannot be opened is
 * left to whoever reads it. */
enum status foreign_check(const char *path);

#endif
