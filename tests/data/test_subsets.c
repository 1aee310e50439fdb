/* RewardBench's sections: weights by its own counts of examples, whatever the file has. */
#include "tests/unit.h"

#include <math.h>

#include "data/subsets.h"

static void test_sections(void **state) {
    (void)state;
    char *names[] = {"math-prm", "alpacaeval-easy", "hep-rust", "mt-bench-easy", "my-own"};
    const double accuracies[] = {.5, 1, .75, .25, 0};
    struct section_score out[SECTION_COUNT];
    assert_int_equal(subsets_sections(5, names, accuracies, out), 4);
    assert_string_equal(out[0].name, "Chat");
    assert_true(out[0].weight == 128 && out[1].weight == 0 && out[2].weight == 0 && out[3].weight == 1148);
    assert_true(fabs(out[0].accuracy - (100 * 1. + 28 * .25) / 128) < 1e-15);
    assert_true(fabs(out[3].accuracy - (984 * .5 + 164 * .75) / 1148) < 1e-15);
    /* A subset without rows, as in a part of the data, counts for nothing. */
    const double part[] = {.5, NAN, NAN, .25, 0};
    assert_int_equal(subsets_sections(5, names, part, out), 2);
    assert_true(out[0].weight == 28 && fabs(out[0].accuracy - .25) < 1e-15);
    assert_true(out[3].weight == 984 && fabs(out[3].accuracy - .5) < 1e-15);
}

/* The whole benchmark: 358 + 456 + 740 + 1968 examples. */
static void test_whole(void **state) {
    (void)state;
    char *names[] = {"alpacaeval-easy",
                     "alpacaeval-length",
                     "alpacaeval-hard",
                     "mt-bench-easy",
                     "mt-bench-med",
                     "mt-bench-hard",
                     "llmbar-natural",
                     "llmbar-adver-neighbor",
                     "llmbar-adver-GPTInst",
                     "llmbar-adver-GPTOut",
                     "llmbar-adver-manual",
                     "refusals-dangerous",
                     "refusals-offensive",
                     "xstest-should-refuse",
                     "xstest-should-respond",
                     "donotanswer",
                     "math-prm",
                     "hep-cpp",
                     "hep-go",
                     "hep-java",
                     "hep-js",
                     "hep-python",
                     "hep-rust"};
    double accuracies[COUNT_OF(names)];
    struct section_score out[SECTION_COUNT];
    for (int i = 0; i < COUNT_OF(names); i++) {
        accuracies[i] = 1;
    }
    assert_int_equal(subsets_sections(COUNT_OF(names), names, accuracies, out), COUNT_OF(names));
    const double weights[SECTION_COUNT] = {358, 456, 740, 1968};
    for (int i = 0; i < SECTION_COUNT; i++) {
        assert_true(out[i].weight == weights[i] && out[i].accuracy == 1);
    }
}

/* Lists of two ranks or threads become one, and rows keep their names. */
static void test_merge(void **state) {
    (void)state;
    struct subsets a = {0};
    struct subsets b = {0};
    int32_t place;
    assert_int_equal(subsets_place(&a, "x", &place), OK);
    assert_int_equal(subsets_place(&a, "y", &place), OK);
    assert_int_equal(subsets_place(&a, "x", &place), OK);
    assert_int_equal(place, 0);
    assert_int_equal(subsets_place(&a, "", &place), OK);
    assert_int_equal(place, -1);
    assert_int_equal(subsets_place(&b, "z", &place), OK);
    assert_int_equal(subsets_place(&b, "y", &place), OK);
    int32_t rows[] = {1, -1, 0, 1};
    assert_int_equal(subsets_merge(&a, &b, rows, COUNT_OF(rows)), OK);
    assert_int_equal(a.n, 3);
    assert_string_equal(a.names[2], "z");
    const int32_t expected[] = {1, -1, 2, 1};
    assert_memory_equal(rows, expected, sizeof rows);
    assert_int_equal(subsets_place(&a, "two\nlines", &place), ERR_DATA);
    subsets_free(&a);
    subsets_free(&b);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sections),
        cmocka_unit_test(test_whole),
        cmocka_unit_test(test_merge),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
