/* Streams that are appended to in turns and read at any place: what lies in memory, in the file, and over the
 * edges of pieces is what was put in; no file is left; what is dropped cannot be read. */
#include "tests/unit.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "io/file.h"
#include "io/spool.h"
#include "util/fault.h"
#include "util/mem.h"
#include "util/text.h"

enum { STREAMS = 3, MOST = 5000, ROUNDS = 200 };

struct filled {
    unsigned char bytes[STREAMS][MOST];
    int64_t n[STREAMS];
    struct spool *spool;
};

static unsigned next(unsigned *state) {
    *state = *state * 1664525u + 1013904223u;
    return *state >> 16;
}

static void fill(struct filled *f) {
    unsigned state = 7;
    for (int round = 0; round < ROUNDS; round++) {
        int stream = (int)(next(&state) % STREAMS);
        int64_t n = next(&state) % 60;
        n = n < MOST - f->n[stream] ? n : MOST - f->n[stream];
        for (int64_t i = 0; i < n; i++) {
            f->bytes[stream][f->n[stream] + i] = (unsigned char)next(&state);
        }
        assert_int_equal(spool_append(f->spool, stream, f->bytes[stream] + f->n[stream], n), OK);
        f->n[stream] += n;
    }
}

static int files_in(const char *folder) {
    int n = 0;
    DIR *all = opendir(folder);
    assert_non_null(all);
    for (const struct dirent *e = readdir(all); e; e = readdir(all)) {
        n += e->d_name[0] != '.';
    }
    closedir(all);
    return n;
}

static void what_was_put_in_is_read(void **state) {
    (void)state;
    char folder[] = "/tmp/test_spool.XXXXXX";
    char beside[64];
    assert_non_null(mkdtemp(folder));
    snprintf(beside, sizeof beside, "%s/out.h5", folder);
    static const int64_t memories[] = {0, 100, 1 << 20};
    for (int m = 0; m < 3; m++) {
        static struct filled f;
        unsigned char read[MOST];
        unsigned at = 3;
        memset(&f, 0, sizeof f);
        const struct spool_plan plan = {
            .beside = beside, .streams = STREAMS, .memory = memories[m], .piece = 37};
        assert_int_equal(spool_open(&plan, &f.spool), OK);
        fill(&f);
        assert_int_equal(files_in(folder), 0);
        for (int i = 0; i < 300; i++) {
            int stream = (int)(next(&at) % STREAMS);
            assert_int_equal(spool_bytes(f.spool, stream), f.n[stream]);
            int64_t first = next(&at) % (f.n[stream] + 1);
            int64_t n = next(&at) % (f.n[stream] - first + 1);
            assert_int_equal(spool_read(f.spool, stream, first, n, read), OK);
            assert_memory_equal(read, f.bytes[stream] + first, (size_t)n);
        }
        assert_int_equal(spool_read(f.spool, 0, f.n[0], 1, read), ERR_INTERNAL);
        spool_close(f.spool);
    }
    assert_int_equal(rmdir(folder), 0);
}

static void without_a_file_only_the_first_bytes_are_kept(void **state) {
    (void)state;
    char out[64];
    struct spool *s;
    const struct spool_plan plan = {.streams = 1, .memory = 20, .piece = 10};
    assert_int_equal(spool_open(&plan, &s), OK);
    assert_int_equal(spool_append(s, 0, "0123456789abcdefghijklmnopqrstuvwxyz", 36), OK);
    assert_int_equal(spool_bytes(s, 0), 36);
    assert_int_equal(spool_read(s, 0, 5, 10, out), OK);
    assert_memory_equal(out, "56789abcde", 10);
    assert_int_equal(spool_read(s, 0, 15, 10, out), ERR_INTERNAL);
    spool_close(s);
}

/* A stream that fills late, when a wide one has all the memory, still has its first piece. */
static void without_a_file_each_stream_keeps_its_beginning(void **state) {
    (void)state;
    char out[64];
    struct spool *s;
    const struct spool_plan plan = {.streams = 2, .memory = 20, .piece = 10};
    assert_int_equal(spool_open(&plan, &s), OK);
    for (int i = 0; i < 6; i++) {
        assert_int_equal(spool_append(s, 0, "0123456789", 10), OK);
        assert_int_equal(spool_append(s, 1, "abcd", 4), OK);
    }
    assert_int_equal(spool_bytes(s, 1), 24);
    assert_int_equal(spool_read(s, 1, 0, 10, out), OK);
    assert_memory_equal(out, "abcdabcdab", 10);
    assert_int_equal(spool_read(s, 1, 10, 10, out), ERR_INTERNAL);
    assert_int_equal(spool_read(s, 1, 20, 4, out), OK); /* the piece that is being filled */
    assert_memory_equal(out, "abcd", 4);
    assert_int_equal(spool_read(s, 0, 0, 20, out), OK);
    assert_int_equal(spool_read(s, 0, 20, 10, out), ERR_INTERNAL);
    spool_close(s);
}

