/* Preloaded into a rank. SLOW_DISK_MS: a disk that takes so long for what is to be durable of a checkpoint.
 * NO_RESERVE: a file system that cannot reserve blocks, as some on a network; NO_RESERVE=lies: and that is
 * full while it says that there is room, as under a quota. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

int fsync(int file) {
    static const char suffix[] = ".h5.tmp";
    const char *wanted = getenv("SLOW_DISK_MS");
    char link[64], path[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    ssize_t length = readlink(link, path, sizeof path);
    long ms = wanted ? strtol(wanted, NULL, 10) : 0;
    if (length > (ssize_t)sizeof suffix &&
        memcmp(path + length - (sizeof suffix - 1), suffix, sizeof suffix - 1) == 0) {
        struct timespec left = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000};
        while (nanosleep(&left, &left) != 0 && errno == EINTR) {
        }
    }
    return (int)syscall(SYS_fsync, file);
}

int fallocate(int file, int mode, off_t at, off_t length) {
    if (getenv("NO_RESERVE")) {
        errno = EOPNOTSUPP;
        return -1;
    }
    return (int)syscall(SYS_fallocate, file, mode, at, length);
}

int fstatvfs(int file, struct statvfs *out) {
    const char *wanted = getenv("NO_RESERVE");
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    int rc = statvfs(link, out);
    out->f_bavail = rc == 0 && wanted && strcmp(wanted, "lies") == 0 ? out->f_blocks : out->f_bavail;
    return rc;
}
