/* RewardBench's sections: weights by its own counts of examples, whatever the file has. */
#include "../unit.h"

#include <math.h>

#include "command/subsets.h"

static void test_sections(void **state) {
    (void)state;
    char *names[] = {"math-prm", "alpacaeval-easy", "hep-rust", "mt-bench-easy", "my-own"};
    const double accuracies[] = {.5, 1, .75, .25, 0};
    const struct subsets s = {.n = 5, .names = names};
    struct section_score out[SECTION_COUNT];
    assert_int_equal(subsets_sections(&s, accuracies, out), 1);
    assert_string_equal(out[0].name, "Chat");
    assert_true(out[0].weight == 128 && out[1].weight == 0 && out[2].weight == 0 && out[3].weight == 1148);
    assert_true(fabs(out[0].accuracy - (100 * 1. + 28 * .25) / 128) < 1e-15);
    assert_true(fabs(out[3].accuracy - (984 * .5 + 164 * .75) / 1148) < 1e-15);
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
    const struct subsets s = {.n = COUNT_OF(names), .names = names};
    struct section_score out[SECTION_COUNT];
    for (int i = 0; i < COUNT_OF(names); i++) {
        accuracies[i] = 1;
    }
    assert_int_equal(subsets_sections(&s, accuracies, out), 0);
    const double weights[SECTION_COUNT] = {358, 456, 740, 1968};
    for (int i = 0; i < SECTION_COUNT; i++) {
        assert_true(out[i].weight == weights[i] && out[i].accuracy == 1);
    }
}

static void test_find(void **state) {
    (void)state;
    int16_t of_record[] = {1, -1, 0};
    const struct subsets s = {.n_records = 3, .of_record = of_record};
    assert_int_equal(subsets_find(&s, 0), 1);
    assert_int_equal(subsets_find(&s, 1), -1);
    assert_int_equal(subsets_find(&s, 3), -1);
    assert_int_equal(subsets_find(&s, -1), -1);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sections),
        cmocka_unit_test(test_whole),
        cmocka_unit_test(test_find),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
