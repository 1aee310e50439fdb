/* The hand-written cuts against PCRE2 on the same expressions, on random text of code points both know. */
#include "tests/unit.h"

#include <string.h>

#include "text/pretokenize.h"
#include "util/mem.h"
#include "util/rng.h"

static const char *const UNITS[] = {"a",
                                    "b",
                                    "S",
                                    "s",
                                    "t",
                                    "m",
                                    "d",
                                    "r",
                                    "e",
                                    "v",
                                    "l",
                                    "L",
                                    "Z",
                                    "0",
                                    "9",
                                    "'",
                                    "'",
                                    "'",
                                    ".",
                                    "-",
                                    "!",
                                    "_",
                                    " ",
                                    " ",
                                    " ",
                                    "\t",
                                    "\n",
                                    "\r",
                                    "\v",
                                    "\xc2\xa0",
                                    "\xc2\x85",
                                    "\xe2\x80\xa8",
                                    "\xe3\x80\x80",
                                    "\xe1\xa0\x8e",
                                    "\xc3\xa9",
                                    "\xc5\xbf",
                                    "\xe2\x84\xaa",
                                    "\xcc\x81",
                                    "\xc2\xb2",
                                    "\xe2\x85\xa7",
                                    "\xd9\xa3",
                                    "\xe4\xb8\xad",
                                    "\xea\xb0\x81",
                                    "\xe1\x84\x80",
                                    "\xf0\x9f\x91\x8d",
                                    "\xe2\x80\x8d",
                                    "\xf0\x9d\x95\xb3",
                                    "\xd8\xa8",
                                    "\xe0\xa4\x95",
                                    "\xe0\xa5\x8d",
                                    "\xef\xbc\x8c",
                                    "\xe2\x80\x99",
                                    "\xf4\x8f\xbf\xbf"};

static void make_text(struct rng *r, struct text *out) {
    text_clear(out);
    int64_t n = 1 + rng_below(r, 24);
    int64_t base = rng_below(r, COUNT_OF(UNITS)); /* few units a text, so that runs are common */
    for (int64_t i = 0; i < n; i++) {
        int64_t unit =
            rng_below(r, 3) ? (base + rng_below(r, 6)) % COUNT_OF(UNITS) : rng_below(r, COUNT_OF(UNITS));
        assert_int_equal(text_puts(out, UNITS[unit]), OK);
    }
}

static void compare(const char *regex, enum step_kind kind, int64_t texts) {
    struct step plain;
    struct step own;
    struct matcher *matcher;
    uint8_t *classes;
    struct text text = {0};
    struct rng r = rng_stream(7, RNG_CHECK, (int64_t)kind, 0);
    assert_int_equal(step_pattern(regex, true, &plain), OK);
    assert_int_equal(step_pattern(regex, false, &own), OK);
    assert_int_equal(plain.kind, STEP_PATTERN);
    assert_int_equal(own.kind, kind);
    assert_int_equal(matcher_open(&matcher), OK);
    assert_int_equal(unicode_classes(&classes), OK);
    for (int64_t i = 0; i < texts; i++) {
        make_text(&r, &text);
        for (size_t at = 0; at < text.len;) {
            size_t begin;
            size_t end;
            assert_int_equal(cut_match(matcher, &plain, text.data, text.len, at, &begin, &end), OK);
            size_t cut;
            assert_int_equal(cut_pieces(kind, classes, text.data, text.len, at, &cut, 1), 1);
            if (begin != at || end != cut) {
                FAIL("text \"%s\" at %zu: cut at %zu, PCRE2 says [%zu, %zu)", text.data, at, cut, begin, end);
            }
            at = cut;
        }
    }
    mem_free(classes);
    matcher_close(matcher);
    step_free(&plain);
    step_free(&own);
    text_free(&text);
}

static void gpt2_cuts_as_its_pattern(void **state) {
    (void)state;
    compare(PATTERN_GPT2, STEP_GPT2, 40000);
}

static void llama3_cuts_as_its_pattern(void **state) {
    (void)state;
    compare(PATTERN_LLAMA3, STEP_LLAMA3, 40000);
}

static void qwen_cuts_as_its_pattern(void **state) {
    (void)state;
    compare(PATTERN_QWEN, STEP_QWEN, 40000);
}

static void patterns_read_differently_are_refused(void **state) {
    (void)state;
    const char *const refused[] = {"\\w+",    "\\h", "a{1,2}+", "[a[bc]]",  "[a-z&&b]",
                                   "(?~abc)", "(a",  "\\p{L",   "\\p{Nope}"};
    for (int i = 0; i < COUNT_OF(refused); i++) {
        struct step step;
        enum status st = step_pattern(refused[i], false, &step);
        if (st != ERR_DATA || !strstr(status_message()->text, refused[i])) {
            FAIL("%s: status %d, %s", refused[i], (int)st, status_message()->text);
        }
    }
}

static void backtracking_has_an_end(void **state) {
    (void)state;
    enum { N = 400 };
    struct step step;
    struct matcher *matcher;
    char text[N];
    size_t begin;
    size_t end;
    memset(text, 'a', sizeof text);
    assert_int_equal(step_pattern("(a|aa|a+)+[bc]", false, &step), OK);
    assert_int_equal(matcher_open(&matcher), OK);
    assert_int_equal(cut_match(matcher, &step, text, sizeof text, 0, &begin, &end), ERR_DATA);
    matcher_close(matcher);
    step_free(&step);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gpt2_cuts_as_its_pattern), cmocka_unit_test(llama3_cuts_as_its_pattern),
        cmocka_unit_test(qwen_cuts_as_its_pattern), cmocka_unit_test(patterns_read_differently_are_refused),
        cmocka_unit_test(backtracking_has_an_end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
