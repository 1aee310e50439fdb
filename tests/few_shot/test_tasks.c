/* The sequence of users, as CPython draws it. */
#include "tests/unit.h"

#include <string.h>

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
    assert_int_equal(tasks_next(&t, 3), 0);
    assert_memory_equal(t.chosen, first, sizeof first);
    tasks_next(&t, 3);
    assert_memory_not_equal(t.chosen, first, sizeof first);
    tasks_close(&t);
    w.n_train = 20; /* all of them: the other way */
    must(tasks_open(&w, false, 20, 7, &t));
    tasks_next(&t, 3);
    for (int64_t i = 0; i < 20; i++) {
        assert_int_equal(t.chosen[i], i);
    }
    tasks_close(&t);
    assert_int_equal(tasks_open(&w, false, 21, 7, &t), ERR_DATA);
    world_free(&w);
}

/* Contexts of another set: targets are pairs on which the users differ, and of the set's pairs the share
 * does. A user's targets are drawn first, so that they are those of a user without. */
static void test_apart(void **state) {
    (void)state;
    static const double shares[] = {0, .25, 1};
    for (int i = 0; i < COUNT_OF(shares); i++) {
        const struct world_options o = {
            .rows = 2000, .seed = 0, .contexts_apart = true, .context_conflicting = shares[i]};
        struct world w;
        must(world_of_two_users(&o, &w));
        int64_t differ = 0;
        for (int64_t k = 0; k < w.n_train; k++) {
            differ += w.choices[w.train[k]] != w.choices[w.pairs + w.train[k]];
        }
        assert_int_equal(differ, w.n_train);
        differ = 0;
        for (int64_t k = 0; k < w.n_shown_train; k++) {
            differ += w.choices[w.shown_train[k]] != w.choices[w.pairs + w.shown_train[k]];
        }
        assert_true(w.n_train > 700 && w.n_shown_train <= w.n_train && w.n_shown_train >= w.n_train - 60);
        assert_int_equal(differ, (int64_t)((double)w.n_train * shares[i]));
        struct tasks t;
        must(tasks_open(&w, true, 12, 42, &t));
        struct mt19937 start = t.draws;
        int64_t targets[12];
        int64_t label = tasks_next(&t, 0);
        memcpy(targets, t.chosen, sizeof targets);
        t.draws = start;
        assert_int_equal(tasks_next(&t, 5), label);
        assert_memory_equal(targets, t.chosen, sizeof targets);
        for (int k = 0; k < 5; k++) { /* of the test split's contexts, no one twice */
            int times = 0;
            for (int64_t j = 0; j < w.n_shown_test; j++) {
                times += w.shown_test[j] == t.shown[k];
            }
            assert_int_equal(times, 1);
            for (int j = 0; j < k; j++) {
                assert_true(t.shown[j] != t.shown[k]);
            }
        }
        tasks_close(&t);
        world_free(&w);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_users), cmocka_unit_test(test_apart)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
