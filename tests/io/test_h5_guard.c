/* The guard before libhdf5: takes every kind of file that io/h5* writes, with heaps, trees and pages; and
 * refuses each of the ways in which a file has led libhdf5 out of its buffers: sizes, addresses, versions,
 * types, filters, links and trees that say something else than what is there. */
#include "../unit.h"

#include <hdf5.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include <zlib.h>

#include "io/file.h"
#include "io/h5.h"
#include "io/h5_guard.h"
#include "util/mem.h"
#include "util/rng.h"

enum { ROWS = 3000, CHUNK = 100, PAGES = 2500, MANY = 14 };
enum { FINAL, UPDATED, DEEP, FILES };

/* Of libhdf5, in none of its public headers. */
extern uint32_t H5_checksum_fletcher32(const void *data, size_t n);

static struct comm *world;
static char folder[64];
static struct {
    char *data;
    size_t size;
} files[FILES];
static const char *const names[] = {"final.h5", "updated.h5", "deep.h5"};

static const char *path_of(const char *name) {
    static char path[128];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return path;
}

static void put_array(struct h5_writer *w, const char *name, enum array_type type, int64_t rows,
                      int64_t chunk, int deflate) {
    static const double zeros[ROWS];
    const struct array_spec spec = {
        .name = name, .type = type, .rows = rows, .chunk_rows = chunk, .deflate = deflate};
    assert_int_equal(h5_write_array(w, &spec, (struct range){0, rows}, zeros, NULL), OK);
}

/* Chunks in one piece, in a list, and in a list with pages; links in a header and in a heap. */
static void make_final(void) {
    struct h5_writer *w;
    char name[32];
    assert_int_equal(h5_create(world, path_of(names[FINAL]), "guarded", 1, FILE_FINAL, &w), OK);
    put_array(w, "/a/tokens", ARRAY_I32, ROWS, CHUNK, 1);
    put_array(w, "/a/one", ARRAY_I64, ROWS, ROWS, 0);
    put_array(w, "/a/none", ARRAY_F32, 0, CHUNK, 0);
    put_array(w, "/a/pages", ARRAY_U8, PAGES, 1, 0);
    for (int i = 0; i < MANY; i++) {
        snprintf(name, sizeof name, "/many/array%d", i);
        put_array(w, name, ARRAY_F64, 5, 0, 0);
    }
    assert_int_equal(h5_finish(w, OK), OK);
}

static void make_updated(void) {
    struct h5_writer *w;
    assert_int_equal(h5_create(world, path_of(names[UPDATED]), "guarded", 1, FILE_UPDATED, &w), OK);
    put_array(w, "/a", ARRAY_I32, ROWS, 0, 0);
    put_array(w, "/b", ARRAY_F32, ROWS, 0, 0);
    assert_int_equal(h5_put_u64(w, "model", 7), OK);
    assert_int_equal(h5_finish(w, OK), OK);
}

/* Attributes for a tree with inner nodes, a heap of many blocks, and one that is too large for it. */
static void make_deep(void) {
    enum { ATTRIBUTES = 100, LARGE = 6000 };
    static char large[LARGE];
    char name[32];
    struct h5_writer *w;
    memset(large, 'x', sizeof large - 1);
    assert_int_equal(h5_create(world, path_of(names[DEEP]), "guarded", 1, FILE_FINAL, &w), OK);
    assert_int_equal(h5_put_text(w, "large", large), OK);
    for (int i = 0; i < ATTRIBUTES; i++) {
        snprintf(name, sizeof name, "attribute%d", i);
        assert_int_equal(h5_put_text(w, name, large + LARGE - 1 - 20 * (i % 30)), OK);
    }
    put_array(w, "/a", ARRAY_I32, 10, 0, 0);
    assert_int_equal(h5_finish(w, OK), OK);
}

static int set_up(void **state) {
    (void)state;
    snprintf(folder, sizeof folder, "/tmp/collimate-guard-XXXXXX");
    assert_non_null(mkdtemp(folder));
    make_final();
    make_updated();
    make_deep();
    for (int i = 0; i < FILES; i++) {
        assert_int_equal(file_read(path_of(names[i]), &files[i].data, &files[i].size), OK);
    }
    return 0;
}

