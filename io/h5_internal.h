/* What the HDF5 files of this room share: handles, types, errors. */
#ifndef COLLIMATE_IO_H5_INTERNAL_H
#define COLLIMATE_IO_H5_INTERNAL_H

#include <hdf5.h>

#include "io/h5.h"

struct h5_file {
    struct comm *c; /* NULL: this rank alone */
    hid_t id;
    char *path;
    struct h5_column *columns; /* list */
};

/* Silences HDF5's own printing; called before anything else of HDF5. */
void h5_quiet(void);
/* Records code and "PATH: WHAT (HDF5: innermost reason)". Call before anything else touches HDF5. */
enum status h5_fail(enum status code, const char *path, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* On disk (little-endian) and in memory. */
hid_t h5_disk_type(enum array_type type);
hid_t h5_memory_type(enum array_type type);
/* File access of all ranks through MPI-IO; negative on failure. Local. */
hid_t h5_parallel_access(const struct comm *c);
/* Sum over blocks of hash(block, seed = block number): independent of how blocks are dealt to ranks. */
uint64_t h5_blocks_hash(const void *data, int64_t rows, int64_t row_bytes, int64_t block_rows,
                        int64_t first_row);
void h5_columns_close(struct h5_file *f);
/* Rows of a block where the array is contiguous. */
enum { H5_PLAIN_BLOCK_ROWS = 8192 };

#endif
