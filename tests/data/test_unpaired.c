/* Rows of labelled responses: which of a file of pairs stands where, and whose response stands behind another
 * prompt. */
#include "tests/unit.h"

#include "data/unpaired.h"

static void test_partners(void **state) {
    (void)state;
    /* Eleven rows in blocks of four: 0 1 2 3 | 4 5 6 7 | 8 9 10. */
    static const int64_t want[11] = {3, 0, 1, 2, 7, 4, 5, 6, 10, 8, 9};
    for (int64_t row = 0; row < 11; row++) {
        assert_int_equal(unpaired_partner(11, 4, row), want[row]);
    }
    assert_int_equal(unpaired_partner(9, 4, 8), 8); /* alone in the last one: its own, as in TRL */
    assert_int_equal(unpaired_partner(3, 100, 0), 2);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_partners)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
