/* Sums' tree, and the extremes of values. */
#include "tests/unit.h"

#include "evaluate/sums.h"

/* Eight leaves as one, two or four subtrees: the same bits, which plain summation in order does not give. */
static void test_tree(void **state) {
    (void)state;
    const double leaf[8] = {1e16, 1, -1e16, 1, 3e15, 1e-3, 7, -2.5};
    double whole = 0;
    for (int parts = 1; parts <= 8; parts *= 2) {
        double level[8];
        for (int p = 0; p < parts; p++) {
            struct sums_tree t;
            sums_tree_begin(&t, true);
            for (int i = p * 8 / parts; i < (p + 1) * 8 / parts; i++) {
                struct sums s = {.v = {leaf[i]}};
                sums_tree_push(&t, &s);
            }
            level[p] = t.total.v[0];
        }
        for (int n = parts; n > 1; n /= 2) {
            for (int i = 0; i < n / 2; i++) {
                level[i] = level[2 * i] + level[2 * i + 1];
            }
        }
        whole = parts == 1 ? level[0] : whole;
        assert_memory_equal(&level[0], &whole, sizeof whole);
    }
}

/* Sums of nothing do not bring their zeros into the extremes. */
static void test_extremes(void **state) {
    (void)state;
    struct sums_tree tree;
    for (int deterministic = 0; deterministic < 2; deterministic++) {
        const struct sums empty = {0};
        struct sums a = {.lowest = 2, .highest = 5}, b = {.lowest = 3, .highest = 7};
        a.v[SUM_RESPONSES] = b.v[SUM_RESPONSES] = 1;
        sums_tree_begin(&tree, deterministic);
        sums_tree_push(&tree, &empty);
        sums_tree_push(&tree, &a);
        sums_tree_push(&tree, &b);
        sums_tree_push(&tree, &empty);
        assert_true(tree.total.lowest == 2 && tree.total.highest == 7 && tree.total.v[SUM_RESPONSES] == 2);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_tree),
        cmocka_unit_test(test_extremes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
