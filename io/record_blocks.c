#include "io/record_blocks.h"

#include <pthread.h>
#include <string.h>

#include "io/jsonl_internal.h"
#include "util/hash.h"
#include "util/lock.h"
#include "util/mem.h"

static const int64_t BLOCK_BYTES = (int64_t)1 << 20;
static const int64_t KEEP_BYTES = (int64_t)128 << 20;

/* Marking, in the first reading. */

void record_marks_free(struct record_marks *m) {
    if (m) {
        mem_free(m->list);
        mem_free(m->of_file);
        text_free(&m->kept);
        mem_free(m);
    }
}

static enum status mark(struct records_input *in, const struct split_record *r) {
    struct record_marks *m = in->marks;
    struct record_mark *last = m->count > 0 ? &m->list[m->count - 1] : NULL;
    if (!last || last->file != r->file || r->end - last->begin > m->block_bytes) {
        TRY(GROW_ARRAY(m->list, m->capacity, m->count + 1));
        last = &m->list[m->count++];
        *last =
            (struct record_mark){.begin = r->offset, .first = in->count, .line = r->line, .file = r->file};
    }
    last->end = r->end;
    last->hash = hash_bytes(in->records.data + r->begin, (size_t)r->len, last->hash);
    last->count++;
    in->count++;
    return OK;
}

enum status record_marks_take(struct records_input *in, struct splitter *s) {
    struct split_records *r = &in->records;
    for (int64_t i = 0; i < r->count; i++) {
        TRY(mark(in, &r->list[i]));
    }
    r->count = 0;
    int64_t unfinished = s->in_record && s->keep ? r->used - s->begin : 0;
    if (unfinished > 0 && s->begin > 0) {
        memmove(r->data, r->data + s->begin, (size_t)unfinished);
    }
    r->used = unfinished;
    s->begin = 0;
    return OK;
}

enum status record_marks_keep(struct records_input *in, int file, int64_t offset, const char *data,
                              size_t n) {
    struct record_marks *m = in->marks;
    if (m->keep_bytes >= 0 && (int64_t)(m->kept.len + n) > m->keep_bytes) {
        m->keep_bytes = -1;
        text_free(&m->kept);
        m->kept = (struct text){0};
    }
    if (m->keep_bytes < 0) {
        return OK;
    }
    if (m->of_file[file].at < 0) {
        m->of_file[file].at = (int64_t)m->kept.len;
        m->of_file[file].offset = offset;
    }
    return text_append(&m->kept, data, n);
}

static enum status marks_new(int n_files, const struct record_bounds *bounds, struct record_marks **out) {
    struct record_marks *m;
    TRY(NEW_ARRAY(m, 1));
    *out = m;
    m->block_bytes = bounds && bounds->block_bytes > 0 ? bounds->block_bytes : BLOCK_BYTES;
    m->keep_bytes = bounds && bounds->keep_bytes != 0 ? bounds->keep_bytes : KEEP_BYTES;
    TRY(NEW_ARRAY(m->of_file, n_files));
    for (int i = 0; i < n_files; i++) {
        m->of_file[i].at = -1;
    }
    return OK;
}

enum status records_survey(struct comm *c, char *const *files, int n_files,
                           const struct record_bounds *bounds, struct records_input **out) {
    struct record_marks *marks = NULL;
    enum status st = comm_agree(c, marks_new(n_files, bounds, &marks));
    if (st != OK) {
        record_marks_free(marks);
        return st;
    }
    return records_read(c, files, n_files, marks, out);
}

/* Reading. */

struct record_reader {
    const struct records_input *in;
    int64_t limit, next; /* records; the block that comes */
    pthread_mutex_t lock;
    struct file_stream *stream; /* of the last block's file; NULL: none is open */
    int file;
    const char *piece; /* what the stream gave and no block has taken yet */
    size_t left;
    int64_t position; /* of the piece in the file, inflated */
};

struct record_text_buffer {
    struct text raw;
    struct split_records records;
    int64_t capacity; /* of the block's list */
};

enum status record_reader_open(const struct records_input *in, int64_t limit, struct record_reader **out) {
    struct record_reader *r;
    TRY(NEW_ARRAY(r, 1));
    r->in = in;
    r->limit = limit;
    enum status st = lock_open(&r->lock);
    if (st != OK) {
        mem_free(r);
        return st;
    }
    *out = r;
    return OK;
}

void record_reader_close(struct record_reader *r) {
    if (r) {
        stream_close(r->stream);
        pthread_mutex_destroy(&r->lock);
        mem_free(r);
    }
}

void record_block_free(struct record_block *b) {
    if (b->text) {
        text_free(&b->text->raw);
        split_free(&b->text->records);
        mem_free(b->text);
    }
    mem_free(b->list);
    *b = (struct record_block){0};
}

