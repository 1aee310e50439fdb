/* Records dealt to ranks: whatever the form of the file and the number of ranks, rank by rank they are the
 * records that were written, with their numbers and lines; damage anywhere is one verdict on all ranks. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <zlib.h>

#include "io/record_blocks.h"
#include "util/mem.h"
#include "util/text.h"

enum { RECORDS = 200, LONG_RECORD = 77, LONG_BYTES = 300000 };

struct expected {
    struct text data[2 * RECORDS];
    int64_t line[2 * RECORDS];
    int file[2 * RECORDS];
    int count;
};

static struct comm *comm;
static int failures;
static char folder[64];

#define CHECK(condition)                                                                     \
    do {                                                                                     \
        if (!(condition)) {                                                                  \
            fprintf(stderr, "rank %d, line %d: %s [%s]\n", comm->rank, __LINE__, #condition, \
                    status_message()->text);                                                 \
            failures++;                                                                      \
        }                                                                                    \
    } while (0)

static const char *path_of(const char *name) {
    static char path[4][128];
    static int turn;
    turn = (turn + 1) % 4;
    snprintf(path[turn], sizeof path[turn], "%s/%s", folder, name);
    return path[turn];
}

/* Record i: nested brackets and quotes that a careless cut would stumble over; one is very long. */
static void make_record(int i, struct text *out) {
    CHECK(text_printf(out,
                      "{\"row\": %d, \"text\": \"br[ace}s, \\\"quo\\\\\\\"tes\\\" %.*s\", \"l\": [[%d], {}]}",
                      i, i % 37, "abcdefghijklmnopqrstuvwxyz0123456789", i) == OK);
    if (i == LONG_RECORD) {
        out->len -= 1;
        CHECK(text_puts(out, ", \"pad\": \"") == OK);
        for (int j = 0; j < LONG_BYTES / 10; j++) {
            CHECK(text_puts(out, "0123456789") == OK);
        }
        CHECK(text_puts(out, "\"}") == OK);
    }
}

enum form { PLAIN, CRLF_AND_BLANKS, NO_LAST_NEWLINE, ARRAY, PRETTY_ARRAY };

/* The file's text, and its records appended to what is expected of file number `file`. */
static void make_text(enum form form, int file, struct text *out, struct expected *e) {
    bool array = form == ARRAY || form == PRETTY_ARRAY;
    int64_t line = 1;
    CHECK(text_puts(out, form == CRLF_AND_BLANKS || form == PRETTY_ARRAY ? "\xef\xbb\xbf" : "") == OK);
    CHECK(text_puts(out, array ? "[" : "") == OK);
    for (int i = 0; i < RECORDS; i++) {
        if (form == PRETTY_ARRAY || (form == CRLF_AND_BLANKS && i % 7 == 3)) {
            CHECK(text_puts(out, form == PRETTY_ARRAY ? "\n  " : " \t\r\n") == OK);
            line++;
        }
        struct text *data = &e->data[e->count];
        make_record(i, data);
        e->line[e->count] = line;
        e->file[e->count++] = file;
        CHECK(text_append(out, data->data, data->len) == OK);
        bool last = i == RECORDS - 1;
        const char *end = array ? (last ? "]" : ",") : form == CRLF_AND_BLANKS ? "\r\n" : "\n";
        CHECK(text_puts(out, form == NO_LAST_NEWLINE && last ? "" : end) == OK);
        line += !array;
    }
}

static void free_expected(struct expected *e) {
    for (int i = 0; i < e->count; i++) {
        text_free(&e->data[i]);
    }
    e->count = 0;
}

/* Rank 0 writes a plain file, or gzip in `members` members with `padding` zero bytes behind. */
static void write_plain(const char *name, const char *data, size_t len) {
    if (comm->rank == 0) {
        CHECK(file_write(path_of(name), data, len) == OK);
    }
    CHECK(comm_barrier(comm) == OK);
}

static void write_gzip(const char *name, const char *data, size_t len, int members, int padding) {
    if (comm->rank == 0) {
        for (int m = 0; m < members; m++) {
            size_t first = len * (size_t)m / (size_t)members;
            size_t last = len * (size_t)(m + 1) / (size_t)members;
            gzFile f = gzopen(path_of(name), m == 0 ? "wb" : "ab");
            CHECK(f && gzwrite(f, data + first, (unsigned)(last - first)) == (int)(last - first));
            CHECK(gzclose(f) == Z_OK);
        }
        FILE *f = fopen(path_of(name), "ab");
        for (int i = 0; i < padding; i++) {
            CHECK(fputc(0, f) == 0);
        }
        CHECK(fclose(f) == 0);
    }
    CHECK(comm_barrier(comm) == OK);
}

