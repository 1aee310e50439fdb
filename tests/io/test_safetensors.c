/* Safetensors: 16-bit conversions against their definition, files of the format's own package, writing and
 * reading back, and hostile files. */
#include "tests/unit.h"

#include <dirent.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "io/file.h"
#include "io/half.h"
#include "io/safetensors.h"
#include "util/text.h"

static char folder[64];

/* Whether a temporary file is in the folder. */
static bool has_temporary(void) {
    DIR *directory = opendir(folder);
    bool found = false;
    for (struct dirent *e = directory ? readdir(directory) : NULL; e; e = readdir(directory)) {
        found = found || text_ends(e->d_name, ".tmp");
    }
    if (directory) {
        closedir(directory);
    }
    return found;
}

static const char *in_folder(const char *name) {
    static char path[128];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return path;
}

/* A 16-bit number's value from its fields: the definition, not our shifts. */
static double value_of(uint16_t h, int exponent_bits, int fraction_bits) {
    int bias = (1 << (exponent_bits - 1)) - 1;
    int exponent = (h >> fraction_bits) & ((1 << exponent_bits) - 1);
    int fraction = h & ((1 << fraction_bits) - 1);
    double sign = h & 0x8000 ? -1 : 1;
    if (exponent == (1 << exponent_bits) - 1) {
        return fraction ? NAN : sign * INFINITY;
    }
    if (exponent == 0) {
        return sign * ldexp(fraction, 1 - bias - fraction_bits);
    }
    return sign * ldexp(fraction + (1 << fraction_bits), exponent - bias - fraction_bits);
}

static void check_type(int exponent_bits, int fraction_bits, float (*widen)(uint16_t),
                       uint16_t (*narrow)(float)) {
    uint16_t infinity = (uint16_t)(((1 << exponent_bits) - 1) << fraction_bits);
    for (uint32_t h = 0; h < 65536; h++) {
        double expected = value_of((uint16_t)h, exponent_bits, fraction_bits);
        float got = widen((uint16_t)h);
        if (isnan(expected)) {
            assert_true(isnan(got));
            assert_true(isnan(widen(narrow(got))));
            continue;
        }
        assert_true((double)got == expected && !!signbit(got) == (h >> 15));
        assert_int_equal(narrow(got), h);
    }
    for (uint16_t h = 0; h < infinity; h++) { /* between h and its successor: nearest, ties to even */
        double low = value_of(h, exponent_bits, fraction_bits);
        double high = h + 1 == infinity ? 2 * low - value_of((uint16_t)(h - 1), exponent_bits, fraction_bits)
                                        : value_of((uint16_t)(h + 1), exponent_bits, fraction_bits);
        float middle = (float)((low + high) / 2);
        if ((double)middle != (low + high) / 2) {
            continue; /* bf16's smallest steps have no middle in float */
        }
        assert_int_equal(narrow(middle), h % 2 == 0 ? h : h + 1);
        assert_int_equal(narrow(nextafterf(middle, 0)), h);
        assert_int_equal(narrow(nextafterf(middle, INFINITY)), h + 1);
        assert_int_equal(narrow(-middle), (h % 2 == 0 ? h : h + 1) | 0x8000);
    }
    assert_int_equal(narrow(INFINITY), infinity);
    assert_int_equal(narrow(3.4e38f), infinity);
}

static void test_halves(void **state) {
    (void)state;
    check_type(5, 10, half_from_fp16, half_to_fp16);
    check_type(8, 7, half_from_bf16, half_to_bf16);
    assert_int_equal(half_to_fp16(1e-30f), 0);
    assert_int_equal(half_to_fp16(-1e-30f), 0x8000);
}

static double rounded(int i, enum stored_type type) {
    double v = (i - 5) / 7.0;
    return type == STORED_F64   ? (double)(float)v
           : type == STORED_F32 ? (double)(float)v
           : type == STORED_F16 ? (double)half_from_fp16(half_to_fp16((float)v))
                                : (double)half_from_bf16(half_to_bf16((float)v));
}

