/* The quick reader of JSON beside Jansson: the same value, or none where Jansson has none. */
#include "tests/unit.h"

#include <stdio.h>
#include <string.h>

#include "util/json_quick.h"
#include "util/mem.h"
#include "util/rng.h"
#include "util/text.h"

static json_t *by_jansson(const char *s, size_t n) {
    json_error_t error;
    return json_loadb(s, n, JSON_ALLOW_NUL | JSON_DECODE_ANY, &error);
}

/* Whether it was taken. */
static bool compare(const char *s, size_t n) {
    json_t *own = NULL;
    json_t *expected = by_jansson(s, n);
    assert_int_equal(json_quick(s, n, &own), OK);
    if (own && !expected) {
        FAIL("taken, but Jansson refuses it: %.*s", (int)n, s);
    }
    if (own) {
        /* As text too: numbers to the last bit, members in their order. */
        char *a = json_dumps(own, JSON_ENCODE_ANY | JSON_REAL_PRECISION(17));
        char *b = json_dumps(expected, JSON_ENCODE_ANY | JSON_REAL_PRECISION(17));
        assert_non_null(a);
        assert_non_null(b);
        if (strcmp(a, b) != 0 || !json_equal(own, expected)) {
            FAIL("%.*s\nis %s\nnot %s", (int)n, s, b, a);
        }
        free(a);
        free(b);
    }
    bool taken = own != NULL;
    json_decref(own);
    json_decref(expected);
    return taken;
}

static void pick(struct rng *r, const char *const *list, int n, struct text *out) {
    assert_int_equal(text_puts(out, list[rng_below(r, n)]), OK);
}

/* Runs of 0 to 40 plain bytes between what is not plain, so that both ends fall on every place of a word. */
static void put_string(struct rng *r, struct text *out) {
    static const char *const units[] = {"\\n",          "\\\\",         "\\\"",    "\\/",
                                        "\\b",          "\\f",          "\\r",     "\\t",
                                        "\\u0000",      "\\u00e9",      "\\uFFFF", "\\ud83d\\ude00",
                                        "\xc3\xa9",     "\xe4\xb8\xad", "\x7f",    "\xf0\x9f\x91\x8d",
                                        "\xc2\x80",     "\xef\xbf\xbf", "{",       "\xf4\x8f\xbf\xbf",
                                        "\xe0\xa0\x80", "\xed\x9f\xbf", "NaN",     "\\u2028"};
    static const char *const wrong[] = {
        "\\ud800", "\\udc00",      "\\ud800\\u0041", "\\x41",        "\\u12g4", "\n",     "\x1f", "\xc0\x80",
        "\xff",    "\xe0\x80\x80", "\xed\xa0\x80",   "\xf5\x80\x80", "\xc3",    "\\u123", "\\"};
    assert_int_equal(text_puts(out, "\""), OK);
    for (int64_t i = rng_below(r, 4); i > 0; i--) {
        for (int64_t run = rng_below(r, 41); run > 0; run--) {
            char plain = (char)('#' + rng_below(r, '[' - '#'));
            assert_int_equal(text_append(out, &plain, 1), OK);
        }
        pick(r, units, COUNT_OF(units), out);
        if (rng_below(r, 100) == 0) {
            pick(r, wrong, COUNT_OF(wrong), out);
        }
    }
    assert_int_equal(text_puts(out, "\""), OK);
}

static void put_blank(struct rng *r, struct text *out) {
    static const char *const blanks[] = {"", "", "", " ", "\n", "\t\r", "  \n  "};
    pick(r, blanks, COUNT_OF(blanks), out);
}