static int tear_down(void **state) {
    char command[128];
    (void)state;
    for (int i = 0; i < FILES; i++) {
        mem_free(files[i].data);
    }
    snprintf(command, sizeof command, "rm -rf '%s'", folder);
    return system(command);
}

static void test_takes_ours(void **state) {
    (void)state;
    for (int i = 0; i < FILES; i++) {
        if (h5_guard(path_of(names[i]), GUARD_READS) != OK) {
            FAIL("%s: %s", names[i], status_message()->text);
        }
    }
    assert_int_equal(h5_guard(path_of(names[UPDATED]), GUARD_UPDATES), OK);
    assert_int_equal(h5_guard(path_of(names[FINAL]), GUARD_UPDATES), ERR_DATA);
    assert_int_equal(h5_guard(path_of(names[DEEP]), GUARD_UPDATES), ERR_DATA);
    /* What the last two hold is there to be guarded. */
    assert_non_null(memmem(files[DEEP].data, files[DEEP].size, "BTIN", 4));
    assert_non_null(memmem(files[DEEP].data, files[DEEP].size, "FHIB", 4));
    assert_non_null(memmem(files[FINAL].data, files[FINAL].size, "FRHP", 4));
}

/* The guard's verdict of a file with `width` bytes of a value at the first place of a pattern plus `delta`.
 */
struct crafted {
    int file;
    const char *pattern;
    int n, delta, width;
    uint64_t value;
};

