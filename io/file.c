#include "io/file.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <zlib.h>

#include "io/output.h"
#include "util/fault.h"
#include "util/foreign.h"
#include "util/mem.h"
#include "util/process.h"
#include "util/regular.h"

enum { RAW_BYTES = 1 << 17, INFLATED_BYTES = 1 << 18 };

struct file_stream {
    char *path;
    int descriptor;
    bool gzip;
    bool in_member;      /* between a gzip member's first byte and its trailer */
    bool any_member;     /* one member has ended: zero padding may follow */
    bool output_pending; /* the last inflate filled its buffer: more may come without input */
    int64_t raw;         /* offset of the next raw byte to be read from the file */
    int64_t given;
    z_stream z;
    unsigned char *in;
    unsigned char *out;
};

/* Up to n bytes; fewer only at the end of the file. */
static enum status read_some(int descriptor, const char *path, int64_t offset, void *out, size_t n,
                             size_t *got) {
    *got = 0;
    while (*got < n) {
        ssize_t now = fault_hits(FAULT_READ)
                          ? -1
                          : pread(descriptor, (char *)out + *got, n - *got, (off_t)(offset + (int64_t)*got));
        if (now < 0 && errno == EINTR) {
            continue;
        }
        if (now < 0) {
            return fail(ERR_INPUT, "%s: %s", path, strerror(errno));
        }
        if (now == 0) {
            break;
        }
        *got += (size_t)now;
    }
    return OK;
}

enum status file_read_at(int descriptor, const char *path, int64_t offset, void *out, size_t n) {
    size_t got;
    TRY(read_some(descriptor, path, offset, out, n, &got));
    if (got < n) {
        return fail(ERR_DATA, "%s: ends at byte %lld where %zu more were expected; the file is truncated",
                    path, (long long)offset + (long long)got, n - got);
    }
    return OK;
}

enum status stream_open(const char *path, int64_t begin, struct file_stream **out) {
    struct file_stream *s;
    TRY(NEW_ARRAY(s, 1));
    s->descriptor = -1;
    enum status st;
    s->path = mem_strdup(path);
    s->in = mem_aligned(RAW_BYTES, 1);
    TRY_TO(done, mem_ok(s->path));
    TRY_TO(done, mem_ok(s->in));
    TRY_TO(done, regular_open(path, &s->descriptor, NULL));
    TRY_TO(done, foreign_refuse(s->descriptor, path));
    size_t got;
    TRY_TO(done, read_some(s->descriptor, path, 0, s->in, 2, &got));
    s->raw = begin;
    if (got == 2 && s->in[0] == 0x1f && s->in[1] == 0x8b) {
        s->out = mem_aligned(INFLATED_BYTES, 1);
        TRY_TO(done, mem_ok(s->out));
        enum { WINDOW_BITS = 15, GZIP_ONLY = 16 }; /* zlib.h, inflateInit2 */
        if (inflateInit2(&s->z, WINDOW_BITS + GZIP_ONLY) != Z_OK) {
            st = fail(ERR_SYSTEM, "%s: zlib cannot start", path);
            goto done;
        }
        s->gzip = true;
    }
done:
    if (st != OK) {
        stream_close(s);
        return st;
    }
    *out = s;
    return OK;
}

void stream_close(struct file_stream *s) {
    if (!s) {
        return;
    }
    if (s->gzip) {
        inflateEnd(&s->z);
    }
    if (s->descriptor >= 0) {
        close(s->descriptor);
    }
    mem_free(s->in);
    mem_free(s->out);
    mem_free(s->path);
    mem_free(s);
}

bool stream_is_gzip(const struct file_stream *s) {
    return s->gzip;
}

int64_t stream_position(const struct file_stream *s) {
    return s->given;
}

static enum status read_raw(struct file_stream *s, int64_t raw_limit, size_t *got) {
    int64_t room = raw_limit - s->raw;
    *got = 0;
    if (room <= 0) {
        return OK;
    }
    TRY(read_some(s->descriptor, s->path, s->raw, s->in, room < RAW_BYTES ? (size_t)room : RAW_BYTES, got));
    s->raw += (int64_t)*got;
    return OK;
}

