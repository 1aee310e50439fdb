/* Growing text, JSON strings and numbers, name distances. */
#include "tests/unit.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "util/hash.h"
#include "util/json.h"
#include "util/rng.h"
#include "util/text.h"

static void test_append(void **state) {
    (void)state;
    struct text t = {0};
    size_t wanted = 0;
    for (int i = 0; i < 3000; i++) {
        assert_int_equal(text_printf(&t, "%d,%s", i, i % 7 ? "" : "seven"), OK);
        assert_int_equal(text_append(&t, "a\0b", 3), OK);
        wanted += (size_t)snprintf(NULL, 0, "%d,%s", i, i % 7 ? "" : "seven") + 3;
        assert_int_equal(t.len, wanted);
        assert_int_equal(t.data[t.len], 0);
    }
    assert_memory_equal(t.data, "0,sevena\0b1,a\0b2,", 17);
    text_clear(&t);
    assert_true(t.len == 0 && t.data[0] == 0);
    assert_int_equal(text_append(&t, NULL, 0), OK);
    assert_int_equal(text_puts(&t, "x"), OK);
    assert_string_equal(t.data, "x");
    text_free(&t);
    assert_true(t.data == NULL && t.len == 0 && t.capacity == 0);
    text_free(&t);
    text_clear(&t);
}

static void expect_json(const char *bytes, size_t n, const char *wanted) {
    struct text t = {0};
    assert_int_equal(text_json(&t, bytes, n), OK);
    assert_string_equal(t.data, wanted);
    json_t *value;
    assert_int_equal(json_parse(t.data, t.len, "test", &value), OK); /* whatever came in, it is valid JSON */
    json_decref(value);
    text_free(&t);
}

static void test_json_strings(void **state) {
    (void)state;
    expect_json("", 0, "\"\"");
    expect_json("a\"b\\c/\n\t\r\b\x01\x1f\x7f", 13, "\"a\\\"b\\\\c/\\n\\t\\r\\u0008\\u0001\\u001f\\u007f\"");
    expect_json("a\0b", 3, "\"a\\u0000b\"");
    expect_json("h\xc3\xa9 \xe2\x82\xac \xf0\x9f\x98\x80", 12, "\"h\xc3\xa9 \xe2\x82\xac \xf0\x9f\x98\x80\"");
    expect_json("\xc2\x85\xe2\x80\xa8\xef\xbb\xbf\xef\xbf\xbe\xc2\xa0", 13,
                "\"\\u0085\\u2028\\ufeff\\ufffe\xc2\xa0\"");
    expect_json("\xff\xfe", 2, "\"\xef\xbf\xbd\xef\xbf\xbd\"");
    expect_json("\xe2\x82", 2, "\"\xef\xbf\xbd\xef\xbf\xbd\"");                   /* cut short */
    expect_json("\xed\xa0\x80x", 4, "\"\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbdx\""); /* a surrogate */
    expect_json("\xc0\x80", 2, "\"\xef\xbf\xbd\xef\xbf\xbd\"");                   /* overlong */
    expect_json("\xf4\x90\x80\x80", 4, "\"\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\"");
}

static void test_json_strings_of_noise(void **state) {
    (void)state;
    struct rng r = rng_stream(1, RNG_CHECK, 0, 0);
    for (int i = 0; i < 2000; i++) {
        char bytes[40];
        for (int j = 0; j < 40; j++) {
            bytes[j] = (char)rng_u32(&r);
        }
        struct text t = {0};
        json_t *value;
        assert_int_equal(text_json(&t, bytes, (size_t)(i % 41)), OK);
        assert_int_equal(json_parse(t.data, t.len, "test", &value), OK);
        json_decref(value);
        text_free(&t);
    }
}

static void expect_number(double v, const char *wanted) {
    struct text t = {0};
    assert_int_equal(text_json_number(&t, v), OK);
    assert_string_equal(t.data, wanted);
    text_free(&t);
}

static void test_json_numbers(void **state) {
    (void)state;
    expect_number(0, "0");
    expect_number(0.1, "0.1");
    expect_number(-2.5, "-2.5");
    expect_number(1.0 / 3, "0.3333333333333333");
    expect_number(log(2), "0.6931471805599453");
    expect_number(100000, "100000");
    expect_number(NAN, "null");
    expect_number(INFINITY, "null");
    struct rng r = rng_stream(2, RNG_CHECK, 0, 0);
    for (int i = 0; i < 5000; i++) {
        uint64_t bits = rng_u64(&r);
        double v;
        memcpy(&v, &bits, sizeof v);
        v = i == 0 ? DBL_MAX : i == 1 ? DBL_TRUE_MIN : i == 2 ? 9007199254740993.0 : v;
        struct text t = {0};
        json_t *value;
        assert_int_equal(text_json_number(&t, v), OK);
        assert_int_equal(json_parse(t.data, t.len, "test", &value), OK);
        assert_true(!isfinite(v) || json_number_value(value) == v);
        json_decref(value);
        text_free(&t);
    }
}

static void test_distance(void **state) {
    (void)state;
    assert_int_equal(text_distance("", ""), 0);
    assert_int_equal(text_distance("", "abc"), 3);
    assert_int_equal(text_distance("kitten", "sitting"), 3);
    assert_int_equal(text_distance("train.learning_rate", "train.learnig_rate"), 1);
    assert_int_equal(text_distance("saturday", "sunday"), 3);
    char name[101];
    memset(name, 'x', 100);
    name[100] = 0;
    assert_int_equal(text_distance(name, "y"), 63); /* too long for the table: far */
    assert_true(text_starts("train.beta", "train.") && !text_starts("tra", "train"));
    assert_true(text_starts("x", "") && text_ends("x", "") && text_ends("a.jsonl.gz", ".gz"));
    assert_false(text_ends("gz", ".gz"));
}

static void test_hash(void **state) {
    (void)state;
    char digits[17];
    hash_text(hash_bytes("", 0, 0), digits);
    assert_string_equal(digits, "2d06800538d394c2"); /* XXH3 of nothing, by the xxHash specification */
    assert_true(hash_bytes("collimate", 9, 7) == 0xe73abff12b3293b4u);
    assert_true(hash_join(1, 2) != hash_join(2, 1));
    hash_text(5, digits);
    assert_string_equal(digits, "0000000000000005");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_append),
        cmocka_unit_test(test_json_strings),
        cmocka_unit_test(test_json_strings_of_noise),
        cmocka_unit_test(test_json_numbers),
        cmocka_unit_test(test_distance),
        cmocka_unit_test(test_hash),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