static enum status refuse_change(const struct records_input *in, int file) {
    return fail(ERR_INPUT, "%s: has changed while it was read", in->paths[file]);
}

/* A stream of the mark's file that has not come past its beginning. */
static enum status open_at(struct record_reader *r, const struct record_mark *m) {
    const struct survey *f = &r->in->files[m->file];
    if (r->stream && r->file == m->file) {
        return OK;
    }
    stream_close(r->stream);
    r->stream = NULL;
    r->left = 0;
    r->position = f->gzip ? 0 : m->begin;
    TRY(stream_open(r->in->paths[m->file], r->position, &r->stream));
    r->file = m->file;
    return f->gzip == stream_is_gzip(r->stream) ? OK : refuse_change(r->in, m->file);
}

static void pass(struct record_reader *r, size_t n) {
    r->piece += n;
    r->left -= n;
    r->position += (int64_t)n;
}

/* The mark's bytes. */
static enum status take_bytes(struct record_reader *r, const struct record_mark *m, struct text *raw) {
    TRY(open_at(r, m));
    while (r->position < m->end) {
        if (r->left == 0) {
            TRY(stream_next(r->stream, INT64_MAX, &r->piece, &r->left));
        }
        if (r->left == 0) {
            return refuse_change(r->in, m->file);
        }
        int64_t skipped = m->begin > r->position ? m->begin - r->position : 0;
        if (skipped >= (int64_t)r->left) {
            pass(r, r->left);
            continue;
        }
        pass(r, (size_t)skipped);
        int64_t wanted = m->end - r->position;
        size_t n = wanted < (int64_t)r->left ? (size_t)wanted : r->left;
        TRY(text_append(raw, r->piece, n));
        pass(r, n);
    }
    return OK;
}

static enum status take_kept(const struct record_marks *marks, const struct record_mark *m,
                             struct text *raw) {
    int64_t at = marks->of_file[m->file].at + m->begin - marks->of_file[m->file].offset;
    return text_append(raw, marks->kept.data + at, (size_t)(m->end - m->begin));
}

/* Cuts a block's text into its records. */
static enum status cut_block(const struct records_input *in, const struct record_mark *m,
                             struct record_text_buffer *text) {
    struct split_records *records = &text->records;
    struct splitter s;
    bool array = in->files[m->file].array != 0;
    records->used = records->count = 0;
    split_begin(&s, records, in->paths[m->file], m->file, array);
    s.at_start = m->begin == 0;
    s.fed = m->begin;
    s.line = m->line;
    s.expected = ARRAY_VALUE;
    records->lines[m->file] = m->line - 1;
    TRY(split_feed(&s, text->raw.data, text->raw.len, SPLIT_INSIDE));
    TRY(array ? OK : split_end(&s));
    uint64_t hash = 0;
    for (int64_t i = 0; i < records->count; i++) {
        const struct split_record *r = &records->list[i];
        hash = hash_bytes(records->data + r->begin, (size_t)r->len, hash);
    }
    return records->count == m->count && hash == m->hash ? OK : refuse_change(in, m->file);
}

static enum status list_block(const struct records_input *in, const struct record_mark *m, int64_t count,
                              struct record_block *b) {
    TRY(GROW_ARRAY(b->list, b->text->capacity, count));
    for (int64_t i = 0; i < count; i++) {
        const struct split_record *r = &b->text->records.list[i];
        b->list[i] = (struct record){.data = b->text->records.data + r->begin,
                                     .len = (size_t)r->len,
                                     .index = in->first_index + m->first + i,
                                     .line = r->line,
                                     .file = r->file};
    }
    b->count = count;
    return OK;
}

static enum status buffer_new(const struct records_input *in, struct record_block *b) {
    if (!b->text) {
        TRY(NEW_ARRAY(b->text, 1));
        TRY(NEW_ARRAY(b->text->records.lines, in->n_files));
    }
    text_clear(&b->text->raw);
    return OK;
}

enum status record_reader_next(struct record_reader *r, struct record_block *b, bool *more) {
    const struct records_input *in = r->in;
    const struct record_marks *marks = in->marks;
    const struct record_mark *m = NULL;
    TRY(buffer_new(in, b));
    pthread_mutex_lock(&r->lock);
    enum status st = OK;
    *more = r->next < marks->count && marks->list[r->next].first < r->limit;
    if (*more) {
        b->number = r->next;
        m = &marks->list[r->next++];
        st = marks->keep_bytes >= 0 && marks->of_file[m->file].at >= 0 ? take_kept(marks, m, &b->text->raw)
                                                                       : take_bytes(r, m, &b->text->raw);
    }
    pthread_mutex_unlock(&r->lock);
    if (st != OK || !m) {
        return st;
    }
    TRY(cut_block(in, m, b->text));
    return list_block(in, m, m->count < r->limit - m->first ? m->count : r->limit - m->first, b);
}
