/* Preloaded into a rank: what a disk does that no kernel does on demand, by environment variables.
 *   - SLOW_DISK_MS: it takes so long for what is to be durable of a checkpoint;
 *   - NO_RESERVE: it cannot reserve blocks, as some on a network; "lies": and it is full while it says that
 *     there is room, as under a quota;
 *   - FULL_RANK: it is full for this rank alone, in an HDF5 file that is made, and does not say so before;
 *   - LOST_RANK: what this rank makes durable of an HDF5 file is lost (EIO);
 *   - HANGS_RANK: it does not answer when this rank opens a file whose name ends with AT_FILE;
 *   - STOPS_RANK: this rank is stopped (SIGSTOP) at that moment;
 *   - READ_ONLY: a folder (absolute) that is read-only from when the file READ_ONLY_SINCE (a pattern) is
 * there, which the READ_ONLY_LINES-th line that a rank flushes into the folder makes;
 *   - LYING_LOCKS: every lock is given to everybody who asks, and nobody has one;
 *   - HELD_FILE: this rank waits behind its HELD_AT-th write or flush to a file whose name ends so, until it
 * is told to end (SIGUSR1, SIGTERM) and has heard it, or a file HELD_UNTIL is there: whoever tells it is
 * never too late. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdio_ext.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static bool ends_with(const char *path, const char *suffix) {
    size_t n = strlen(path), m = strlen(suffix);
    return n >= m && strcmp(path + n - m, suffix) == 0;
}

static const char *path_of(int file, char path[4096]) {
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    ssize_t n = readlink(link, path, 4095);
    path[n > 0 ? n : 0] = '\0';
    return path;
}

/* Whether this is the rank that a variable names. */
static bool is_rank(const char *variable) {
    const char *wanted = getenv(variable), *rank = getenv("OMPI_COMM_WORLD_RANK");
    return wanted && rank && strcmp(wanted, rank) == 0;
}

static bool is_read_only(const char *path) {
    const char *folder = getenv("READ_ONLY"), *since = getenv("READ_ONLY_SINCE");
    glob_t found;
    if (!folder || !since || strncmp(path, folder, strlen(folder)) != 0 ||
        glob(since, GLOB_NOSORT, NULL, &found) != 0) {
        return false;
    }
    globfree(&found);
    return true;
}

static int no(int error) {
    errno = error;
    return -1;
}

/* Why a write of bytes fails; 0: it does not. */
static int refusal(int file) {
    char path[4096];
    if (!getenv("READ_ONLY") && !is_rank("FULL_RANK")) {
        return 0;
    }
    path_of(file, path);
    return is_read_only(path) ? EROFS : is_rank("FULL_RANK") && ends_with(path, ".h5.tmp") ? ENOSPC : 0;
}

static void pause_ms(long ms) {
    struct timespec left = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000};
    while (nanosleep(&left, &left) != 0 && errno == EINTR) {
    }
}

/* The program's own handlers, and whether one of them has run. */
static void (*handlers[NSIG])(int);
static volatile sig_atomic_t was_told;

static void tell(int number) {
    handlers[number](number);
    was_told = 1;
}

int sigaction(int number, const struct sigaction *wanted, struct sigaction *before) {
    int (*next)(int, const struct sigaction *, struct sigaction *);
    *(void **)&next = dlsym(RTLD_NEXT, "sigaction");
    if (!wanted || (number != SIGUSR1 && number != SIGTERM) || (wanted->sa_flags & SA_SIGINFO) ||
        wanted->sa_handler == SIG_DFL || wanted->sa_handler == SIG_IGN) {
        return next(number, wanted, before);
    }
    struct sigaction ours = *wanted;
    handlers[number] = wanted->sa_handler;
    ours.sa_handler = tell;
    return next(number, &ours, before);
}

static void hold(int file) {
    static long writes;
    int error = errno;
    char path[4096];
    const char *suffix = getenv("HELD_FILE"), *at = getenv("HELD_AT"), *until = getenv("HELD_UNTIL");
    struct stat facts;
    if (suffix && at && ends_with(path_of(file, path), suffix) && ++writes == strtol(at, NULL, 10)) {
        while (!was_told && !(until && stat(until, &facts) == 0)) {
            pause_ms(5);
        }
    }
    errno = error;
}

ssize_t write(int file, const void *data, size_t n) {
    int error = refusal(file);
    if (error) {
        return no(error);
    }
    ssize_t rc = syscall(SYS_write, file, data, n);
    hold(file);
    return rc;
}

