/* Files of other formats are named, with what to do; what is read here passes. */
#include "tests/unit.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "util/foreign.h"

static char path[] = "/tmp/collimate-XXXXXX";

static enum status look(const char *bytes, size_t n) {
    int file = open(path, O_RDWR | O_TRUNC);
    assert_true(file >= 0);
    assert_int_equal(write(file, bytes, n), n);
    status_clear();
    enum status st = foreign_refuse(file, path);
    close(file);
    return st;
}

static void names(const char *bytes, size_t n, const char *what, const char *advice) {
    const char *text = status_message()->text;
    if (look(bytes, n) != ERR_DATA || !strstr(text, what) || !strstr(text, advice) || !strstr(text, path)) {
        FAIL("\"%s\"; expected \"%s\" and \"%s\"", text, what, advice);
    }
}

static void test_names(void **state) {
    (void)state;
    static const char pointer[] = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n";
    names(pointer, sizeof pointer - 1, "Git LFS pointer", "git lfs pull");
    names("PAR1\x15\x04", 6, "Parquet", "to_json");
    names("ARROW1\0\0", 8, "Arrow", "to_json");
    names("\x28\xb5\x2f\xfd\x24", 5, "zstd", "zstd -d");
    names("\xfd"
          "7zXZ\0",
          6, "xz", "xz -d");
    names("BZh91AY", 7, "bzip2", "bzip2 -d");
    names("\x04\x22\x4d\x18", 4, "lz4", "lz4 -d");
    names("PK\x03\x04", 4, "zip", "save_pretrained");
    names("\x80\x02}q", 4, "pickle", "save_pretrained");
    names("GGUF\x03", 5, "GGUF", "safetensors");
}

static void test_passes(void **state) {
    (void)state;
    static const struct {
        const char *bytes;
        size_t n;
    } ours[] = {{"", 0},
                {"{\"prompt\": 1}", 13},
                {"[", 1},
                {"\x1f\x8b\x08", 3},
                {"\x89HDF\r\n\x1a\n", 8},
                {"PAR", 3},
                {"version https", 13},
                {"\x40\0\0\0\0\0\0\0{\"a", 11}};
    for (size_t i = 0; i < sizeof ours / sizeof ours[0]; i++) {
        assert_int_equal(look(ours[i].bytes, ours[i].n), OK);
    }
}

int main(void) {
    int file = mkstemp(path);
    if (file < 0) {
        return 1;
    }
    close(file);
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_names), cmocka_unit_test(test_passes)};
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    unlink(path);
    return failed;
}