/* Between members: skips zero padding and begins the next one. */
static enum status next_member(struct file_stream *s) {
    while (s->any_member && s->z.avail_in > 0 && *s->z.next_in == 0) {
        s->z.next_in++;
        s->z.avail_in--;
    }
    if (s->z.avail_in == 0) {
        return OK;
    }
    if (*s->z.next_in != 0x1f) {
        return fail(ERR_DATA, "%s: damaged gzip: bytes after the end of the data (byte %lld)", s->path,
                    (long long)s->raw - s->z.avail_in);
    }
    if (inflateReset(&s->z) != Z_OK) {
        return fail(ERR_SYSTEM, "%s: zlib cannot restart", s->path);
    }
    s->in_member = true;
    return OK;
}

static enum status inflate_piece(struct file_stream *s, size_t *n) {
    *n = 0;
    if (!s->in_member) {
        TRY(next_member(s));
        if (!s->in_member) {
            return OK;
        }
    }
    s->z.next_out = s->out;
    s->z.avail_out = INFLATED_BYTES;
    int result = inflate(&s->z, Z_NO_FLUSH);
    if (result != Z_OK && result != Z_STREAM_END && result != Z_BUF_ERROR) {
        return fail(ERR_DATA, "%s: damaged gzip at about byte %lld: %s", s->path,
                    (long long)s->raw - s->z.avail_in, s->z.msg ? s->z.msg : "not a gzip stream");
    }
    *n = INFLATED_BYTES - s->z.avail_out;
    s->output_pending = s->z.avail_out == 0 && result != Z_STREAM_END;
    if (result == Z_STREAM_END) {
        s->in_member = false;
        s->any_member = true;
    }
    return OK;
}

static enum status next_inflated(struct file_stream *s, int64_t raw_limit, const char **data, size_t *n) {
    for (;;) {
        if (s->z.avail_in == 0 && !s->output_pending) {
            size_t got;
            TRY(read_raw(s, raw_limit, &got));
            if (got == 0 && s->raw < raw_limit && s->in_member) {
                return fail(ERR_DATA, "%s: damaged gzip: the file ends early, at byte %lld", s->path,
                            (long long)s->raw);
            }
            if (got == 0) {
                *n = 0;
                return OK;
            }
            s->z.next_in = s->in;
            s->z.avail_in = (unsigned)got;
        }
        TRY(inflate_piece(s, n));
        if (*n > 0) {
            *data = (const char *)s->out;
            s->given += (int64_t)*n;
            return OK;
        }
    }
}

enum status stream_next(struct file_stream *s, int64_t raw_limit, const char **data, size_t *n) {
    if (s->gzip) {
        return next_inflated(s, raw_limit, data, n);
    }
    TRY(read_raw(s, raw_limit, n));
    *data = (const char *)s->in;
    s->given += (int64_t)*n;
    return OK;
}

static enum status check_whole(const struct file_stream *s, size_t bytes) {
    int64_t most = s->gzip ? FILE_INFLATED_BYTES : FILE_BYTES;
    return (int64_t)bytes <= most
               ? OK
               : fail(ERR_DATA, "%s: holds more than the %lld bytes that a file read as a whole may have%s",
                      s->path, (long long)most, s->gzip ? " when it is inflated" : "");
}

enum status file_read(const char *path, char **data, size_t *len) {
    struct file_stream *s;
    TRY(stream_open(path, 0, &s));
    struct text all = {0};
    enum status st;
    TRY_TO(done, text_puts(&all, ""));
    for (;;) {
        const char *piece;
        size_t n;
        TRY_TO(done, stream_next(s, INT64_MAX, &piece, &n));
        if (n == 0) {
            break;
        }
        TRY_TO(done, check_whole(s, all.len + n));
        TRY_TO(done, text_append(&all, piece, n));
    }
    *data = all.data;
    *len = all.len;
    all = (struct text){0};
done:
    text_free(&all);
    stream_close(s);
    return st;
}