static void check_record(const struct record *r, const struct expected *e) {
    const struct text *data = &e->data[r->index];
    CHECK(r->len == data->len && memcmp(r->data, data->data, r->len) == 0);
    CHECK(r->line == e->line[r->index] && r->file == e->file[r->index]);
}

/* The first `limit` of this rank's records; how many blocks they are in. */
static int64_t check_reader(const struct records_input *in, int64_t limit, const struct expected *e) {
    struct record_reader *reader;
    struct record_block block = {0};
    int64_t n = 0, blocks = 0;
    bool more = true;
    CHECK(record_reader_open(in, limit, &reader) == OK);
    while (more) {
        enum status st = record_reader_next(reader, &block, &more);
        CHECK(st == OK);
        more = more && st == OK;
        CHECK(!more || (block.number == blocks && block.count > 0));
        for (int64_t i = 0; more && i < block.count; i++, n++) {
            CHECK(block.list[i].index == records_first(in) + n);
            check_record(&block.list[i], e);
        }
        blocks += more;
    }
    CHECK(n == (limit < records_count(in) ? limit : records_count(in)));
    record_block_free(&block);
    record_reader_close(reader);
    return blocks;
}

/* In blocks of any size, kept or inflated again, the same records; of one byte each record is a block. */
static void check_blocks(char *const *files, int n_files, const struct expected *e, uint64_t hash) {
    static const struct record_bounds bounds[] = {{1, -1},  {1, 0},  {700, -1}, {700, 20000},
                                                  {700, 0}, {0, -1}, {0, 0}};
    for (int i = 0; i < (int)(sizeof bounds / sizeof bounds[0]); i++) {
        struct records_input *in;
        int64_t total = 0, before;
        enum status st = records_survey(comm, files, n_files, &bounds[i], &in);
        CHECK(st == OK);
        if (st != OK) {
            return;
        }
        CHECK(records_hash(in) == hash && records_files(in) == n_files);
        CHECK(comm_scan_i64(comm, records_count(in), &before, &total) == OK);
        CHECK(before == records_first(in) && total == e->count);
        int64_t blocks = check_reader(in, INT64_MAX, e);
        CHECK(bounds[i].block_bytes != 1 || blocks == records_count(in));
        CHECK(check_reader(in, records_count(in) / 2, e) <= blocks);
        records_close(in);
    }
}

static uint64_t check_files(char *const *files, int n_files, const struct expected *e) {
    struct records_input *in;
    enum status st = records_open(comm, files, n_files, &in);
    CHECK(st == OK);
    if (st != OK) {
        return 0;
    }
    int64_t n = records_count(in);
    int64_t before;
    int64_t total;
    CHECK(comm_scan_i64(comm, n, &before, &total) == OK);
    CHECK(total == e->count);
    for (int64_t i = 0; i < n; i++) {
        struct record r = records_at(in, i);
        CHECK(r.index == before + i);
        if (r.index >= e->count) {
            break;
        }
        const struct text *data = &e->data[r.index];
        CHECK(r.len == data->len && memcmp(r.data, data->data, r.len) == 0);
        CHECK(r.line == e->line[r.index]);
        CHECK(r.file == e->file[r.index]);
        CHECK(strcmp(records_file(in, r.file), files[r.file]) == 0);
    }
    uint64_t hash = records_hash(in);
    CHECK(comm_same(comm, hash, "hash of the input") == OK);
    records_close(in);
    check_blocks(files, n_files, e, hash);
    return hash;
}

static void check_refused(const char *name, enum status expected, const char *words) {
    char *file = (char *)path_of(name);
    struct records_input *in;
    enum status st = records_open(comm, &file, 1, &in);
    CHECK(st == expected);
    CHECK(st != OK && strstr(status_message()->text, name) && strstr(status_message()->text, words));
    if (st == OK) {
        records_close(in);
    }
    status_clear();
    if (strcmp(name, "large.gz") == 0 || strcmp(name, "large.json") == 0) {
        return; /* once is enough: the same code, and 64 MiB */
    }
    st = records_survey(comm, &file, 1, NULL, &in);
    CHECK(st == expected);
    CHECK(st != OK && strstr(status_message()->text, name) && strstr(status_message()->text, words));
    if (st == OK) {
        records_close(in);
    }
    status_clear();
}