ssize_t pwrite64(int file, const void *data, size_t n, off64_t at) {
    int error = refusal(file);
    if (error) {
        return no(error);
    }
    ssize_t rc = syscall(SYS_pwrite64, file, data, n, at);
    hold(file);
    return rc;
}

ssize_t pwrite(int file, const void *data, size_t n, off_t at) {
    return pwrite64(file, data, n, at);
}

int ftruncate(int file, off_t length) {
    int error = refusal(file);
    return error ? no(error) : (int)syscall(SYS_ftruncate, file, length);
}

/* The library's own writing cannot be preloaded. */
int fflush(FILE *file) {
    static long lines;
    char path[4096];
    const char *folder = getenv("READ_ONLY"), *last = getenv("READ_ONLY_LINES");
    if (file && folder && strncmp(path_of(fileno(file), path), folder, strlen(folder)) == 0) {
        if (last && ++lines == strtol(last, NULL, 10)) {
            close(creat(getenv("READ_ONLY_SINCE"), 0666));
        }
        if (is_read_only(path)) {
            __fpurge(file);
            return no(EROFS);
        }
    }
    int rc = fflush_unlocked(file);
    if (file) {
        hold(fileno(file));
    }
    return rc;
}

static int opened(const char *path, int flags, mode_t mode) {
    const char *at = getenv("AT_FILE");
    bool is_there = at && ends_with(path, at);
    if (is_there && is_rank("STOPS_RANK")) {
        raise(SIGSTOP);
    }
    while (is_there && is_rank("HANGS_RANK")) {
        pause_ms(1000000);
    }
    if ((flags & (O_WRONLY | O_RDWR | O_CREAT)) && is_read_only(path)) {
        return no(EROFS);
    }
    return (int)syscall(SYS_openat, AT_FDCWD, path, flags, mode);
}

int open(const char *path, int flags, ...) {
    va_list arguments;
    va_start(arguments, flags);
    mode_t mode = flags & O_CREAT ? va_arg(arguments, mode_t) : 0;
    va_end(arguments);
    return opened(path, flags, mode);
}

int open64(const char *path, int flags, ...) __attribute__((alias("open")));

int rename(const char *from, const char *to) {
    return is_read_only(to) ? no(EROFS) : (int)syscall(SYS_renameat2, AT_FDCWD, from, AT_FDCWD, to, 0);
}

int unlink(const char *path) {
    return is_read_only(path) ? no(EROFS) : (int)syscall(SYS_unlinkat, AT_FDCWD, path, 0);
}

int mkdir(const char *path, mode_t mode) {
    return is_read_only(path) ? no(EROFS) : (int)syscall(SYS_mkdirat, AT_FDCWD, path, mode);
}

int fsync(int file) {
    const char *slow = getenv("SLOW_DISK_MS");
    char path[4096];
    path_of(file, path);
    if (is_rank("LOST_RANK") && ends_with(path, ".h5")) {
        return no(EIO);
    }
    if (slow && ends_with(path, ".h5.tmp")) {
        pause_ms(strtol(slow, NULL, 10));
    }
    return (int)syscall(SYS_fsync, file);
}

int flock(int file, int operation) {
    return getenv("LYING_LOCKS") ? 0 : (int)syscall(SYS_flock, file, operation);
}

int fcntl(int file, int command, ...) {
    va_list arguments;
    va_start(arguments, command);
    void *argument = va_arg(arguments, void *);
    va_end(arguments);
    bool takes =
        command == F_SETLK || command == F_SETLKW || command == F_OFD_SETLK || command == F_OFD_SETLKW;
    bool asks = command == F_GETLK || command == F_OFD_GETLK;
    if (getenv("LYING_LOCKS") && (takes || asks)) {
        if (asks) {
            ((struct flock *)argument)->l_type = F_UNLCK;
        }
        return 0;
    }
    return (int)syscall(SYS_fcntl, file, command, argument);
}

int fcntl64(int file, int command, ...) __attribute__((alias("fcntl")));

int fallocate(int file, int mode, off_t at, off_t length) {
    int error = getenv("NO_RESERVE") || is_rank("FULL_RANK") ? EOPNOTSUPP : refusal(file);
    return error ? no(error) : (int)syscall(SYS_fallocate, file, mode, at, length);
}

int fstatvfs(int file, struct statvfs *out) {
    const char *wanted = getenv("NO_RESERVE");
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    int rc = statvfs(link, out);
    out->f_bavail = rc == 0 && wanted && strcmp(wanted, "lies") == 0 ? out->f_blocks : out->f_bavail;
    return rc;
}
