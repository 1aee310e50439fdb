/* A deflated chunk before libhdf5 inflates it: libhdf5 takes as much memory as the chunk asks for, and reads
 * as much of it as the array's layout says, whatever came out (1.10). */
#include <zlib.h>

#include "io/h5_internal.h"
#include "util/mem.h"

/* Does it inflate to so many bytes, and no more? */
static bool inflates_to(const unsigned char *data, int64_t n, int64_t wanted) {
    enum { PIECE = 1 << 16 };
    unsigned char piece[PIECE];
    z_stream z = {.next_in = (unsigned char *)data, .avail_in = (unsigned)n};
    int64_t got = 0;
    int result = inflateInit(&z);
    bool started = result == Z_OK;
    while (result == Z_OK && got <= wanted) {
        z.next_out = piece;
        z.avail_out = PIECE;
        result = inflate(&z, Z_NO_FLUSH);
        got += PIECE - (int64_t)z.avail_out;
    }
    if (started) {
        inflateEnd(&z);
    }
    return result == Z_STREAM_END && got == wanted;
}

enum status h5_check_inflates(const char *path, const char *name, hid_t array, int64_t row, int64_t bytes) {
    enum { CHECKSUM = 4 };
    const hsize_t whole = (hsize_t)bytes, most = whole + whole / 1000 + 32; /* of what deflate makes of it */
    const hsize_t place[2] = {(hsize_t)row, 0};
    hsize_t stored = 0;
    uint32_t left_out = 0;
    if (H5Dget_chunk_storage_size(array, place, &stored) < 0 || stored <= CHECKSUM || stored > most) {
        return h5_fail(ERR_DATA, path, "%s: the chunk of row %lld has no possible size", name,
                       (long long)row);
    }
    unsigned char *raw = mem_aligned((int64_t)stored, 1);
    TRY(mem_ok(raw));
    enum status st = OK;
    if (H5Dread_chunk(array, H5P_DEFAULT, place, &left_out, raw) < 0) {
        st = h5_fail(ERR_DATA, path, "%s: the chunk of row %lld cannot be read", name, (long long)row);
    } else if (left_out == 0 && !inflates_to(raw, (int64_t)stored - CHECKSUM, bytes)) {
        st = fail(ERR_DATA, "%s: %s: the chunk of row %lld does not inflate to its %lld bytes; it is damaged",
                  path, name, (long long)row, (long long)bytes);
    }
    mem_free(raw);
    return st;
}
