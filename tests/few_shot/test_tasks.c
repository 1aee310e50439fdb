/* The sequence of users, as CPython draws it. */
#include "tests/unit.h"

#include "few_shot/tasks.h"
#include "util/mem.h"

static void must(enum status st) {
    if (st != OK) {
        FAIL("%s", status_message()->text);
    }
}

/* random.Random(42): the label, then nine of a thousand pairs, as CPython draws them (both ways of its
 * sample). */
static void test_users(void **state) {
    (void)state;
    enum { PAIRS = 1000 };
    static const int64_t first[] = {25, 104, 142, 228, 250, 281, 692, 754, 759};
    struct world w = {.pairs = PAIRS, .labels = 2, .n_train = PAIRS};
    struct tasks t;
    must(NEW_ARRAY(w.train, PAIRS));
    for (int64_t i = 0; i < PAIRS; i++) {
        w.train[i] = i;
    }
    must(tasks_open(&w, false, 9, 42, &t));
    assert_int_equal(tasks_next(&t), 0);
    assert_memory_equal(t.chosen, first, sizeof first);
    tasks_next(&t);
    assert_memory_not_equal(t.chosen, first, sizeof first);
    tasks_close(&t);
    w.n_train = 20; /* all of them: the other way */
    must(tasks_open(&w, false, 20, 7, &t));
    tasks_next(&t);
    for (int64_t i = 0; i < 20; i++) {
        assert_int_equal(t.chosen[i], i);
    }
    tasks_close(&t);
    assert_int_equal(tasks_open(&w, false, 21, 7, &t), ERR_DATA);
    world_free(&w);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_users)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
