#include "io/event_file.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "io/file.h"
#include "io/output.h"
#include "util/clock.h"
#include "util/fault.h"
#include "util/mem.h"

/* A file is named BEGINS, ten digits, the host, ENDS: readers look for the first, event_files_remove for
 * both. */
#define BEGINS "events.out.tfevents."
#define ENDS ".collimate"

enum wire { VARINT = 0, FIXED_64 = 1, BYTES = 2, FIXED_32 = 5 };

uint32_t event_crc32c(const void *data, size_t n) {
    static const uint32_t table[16] = {/* of four bits at a time, reflected */
                                       0x00000000, 0x105ec76f, 0x20bd8ede, 0x30e349b1, 0x417b1dbc, 0x5125dad3,
                                       0x61c69362, 0x7198540d, 0x82f63b78, 0x92a8fc17, 0xa24bb5a6, 0xb21572c9,
                                       0xc38d26c4, 0xd3d3e1ab, 0xe330a81a, 0xf36e6f75};
    const unsigned char *bytes = data;
    uint32_t crc = UINT32_MAX;
    for (size_t i = 0; i < n; i++) {
        crc ^= bytes[i];
        crc = crc >> 4 ^ table[crc & 15];
        crc = crc >> 4 ^ table[crc & 15];
    }
    return ~crc;
}

/* So that a CRC of bytes which hold a CRC is an ordinary one. */
static uint32_t masked(const void *data, size_t n) {
    uint32_t crc = event_crc32c(data, n);
    return (crc >> 15 | crc << 17) + 0xa282ead8u;
}

static enum status put_fixed(struct text *out, uint64_t value, int bytes) {
    char little[8];
    for (int i = 0; i < bytes; i++) {
        little[i] = (char)(value >> 8 * i & 255);
    }
    return text_append(out, little, (size_t)bytes);
}

static enum status put_varint(struct text *out, uint64_t value) {
    char groups[10];
    size_t n = 0;
    for (; value > 127; value >>= 7) {
        groups[n++] = (char)((value & 127) | 128);
    }
    groups[n++] = (char)value;
    return text_append(out, groups, n);
}

static enum status put_key(struct text *out, unsigned field, enum wire wire) {
    return put_varint(out, field << 3 | wire);
}

static enum status put_bytes(struct text *out, unsigned field, const char *bytes, size_t n) {
    TRY(put_key(out, field, BYTES));
    TRY(put_varint(out, n));
    return text_append(out, bytes, n);
}

enum status event_put(struct text *summary, const char *tag, double value) {
    struct text part = {0};
    float narrow = fabs(value) <= FLT_MAX || isnan(value) ? (float)value : value > 0 ? INFINITY : -INFINITY;
    uint32_t bits;
    enum status st;
    memcpy(&bits, &narrow, sizeof bits);
    TRY_TO(done, put_bytes(&part, 1, tag, strlen(tag)));
    TRY_TO(done, put_key(&part, 2, FIXED_32));
    TRY_TO(done, put_fixed(&part, bits, 4));
    TRY_TO(done, put_bytes(summary, 1, part.data, part.len));
done:
    text_free(&part);
    return st;
}

/* An event of now whose field has these bytes. */
static enum status put_event(struct text *out, int64_t step, unsigned field, const char *bytes, size_t n) {
    double now = clock_wall();
    uint64_t bits;
    memcpy(&bits, &now, sizeof bits);
    TRY(put_key(out, 1, FIXED_64));
    TRY(put_fixed(out, bits, 8));
    if (step != 0) { /* as protocol buffers are written: what is not there is 0 */
        TRY(put_key(out, 2, VARINT));
        TRY(put_varint(out, (uint64_t)step));
    }
    return put_bytes(out, field, bytes, n);
}

static enum status put_record(struct text *out, const struct text *message) {
    TRY(put_fixed(out, message->len, 8));
    TRY(put_fixed(out, masked(out->data, 8), 4));
    TRY(text_append(out, message->data, message->len));
    return put_fixed(out, masked(message->data, message->len), 4);
}

