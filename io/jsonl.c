/* Dealing records to ranks.
 *
 * The files' raw bytes, end to end, are cut into one range per rank (a gzip byte counts as three, about what
 * it inflates to). A record belongs to the rank in whose range its first byte lies; it is read on past the
 * range's end. Only a plain .jsonl can be entered in the middle: there a rank starts one byte before its
 * range, so that a line end at that place is seen. A gzip file or an array is read from its start up to the
 * end of the rank's range, and what comes before the range is thrown away at once.
 *
 * Where a gzip range begins in the inflated text is where the inflated text stood when the raw cut was
 * reached: every rank finds the same place, and the lengths between the places are summed over the ranks to
 * prove it.
 */
#include "io/jsonl_internal.h"

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "util/hash.h"
#include "util/mem.h"
#include "util/regular.h"

enum { GZIP_WEIGHT = 3, HASH_BLOCK = 1 << 20 };

static bool is_blank(char c) {
    return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

/* A file is an array if its first character beside white space and a byte-order mark is '['. */
static enum status look(const char *path, struct survey *out) {
    struct stat facts;
    struct file_stream *s;
    TRY(stream_open(path, 0, &s));
    enum status st = stat(path, &facts) == 0 ? OK : fail(ERR_INPUT, "%s: cannot be read", path);
    *out = (struct survey){.gzip = stream_is_gzip(s)};
    for (bool found = false; st == OK && !found;) {
        const char *data;
        size_t n;
        bool first = stream_position(s) == 0;
        st = stream_next(s, INT64_MAX, &data, &n);
        if (st != OK || n == 0) {
            break;
        }
        size_t i = first && n >= 3 && memcmp(data, SPLIT_BYTE_ORDER_MARK, 3) == 0 ? 3 : 0;
        while (i < n && is_blank(data[i])) {
            i++;
        }
        found = i < n;
        out->array = found && data[i] == '[';
    }
    stream_close(s);
    out->size = facts.st_size;
    return st;
}

static int64_t weight(const struct survey *f) {
    return f->gzip ? GZIP_WEIGHT : 1;
}

/* This rank's range of raw bytes in each file. */
static struct range cut(const struct records_input *in, const struct comm *c, int file) {
    int64_t total = 0;
    int64_t before = 0;
    for (int i = 0; i < in->n_files; i++) {
        before += i < file ? in->files[i].size * weight(&in->files[i]) : 0;
        total += in->files[i].size * weight(&in->files[i]);
    }
    const struct survey *f = &in->files[file];
    struct range mine = range_part(total, c->rank, c->size);
    int64_t length = f->size * weight(f);
    int64_t first = mine.first - before;
    int64_t last = mine.last - before;
    first = first < 0 ? 0 : first > length ? length : first;
    last = last < 0 ? 0 : last > length ? length : last;
    return (struct range){first / weight(f), last / weight(f)};
}

static enum status take_piece(struct records_input *in, struct splitter *s, const char *data, size_t n,
                              enum split_phase phase) {
    if (in->marks && in->files[s->file].gzip && phase != SPLIT_BEFORE) {
        TRY(record_marks_keep(in, s->file, s->fed, data, n));
    }
    TRY(split_feed(s, data, n, phase));
    return in->marks ? record_marks_take(in, s) : OK;
}

/* Reads this rank's part of a file. *inflated: what it adds to the sum over ranks that must be 0. */
static enum status read_part(struct records_input *in, int file, struct range part, int64_t *inflated) {
    const struct survey *f = &in->files[file];
    bool enter = !f->gzip && !f->array && part.first > 0;
    struct file_stream *stream;
    struct splitter splitter;
    TRY(stream_open(in->paths[file], enter ? part.first - 1 : 0, &stream));
    split_begin(&splitter, &in->records, in->paths[file], file, f->array);
    splitter.at_start = !enter;
    splitter.entered = f->array ? 0 : part.first;
    splitter.fed = enter ? part.first - 1 : 0;
    const int64_t limits[] = {part.first, part.last, INT64_MAX};
    int64_t places[3] = {0};
    enum status st = f->gzip == stream_is_gzip(stream)
                         ? OK
                         : fail(ERR_INPUT, "%s: differs from what the first rank sees", in->paths[file]);
    for (int phase = SPLIT_BEFORE; phase <= SPLIT_AFTER && st == OK && !splitter.done; phase++) {
        const char *data;
        size_t n = 1;
        while (n > 0 && st == OK && !splitter.done) {
            st = stream_next(stream, limits[phase], &data, &n);
            st = st == OK && n > 0 ? take_piece(in, &splitter, data, n, (enum split_phase)phase) : st;
        }
        places[phase] = stream_position(stream);
    }
    bool last = part.last == f->size;
    if (st == OK && !splitter.done) {
        st = split_end(&splitter);
    }
    st = st == OK && in->marks ? record_marks_take(in, &splitter) : st;
    *inflated = f->gzip ? places[1] - places[0] - (last ? places[1] : 0) : 0;
    stream_close(stream);
    return st;
}

static enum status read_parts(struct records_input *in, const struct comm *c, int64_t *inflated) {
    int64_t room = 1 << 16;
    for (int i = 0; i < in->n_files; i++) {
        struct range part = cut(in, c, i);
        TRY(size_add(room, (part.last - part.first) * weight(&in->files[i]), "input", &room));
    }
    TRY(in->marks ? OK : GROW_ARRAY(in->records.data, in->records.data_capacity, room));
    TRY(NEW_ARRAY(in->records.lines, in->n_files));
    for (int i = 0; i < in->n_files; i++) {
        struct range part = cut(in, c, i);
        if (part.first < part.last) {
            TRY(read_part(in, i, part, &inflated[i]));
        }
    }
    in->count = in->marks ? in->count : in->records.count;
    return OK;
}

/* Sum over a file's blocks of hashes that know their place: any dealing of the blocks gives the same sum. */
static enum status hash_blocks(struct records_input *in, const struct comm *c, uint64_t *sum) {
    unsigned char *block = mem_aligned(HASH_BLOCK, 1);
    TRY(mem_ok(block));
    enum status st = OK;
    for (int i = 0; i < in->n_files && st == OK; i++) {
        int64_t size = in->files[i].size;
        struct range mine = range_part((size + HASH_BLOCK - 1) / HASH_BLOCK, c->rank, c->size);
        int descriptor = -1;
        st = regular_open(in->paths[i], &descriptor, NULL);
        for (int64_t b = mine.first; b < mine.last && st == OK; b++) {
            int64_t n = size - b * HASH_BLOCK < HASH_BLOCK ? size - b * HASH_BLOCK : HASH_BLOCK;
            st = file_read_at(descriptor, in->paths[i], b * HASH_BLOCK, block, (size_t)n);
            *sum += hash_bytes(block, (size_t)n, hash_join((uint64_t)i, (uint64_t)b));
        }
        if (descriptor >= 0) {
            close(descriptor);
        }
    }
    mem_free(block);
    return st;
}

/* Collective. The sum of 64-bit hashes over ranks, modulo 2^64, by halves that cannot overflow. */
static enum status sum_hash(struct comm *c, uint64_t mine, uint64_t *out) {
    int64_t halves[2] = {(int64_t)(mine & 0xffffffffu), (int64_t)(mine >> 32)};
    TRY(comm_sum_i64(c, halves, 2));
    *out = (uint64_t)halves[0] + ((uint64_t)halves[1] << 32);
    return OK;
}

/* Collective. Turns line numbers within the rank's part into line numbers of the file. */
static enum status number_lines(struct comm *c, struct records_input *in) {
    int64_t *lines = in->records.lines;
    int64_t *all;
    int64_t n;
    TRY(comm_gather_all(c, lines, in->n_files, sizeof *all, &all, &n));
    for (int i = 0; i < in->n_files; i++) {
        lines[i] = 0;
        for (int r = 0; r < c->rank; r++) {
            lines[i] += all[(int64_t)r * in->n_files + i];
        }
    }
    mem_free(all);
    for (int64_t i = 0; i < in->records.count; i++) {
        in->records.list[i].line += lines[in->records.list[i].file];
    }
    for (int64_t i = 0; in->marks && i < in->marks->count; i++) {
        in->marks->list[i].line += lines[in->marks->list[i].file];
    }
    return OK;
}

/* Collective. Everything after the local reading. */
static enum status settle(struct comm *c, struct records_input *in, int64_t *inflated, uint64_t hash) {
    TRY(comm_sum_i64(c, inflated, in->n_files));
    for (int i = 0; i < in->n_files; i++) {
        if (inflated[i] != 0) {
            return fail(ERR_INTERNAL,
                        "%s: the ranks inflate it differently; unpack it first, or use one zlib on all nodes",
                        in->paths[i]);
        }
    }
    TRY(number_lines(c, in));
    int64_t total;
    TRY(comm_scan_i64(c, in->count, &in->first_index, &total));
    TRY(sum_hash(c, hash, &in->hash));
    int64_t size = 0;
    for (int i = 0; i < in->n_files; i++) {
        size += in->files[i].size;
    }
    in->hash = hash_join(in->hash, (uint64_t)size);
    return OK;
}

static enum status prepare(struct records_input *in, char *const *files, int n_files, int rank) {
    if (n_files < 1) {
        return fail(ERR_USAGE, "no input file is named");
    }
    TRY(NEW_ARRAY(in->paths, n_files));
    TRY(NEW_ARRAY(in->files, n_files));
    for (in->n_files = 0; in->n_files < n_files; in->n_files++) {
        in->paths[in->n_files] = mem_strdup(files[in->n_files]);
        TRY(mem_ok(in->paths[in->n_files]));
    }
    for (int i = 0; i < n_files && rank == 0; i++) {
        TRY(look(files[i], &in->files[i]));
    }
    return OK;
}

enum status records_read(struct comm *c, char *const *files, int n_files, struct record_marks *marks,
                         struct records_input **out) {
    struct records_input *in;
    int64_t *inflated = NULL;
    uint64_t hash = 0;
    enum status st = NEW_ARRAY(in, 1);
    if (st == OK) {
        in->marks = marks;
        st = prepare(in, files, n_files, c->rank);
    } else {
        record_marks_free(marks);
    }
    TRY_TO(done, comm_agree(c, st));
    TRY_TO(done, comm_broadcast(c, 0, in->files, n_files * (int64_t)sizeof *in->files));
    st = NEW_ARRAY(inflated, n_files);
    if (st == OK) {
        st = read_parts(in, c, inflated);
    }
    if (st == OK) {
        st = hash_blocks(in, c, &hash);
    }
    TRY_TO(done, comm_agree(c, st));
    TRY_TO(done, settle(c, in, inflated, hash));
    *out = in;
    in = NULL;
done:
    mem_free(inflated);
    records_close(in);
    return st;
}

enum status records_open(struct comm *c, char *const *files, int n_files, struct records_input **out) {
    return records_read(c, files, n_files, NULL, out);
}

enum status records_open_alone(const char *path, struct records_input **out) {
    const struct comm alone = {.size = 1};
    char *files[] = {mem_strdup(path)};
    struct records_input *in = NULL;
    int64_t inflated = 0;
    enum status st;
    TRY_TO(done, mem_ok(files[0]));
    TRY_TO(done, NEW_ARRAY(in, 1));
    TRY_TO(done, prepare(in, files, 1, 0));
    TRY_TO(done, read_parts(in, &alone, &inflated));
    *out = in;
    in = NULL;
    st = OK;
done:
    mem_free(files[0]);
    records_close(in);
    return st;
}

void records_close(struct records_input *in) {
    if (!in) {
        return;
    }
    for (int i = 0; i < in->n_files; i++) {
        mem_free(in->paths[i]);
    }
    mem_free(in->paths);
    mem_free(in->files);
    split_free(&in->records);
    record_marks_free(in->marks);
    mem_free(in);
}

int64_t records_count(const struct records_input *in) {
    return in->count;
}

int64_t records_first(const struct records_input *in) {
    return in->first_index;
}

struct record records_at(const struct records_input *in, int64_t i) {
    const struct split_record *r = &in->records.list[i];
    return (struct record){.data = in->records.data + r->begin,
                           .len = (size_t)r->len,
                           .index = in->first_index + i,
                           .line = r->line,
                           .file = r->file};
}

enum status records_parse(const struct records_input *in, int64_t i, char where[RECORDS_WHERE],
                          json_t **out) {
    struct record r = records_at(in, i);
    return records_parse_one(in, &r, where, out);
}

enum status records_parse_one(const struct records_input *in, const struct record *r,
                              char where[RECORDS_WHERE], json_t **out) {
    *out = NULL;
    snprintf(where, RECORDS_WHERE, "%s, line %lld", in->paths[r->file], (long long)r->line);
    TRY(json_parse_record(r->data, r->len, where, out));
    if (!json_is_object(*out)) {
        json_decref(*out);
        *out = NULL;
        return fail(ERR_DATA, "%s: expected a JSON object", where);
    }
    return OK;
}

int records_files(const struct records_input *in) {
    return in->n_files;
}

const char *records_file(const struct records_input *in, int file) {
    return in->paths[file];
}

uint64_t records_hash(const struct records_input *in) {
    return in->hash;
}
