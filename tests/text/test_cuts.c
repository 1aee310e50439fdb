/* The hand-written cuts beside PCRE2 on generated text of all code points whose class both agree on: every
 * script with its marks, contractions, numbers, white space with line ends, punctuation, controls, points
 * that mean nothing. (Text that is not valid UTF-8 never comes so far: encode.c refuses it.)
 *
 * test_cuts MEGABYTES takes so much text for each of the three patterns; the tests take a fixed amount. */
#include "tests/unit.h"

#include <stdio.h>
#include <string.h>

#include "text/pretokenize.h"
#include "util/mem.h"
#include "util/rng.h"

enum { USUAL_BYTES = 1500000 };

static int64_t wanted_bytes = USUAL_BYTES;

/* What text is drawn from: [first[range], first[range + 1]) of points are neighbours of one class. */
static struct {
    uint8_t *classes;
    uint32_t *points;
    int64_t n, capacity;
    int64_t *first;
    int64_t n_ranges, ranges_capacity;
    struct matcher *matcher;
} all;

static bool matches(const struct step *step, const char *s, int n) {
    size_t begin;
    size_t end;
    assert_int_equal(cut_match(all.matcher, step, s, (size_t)n, 0, &begin, &end), OK);
    return begin == 0 && end == (size_t)n;
}

/* All code points that PCRE2 knows; the others are those that came to Unicode later than to it. */
static void every_class_is_that_of_the_pattern(void **state) {
    (void)state;
    static const char *const regexes[] = {"\\p{L}", "\\p{N}", "\\s", "\\p{Cn}"};
    enum { LETTER, NUMBER, SPACE, UNASSIGNED, REGEXES };
    struct step steps[REGEXES];
    int64_t later = 0;
    int before = -1;
    for (int i = 0; i < REGEXES; i++) {
        assert_int_equal(step_pattern(regexes[i], true, &steps[i]), OK);
    }
    for (uint32_t point = 0; point < CODE_POINTS; point++) {
        char s[4];
        if (point >= 0xD800 && point <= 0xDFFF) {
            continue;
        }
        int n = utf8_put(point, s);
        int class = (matches(&steps[LETTER], s, n) ? CLASS_LETTER : 0) |
                    (matches(&steps[NUMBER], s, n) ? CLASS_NUMBER : 0) |
                    (matches(&steps[SPACE], s, n) ? CLASS_SPACE : 0);
        int own = all.classes[point] & (CLASS_LETTER | CLASS_NUMBER | CLASS_SPACE);
        if (own != class) {
            if (!matches(&steps[UNASSIGNED], s, n)) {
                FAIL("U+%04X: class %d, PCRE2 says %d", (unsigned)point, own, class);
            }
            later++;
            before = -1;
            continue;
        }
        assert_int_equal(GROW_ARRAY(all.points, all.capacity, all.n + 1), OK);
        if (class != before) {
            assert_int_equal(GROW_ARRAY(all.first, all.ranges_capacity, all.n_ranges + 2), OK);
            all.first[all.n_ranges++] = all.n;
        }
        before = class;
        all.points[all.n++] = point;
        all.first[all.n_ranges] = all.n;
    }
    print_message("%lld code points in %lld ranges; %lld are newer than PCRE2's Unicode\n", (long long)all.n,
                  (long long)all.n_ranges, (long long)later);
    assert_true(all.n > 1000000 && later < 20000);
    for (int i = 0; i < REGEXES; i++) {
        step_free(&steps[i]);
    }
}

static void put_point(uint32_t point, struct text *out) {
    char s[4];
    assert_int_equal(text_append(out, s, (size_t)utf8_put(point, s)), OK);
}

/* n points of one range. */
static void put_run(struct rng *r, int64_t range, int64_t n, struct text *out) {
    int64_t first = all.first[range];
    int64_t size = all.first[range + 1] - first;
    while (n-- > 0) {
        put_point(all.points[first + rng_below(r, size)], out);
    }
}

static void put_ascii(struct rng *r, char low, char high, int64_t n, struct text *out) {
    while (n-- > 0) {
        char c = (char)(low + rng_below(r, high - low + 1));
        assert_int_equal(text_append(out, &c, 1), OK);
    }
}

static void pick(struct rng *r, const char *const *list, int n, struct text *out) {
    assert_int_equal(text_puts(out, list[rng_below(r, n)]), OK);
}

static const char *const CONTRACTIONS[] = {"'s",
                                           "'t",
                                           "'re",
                                           "'ve",
                                           "'m",
                                           "'ll",
                                           "'d",
                                           "'S",
                                           "'T",
                                           "'RE",
                                           "'Ve",
                                           "'M",
                                           "'lL",
                                           "'D",
                                           "'\xc5\xbf",
                                           "'r",
                                           "'v",
                                           "'l",
                                           "'",
                                           "''s",
                                           "'x",
                                           "\xe2\x80\x99s",
                                           "'\xe2\x84\xaa",
                                           "'rE",
                                           "'\xc5\xbf\xc5\xbf"};