static enum status write_event(struct event_file *f, int64_t step, unsigned field, const char *bytes,
                               size_t n) {
    struct text message = {0};
    struct text record = {0};
    enum status st;
    TRY_TO(done, put_event(&message, step, field, bytes, n));
    TRY_TO(done, put_record(&record, &message));
    TRY_TO(done, output_stream_write(f->descriptor, f->path, record.data, record.len));
done:
    text_free(&message);
    text_free(&record);
    return st;
}

enum status event_file_write(struct event_file *f, int64_t step, const struct text *summary) {
    return write_event(f, step, 5, summary->data, summary->len);
}

/* The seconds in the name of the newest event file there, whoever wrote it; 0: none. */
static long long newest(const char *folder) {
    long long last = 0;
    DIR *there = opendir(folder);
    for (const struct dirent *entry = there ? readdir(there) : NULL; entry; entry = readdir(there)) {
        if (text_starts(entry->d_name, BEGINS)) {
            long long seconds = strtoll(entry->d_name + strlen(BEGINS), NULL, 10);
            last = seconds > last && seconds < 9999999999 ? seconds : last;
        }
    }
    if (there) {
        closedir(there);
    }
    return last;
}

static enum status create(const char *folder, struct event_file *out) {
    char host[64] = "";
    struct text path = {0};
    (void)gethostname(host, sizeof host - 1);
    long long now = (long long)clock_wall(), last = newest(folder);
    enum status st =
        text_printf(&path, "%s/" BEGINS "%010lld.%s" ENDS, folder, now > last ? now : last + 1, host);
    out->path = path.data; /* closing frees it */
    TRY(st);
    out->descriptor = fault_hits(FAULT_OPEN)
                          ? -1
                          : open(path.data, O_WRONLY | O_CREAT | O_EXCL | O_APPEND | O_CLOEXEC, 0666);
    return out->descriptor >= 0 ? OK : fail(ERR_WRITE, "%s: cannot be made: %s", path.data, strerror(errno));
}

enum status event_file_open(const char *folder, int64_t first, struct event_file *out) {
    static const char version[] = "brain.Event:2", start[] = {1 << 3 | VARINT, 1}; /* SessionLog: START */
    *out = (struct event_file){.descriptor = -1};
    TRY(folder_make(folder));
    enum status st = create(folder, out);
    st = st == OK ? write_event(out, 0, 3, version, strlen(version)) : st;
    st = st == OK ? write_event(out, first, 7, start, sizeof start) : st;
    st = st == OK ? file_sync_folder(out->path) : st;
    if (st != OK) {
        event_file_close(out);
    }
    return st;
}

enum status event_file_sync(struct event_file *f) {
    if (fsync(f->descriptor) != 0 && errno != EINVAL && errno != EROFS) { /* these: nothing to wait for */
        return fail(ERR_WRITE, "%s: fsync: %s", f->path, strerror(errno));
    }
    return OK;
}

void event_file_close(struct event_file *f) {
    if (f->path && f->descriptor >= 0) {
        close(f->descriptor); /* every record was looked at when it was written */
    }
    mem_free(f->path);
    *f = (struct event_file){.descriptor = -1};
}

enum status event_files_remove(const char *folder) {
    struct text path = {0};
    enum status st = OK;
    DIR *there = opendir(folder);
    if (!there) {
        return errno == ENOENT || errno == ENOTDIR
                   ? OK
                   : fail(ERR_WRITE, "%s: cannot be looked into: %s", folder, strerror(errno));
    }
    for (const struct dirent *entry = readdir(there); entry && st == OK; entry = readdir(there)) {
        if (!text_starts(entry->d_name, BEGINS) || !text_ends(entry->d_name, ENDS)) {
            continue;
        }
        text_clear(&path);
        st = text_printf(&path, "%s/%s", folder, entry->d_name);
        if (st == OK && unlink(path.data) != 0 && errno != ENOENT) {
            st = fail(ERR_WRITE, "%s: cannot be removed: %s", path.data, strerror(errno));
        }
    }
    closedir(there);
    text_free(&path);
    return st;
}