static void check_ramp(struct safetensors *s, const char *name, enum stored_type type, int64_t n) {
    const struct stored_tensor *t = safetensors_find(s, name);
    assert_non_null(t);
    assert_string_equal(t->name, name);
    assert_int_equal(t->type, type);
    assert_int_equal(t->elements, n);
    float values[16];
    assert_int_equal(safetensors_read(s, t, 0, n, values), OK);
    for (int i = 0; i < n; i++) {
        assert_true((double)values[i] == rounded(i, type));
    }
    assert_int_equal(safetensors_read(s, t, n - 2, 2, values), OK);
    assert_true((double)values[1] == rounded((int)n - 1, type));
    assert_int_equal(safetensors_read(s, t, n - 1, 2, values), ERR_INTERNAL);
    assert_int_equal(safetensors_read(s, t, -1, 1, values), ERR_INTERNAL);
}

static void test_reads_the_package_s_file(void **state) {
    (void)state;
    struct safetensors *s;
    assert_int_equal(safetensors_open(FIXTURES "/safetensors/mixed", &s), OK);
    assert_int_equal(safetensors_count(s), 8);
    check_ramp(s, "f32", STORED_F32, 12);
    check_ramp(s, "bf16", STORED_BF16, 10);
    check_ramp(s, "f16", STORED_F16, 9);
    check_ramp(s, "f64", STORED_F64, 4);
    const struct stored_tensor *t = safetensors_find(s, "f64");
    assert_true(t->n_dims == 3 && t->shape[0] == 1 && t->shape[1] == 2 && t->shape[2] == 2);
    float value = 0;
    t = safetensors_find(s, "scalar");
    assert_true(t->n_dims == 0 && t->elements == 1);
    assert_int_equal(safetensors_read(s, t, 0, 1, &value), OK);
    assert_true(value == 2.5f);
    assert_int_equal(safetensors_find(s, "none")->elements, 0);
    assert_int_equal(safetensors_read(s, safetensors_find(s, "mask"), 0, 1, &value), ERR_DATA);
    assert_null(safetensors_find(s, "f3"));
    assert_null(safetensors_find(s, "zzz"));
    safetensors_close(s);
}

static void test_reads_shards(void **state) {
    (void)state;
    struct safetensors *s;
    assert_int_equal(safetensors_open(FIXTURES "/safetensors/sharded", &s), OK);
    check_ramp(s, "a", STORED_F32, 4);
    check_ramp(s, "b", STORED_BF16, 6);
    safetensors_close(s);
}

/* Writes ramps of 3 x 4, 0, 7 and 5 values in pieces that cross tensors. */
static enum status write_ramps(enum stored_type type, int64_t shard_bytes) {
    struct safetensors_writer *w;
    float values[24];
    int at = 0;
    const int sizes[] = {12, 0, 7, 5};
    for (int t = 0; t < 4; t++) {
        for (int i = 0; i < sizes[t]; i++) {
            values[at++] = (float)((i - 5) / 7.0);
        }
    }
    assert_int_equal(safetensors_create(folder, type, shard_bytes, &w), OK);
    assert_int_equal(safetensors_declare(w, "one", 2, (const int64_t[]){3, 4}), OK);
    assert_int_equal(safetensors_declare(w, "none", 1, (const int64_t[]){0}), OK);
    assert_int_equal(safetensors_declare(w, "two \"q\"", 1, (const int64_t[]){7}), OK);
    assert_int_equal(safetensors_declare(w, "three", 1, (const int64_t[]){5}), OK);
    assert_int_equal(safetensors_write(w, values, 5), OK);
    assert_int_equal(safetensors_write(w, values + 5, 15), OK);
    assert_int_equal(safetensors_write(w, values + 20, 4), OK);
    return safetensors_finish(w);
}

static void check_ramps(enum stored_type type) {
    struct safetensors *s;
    assert_int_equal(safetensors_open(folder, &s), OK);
    assert_int_equal(safetensors_count(s), 4);
    check_ramp(s, "one", type, 12);
    check_ramp(s, "two \"q\"", type, 7);
    check_ramp(s, "three", type, 5);
    assert_int_equal(safetensors_find(s, "none")->elements, 0);
    safetensors_close(s);
}

static void test_writes_what_it_reads(void **state) {
    (void)state;
    const enum stored_type types[] = {STORED_F32, STORED_BF16, STORED_F16, STORED_F64};
    for (int i = 0; i < COUNT_OF(types); i++) {
        assert_int_equal(write_ramps(types[i], 0), OK);
        assert_int_equal(access(in_folder("model.safetensors.index.json"), F_OK), -1);
        check_ramps(types[i]);
        assert_int_equal(write_ramps(types[i], 16), OK); /* a shard each, over the single file */
        assert_int_equal(access(in_folder("model.safetensors"), F_OK), -1);
        assert_int_equal(access(in_folder("model-00003-of-00003.safetensors"), F_OK), 0);
        assert_false(has_temporary());
        check_ramps(types[i]);
    }
}