int file_sync(int descriptor) {
    static const off_t piece = 1 << 26;
    static const unsigned all =
        SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WRITE | SYNC_FILE_RANGE_WAIT_AFTER;
    struct stat facts;
    int rc = fstat(descriptor, &facts);
    for (off_t at = 0; rc == 0 && at < facts.st_size; at += piece) {
        rc = sync_file_range(descriptor, at, piece, all);
    }
    bool has_lost = rc != 0 && (errno == EIO || errno == ENOSPC || errno == EDQUOT); /* said only once */
    return has_lost || fault_hits(FAULT_SYNC) ? -1 : fsync(descriptor);
}

enum status file_sync_path(const char *path) {
    int descriptor = fault_hits(FAULT_OPEN) ? -1 : open(path, O_WRONLY | O_CLOEXEC);
    if (descriptor < 0) {
        return fail(ERR_WRITE, "%s: cannot be opened for fsync: %s", path, strerror(errno));
    }
    int rc = file_sync(descriptor);
    int saved = errno;
    close(descriptor);
    return rc == 0 ? OK : fail(ERR_WRITE, "%s: fsync: %s", path, strerror(saved));
}

int file_create(const char *path) {
    return fault_hits(FAULT_OPEN) ? -1 : open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
}

int file_put(int descriptor, int64_t offset, const void *data, size_t n) {
    for (size_t done = 0; done < n;) {
        const char *from = (const char *)data + done;
        ssize_t now = fault_hits(FAULT_WRITE) ? -1
                      : offset < 0            ? write(descriptor, from, n - done)
                                   : pwrite(descriptor, from, n - done, (off_t)(offset + (int64_t)done));
        if (now < 0 && errno == EINTR) {
            continue;
        }
        if (now <= 0) {
            errno = now == 0 ? ENOSPC : errno;
            return -1;
        }
        done += (size_t)now;
    }
    return 0;
}

/* path: what it will be, for messages. */
static enum status write_whole(const char *temporary, const char *path, const char *data, size_t len) {
    int descriptor = file_create(temporary);
    if (descriptor < 0) {
        return fail(ERR_WRITE, "%s: %s", path, strerror(errno));
    }
    enum status st = OK;
    if (file_put(descriptor, -1, data, len) != 0 || file_sync(descriptor) != 0) {
        st = fail(ERR_WRITE, "%s: %s", path, strerror(errno));
    }
    bool closed = close(descriptor) == 0;
    if ((!closed || fault_hits(FAULT_CLOSE)) && st == OK) {
        st = fail(ERR_WRITE, "%s: %s", path, strerror(errno));
    }
    return st;
}

enum status file_temporary(const char *path, const char *owner, struct text *out) {
    enum { MOST_OF_NAME = 160 }; /* of the 255 bytes that file systems take */
    const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;
    char mine[PROCESS_NAME];
    if (!owner) {
        process_name(mine);
        owner = mine;
    }
    size_t len = strlen(name);
    name += len > MOST_OF_NAME ? len - MOST_OF_NAME : 0;
    return text_printf(out, "%.*s%s.%s.tmp", slash ? (int)(slash + 1 - path) : 0, path, owner, name);
}

static enum status write_stream(const char *path, const char *data, size_t len) {
    int descriptor;
    TRY(output_stream_open(path, &descriptor));
    enum status st = output_stream_write(descriptor, path, data, len);
    close(descriptor);
    return st;
}

/* path: with its links followed. */
static enum status replace(const char *path, const char *data, size_t len) {
    struct text temporary = {0};
    TRY(file_temporary(path, NULL, &temporary));
    enum status st = write_whole(temporary.data, path, data, len);
    st = st == OK ? output_put(temporary.data, path) : st;
    if (st != OK) {
        unlink(temporary.data); /* best effort: the failure that counts is recorded */
    }
    text_free(&temporary);
    return st == OK ? file_sync_folder(path) : st;
}

