/* A checkpoint's own path at an output folder, gone through with a file that nobody needs: all ranks write
 * one HDF5 file, it is flushed, read back, compared and renamed, read again by other ranks than those that
 * wrote, and removed. */
#ifndef COLLIMATE_COMMAND_PROBE_H
#define COLLIMATE_COMMAND_PROBE_H

#include "mpi/comm.h"

struct probe_report {
    double bytes, write_s, read_s;
};
/* Collective. The folder is there. bytes: of a rank's part, at least. Fails: ERR_WRITE naming what went wrong
 * where; the file is gone either way. */
enum status probe_folder(struct comm *c, const char *folder, int64_t bytes, struct probe_report *out);

#endif