static void test_writer_refuses_wrong_counts(void **state) {
    (void)state;
    struct safetensors_writer *w;
    const float values[8] = {0};
    assert_int_equal(write_ramps(STORED_F32, 0), OK);
    assert_int_equal(safetensors_create(folder, STORED_F32, 0, &w), OK);
    assert_int_equal(safetensors_declare(w, "a", 1, (const int64_t[]){4}), OK);
    assert_int_equal(safetensors_write(w, values, 3), OK);
    assert_int_equal(safetensors_finish(w), ERR_INTERNAL); /* one value is missing: the old file stays */
    check_ramps(STORED_F32);
    assert_false(has_temporary());
    assert_int_equal(safetensors_create(folder, STORED_F32, 0, &w), OK);
    assert_int_equal(safetensors_declare(w, "a", 1, (const int64_t[]){4}), OK);
    assert_int_equal(safetensors_write(w, values, 5), ERR_INTERNAL);
    assert_int_equal(safetensors_finish(w), ERR_INTERNAL);
    check_ramps(STORED_F32);
}

static void write_file(const char *header, uint64_t length, size_t data_bytes) {
    struct text file = {0};
    for (int i = 0; i < 8; i++) {
        assert_int_equal(text_append(&file, (char[]){(char)(length >> (8 * i))}, 1), OK);
    }
    assert_int_equal(text_puts(&file, header), OK);
    for (size_t i = 0; i < data_bytes; i++) {
        assert_int_equal(text_append(&file, "", 1), OK);
    }
    assert_int_equal(file_write(in_folder("model.safetensors"), file.data, file.len), OK);
    text_free(&file);
}

static void check_hostile(const char *header, uint64_t length, size_t data_bytes, const char *words) {
    write_file(header, length, data_bytes);
    struct safetensors *s = NULL;
    enum status st = safetensors_open(folder, &s);
    if (st != ERR_DATA || !strstr(status_message()->text, words)) {
        FAIL("%s: status %d, message '%s', expected '%s'", header, (int)st, status_message()->text, words);
    }
    assert_non_null(strstr(status_message()->text, "model.safetensors"));
}

static void check_hostile_header(const char *header, const char *words) {
    check_hostile(header, strlen(header), 16, words);
}

static void test_hostile_headers(void **state) {
    (void)state;
#define ENTRY(name, dtype, shape, range) \
    "\"" name "\":{\"dtype\":\"" dtype "\",\"shape\":" shape ",\"data_offsets\":" range "}"
    struct safetensors *s;
    const char *good = "{" ENTRY("a", "F32", "[2]", "[0,8]") "," ENTRY("b", "BF16", "[2,2]", "[8,16]") "}";
    write_file(good, strlen(good), 16);
    assert_int_equal(safetensors_open(folder, &s), OK);
    safetensors_close(s);
    check_hostile(good, strlen(good), 12, "truncated");
    check_hostile(good, strlen(good), 20, "20 bytes of data");
    check_hostile(good, strlen(good) + 100, 16, "truncated");
    check_hostile(good, UINT64_MAX, 16, "header of");
    check_hostile(good, (uint64_t)1 << 40, 16, "header of");
    check_hostile(good, 20, 16, "not valid JSON");
    check_hostile("", 0, 0, "not valid JSON");
    check_hostile_header("[1]", "not a JSON object");
    check_hostile_header("{}", "16 bytes of data");
    check_hostile_header("{\"a\":3}", "expected an object");
    check_hostile_header("{" ENTRY("a", "F31", "[4]", "[0,16]") "}", "unknown dtype \"F31\"");
    check_hostile_header("{\"a\":{\"shape\":[4],\"data_offsets\":[0,16]}}", "unknown dtype");
    check_hostile_header("{" ENTRY("a", "F32", "[-4]", "[0,16]") "}", "integers from 0");
    check_hostile_header("{" ENTRY("a", "F32", "[4.5]", "[0,16]") "}", "integers from 0");
    check_hostile_header("{" ENTRY("a", "F32", "4", "[0,16]") "}", "list of at most");
    check_hostile_header("{" ENTRY("a", "F32", "[1,1,1,1,4]", "[0,16]") "}", "list of at most");
    check_hostile_header("{" ENTRY("a", "F32", "[4294967296,4294967296]", "[0,16]") "}", "out of range");
    check_hostile_header("{" ENTRY("a", "F32", "[9223372036854775807]", "[0,16]") "}", "out of range");
    check_hostile_header("{" ENTRY("a", "F32", "[4]", "[0,12]") "}", "the shape needs 16");
    check_hostile_header("{" ENTRY("a", "F32", "[4]", "[16,0]") "}", "outside");
    check_hostile_header("{" ENTRY("a", "F32", "[4]", "[-16,0]") "}", "outside");
    check_hostile_header("{" ENTRY("a", "F32", "[4]", "[0,9223372036854775807]") "}", "outside");
    check_hostile_header("{" ENTRY("a", "F32", "[4]", "[0]") "}", "two integers");
    check_hostile_header("{" ENTRY("a", "F32", "[4]", "\"x\"") "}", "two integers");
    check_hostile_header("{" ENTRY("a", "F32", "[3]", "[0,12]") "," ENTRY("b", "F32", "[2]", "[8,16]") "}",
                         "\"b\" overlaps");
    check_hostile_header("{" ENTRY("a", "F32", "[2]", "[0,8]") "," ENTRY("b", "F32", "[1]", "[12,16]") "}",
                         "\"b\" leaves a gap");
    assert_int_equal(file_write(in_folder("model.safetensors"), "abc", 3), OK);
    assert_int_equal(safetensors_open(folder, &s), ERR_DATA);
}

