/* What finds added tokens: the leftmost, there the longest, as a search of every place says. */
#include "tests/unit.h"

#include <string.h>

#include "text/vocabulary.h"
#include "util/mem.h"
#include "util/rng.h"

enum { STRINGS = 6, LONGEST = 6, TEXT = 120 };

struct set {
    char strings[STRINGS][LONGEST];
    size_t lengths[STRINGS];
    int n;
};

static void make_set(struct rng *r, struct set *set, struct finder *f) {
    set->n = (int)(1 + rng_below(r, STRINGS));
    assert_int_equal(finder_open(f), OK);
    bool has_short = rng_below(r, 3) == 0;
    for (int i = 0; i < set->n; i++) {
        set->lengths[i] = (size_t)(has_short ? 1 + rng_below(r, LONGEST) : 2 + rng_below(r, LONGEST - 1));
        for (size_t k = 0; k < set->lengths[i]; k++) {
            set->strings[i][k] = (char)("<|a\xe2"[rng_below(r, k == 0 ? 2 : 4)]);
        }
        assert_int_equal(finder_add(f, set->strings[i], set->lengths[i], i), OK);
    }
}

/* The longest of the set's strings at s[at]; 0: none. */
static size_t longest(const struct set *set, const char *s, size_t n, size_t at) {
    size_t best = 0;
    for (int i = 0; i < set->n; i++) {
        size_t length = set->lengths[i];
        if (length > best && length <= n - at && memcmp(s + at, set->strings[i], length) == 0) {
            best = length;
        }
    }
    return best;
}

static void check_text(const struct set *set, const struct finder *f, const char *s, size_t n) {
    size_t found_end = 0;
    for (size_t at = 0; at <= n;) {
        size_t expected = at;
        while (expected < n && longest(set, s, n, expected) == 0) {
            expected++;
        }
        size_t begin = n;
        size_t end = n;
        int32_t id = -1;
        bool found = finder_next(f, s, n, at, &begin, &end, &id);
        assert_int_equal(found, expected < n);
        if (!found) {
            break;
        }
        assert_int_equal(begin, expected);
        assert_int_equal(end - begin, longest(set, s, n, expected));
        assert_true(set->lengths[id] == end - begin && memcmp(set->strings[id], s + begin, end - begin) == 0);
        at = found_end = end;
    }
    if (found_end == n && n > 0) {
        assert_true(finder_may_end(f, s[n - 1]));
    }
}

static void finds_the_leftmost_and_longest(void **state) {
    (void)state;
    struct rng r = rng_stream(29, RNG_CHECK, 0, 0);
    for (int i = 0; i < 3000; i++) {
        struct set set;
        struct finder f;
        make_set(&r, &set, &f);
        for (int k = 0; k < 20; k++) {
            size_t n = (size_t)rng_below(&r, TEXT);
            char *s =
                mem_calloc((int64_t)n, 1); /* of its own size, so that a sanitizer sees a read behind it */
            assert_non_null(s);
            for (size_t at = 0; at < n; at++) {
                s[at] = rng_below(&r, 1 + k) ? '.' : (char)("<|a\xe2"[rng_below(&r, 4)]);
            }
            check_text(&set, &f, s, n);
            mem_free(s);
        }
        finder_free(&f);
    }
}

static void nothing_is_found_of_nothing(void **state) {
    (void)state;
    struct finder f;
    size_t begin;
    size_t end;
    int32_t id;
    assert_int_equal(finder_open(&f), OK);
    assert_false(finder_next(&f, "abc", 3, 0, &begin, &end, &id));
    for (int c = 0; c < 256; c++) {
        assert_false(finder_may_end(&f, (char)c));
    }
    finder_free(&f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(finds_the_leftmost_and_longest),
        cmocka_unit_test(nothing_is_found_of_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
