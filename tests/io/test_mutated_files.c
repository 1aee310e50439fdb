/* Small files with bytes flipped, cut out and doubled at random places: every reader must say yes or no, with
 * a code of the documented ones, and never crash. The asan preset makes this sharp. */
#include "tests/unit.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <zlib.h>

#include "io/file.h"
#include "io/safetensors.h"
#include "io/yaml.h"
#include "util/mem.h"
#include "util/rng.h"
#include "util/text.h"

enum { ROUNDS = 1500 };

static char folder[64];

static const char *in_folder(const char *name) {
    static char path[128];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return path;
}

/* Not file_write(), which waits for the disk. */
static void put_file(const char *name, const struct text *bytes) {
    FILE *f = fopen(in_folder(name), "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(bytes->data, 1, bytes->len, f), bytes->len);
    assert_int_equal(fclose(f), 0);
}

/* One to four changes. */
static void mutate(struct rng *r, const struct text *good, struct text *out) {
    text_clear(out);
    assert_int_equal(text_append(out, good->data, good->len), OK);
    for (int64_t changes = 1 + rng_below(r, 4); changes > 0 && out->len > 1; changes--) {
        size_t at = (size_t)rng_below(r, (int64_t)out->len);
        size_t n = (size_t)rng_below(r, (int64_t)(out->len - at));
        switch (rng_below(r, 4)) {
        case 0: /* a random byte */
            out->data[at] = (char)rng_u32(r);
            break;
        case 1: /* a flipped bit */
            out->data[at] ^= (char)(1 << rng_below(r, 8));
            break;
        case 2: /* a hole */
            memmove(out->data + at, out->data + at + n, out->len - at - n);
            out->len -= n;
            break;
        default: /* a digit or bracket, where the structure is */
            out->data[at] = "0123456789-[]{}:,\""[rng_below(r, 18)];
            break;
        }
    }
}

static enum status ignore_key(void *context, const char *key, const char *value, int line) {
    (void)context;
    return *key && value && line > 0 ? OK : fail(ERR_INTERNAL, "a key without text or line");
}

static void check_yaml(const struct text *bytes) {
    put_file("x.yaml", bytes);
    enum status st = yaml_read(in_folder("x.yaml"), ignore_key, NULL);
    assert_true(st == OK || st == ERR_USAGE || st == ERR_DATA);
}

static void check_safetensors(const struct text *bytes) {
    struct safetensors *s;
    put_file("model.safetensors", bytes);
    enum status st = safetensors_open(folder, &s);
    assert_true(st == OK || st == ERR_DATA);
    for (int i = 0; st == OK && i < safetensors_count(s); i++) {
        const struct stored_tensor *t = safetensors_at(s, i);
        float values[64];
        int64_t n = t->elements < 64 ? t->elements : 64;
        enum status read = safetensors_read(s, t, t->elements - n, n, values);
        assert_true(read == OK || (read == ERR_DATA && t->type == STORED_OTHER));
    }
    if (st == OK) {
        safetensors_close(s);
    }
}

static void check_gzip(const struct text *bytes) {
    char *data;
    size_t n;
    put_file("x.gz", bytes);
    enum status st = file_read(in_folder("x.gz"), &data, &n);
    assert_true(st == OK || st == ERR_DATA);
    if (st == OK) {
        mem_free(data);
    }
}

static void check_mutations(const struct text *good, int64_t number, void (*check)(const struct text *)) {
    struct text bad = {0};
    check(good);
    for (int i = 0; i < ROUNDS; i++) {
        struct rng r = rng_stream(1, RNG_CHECK, number, i);
        mutate(&r, good, &bad);
        check(&bad);
    }
    text_free(&bad);
}

static void read_good(const char *path, struct text *out) {
    FILE *f = fopen(path, "rb");
    assert_non_null(f);
    char bytes[4096];
    size_t n = fread(bytes, 1, sizeof bytes, f);
    assert_int_equal(fclose(f), 0);
    assert_int_equal(text_append(out, bytes, n), OK);
}

static void test_yaml(void **state) {
    (void)state;
    struct text good = {0};
    assert_int_equal(
        text_puts(&good, "data: [a.h5, b.h5]\ntrain:\n  steps: 3 # three\n  deep: {x: 'a b', y: \"c\\n\"}\n"
                         "list:\n  - one\n  - two\ntext: |\n  line\n  line\nlast: ~\n"),
        OK);
    check_mutations(&good, 1, check_yaml);
    text_free(&good);
}

static void test_safetensors(void **state) {
    (void)state;
    struct text good = {0};
    read_good(FIXTURES "/safetensors/mixed/model.safetensors", &good);
    check_mutations(&good, 2, check_safetensors);
    text_free(&good);
}

static void test_gzip(void **state) {
    (void)state;
    struct text good = {0};
    gzFile f = gzopen(in_folder("good.gz"), "wb");
    assert_non_null(f);
    for (int i = 0; i < 300; i++) {
        assert_true(gzprintf(f, "{\"row\": %d, \"text\": \"some words %d\"}\n", i, i * i) > 0);
    }
    assert_int_equal(gzclose(f), Z_OK);
    read_good(in_folder("good.gz"), &good);
    check_mutations(&good, 3, check_gzip);
    text_free(&good);
}

int main(void) {
    snprintf(folder, sizeof folder, "/tmp/test_mutated.%ld", (long)getpid());
    if (folder_make(folder) != OK) {
        return 1;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_yaml),
        cmocka_unit_test(test_safetensors),
        cmocka_unit_test(test_gzip),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    const char *const names[] = {"x.yaml", "model.safetensors", "x.gz", "good.gz"};
    for (int i = 0; i < COUNT_OF(names); i++) {
        unlink(in_folder(names[i]));
    }
    rmdir(folder);
    return failed;
}