/* What lies there under the file's name is not written to. */
static void a_link_in_its_place_is_not_followed(void **state) {
    (void)state;
    char folder[] = "/tmp/test_spool.XXXXXX";
    char beside[64], target[64], read[8];
    struct text name = {0}, spool = {0};
    struct spool *s;
    assert_non_null(mkdtemp(folder));
    snprintf(beside, sizeof beside, "%s/out.h5", folder);
    snprintf(target, sizeof target, "%s/other", folder);
    assert_int_equal(file_write(target, "kept", 4), OK);
    assert_int_equal(text_printf(&spool, "%s.spool", beside), OK);
    assert_int_equal(file_temporary(spool.data, NULL, &name), OK);
    assert_int_equal(symlink(target, name.data), 0);
    const struct spool_plan plan = {.beside = beside, .streams = 1, .piece = 4};
    assert_int_equal(spool_open(&plan, &s), OK);
    assert_int_equal(spool_append(s, 0, "12345678", 8), OK);
    assert_int_equal(spool_read(s, 0, 0, 8, read), OK);
    assert_memory_equal(read, "12345678", 8);
    spool_close(s);
    assert_int_equal(files_in(folder), 1);
    char *data;
    size_t n;
    assert_int_equal(file_read(target, &data, &n), OK);
    assert_int_equal(n, 4);
    assert_memory_equal(data, "kept", 4);
    mem_free(data);
    assert_int_equal(unlink(target), 0);
    assert_int_equal(rmdir(folder), 0);
    text_free(&name);
    text_free(&spool);
}

static void a_folder_that_is_not_there_is_named(void **state) {
    (void)state;
    struct spool *s;
    const struct spool_plan plan = {.beside = "/nowhere/at/all.h5", .streams = 1, .piece = 4};
    assert_int_equal(spool_open(&plan, &s), OK);
    assert_int_equal(spool_append(s, 0, "12345678", 8), ERR_WRITE);
    assert_non_null(strstr(status_message()->text, "/nowhere/at/all.h5"));
    assert_non_null(strstr(status_message()->text, "No such file"));
    spool_close(s);
}

/* A call of a kind fails (the calls of all kinds that were planned count on); what was put in before it is
 * still there. */
static void what_the_system_refuses_is_said(void **state) {
    (void)state;
    static const char *const faults[] = {"write:2", "open:3"};
    char folder[] = "/tmp/test_spool.XXXXXX";
    char beside[64];
    assert_non_null(mkdtemp(folder));
    snprintf(beside, sizeof beside, "%s/out.h5", folder);
    for (int i = 0; i < 2; i++) {
        char read[8] = "";
        struct spool *s;
        const struct spool_plan plan = {.beside = beside, .streams = 1, .piece = 4};
        assert_int_equal(setenv("COLLIMATE_FAULT", faults[i], 1), 0);
        fault_init(0);
        assert_int_equal(spool_open(&plan, &s), OK);
        enum status first = spool_append(s, 0, "1234", 4);
        assert_int_equal(first, i == 0 ? OK : ERR_WRITE);
        if (first == OK) {
            assert_int_equal(spool_append(s, 0, "5678", 4), ERR_WRITE);
            assert_int_equal(spool_read(s, 0, 0, 4, read), OK);
            assert_string_equal(read, "1234");
        }
        assert_non_null(strstr(status_message()->text, beside));
        assert_non_null(strstr(status_message()->text, "the same folder"));
        spool_close(s);
    }
    assert_int_equal(unsetenv("COLLIMATE_FAULT"), 0);
    fault_init(0);
    assert_int_equal(rmdir(folder), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_was_put_in_is_read),
        cmocka_unit_test(without_a_file_only_the_first_bytes_are_kept),
        cmocka_unit_test(without_a_file_each_stream_keeps_its_beginning),
        cmocka_unit_test(a_link_in_its_place_is_not_followed),
        cmocka_unit_test(a_folder_that_is_not_there_is_named),
        cmocka_unit_test(what_the_system_refuses_is_said),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