/* A file that becomes another one between the two readings is no crash and no wrong record. */
static void test_change(void) {
    static struct expected e;
    struct text text = {0};
    make_text(NO_LAST_NEWLINE, 0, &text, &e);
    for (int packed = 0; packed < 2; packed++) {
        static const struct record_bounds bounds = {500, -1};
        char *file = (char *)path_of("changed.jsonl");
        struct records_input *in;
        struct record_reader *reader;
        struct record_block block = {0};
        bool more = true;
        packed ? write_gzip("changed.jsonl", text.data, text.len, 1, 0)
               : write_plain("changed.jsonl", text.data, text.len);
        CHECK(records_survey(comm, &file, 1, &bounds, &in) == OK);
        write_plain("changed.jsonl", "{}\n{}\n", 6);
        CHECK(record_reader_open(in, INT64_MAX, &reader) == OK);
        enum status st = records_count(in) > 0 ? record_reader_next(reader, &block, &more) : ERR_INPUT;
        CHECK(st == ERR_INPUT);
        CHECK(records_count(in) == 0 || strstr(status_message()->text, "has changed while it was read"));
        status_clear();
        CHECK(comm_barrier(comm) == OK);
        record_block_free(&block);
        record_reader_close(reader);
        records_close(in);
    }
    text_free(&text);
    free_expected(&e);
}

/* Nor is one of as many bytes and records, of which one has another letter. */
static void test_change_of_a_letter(void) {
    static struct expected e;
    struct text text = {0};
    make_text(PLAIN, 0, &text, &e);
    for (int packed = 0; packed < 2; packed++) {
        static const struct record_bounds bounds = {500, -1};
        char *file = (char *)path_of("letter.jsonl");
        struct records_input *in;
        struct record_reader *reader;
        struct record_block block = {0};
        bool more = true;
        int64_t refused = 0;
        packed ? write_gzip("letter.jsonl", text.data, text.len, 1, 0)
               : write_plain("letter.jsonl", text.data, text.len);
        CHECK(records_survey(comm, &file, 1, &bounds, &in) == OK);
        CHECK(comm_barrier(comm) == OK);
        char *letter = strstr(text.data, "abcdef");
        *letter = 'A';
        packed ? write_gzip("letter.jsonl", text.data, text.len, 1, 0)
               : write_plain("letter.jsonl", text.data, text.len);
        *letter = 'a';
        CHECK(record_reader_open(in, INT64_MAX, &reader) == OK);
        while (more && refused == 0) {
            enum status st = record_reader_next(reader, &block, &more);
            CHECK(st == OK || st == ERR_INPUT);
            CHECK(st == OK || strstr(status_message()->text, "has changed while it was read"));
            refused += st != OK;
        }
        status_clear();
        CHECK(comm_sum_i64(comm, &refused, 1) == OK && refused == 1); /* by the rank that has the record */
        record_block_free(&block);
        record_reader_close(reader);
        records_close(in);
    }
    text_free(&text);
    free_expected(&e);
}

static void test_forms(void) {
    static struct expected e;
    for (int form = PLAIN; form <= PRETTY_ARRAY; form++) {
        struct text text = {0};
        make_text((enum form)form, 0, &text, &e);
        write_plain("plain.json", text.data, text.len);
        uint64_t plain = check_files((char *[]){(char *)path_of("plain.json")}, 1, &e);
        write_gzip("one.json.gz", text.data, text.len, 1, 0);
        uint64_t gzip = check_files((char *[]){(char *)path_of("one.json.gz")}, 1, &e);
        CHECK(plain != gzip);
        write_gzip("many.json.gz", text.data, text.len, 5, 600);
        check_files((char *[]){(char *)path_of("many.json.gz")}, 1, &e);
        text_free(&text);
        free_expected(&e);
    }
}

static void test_several_files(void) {
    static struct expected e;
    struct text text = {0};
    make_text(NO_LAST_NEWLINE, 0, &text, &e);
    write_plain("a.jsonl", text.data, text.len);
    write_plain("empty.jsonl", "", 0);
    write_plain("blank.jsonl", "\n\n  \n", 5);
    text_clear(&text);
    make_text(PRETTY_ARRAY, 3, &text, &e);
    write_gzip("b.json.gz", text.data, text.len, 2, 0);
    char *files[] = {(char *)path_of("a.jsonl"), (char *)path_of("empty.jsonl"),
                     (char *)path_of("blank.jsonl"), (char *)path_of("b.json.gz")};
    check_files(files, 4, &e);
    text_free(&text);
    free_expected(&e);
}

/* The same for any rank count: a number seen once. */
static void test_hash(void) {
    struct text text = {0};
    for (int i = 0; i < 300000; i++) {
        CHECK(text_printf(&text, "%d\n", i) == OK);
    }
    write_plain("numbers.jsonl", text.data, text.len);
    char *file = (char *)path_of("numbers.jsonl");
    struct records_input *in;
    CHECK(records_open(comm, &file, 1, &in) == OK);
    CHECK(records_hash(in) == 0xedca2f950a3eb036);
    records_close(in);
    text.data[text.len - 2]++;
    write_plain("numbers.jsonl", text.data, text.len);
    CHECK(records_open(comm, &file, 1, &in) == OK);
    CHECK(records_hash(in) != 0xedca2f950a3eb036);
    records_close(in);
    text_free(&text);
}

