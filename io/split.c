#include "io/split.h"

#include <stdio.h>
#include <string.h>

#include "util/mem.h"

void split_free(struct split_records *r) {
    mem_free(r->data);
    mem_free(r->list);
    mem_free(r->lines);
    *r = (struct split_records){0};
}

void split_begin(struct splitter *s, struct split_records *out, const char *path, int file, bool array) {
    *s = (struct splitter){.out = out, .path = path, .file = file, .array = array, .line = 1};
}

static bool is_blank(char c) {
    return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

/* "FILE, line 7", or where a rank has entered a file in its middle, "FILE, line 7 from byte 1000 on". */
static enum status refuse_record(const struct splitter *s, const char *what) {
    const struct split_records *out = s->out;
    long long line = s->array ? s->record_line : out->lines[s->file] + 1;
    char from[48] = "";
    if (s->entered > 0) {
        snprintf(from, sizeof from, " from byte %lld on", (long long)s->entered);
    }
    return fail(ERR_DATA, "%s, line %lld%s: the record that begins there %s", s->path, line, from, what);
}

static enum status keep_bytes(const struct splitter *s, const char *data, size_t n) {
    struct split_records *out = s->out;
    if (out->used - s->begin + (int64_t)n > SPLIT_RECORD_BYTES) {
        char what[96];
        snprintf(what, sizeof what, "has more than %d bytes, the most that a record may have",
                 (int)SPLIT_RECORD_BYTES);
        return refuse_record(s, what);
    }
    TRY(GROW_ARRAY(out->data, out->data_capacity, out->used + (int64_t)n + 1));
    memcpy(out->data + out->used, data, n);
    out->used += (int64_t)n;
    return OK;
}

/* end: offset in the file of what follows. */
static enum status keep_record(struct splitter *s, int64_t begin, int64_t end) {
    struct split_records *out = s->out;
    TRY(GROW_ARRAY(out->list, out->list_capacity, out->count + 1));
    out->list[out->count++] = (struct split_record){.begin = begin,
                                                    .len = out->used - begin,
                                                    .offset = s->offset,
                                                    .end = end,
                                                    .line = s->record_line,
                                                    .file = s->file};
    return OK;
}

static enum status end_line(struct splitter *s, int64_t end) {
    struct split_records *out = s->out;
    s->in_record = false;
    if (!s->keep) {
        s->at_start = false;
        return OK;
    }
    int64_t begin = s->begin;
    if (s->at_start && out->used - begin >= 3 && memcmp(out->data + begin, SPLIT_BYTE_ORDER_MARK, 3) == 0) {
        begin += 3;
    }
    s->at_start = false;
    while (out->used > begin && is_blank(out->data[out->used - 1])) {
        out->used--;
    }
    s->record_line = ++out->lines[s->file];
    if (out->used == begin) {
        out->used = s->begin; /* a blank line is counted, but no record */
        return OK;
    }
    return keep_record(s, begin, end);
}

static enum status feed_lines(struct splitter *s, const char *data, size_t n, enum split_phase phase) {
    int64_t at = s->fed;
    while (n > 0) {
        if (!s->in_record) {
            if (phase == SPLIT_AFTER) {
                s->done = true;
                return OK;
            }
            s->in_record = true;
            s->keep = phase == SPLIT_INSIDE;
            s->begin = s->out->used;
            s->offset = at;
        }
        const char *end = memchr(data, '\n', n);
        size_t len = end ? (size_t)(end - data) : n;
        TRY(s->keep ? keep_bytes(s, data, len) : OK);
        if (end) {
            TRY(end_line(s, at + (int64_t)len));
            len++;
        }
        data += len;
        at += (int64_t)len;
        n -= len;
    }
    return OK;
}

/* Between elements: white space, commas and brackets, up to the '{' that begins the next one, at offset. */
static enum status between(struct splitter *s, char c, int64_t offset, enum split_phase phase) {
    if (c == '\n') {
        s->line++;
    }
    if (is_blank(c) || (s->expected == ARRAY_OPEN && strchr(SPLIT_BYTE_ORDER_MARK, c) && c != '\0')) {
        return OK;
    }
    if (s->expected == ARRAY_OPEN && c == '[') {
        s->expected = ARRAY_FIRST;
    } else if (s->expected == ARRAY_COMMA && c == ',') {
        s->expected = ARRAY_VALUE;
    } else if ((s->expected == ARRAY_COMMA || s->expected == ARRAY_FIRST) && c == ']') {
        s->expected = ARRAY_CLOSED;
    } else if ((s->expected == ARRAY_FIRST || s->expected == ARRAY_VALUE) && c == '{') {
        s->done = phase == SPLIT_AFTER;
        s->in_record = true;
        s->keep = phase == SPLIT_INSIDE;
        s->begin = s->out->used;
        s->offset = offset;
        s->record_line = s->line;
        s->depth = 0; /* inside() counts the brace */
    } else {
        return fail(ERR_DATA, "%s, line %lld: expected %s in the array of records, found '%c'", s->path,
                    (long long)s->line,
                    s->expected == ARRAY_COMMA    ? "',' or ']'"
                    : s->expected == ARRAY_CLOSED ? "nothing more"
                                                  : "an object",
                    c >= ' ' && c < 127 ? c : '?');
    }
    return OK;
}

/* Inside an element. Returns how many bytes belong to it; in_record falls with its last. */
static size_t inside(struct splitter *s, const char *data, size_t n) {
    size_t i = 0;
    while (i < n) {
        char c = data[i++];
        if (c == '\n') {
            s->line++;
        }
        if (s->escaped) {
            s->escaped = false;
        } else if (s->in_string) {
            s->escaped = c == '\\';
            s->in_string = c != '"';
        } else if (c == '"') {
            s->in_string = true;
        } else if (c == '{' || c == '[') {
            s->depth++;
        } else if ((c == '}' || c == ']') && --s->depth == 0) {
            s->in_record = false;
            s->expected = ARRAY_COMMA;
            break;
        }
    }
    return i;
}

static enum status feed_array(struct splitter *s, const char *data, size_t n, enum split_phase phase) {
    for (size_t i = 0; i < n && !s->done;) {
        if (!s->in_record) {
            TRY(between(s, data[i], s->fed + (int64_t)i, phase));
            i += s->in_record ? 0 : 1;
            continue;
        }
        size_t len = inside(s, data + i, n - i);
        TRY(s->depth > SPLIT_DEPTH ? refuse_record(s, "nests deeper than JSON may") : OK);
        if (s->keep) {
            TRY(keep_bytes(s, data + i, len));
            TRY(!s->in_record ? keep_record(s, s->begin, s->fed + (int64_t)(i + len)) : OK);
        }
        i += len;
    }
    return OK;
}

enum status split_feed(struct splitter *s, const char *data, size_t n, enum split_phase phase) {
    enum status st = s->array ? feed_array(s, data, n, phase) : feed_lines(s, data, n, phase);
    s->fed += (int64_t)n;
    return st;
}

enum status split_end(struct splitter *s) {
    if (s->array) {
        return s->expected == ARRAY_CLOSED && !s->in_record
                   ? OK
                   : fail(ERR_DATA, "%s, line %lld: the array of records is not closed; truncated?", s->path,
                          (long long)s->line);
    }
    return s->in_record ? end_line(s, s->fed) : OK;
}