static void put_value(struct rng *r, int depth, struct text *out) {
    static const char *const words[] = {"true",   "false",
                                        "null",   "0",
                                        "-0",     "7",
                                        "-12",    "123456789012345678",
                                        "1.5",    "-2e3",
                                        "1E-400", "0.1",
                                        "1e+22",  "3.14159265358979323846",
                                        "-0.0",   "1234567890123456789",
                                        "1e309",  "01",
                                        "1.",     ".5",
                                        "+1",     "truex",
                                        "nul",    "99999999999999999999"};
    enum { RIGHT = 15 };
    put_blank(r, out);
    int64_t kind = rng_below(r, depth > 0 ? 5 : 3);
    if (kind == 0) {
        pick(r, words, rng_below(r, 40) == 0 ? COUNT_OF(words) : RIGHT, out);
    } else if (kind < 3) {
        put_string(r, out);
    } else {
        bool object = kind == 3;
        assert_int_equal(text_puts(out, object ? "{" : "["), OK);
        for (int64_t i = 0, n = rng_below(r, 4); i < n; i++) {
            assert_int_equal(text_puts(out, i ? "," : ""), OK);
            put_blank(r, out);
            if (object && rng_below(r, 3) == 0) {
                assert_int_equal(text_puts(out, "\"twice\" :"), OK);
            } else if (object) {
                put_string(r, out);
                assert_int_equal(text_puts(out, ":"), OK);
            }
            put_value(r, depth - 1, out);
            put_blank(r, out);
        }
        assert_int_equal(text_puts(out, object ? "}" : "]"), OK);
    }
    put_blank(r, out);
}

static void agrees_on_random_texts(void **state) {
    (void)state;
    enum { TEXTS = 60000 };
    struct rng r = rng_stream(11, RNG_CHECK, 0, 0);
    struct text text = {0};
    int taken = 0;
    int changed_taken = 0;
    for (int i = 0; i < TEXTS; i++) {
        text_clear(&text);
        put_value(&r, 4, &text);
        bool whole = i % 2 == 0;
        for (int64_t k = rng_below(&r, 3); k > 0 && !whole; k--) {
            text.data[rng_below(&r, (int64_t)text.len)] =
                rng_below(&r, 2) ? (char)rng_u32(&r) : "\"\\{}[]:,0e \x1f"[rng_below(&r, 12)];
        }
        size_t n = whole || rng_below(&r, 4) ? text.len : (size_t)rng_below(&r, (int64_t)text.len + 1);
        /* In memory of its own size, so that a sanitizer sees a read behind it. */
        char *own = mem_strndup(text.data, n);
        assert_non_null(own);
        bool is_taken = compare(own, n);
        taken += whole && is_taken;
        changed_taken += !whole && is_taken;
        mem_free(own);
    }
    text_free(&text);
    /* What is right is nearly always taken; of what was changed something still is, and something is not. */
    assert_true(taken > TEXTS / 2 * 8 / 10);
    assert_true(changed_taken > TEXTS / 20 && changed_taken < TEXTS / 2);
}

static void what_is_common_is_taken(void **state) {
    (void)state;
    static const char record[] =
        "{\"chosen\": \"\\n\\nHuman: caf\xc3\xa9 \\u00e9\\n\\nAssistant: \\\"yes\\\"\", "
        "\"rejected\": \"\", \"scores\": [1, -2.5, 1e-3], \"ok\": true, \"x\": null}";
    assert_true(compare(record, strlen(record)));
    assert_true(compare("[]", 2));
    assert_true(compare(" {} ", 4));
    assert_true(compare("{\"a\":1,\"b\":2,\"a\":3}", 19)); /* the last wins, in the first's place */
    assert_false(compare("", 0));
    assert_false(compare("1 2", 3));
    assert_false(compare("1\0", 2));
    assert_false(compare("{\"a\\u0000b\":1}", 14));   /* Jansson refuses such a key */
    assert_false(compare("1234567890123456789", 19)); /* left to Jansson */
}

static void nesting_is_bounded(void **state) {
    (void)state;
    enum { DEEP = 100000 };
    char *deep = mem_calloc(DEEP, 1);
    assert_non_null(deep);
    memset(deep, '[', DEEP);
    assert_false(compare(deep, DEEP));
    memset(deep + DEEP / 2, ']', DEEP / 2);
    assert_false(compare(deep, DEEP));
    assert_false(compare(deep + DEEP / 2 - 200, 400)); /* right, but left to Jansson */
    assert_true(compare(deep + DEEP / 2 - 50, 100));
    mem_free(deep);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(agrees_on_random_texts),
        cmocka_unit_test(what_is_common_is_taken),
        cmocka_unit_test(nesting_is_bounded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
