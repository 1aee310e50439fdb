/* Files that are no records, told by their first bytes. */
#ifndef COLLIMATE_DATA_FOREIGN_H
#define COLLIMATE_DATA_FOREIGN_H

#include "util/status.h"

/* Local. Fails: ERR_DATA for a Parquet or Arrow file, another compression than gzip, a Git LFS pointer, an
 * HDF5 file, with what to do. What cannot be read is left to the reader of records. */
enum status foreign_check(const char *path);

#endif
