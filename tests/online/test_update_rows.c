/* Which of a rollout's responses an update learns from, by hand. */
#include "tests/unit.h"

#include "online/update_rows.h"

/* Two prompts with four samples each: ties within a prompt, and between prompts. */
static const struct rollout rollout = {.n = 2, .samples = 4, .own = 4};
static const double scores[] = {1, 3, 3, 0, 2, 0, 3, 0};

static void assert_row(const struct update_rows *r, int64_t row, int64_t prompt, int64_t n,
                       const int64_t *want) {
    assert_int_equal(r->prompt[row], prompt);
    assert_int_equal(r->first[row + 1] - r->first[row], n);
    for (int64_t i = 0; i < n; i++) {
        assert_int_equal(r->response[r->first[row] + i], want[i]);
    }
}

static void test_groups(void **state) {
    (void)state;
    struct update_rows rows = {0};
    assert_int_equal(update_rows_groups(&rollout, &rows), OK);
    assert_int_equal(rows.n, 2);
    assert_row(&rows, 0, 0, 4, (int64_t[]){0, 1, 2, 3});
    assert_row(&rows, 1, 1, 4, (int64_t[]){4, 5, 6, 7});
    assert_false(rows.is_paired);
    update_rows_free(&rows);
}

/* Of three that are best two are kept: the lower numbers; a small share keeps one. */
static void test_top(void **state) {
    (void)state;
    struct update_rows rows = {0};
    assert_int_equal(update_rows_top(&rollout, scores, .25, &rows), OK);
    assert_int_equal(rows.n, 2);
    assert_row(&rows, 0, 0, 1, (int64_t[]){1});
    assert_row(&rows, 1, 0, 1, (int64_t[]){2});
    assert_int_equal(update_rows_top(&rollout, scores, .5, &rows), OK);
    assert_int_equal(rows.n, 4);
    assert_row(&rows, 2, 1, 1, (int64_t[]){4});
    assert_row(&rows, 3, 1, 1, (int64_t[]){6});
    assert_int_equal(update_rows_top(&rollout, scores, 1e-9, &rows), OK);
    assert_int_equal(rows.n, 1);
    assert_row(&rows, 0, 0, 1, (int64_t[]){1});
    assert_int_equal(update_rows_top(&rollout, scores, 1, &rows), OK);
    assert_int_equal(rows.n, 8);
    update_rows_free(&rows);
}

static void test_best(void **state) {
    (void)state;
    struct update_rows rows = {0};
    assert_int_equal(update_rows_best(&rollout, scores, &rows), OK);
    assert_int_equal(rows.n, 2);
    assert_row(&rows, 0, 0, 1, (int64_t[]){1});
    assert_row(&rows, 1, 1, 1, (int64_t[]){6});
    update_rows_free(&rows);
}

/* The first of the best against the last of the worst; where all are alike, the first against the last. */
static void test_pairs(void **state) {
    (void)state;
    static const double alike[] = {5, 5, 5, 5, 5, 5, 5, 5};
    struct update_rows rows = {0};
    assert_int_equal(update_rows_pairs(&rollout, scores, &rows), OK);
    assert_true(rows.is_paired);
    assert_row(&rows, 0, 0, 2, (int64_t[]){1, 3});
    assert_row(&rows, 1, 1, 2, (int64_t[]){6, 7});
    assert_int_equal(update_rows_pairs(&rollout, alike, &rows), OK);
    assert_row(&rows, 0, 0, 2, (int64_t[]){0, 3});
    update_rows_free(&rows);
}

/* The last sample of each prompt is another's. */
static void test_own(void **state) {
    (void)state;
    const struct rollout two = {.n = 3, .samples = 2, .own = 1};
    struct update_rows rows = {0};
    assert_int_equal(update_rows_own(&two, &rows), OK);
    assert_int_equal(rows.n, 3);
    assert_row(&rows, 2, 2, 1, (int64_t[]){4});
    assert_true(rollout_is_own(&two, 4) && !rollout_is_own(&two, 5));
    update_rows_free(&rows);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_groups), cmocka_unit_test(test_top),
                                       cmocka_unit_test(test_best), cmocka_unit_test(test_pairs),
                                       cmocka_unit_test(test_own)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