static enum status verdict_of(const char *data, size_t size) {
    FILE *f = fopen(path_of("crafted.h5"), "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(data, 1, size, f), size);
    assert_int_equal(fclose(f), 0);
    return h5_guard(path_of("crafted.h5"), GUARD_READS);
}

static void check_crafted(const struct crafted *c, int i) {
    size_t size = files[c->file].size;
    char *data = mem_calloc((int64_t)size, 1);
    assert_non_null(data);
    memcpy(data, files[c->file].data, size);
    char *at = memmem(data, size, c->pattern, (size_t)c->n);
    if (!at) {
        FAIL("case %d: its pattern is not there", i);
    }
    for (int k = 0; k < c->width; k++) {
        at[c->delta + k] = (char)(c->value >> (8 * k));
    }
    enum status st = verdict_of(data, size);
    mem_free(data);
    if (st != ERR_DATA) {
        FAIL("case %d: code %d", i, st);
    }
}

#define ALL UINT64_MAX
#define MAGIC "\x89HDF"
#define INT32 "\x10\x08\0\0\x04\0\0\0\0\0\x20\0"
#define SPACE "\x02\x01\x01\x01\xb8\x0b\0\0"      /* 3000 rows */
#define LIST "\x04\x02\0\x02\x01\x64\x04\x03\x0a" /* chunks of 100 rows of 4 bytes, listed */
#define FILTERS "\x02\x03\x02\0"                  /* three, the first a shuffle */
#define CONTENT "\x03\0\x08\0\x08\0\x04\0"        /* the attribute `content` */
#define FILL "\x05\x02\0\x01\x03"                 /* with its message's prefix */
#define LINK     \
    "\x01\0\x01" \
    "a"
#define TEXT "\x13\x10\0\0"

static const struct crafted cases[] = {
    /* superblock: version, widths, marks, base, extension, end, root */
    {FINAL, MAGIC, 4, 8, 1, 0},
    {FINAL, MAGIC, 4, 8, 1, 4},
    {FINAL, MAGIC, 4, 9, 1, 4},
    {FINAL, MAGIC, 4, 10, 1, 16},
    {FINAL, MAGIC, 4, 11, 1, 1},
    {FINAL, MAGIC, 4, 12, 8, 512},
    {FINAL, MAGIC, 4, 20, 8, 48},
    {FINAL, MAGIC, 4, 28, 8, 100},
    {FINAL, MAGIC, 4, 28, 8, ALL},
    {FINAL, MAGIC, 4, 36, 8, ALL},
    {FINAL, MAGIC, 4, 36, 8, 49},
    {FINAL, MAGIC, 4, 36, 8, 0},
    /* object header: version, flags, a first block of any size */
    {FINAL, "OHDR", 4, 4, 1, 1},
    {FINAL, "OHDR", 4, 5, 1, 0x14},
    {FINAL, "OHDR", 4, 5, 1, 3},
    {FINAL, "OHDR", 4, 6, 1, 3},
    /* a message's size and flags, a continuation */
    {FINAL, INT32, 12, -3, 2, 0xffff},
    {FINAL, INT32, 12, -1, 1, 2},
    {FINAL, INT32, 12, -4, 1, 0x10},
    {FINAL, INT32, 12, -4, 1, 0x11},
    {FINAL, INT32, 12, -4, 1, 0x17},
    /* types: time, string, bits, opaque, compound, reference, enumeration, list, array; sizes */
    {FINAL, INT32, 12, 0, 1, 0x12},
    {FINAL, INT32, 12, 0, 1, 0x13},
    {FINAL, INT32, 12, 0, 1, 0x14},
    {FINAL, INT32, 12, 0, 1, 0x15},
    {FINAL, INT32, 12, 0, 1, 0x16},
    {FINAL, INT32, 12, 0, 1, 0x17},
    {FINAL, INT32, 12, 0, 1, 0x18},
    {FINAL, INT32, 12, 0, 1, 0x19},
    {FINAL, INT32, 12, 0, 1, 0x1a},
    {FINAL, INT32, 12, 4, 4, ALL},
    {FINAL, INT32, 12, 4, 4, 0},
    {FINAL, INT32, 12, 10, 2, 0xffff},
    /* shapes: rank, kind, sizes, what they may grow to */
    {FINAL, SPACE, 8, 0, 1, 1},
    {FINAL, SPACE, 8, 1, 1, 33},
    {FINAL, SPACE, 8, 1, 1, 0},
    {FINAL, SPACE, 8, 3, 1, 2},
    {FINAL, SPACE, 8, 4, 8, 1ull << 62},
    {FINAL, SPACE, 8, 12, 8, ALL},
    {FINAL, SPACE, 8, 2, 1, 3},
    /* layouts: compact, virtual, dimensions, widths, sizes, indexes, pages, addresses */
    {FINAL, LIST, 9, 0, 1, 3},
    {FINAL, LIST, 9, 1, 1, 0},
    {FINAL, LIST, 9, 1, 1, 3},
    {FINAL, LIST, 9, 3, 1, 33},
    {FINAL, LIST, 9, 4, 1, 9},
    {FINAL, LIST, 9, 5, 1, 0},
    {FINAL, LIST, 9, 6, 1, 8},
    {FINAL, LIST, 9, 7, 1, 1},
    {FINAL, LIST, 9, 7, 1, 2},
    {FINAL, LIST, 9, 7, 1, 4},
    {FINAL, LIST, 9, 7, 1, 5},
    {FINAL, LIST, 9, 8, 1, 63},
    {FINAL, LIST, 9, 9, 8, ALL - 15},
    {FINAL, LIST, 9, 9, 8, 48},
    /* filters: how many, bits, scale, szip, values */
    {FINAL, FILTERS, 4, 1, 1, 32},
    {FINAL, FILTERS, 4, 2, 2, 4},
    {FINAL, FILTERS, 4, 2, 2, 5},
    {FINAL, FILTERS, 4, 2, 2, 6},
    {FINAL, FILTERS, 4, 2, 2, 32000},
    {FINAL, FILTERS, 4, 6, 2, 0xffff},
    {FINAL, FILTERS, 4, 8, 4, 0},
    {FINAL, FILTERS, 4, 8, 4, ALL},
    /* attributes: shared, lengths of name, type and shape, text of any size and of no fixed size */
    {FINAL, CONTENT, 8, 0, 1, 1},
    {FINAL, CONTENT, 8, 1, 1, 1},
    {FINAL, CONTENT, 8, 2, 2, 0xffff},
    {FINAL, CONTENT, 8, 2, 2, 0},
    {FINAL, CONTENT, 8, 4, 2, 0xffff},
    {FINAL, CONTENT, 8, 6, 2, 0},
    {FINAL, CONTENT, 8, 9, 8, ALL},
    {FINAL, TEXT, 4, 0, 1, 0x19},
    {FINAL, TEXT, 4, 4, 4, ALL},
    {FINAL, TEXT, 4, 4, 4, 0},
    /* fill values */
    {FINAL, FILL, 5, 4, 1, 1},
    {FINAL, FILL, 5, 5, 1, 0x25},
    /* links: soft, external, lengths, names, a circle, nowhere */
    {FINAL, LINK, 4, 0, 1, 9},
    {FINAL, LINK, 4, 1, 1, 8},
    {FINAL, LINK, 4, 1, 1, 0x1b},
    {FINAL, LINK, 4, 2, 1, 0},
    {FINAL, LINK, 4, 2, 1, 255},
    {FINAL, LINK, 4, 3, 1, '/'},
    {FINAL, LINK, 4, 3, 1, 0},
    {FINAL, LINK, 4, 4, 8, 48},
    {FINAL, LINK, 4, 4, 8, ALL},
    /* lists of chunks: widths, pages, counts, addresses, sizes, filters left out */
    {FINAL, "FAHD", 4, 4, 1, 1},
    {FINAL, "FAHD", 4, 5, 1, 0},
    {FINAL, "FAHD", 4, 6, 1, 255},
    {FINAL, "FAHD", 4, 7, 1, 63},
    {FINAL, "FAHD", 4, 8, 8, ALL},
    {FINAL, "FAHD", 4, 8, 8, 29},
    {FINAL, "FAHD", 4, 16, 8, ALL - 20},
    {FINAL, "FADB", 4, 5, 1, 0},
    {FINAL, "FADB", 4, 6, 8, 0},
    {FINAL, "FADB", 4, 14, 8, ALL - 3},
    {FINAL, "FADB", 4, 22, 3, 0xffffff},
    {FINAL, "FADB", 4, 22, 3, 0},
    {FINAL, "FADB", 4, 25, 4, 1},
    {FINAL, "FADB", 4, 25, 4, ALL},
    /* heaps: widths, filters, sizes, rows, blocks */
    {FINAL, "FRHP", 4, 4, 1, 1},
    {FINAL, "FRHP", 4, 5, 2, 0},
    {FINAL, "FRHP", 4, 7, 2, 100},
    {FINAL, "FRHP", 4, 9, 1, 1},
    {FINAL, "FRHP", 4, 10, 4, ALL},
    {FINAL, "FRHP", 4, 110, 2, 0},
    {FINAL, "FRHP", 4, 112, 8, 0},
    {FINAL, "FRHP", 4, 120, 8, ALL},
    {FINAL, "FRHP", 4, 128, 2, 255},
    {FINAL, "FRHP", 4, 132, 8, 1},
    {FINAL, "FRHP", 4, 140, 2, 0xffff},
    {FINAL, "FHDB", 4, 5, 8, 0},
    {FINAL, "FHDB", 4, 13, 4, 512},
    {DEEP, "FHIB", 4, 5, 8, 0},
    {DEEP, "FHIB", 4, 18, 8, ALL - 600},
    {DEEP, "FRHP", 4, 22, 8, ALL - 1},
    /* trees: widths, depth, counts, nodes */
    {FINAL, "BTHD", 4, 5, 1, 11},
    {FINAL, "BTHD", 4, 6, 4, 0},
    {FINAL, "BTHD", 4, 6, 4, ALL},
    {FINAL, "BTHD", 4, 10, 2, 0},
    {FINAL, "BTHD", 4, 12, 2, 0xffff},
    {FINAL, "BTHD", 4, 14, 1, 0},
    {FINAL, "BTHD", 4, 16, 8, 48},
    {FINAL, "BTHD", 4, 24, 2, 0xffff},
    {FINAL, "BTHD", 4, 26, 8, ALL},
    {FINAL, "BTLF", 4, 4, 1, 9},
    {FINAL, "BTLF", 4, 5, 1, 11},
    {FINAL, "BTLF", 4, 10, 1, 0x20},
    {FINAL, "BTLF", 4, 11, 4, ALL},
    {FINAL, "BTLF", 4, 15, 2, 0xffff},
    {DEEP, "BTIN", 4, 4, 1, 1},
};

static void test_refuses_crafted(void **state) {
    (void)state;
    for (int i = 0; i < COUNT_OF(cases); i++) {
        check_crafted(&cases[i], i);
    }
}

/* A piece of a file, or more than it, is refused; whatever a byte becomes, there is a verdict. */
static void test_any_bytes(void **state) {
    (void)state;
    enum { ROUNDS = 2000, LENGTHS = 200 };
    struct rng r = rng_stream(1, RNG_SYNTH, 0, 0);
    for (int file = 0; file < FILES; file++) {
        size_t size = files[file].size;
        char *data = mem_calloc((int64_t)size + 1, 1);
        assert_non_null(data);
        memcpy(data, files[file].data, size);
        assert_int_equal(verdict_of(data, size + 1), ERR_DATA);
        for (int i = 0; i < LENGTHS; i++) {
            assert_int_equal(verdict_of(data, (size_t)rng_below(&r, (int64_t)size)), ERR_DATA);
        }
        for (int i = 0; i < ROUNDS / FILES; i++) {
            size_t at = (size_t)rng_below(&r, (int64_t)size);
            data[at] = (char)rng_u32(&r);
            enum status st = verdict_of(data, size);
            assert_true(st == OK || st == ERR_DATA);
            data[at] = files[file].data[at];
        }
        mem_free(data);
    }
}

/* The first chunk of the tokens, replaced through libhdf5 by one that inflates to n bytes, with a right
 * checksum. */
static void put_chunk(const char *path, size_t n) {
    static unsigned char packed[1 << 21];
    unsigned char *bytes = mem_calloc((int64_t)n, 1);
    uLongf size = sizeof packed - 4;
    const hsize_t place[1] = {0};
    assert_non_null(bytes);
    assert_int_equal(compress2(packed, &size, bytes, n, 9), Z_OK);
    mem_free(bytes);
    uint32_t sum = H5_checksum_fletcher32(packed, size);
    memcpy(packed + size, &sum, sizeof sum);
    hid_t file = H5Fopen(path, H5F_ACC_RDWR, H5P_DEFAULT);
    hid_t array = H5Dopen2(file, "/a/tokens", H5P_DEFAULT);
    assert_true(file >= 0 && array >= 0);
    assert_true(H5Dwrite_chunk(array, H5P_DEFAULT, 0, place, size + 4, packed) >= 0);
    assert_true(H5Dclose(array) >= 0 && H5Fclose(file) >= 0);
}

/* Chunks that inflate to less or more than they should never reach libhdf5's filters. */
static void test_chunks_that_inflate_otherwise(void **state) {
    (void)state;
    const size_t sizes[] = {CHUNK * 4, 8, CHUNK * 4 - 1, CHUNK * 4 + 1};
    const struct array_spec spec = {.name = "/a/tokens", .type = ARRAY_I32, .rows = ROWS};
    for (int i = 0; i < COUNT_OF(sizes); i++) {
        struct h5_file *f;
        struct h5_column *column;
        int32_t row = 7;
        assert_int_equal(verdict_of(files[FINAL].data, files[FINAL].size), OK);
        put_chunk(path_of("crafted.h5"), sizes[i]);
        assert_int_equal(h5_open(path_of("crafted.h5"), "guarded", 1, &f), OK);
        assert_int_equal(h5_column_open(f, &spec, 1 << 20, &column), OK);
        enum status st = h5_read(column, 0, 1, &row);
        assert_int_equal(st, i == 0 ? OK : ERR_DATA);
        assert_true(i == 0 ? row == 0 : strstr(status_message()->text, "does not inflate") != NULL);
        h5_close(f);
    }
    /* One that asks for a thousand times its size is not even looked into: its size is impossible. */
    assert_int_equal(verdict_of(files[FINAL].data, files[FINAL].size), OK);
    put_chunk(path_of("crafted.h5"), (size_t)1 << 28);
    struct h5_file *f;
    assert_int_equal(h5_open(path_of("crafted.h5"), "guarded", 1, &f), ERR_DATA);
}

int main(int argc, char **argv) {
    if (comm_start(&argc, &argv, &world) != OK) {
        return 1;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_takes_ours), cmocka_unit_test(test_refuses_crafted),
        cmocka_unit_test(test_any_bytes), cmocka_unit_test(test_chunks_that_inflate_otherwise)};
    int failed = cmocka_run_group_tests(tests, set_up, tear_down);
    comm_finish(world);
    return failed;
}