static const char *const BLANKS[] = {" ",
                                     " ",
                                     " ",
                                     "  ",
                                     "\n",
                                     "\n\n",
                                     "\r\n",
                                     "\t",
                                     "\v",
                                     "\f",
                                     "\xc2\xa0",
                                     "\xc2\x85",
                                     "   ",
                                     " \n ",
                                     "\n  ",
                                     "\xe2\x80\xa8",
                                     "\xe3\x80\x80",
                                     "\r",
                                     "\x1c",
                                     "\xe1\xa0\x8e",
                                     "\xe2\x80\x8b"};
static const char *const MARKS[] = {".",  ",",  "!?", "...",          "-",   "_",
                                    "()", "\"", "/*", "\xef\xbc\x8c", "#\n", "=\r\n"};

enum { PARTS_OF_ASCII = 10, PARTS = 13 };

static void put_part(struct rng *r, int parts, struct text *out) {
    switch (rng_below(r, parts)) {
    case 0:
    case 1:
    case 2:
        put_ascii(r, 'a', 'z', rng_below(r, 8) ? rng_below(r, 9) : rng_below(r, 70), out);
        return;
    case 3:
        put_ascii(r, 'A', 'Z', 1 + rng_below(r, 3), out);
        return;
    case 4:
        put_ascii(r, '0', '9', 1 + rng_below(r, 8), out);
        return;
    case 5:
        pick(r, CONTRACTIONS, COUNT_OF(CONTRACTIONS), out);
        return;
    case 6:
    case 7:
        for (int64_t n = 1 + rng_below(r, 4) * rng_below(r, 2); n > 0; n--) {
            pick(r, BLANKS, COUNT_OF(BLANKS), out);
        }
        return;
    case 8:
        pick(r, MARKS, COUNT_OF(MARKS), out);
        return;
    case 9:
        put_ascii(r, '\x01', '\x7f', 1 + rng_below(r, 4), out);
        return;
    case PARTS_OF_ASCII: /* of a script */
    case PARTS_OF_ASCII + 1:
        put_run(r, rng_below(r, all.n_ranges), 1 + rng_below(r, rng_below(r, 4) ? 6 : 40), out);
        return;
    default: /* of them all */
        put_point(all.points[rng_below(r, all.n)], out);
    }
}

/* Every other text is ASCII but for a few of its blanks, marks and contractions. */
static void make_text(struct rng *r, struct text *out) {
    int parts = rng_below(r, 2) ? PARTS_OF_ASCII : PARTS;
    text_clear(out);
    for (int64_t n = 1 + rng_below(r, rng_below(r, 50) ? 40 : 4000); n > 0; n--) {
        put_part(r, parts, out);
    }
}

static void compare_text(const struct step *plain, struct rng *r, enum step_kind kind, const char *s,
                         size_t n) {
    enum { MOST = 64 };
    size_t ends[MOST];
    for (size_t at = 0; at < n;) {
        int count = cut_pieces(kind, all.classes, s, n, at, ends, (int)(1 + rng_below(r, MOST)));
        assert_true(count > 0);
        for (int i = 0; i < count; i++) {
            size_t begin;
            size_t end;
            assert_int_equal(cut_match(all.matcher, plain, s, n, at, &begin, &end), OK);
            if (begin != at || end != ends[i]) {
                FAIL("pattern %d: cut at %zu, PCRE2 says [%zu, %zu), behind %zu of \"%.*s\"", (int)kind,
                     ends[i], begin, end, at, (int)n, s);
            }
            at = end;
        }
    }
}

static void compare(const char *regex, enum step_kind kind) {
    struct step plain;
    struct text text = {0};
    struct rng r = rng_stream(17, RNG_CHECK, (int64_t)kind, 0);
    int64_t bytes = 0;
    assert_int_equal(step_pattern(regex, true, &plain), OK);
    while (bytes < wanted_bytes) {
        make_text(&r, &text);
        /* In memory of its own size, so that a sanitizer sees a read behind it. */
        char *own = mem_strndup(text.data, text.len);
        assert_non_null(own);
        compare_text(&plain, &r, kind, own, text.len);
        mem_free(own);
        bytes += (int64_t)text.len;
    }
    print_message("%lld bytes cut alike\n", (long long)bytes);
    step_free(&plain);
    text_free(&text);
}

static void gpt2_cuts_alike(void **state) {
    (void)state;
    compare(PATTERN_GPT2, STEP_GPT2);
}

static void llama3_cuts_alike(void **state) {
    (void)state;
    compare(PATTERN_LLAMA3, STEP_LLAMA3);
}

static void qwen_cuts_alike(void **state) {
    (void)state;
    compare(PATTERN_QWEN, STEP_QWEN);
}

static int open_all(void **state) {
    (void)state;
    return unicode_classes(&all.classes) == OK && matcher_open(&all.matcher) == OK ? 0 : -1;
}

static int close_all(void **state) {
    (void)state;
    matcher_close(all.matcher);
    mem_free(all.classes);
    mem_free(all.points);
    mem_free(all.first);
    return 0;
}

int main(int argc, char **argv) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_class_is_that_of_the_pattern),
        cmocka_unit_test(gpt2_cuts_alike),
        cmocka_unit_test(llama3_cuts_alike),
        cmocka_unit_test(qwen_cuts_alike),
    };
    if (argc > 1) {
        wanted_bytes = strtoll(argv[1], NULL, 10) * 1000000;
    }
    return cmocka_run_group_tests(tests, open_all, close_all);
}
