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
/* Collective: HDF5 duplicates the communicator. File access of all ranks through MPI-IO; negative on
 * failure, perhaps not on all. */
hid_t h5_parallel_access(const struct comm *c);
/* The path of a file that is there, as MPI-IO takes it: ROMIO reads what stands before a colon as a file
 * system's name, so that such a path becomes that of the open descriptor. Closed when MPI-IO has opened the
 * file. Local. Fails: ERR_WRITE. */
struct h5_plain {
    const char *path;
    int descriptor;
    char link[32];
};
enum status h5_plain_open(const char *path, struct h5_plain *out);
void h5_plain_close(struct h5_plain *p);
/* Local. The deflated chunk that begins with a row inflates to its bytes and no more. Fails: ERR_DATA. */
enum status h5_check_inflates(const char *path, const char *name, hid_t array, int64_t row, int64_t bytes);
void h5_columns_close(struct h5_file *f);
/* "NAME.check". Fails: ERR_INTERNAL where that is too long. */
enum { H5_NAME_BYTES = 96 };
enum status h5_check_name(const char *name, char out[H5_NAME_BYTES]);

enum { H5_MOST_ARRAYS = 64 };

/* What was written of an array, for the comparison after closing: this rank's part of it, and the hash of the
 * whole. */
struct h5_written {
    char name[H5_NAME_BYTES];
    enum array_type type;
    int64_t width;
    struct range part;
    int64_t block_rows;
    uint64_t hash;
};

struct h5_writer {
    struct comm *c;
    hid_t file;
    char *path, *tmp;
    int64_t reserved_bytes; /* of the file system, so far */
    struct h5_written written[H5_MOST_ARRAYS];
    int n_written;
    enum file_use use;
    bool has_filtered; /* chunks of an array in the file have moved when they were compressed */
};
/* Collective. Closes the file and opens it again, as if nothing had ever been freed in it. */
enum status h5_forget_holes(struct h5_writer *w);

#endif
