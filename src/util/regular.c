#include "util/regular.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "util/fault.h"

static const char *kind_of(mode_t mode) {
    return S_ISDIR(mode)    ? "a folder"
           : S_ISFIFO(mode) ? "a pipe"
           : S_ISSOCK(mode) ? "a socket"
           : S_ISCHR(mode)  ? "a device"
                            : "something else";
}

/* Without O_NONBLOCK the open of a FIFO waits for its writer; it changes nothing about a regular file. */
enum status regular_open(const char *path, int *descriptor, int64_t *size) {
    struct stat facts;
    int file = fault_hits(FAULT_OPEN) ? -1 : open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (file < 0) {
        return fail(ERR_INPUT, "%s: %s", path,
                    errno == ENXIO ? "not a regular file but a socket" : strerror(errno));
    }
    if (fstat(file, &facts) != 0) {
        int error = errno;
        close(file);
        return fail(ERR_INPUT, "%s: %s", path, strerror(error));
    }
    if (!S_ISREG(facts.st_mode)) {
        close(file);
        return fail(ERR_INPUT, "%s: not a regular file but %s; give the data as a file", path,
                    kind_of(facts.st_mode));
    }
    *descriptor = file;
    if (size) {
        *size = facts.st_size;
    }
    return OK;
}
