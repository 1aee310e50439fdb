/* JSON reading: types, ranges, messages, hostile bytes. */
#include "tests/unit.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "util/json.h"
#include "util/mem.h"
#include "util/rng.h"

static void test_take(void **state) {
    (void)state;
    static const char text[] =
        "{\"i\": -5, \"big\": 9223372036854775807, \"r\": 2.5, \"b\": true, \"s\": \"h\\u00e9\","
        " \"null\": null, \"twice\": 1, \"twice\": 2}";
    json_t *o;
    assert_int_equal(json_parse(text, strlen(text), "t", &o), OK);
    int64_t i = 7;
    double r = 7;
    bool b = false;
    const char *s = "old";
    assert_int_equal(json_take_int(o, "i", "t", &i), OK);
    assert_int_equal(i, -5);
    assert_int_equal(json_take_int(o, "big", "t", &i), OK);
    assert_true(i == INT64_MAX);
    assert_int_equal(json_take_int(o, "twice", "t", &i), OK);
    assert_int_equal(i, 2); /* the last wins */
    assert_int_equal(json_take_int(o, "null", "t", &i), OK);
    assert_int_equal(json_take_int(o, "missing", "t", &i), OK);
    assert_int_equal(i, 2);
    assert_int_equal(json_take_int(o, "r", "t", &i), ERR_DATA);
    assert_int_equal(json_take_number(o, "r", "t", &r), OK);
    assert_true(r == 2.5);
    assert_int_equal(json_take_number(o, "i", "t", &r), OK);
    assert_true(r == -5);
    assert_int_equal(json_take_number(o, "s", "t", &r), ERR_DATA);
    assert_int_equal(json_take_bool(o, "b", "t", &b), OK);
    assert_true(b);
    assert_int_equal(json_take_bool(o, "i", "t", &b), ERR_DATA);
    assert_int_equal(json_take_string(o, "s", "t", &s), OK);
    assert_string_equal(s, "h\xc3\xa9");
    assert_int_equal(json_take_string(o, "b", "pairs.jsonl, line 7", &s), ERR_DATA);
    assert_string_equal(status_message()->text, "pairs.jsonl, line 7: \"b\" must be a string");
    json_decref(o);
}

static void expect_refused(const char *text, size_t n) {
    json_t *value = NULL;
    assert_int_equal(json_parse(text, n, "where, line 3", &value), ERR_DATA);
    assert_int_equal(strncmp(status_message()->text, "where, line 3: not valid JSON: ", 31), 0);
    assert_null(value);
}

static void test_hostile(void **state) {
    (void)state;
    static const char *const bad[] = {
        "",
        " ",
        "{",
        "}",
        "{\"a\"}",
        "{\"a\":}",
        "[1,]",
        "{\"a\":1,}",
        "nul",
        "NaN",
        "Infinity",
        "01",
        "1e999",
        "99999999999999999999",
        "\"\xff\"",
        "\"\xed\xa0\x80\"",
        "\"\\ud800\"",
        "\"\\x41\"",
        "\"a\nb\"",
        "'a'",
        "1 2",
        "{\"a\":1}}",
        "[1",
        "\"abc",
        "// c\n1",
    };
    for (int i = 0; i < COUNT_OF(bad); i++) {
        expect_refused(bad[i], strlen(bad[i]));
    }
    enum { DEEP = 200000 };
    char *deep = mem_calloc(2 * DEEP, 1);
    assert_non_null(deep);
    memset(deep, '[', DEEP);
    memset(deep + DEEP, ']', DEEP);
    expect_refused(deep, 2 * DEEP); /* refused, not a stack overflow */
    mem_free(deep);
}

/* Flipped and cut input: parsed or refused, nothing else. */
static void test_noise(void **state) {
    (void)state;
    static const char good[] =
        "{\"prompt\": \"h\\u00e9\\n\", \"responses\": [{\"text\": \"x\", \"score\": -1.5e3}, null, true]}";
    struct rng r = rng_stream(4, RNG_CHECK, 0, 0);
    for (int i = 0; i < 5000; i++) {
        char bytes[sizeof good];
        memcpy(bytes, good, sizeof good);
        for (int j = 0; j < 1 + i % 3; j++) {
            bytes[rng_below(&r, sizeof good - 1)] = (char)rng_u32(&r);
        }
        json_t *value;
        enum status st = json_parse(bytes, (size_t)rng_below(&r, sizeof good), "noise", &value);
        assert_true(st == OK || st == ERR_DATA);
        if (st == OK) {
            json_decref(value);
        }
    }
}

static void test_load(void **state) {
    (void)state;
    json_t *value;
    assert_int_equal(json_load("/nonexistent/x.json", &value), ERR_INPUT);
    assert_non_null(strstr(status_message()->text, "/nonexistent/x.json"));
    assert_int_equal(json_load("/", &value), ERR_INPUT);
    char path[] = "/tmp/collimate-json-XXXXXX";
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    FILE *file = fdopen(fd, "w");
    assert_non_null(file);
    fputs("[", file);
    for (int i = 0; i < 100000; i++) { /* past the reader's first buffer */
        fprintf(file, "%d,", i);
    }
    fputs("0]", file);
    assert_int_equal(fclose(file), 0);
    assert_int_equal(json_load(path, &value), OK);
    assert_int_equal(json_array_size(value), 100001);
    assert_int_equal(json_integer_value(json_array_get(value, 99999)), 99999);
    json_decref(value);
    assert_int_equal(truncate(path, 1000), 0);
    assert_int_equal(json_load(path, &value), ERR_DATA);
    assert_non_null(strstr(status_message()->text, path));
    assert_int_equal(truncate(path, 0), 0);
    assert_int_equal(json_load(path, &value), ERR_DATA);
    unlink(path);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_take),
        cmocka_unit_test(test_hostile),
        cmocka_unit_test(test_noise),
        cmocka_unit_test(test_load),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