static void test_damage(void) {
    static struct expected e;
    struct text text = {0};
    make_text(PLAIN, 0, &text, &e);
    write_gzip("whole.gz", text.data, text.len, 1, 0);
    size_t n = 0;
    char *raw = NULL;
    if (comm->rank == 0) {
        FILE *f = fopen(path_of("whole.gz"), "rb");
        raw = mem_calloc(1 << 20, 1);
        n = fread(raw, 1, 1 << 20, f);
        CHECK(fclose(f) == 0);
    }
    write_plain("cut.gz", raw, n / 2);
    check_refused("cut.gz", ERR_DATA, "ends early");
    write_plain("nearly.gz", raw, n > 0 ? n - 1 : 0);
    check_refused("nearly.gz", ERR_DATA, "ends early");
    if (raw) {
        raw[n / 2] ^= 0x55;
        raw[n / 2 + 1] ^= 0x55;
    }
    write_plain("flipped.gz", raw, n);
    check_refused("flipped.gz", ERR_DATA, "damaged gzip");
    if (raw) {
        raw[n / 2] ^= 0x55;
        raw[n / 2 + 1] ^= 0x55;
        memcpy(raw + n, "junk", 4);
    }
    write_plain("junk.gz", raw, n + 4);
    check_refused("junk.gz", ERR_DATA, "after the end");
    write_plain("short.gz", "\x1f\x8b", 2);
    check_refused("short.gz", ERR_DATA, "ends early");
    write_plain("open.json", "[{\"a\": 1},\n {\"b\": 2}", 20);
    check_refused("open.json", ERR_DATA, "line 2: the array of records is not closed");
    write_plain("numbers.json", "[{\"a\": 1},\n 2]", 14);
    check_refused("numbers.json", ERR_DATA, "line 2: expected an object");
    write_plain("comma.json", "[{\"a\": 1} {\"b\": 2}]", 19);
    check_refused("comma.json", ERR_DATA, "line 1: expected ',' or ']'");
    write_plain("more.json", "[{\"a\": 1}]\n{}", 13);
    check_refused("more.json", ERR_DATA, "line 2: expected nothing more");
    check_refused("missing.jsonl", ERR_INPUT, "No such file");
    check_refused("", ERR_INPUT, "not a regular file");
    mem_free(raw);
    text_free(&text);
    free_expected(&e);
}

/* A record has a bound, in each form of a file, and so has nesting; the message says where. */
static void test_bounds(void) {
    enum { OVER = (64 << 20) + 1 };
    char *raw = mem_calloc(OVER + 64, 1);
    CHECK(raw);
    memset(raw, 'x', OVER + 63);
    memcpy(raw, "{}\n\n\"", 5);
    raw[OVER + 5] = '"';
    raw[OVER + 6] = '\n';
    write_plain("large.jsonl", raw, OVER + 7);
    check_refused("large.jsonl", ERR_DATA, "line ");
    check_refused("large.jsonl", ERR_DATA, "more than 67108864 bytes");
    write_gzip("large.gz", raw, OVER + 7, 1, 0);
    check_refused("large.gz", ERR_DATA, "line 3: the record that begins there has more than 67108864 bytes");
    memcpy(raw, "[{}, \n{\"a", 9);
    write_plain("large.json", raw, OVER + 7);
    check_refused("large.json", ERR_DATA,
                  "line 2: the record that begins there has more than 67108864 bytes");
    memcpy(raw, "[{\"a\":[", 8);
    memset(raw + 8, '[', 3000);
    write_plain("deep.json", raw, 4000);
    check_refused("deep.json", ERR_DATA, "line 1: the record that begins there nests deeper");
    mem_free(raw);
}

int main(int argc, char **argv) {
    if (comm_start(&argc, &argv, &comm) != OK) {
        return 1;
    }
    int64_t id = getpid();
    CHECK(comm_broadcast(comm, 0, &id, sizeof id) == OK);
    snprintf(folder, sizeof folder, "/tmp/test_jsonl.%ld", (long)id);
    CHECK(folder_make(folder) == OK);
    test_forms();
    test_several_files();
    test_hash();
    test_damage();
    test_bounds();
    test_change();
    test_change_of_a_letter();
    int64_t failed = failures;
    CHECK(comm_sum_i64(comm, &failed, 1) == OK);
    if (comm->rank == 0) {
        char command[128];
        snprintf(command, sizeof command, "rm -rf '%s'", folder);
        failed += system(command) != 0;
    }
    comm_finish(comm);
    return failed != 0;
}
