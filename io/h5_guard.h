/* A look at an HDF5 file before libhdf5 sees it.
 *
 * libhdf5 believes what a file says of itself: lengths in object headers, messages, trees and heaps of a file
 * that was made to harm have led it out of its buffers again and again. This reader knows only what io/h5*
 * writes: superblock 2 or 3 with 8-byte offsets and an end that is the file's; object headers of version 2;
 * groups with hard links; the seven number types and texts of fixed size; contiguous arrays, and chunked ones
 * with one chunk or a fixed array of chunks, shuffled, deflated and checksummed; attributes and links also in
 * a heap with a tree. Everything is walked with bounds; whatever else a file has, libhdf5 is not shown it.
 */
#ifndef COLLIMATE_IO_H5_GUARD_H
#define COLLIMATE_IO_H5_GUARD_H

#include "util/status.h"

/* GUARD_UPDATES: the file will be opened for writing, and so may hold only what FILE_UPDATED files do: no
 * chunks, heaps or trees, which libhdf5 would change by what they say. */
enum h5_guard_use { GUARD_READS, GUARD_UPDATES };

/* Local; reads metadata only. Fails: ERR_INPUT if the file cannot be read or is no regular file; ERR_DATA
 * with what is wrong and the byte where it stands. */
enum status h5_guard(const char *path, enum h5_guard_use use);

#endif
