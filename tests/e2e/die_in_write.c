/* Preloaded into a rank: it is killed in its DIE_WRITE-th write to a file whose name ends with DIE_FILE,
 * before a byte of it; or gets the signal DIE_SIGNAL there. */
#define _GNU_SOURCE
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <unistd.h>

static void count(int file) {
    static long writes;
    const char *suffix = getenv("DIE_FILE"), *at = getenv("DIE_WRITE");
    char link[64], path[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (!suffix || !at || length < (ssize_t)strlen(suffix)) {
        return;
    }
    path[length] = '\0';
    if (strcmp(path + length - strlen(suffix), suffix) == 0 && ++writes == strtol(at, NULL, 10)) {
        const char *wanted = getenv("DIE_SIGNAL");
        raise(wanted ? (int)strtol(wanted, NULL, 10) : SIGKILL);
    }
}

ssize_t write(int file, const void *data, size_t n) {
    count(file);
    return syscall(SYS_write, file, data, n);
}

ssize_t pwrite64(int file, const void *data, size_t n, off64_t at) {
    count(file);
    return syscall(SYS_pwrite64, file, data, n, at);
}

ssize_t pwrite(int file, const void *data, size_t n, off_t at) {
    return pwrite64(file, data, n, at);
}