static void check_index(const char *index, enum status expected, const char *words) {
    assert_int_equal(file_write(in_folder("model.safetensors.index.json"), index, strlen(index)), OK);
    struct safetensors *s = NULL;
    enum status st = safetensors_open(folder, &s);
    if (st != expected || !strstr(status_message()->text, words)) {
        FAIL("%s: status %d, message '%s'", index, (int)st, status_message()->text);
    }
}

static void test_hostile_indexes(void **state) {
    (void)state;
    unlink(in_folder("model.safetensors"));
    struct safetensors *s;
    unlink(in_folder("model.safetensors.index.json"));
    assert_int_equal(safetensors_open(folder, &s), ERR_INPUT);
    const char *shard = "{" ENTRY("a", "F32", "[4]", "[0,16]") "}";
    write_file(shard, strlen(shard), 16);
    char from[128];
    snprintf(from, sizeof from, "%s", in_folder("model.safetensors"));
    assert_int_equal(rename(from, in_folder("s1")), 0);
    write_file(shard, strlen(shard), 16);
    assert_int_equal(rename(from, in_folder("s2")), 0);
    check_index("{}", ERR_DATA, "weight_map");
    check_index("{\"weight_map\":{\"a\":3}}", ERR_DATA, "name of a shard");
    check_index("{\"weight_map\":{\"a\":\"../s1\"}}", ERR_DATA, "not a file name");
    check_index("{\"weight_map\":{\"a\":\"/etc/passwd\"}}", ERR_DATA, "not a file name");
    check_index("{\"weight_map\":{\"a\":\"s3\"}}", ERR_INPUT, "s3");
    check_index("{\"weight_map\":{\"a\":\"s1\",\"b\":\"s2\"}}", ERR_DATA, "two shards");
    check_index("{\"weight_map\":{\"a\":\"s1\",\"c\":\"s1\"}}", ERR_DATA, "lists 2 tensors");
    check_index("{\"weight_map\":", ERR_DATA, "not valid JSON");
    unlink(in_folder("s1"));
    unlink(in_folder("s2"));
}

int main(void) {
    snprintf(folder, sizeof folder, "/tmp/test_safetensors.%ld", (long)getpid());
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_halves),
        cmocka_unit_test(test_reads_the_package_s_file),
        cmocka_unit_test(test_reads_shards),
        cmocka_unit_test(test_writes_what_it_reads),
        cmocka_unit_test(test_writer_refuses_wrong_counts),
        cmocka_unit_test(test_hostile_headers),
        cmocka_unit_test(test_hostile_indexes),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    char command[128];
    snprintf(command, sizeof command, "rm -rf '%s'", folder);
    return system(command) == 0 ? failed : 1;
}