enum status file_write(const char *path, const char *data, size_t len) {
    if (output_is_stream(path)) {
        return write_stream(path, data, len);
    }
    struct text target = {0};
    enum status st = output_follow(path, &target);
    st = st == OK ? replace(target.data, data, len) : st;
    text_free(&target);
    return st;
}

enum status file_sync_folder(const char *path) {
    const char *slash = strrchr(path, '/');
    char *folder = !slash ? mem_strdup(".") : mem_strndup(path, slash == path ? 1 : (size_t)(slash - path));
    TRY(mem_ok(folder));
    int descriptor = fault_hits(FAULT_OPEN) ? -1 : open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    enum status st = OK;
    /* Some file systems cannot sync a folder (EINVAL): their renames are as durable as they get. */
    if (descriptor < 0 || ((fault_hits(FAULT_SYNC) || fsync(descriptor) != 0) && errno != EINVAL)) {
        st = fail(ERR_WRITE, "%s: cannot sync the folder: %s", folder, strerror(errno));
    }
    if (descriptor >= 0) {
        close(descriptor);
    }
    mem_free(folder);
    return st;
}

static bool is_folder(const char *path) {
    struct stat facts;
    return stat(path, &facts) == 0 && S_ISDIR(facts.st_mode);
}

enum status folder_make(const char *path) {
    char *partial = mem_strdup(path);
    TRY(mem_ok(partial));
    enum status st = OK;
    for (char *p = partial; st == OK && *p; p++) {
        bool part_ends = (p > partial && *p == '/') || p[1] == '\0'; /* not at the root's slash */
        if (!part_ends) {
            continue;
        }
        bool cut = *p == '/';
        *p = cut ? '\0' : *p;
        int error = !fault_hits(FAULT_OPEN) && mkdir(partial, 0777) == 0 ? 0 : errno;
        if (error != 0 && !is_folder(partial)) {
            st = fail(ERR_WRITE, "%s: cannot make the folder: %s", partial,
                      error == EEXIST ? "a file of that name is in the way" : strerror(error));
        }
        *p = cut ? '/' : *p;
    }
    mem_free(partial);
    return st;
}

/* What a version wrote that named no owner. */
static bool is_of_old(const char *name) {
    static const char *const ends[] = {".h5.tmp",    ".yaml.tmp",        ".json.tmp",
                                       ".jsonl.tmp", ".safetensors.tmp", ".txt.tmp"};
    for (int i = 0; i < COUNT_OF(ends); i++) {
        if (text_ends(name, ends[i])) {
            return true;
        }
    }
    return strcmp(name, "latest.tmp") == 0;
}

/* Is the file a temporary one that nobody writes any more? */
static bool is_left(const char *name, const char *dead) {
    char owner[PROCESS_NAME];
    size_t len = strcspn(name, ".");
    if (!text_ends(name, ".tmp") || len == 0 || len >= sizeof owner) {
        return false;
    }
    snprintf(owner, sizeof owner, "%.*s", (int)len, name);
    if (dead && strcmp(owner, dead) == 0) {
        return true;
    }
    return process_is_name(owner) ? process_life(owner) == PROCESS_DEAD : is_of_old(name);
}

enum status folder_sweep(const char *path, const char *dead, int *removed) {
    DIR *directory = fault_hits(FAULT_OPEN) ? NULL : opendir(path);
    if (!directory) {
        return errno == ENOENT ? OK : fail(ERR_WRITE, "%s: cannot be read: %s", path, strerror(errno));
    }
    enum status st = OK;
    for (struct dirent *e = readdir(directory); e && st == OK; e = readdir(directory)) {
        if (!is_left(e->d_name, dead)) {
            continue;
        }
        if (unlinkat(dirfd(directory), e->d_name, 0) == 0) {
            ++*removed;
        } else if (errno != ENOENT && errno != EISDIR) {
            st = fail(ERR_WRITE, "%s/%s: cannot be removed: %s", path, e->d_name, strerror(errno));
        }
    }
    closedir(directory);
    return st;
}

const char *zlib_library(void) {
    return zlibVersion();
}
