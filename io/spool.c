#include "io/spool.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "io/file.h"
#include "io/output.h"
#include "util/fault.h"
#include "util/mem.h"
#include "util/text.h"

enum { PIECE_BYTES = 1 << 20 };

/* data NULL: in the file at `at`, or, where that is -1, nowhere. */
struct piece {
    char *data;
    int64_t at;
};

struct stream {
    struct piece *pieces;
    int64_t count, capacity, bytes;
};

struct spool {
    char *beside;
    int file; /* -1: none yet */
    int64_t file_bytes;
    int64_t memory, piece; /* memory: bytes that are left of it */
    int n;
    struct stream *streams;
};

enum status spool_open(const struct spool_plan *plan, struct spool **out) {
    struct spool *s;
    TRY(NEW_ARRAY(s, 1));
    *s = (struct spool){
        .file = -1, .memory = plan->memory, .piece = plan->piece > 0 ? plan->piece : PIECE_BYTES};
    s->beside = plan->beside ? mem_strdup(plan->beside) : NULL;
    enum status st = plan->beside ? mem_ok(s->beside) : OK;
    st = st == OK ? NEW_ARRAY(s->streams, plan->streams) : st;
    if (st != OK) {
        spool_close(s);
        return st;
    }
    s->n = plan->streams;
    *out = s;
    return OK;
}

void spool_close(struct spool *s) {
    if (!s) {
        return;
    }
    for (int i = 0; i < s->n; i++) {
        for (int64_t k = 0; k < s->streams[i].count; k++) {
            mem_free(s->streams[i].pieces[k].data);
        }
        mem_free(s->streams[i].pieces);
    }
    if (s->file >= 0) {
        close(s->file);
    }
    mem_free(s->streams);
    mem_free(s->beside);
    mem_free(s);
}

static enum status refuse_file(const struct spool *s, int error) {
    return fail(ERR_WRITE,
                "%s: what does not fit in memory before it is written cannot be put into a temporary file in "
                "the same folder: %s",
                s->beside, strerror(error));
}

/* Two files may be under way beside one output: the other has the output's own temporary name. */
static enum status open_file(struct spool *s) {
    struct text target = {0}, name = {0};
    enum status st;
    TRY_TO(done, output_follow(s->beside, &target));
    TRY_TO(done, text_puts(&target, ".spool"));
    TRY_TO(done, file_temporary(target.data, NULL, &name));
    if (unlink(name.data) != 0 && errno != ENOENT) { /* what a process left that had our id */
        st = refuse_file(s, errno);
        goto done;
    }
    s->file = fault_hits(FAULT_OPEN)
                  ? -1
                  : open(name.data, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    st = s->file < 0 ? refuse_file(s, errno) : OK;
    if (st == OK && unlink(name.data) != 0) {
        st = refuse_file(s, errno);
        close(s->file);
        s->file = -1;
    }
done:
    text_free(&target);
    text_free(&name);
    return st;
}

static enum status write_piece(struct spool *s, struct piece *p) {
    TRY(s->file < 0 ? open_file(s) : OK);
    if (file_put(s->file, s->file_bytes, p->data, (size_t)s->piece) != 0) {
        return refuse_file(s, errno);
    }
    p->at = s->file_bytes;
    s->file_bytes += s->piece;
    return OK;
}

/* A stream's last piece, which is full, stays where it is or leaves the memory. Without a file a stream's
 * first piece stays, whatever the others have taken. */
static enum status settle_piece(struct spool *s, const struct stream *stream) {
    struct piece *p = &stream->pieces[stream->count - 1];
    if (s->memory >= s->piece) {
        s->memory -= s->piece;
        return OK;
    }
    if (!s->beside && stream->count == 1) {
        return OK;
    }
    TRY(s->beside ? write_piece(s, p) : OK);
    mem_free(p->data);
    p->data = NULL;
    return OK;
}

static enum status add_piece(struct spool *s, struct stream *stream) {
    TRY(GROW_ARRAY(stream->pieces, stream->capacity, stream->count + 1));
    char *data = mem_aligned(s->piece, 1);
    TRY(mem_ok(data));
    stream->pieces[stream->count++] = (struct piece){.data = data, .at = -1};
    return OK;
}

enum status spool_append(struct spool *s, int stream, const void *data, int64_t bytes) {
    struct stream *to = &s->streams[stream];
    const char *from = data;
    while (bytes > 0) {
        int64_t used = to->bytes - (to->count - 1) * s->piece; /* of the last piece */
        if (to->count == 0 || used == s->piece) {
            TRY(add_piece(s, to));
            used = 0;
        }
        struct piece *p = &to->pieces[to->count - 1];
        int64_t n = bytes < s->piece - used ? bytes : s->piece - used;
        memcpy(p->data + used, from, (size_t)n);
        to->bytes += n;
        from += n;
        bytes -= n;
        TRY(used + n == s->piece ? settle_piece(s, to) : OK);
    }
    return OK;
}

int64_t spool_bytes(const struct spool *s, int stream) {
    return s->streams[stream].bytes;
}

enum status spool_read(const struct spool *s, int stream, int64_t first, int64_t bytes, void *out) {
    const struct stream *from = &s->streams[stream];
    char *to = out;
    if (first < 0 || bytes < 0 || first > from->bytes - bytes) {
        return fail(ERR_INTERNAL, "%lld bytes at %lld of a stream of %lld", (long long)bytes,
                    (long long)first, (long long)from->bytes);
    }
    while (bytes > 0) {
        const struct piece *p = &from->pieces[first / s->piece];
        int64_t begin = first % s->piece;
        int64_t n = bytes < s->piece - begin ? bytes : s->piece - begin;
        if (p->data) {
            memcpy(to, p->data + begin, (size_t)n);
        } else if (p->at >= 0) {
            TRY(file_read_at(s->file, s->beside, p->at + begin, to, (size_t)n));
        } else {
            return fail(ERR_INTERNAL, "byte %lld of a stream was dropped", (long long)first);
        }
        to += n;
        first += n;
        bytes -= n;
    }
    return OK;
}
