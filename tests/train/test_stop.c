/* When a run has to end: durations and times, and the votes at the edge of their bounds. */
#include "tests/unit.h"

#include <math.h>
#include <signal.h>
#include <string.h>

#include "train/stop.h"

static double parsed(const char *text) {
    double at = -1;
    assert_int_equal(stop_parse(text, 1000, &at), OK);
    return at;
}

static void test_parse(void **state) {
    (void)state;
    assert_true(parsed("") == 0);
    assert_true(parsed("9000") == 10000);
    assert_true(parsed("90s") == 1090);
    assert_true(parsed("45m") == 1000 + 45 * 60);
    assert_true(parsed("2h30m") == 1000 + 9000);
    assert_true(parsed("1d1h1m1s") == 1000 + 86400 + 3600 + 61);
    assert_true(parsed("0.5h") == 2800);
    assert_true(parsed("1970-01-02T00:00:01Z") == 86401);
    assert_true(parsed("2026-11-21T08:00:00Z") == 1795248000);
    static const char *const wrong[] = {"soon",
                                        "1970-01-01T00:16:40Z", /* the moment of the start */
                                        "2h2h",
                                        "30m2h",
                                        "5x",
                                        "0",
                                        "-5",
                                        "2h 30m",
                                        "2026-13-01T00:00:00Z",
                                        "2026-11-21T08:00:00+1",
                                        "2026-11-21",
                                        "1e999",
                                        "h",
                                        "nan",
                                        "inf"};
    for (int i = 0; i < COUNT_OF(wrong); i++) {
        double at;
        if (stop_parse(wrong[i], 1000, &at) != ERR_USAGE) {
            FAIL("\"%s\" was taken for %g", wrong[i], at);
        }
    }
}

static void test_signals(void **state) {
    (void)state;
    struct stop_facts f = {.signal = SIGUSR1, .save_s = 100};
    assert_int_equal(stop_vote(&f), STOP_USR1);
    f = (struct stop_facts){.signal = SIGTERM, .signal_age_s = 0.7, .save_s = 1.0};
    assert_int_equal(stop_vote(&f), STOP_TERM); /* 0.7 + 1.2 < 2 */
    f.signal_age_s = 0.9;
    assert_int_equal(stop_vote(&f), STOP_TERM_TIGHT);
    f = (struct stop_facts){.signal = SIGTERM}; /* never measured: tried */
    assert_int_equal(stop_vote(&f), STOP_TERM);
    f = (struct stop_facts){0};
    assert_int_equal(stop_vote(&f), STOP_NO);
}

static void test_limit(void **state) {
    (void)state;
    struct stop_facts f = {.stop_at = 1000, .step_s = 3, .save_s = 5, .evaluate_s = 2};
    f.now = 1000 - (2 * 10 + 1) - 0.1;
    assert_int_equal(stop_vote(&f), STOP_NO);
    f.now += 0.2;
    assert_int_equal(stop_vote(&f), STOP_LIMIT);
    f.evaluate_s = 0; /* not due in the next step */
    assert_int_equal(stop_vote(&f), STOP_NO);
    f.stop_at = 0;
    assert_int_equal(stop_vote(&f), STOP_NO);

    f = (struct stop_facts){.stop_at = 1000, .now = 599};
    assert_false(stop_wants_measure(&f, 200));
    f.now = 600;
    assert_true(stop_wants_measure(&f, 200));
    f.save_s = 1;
    assert_false(stop_wants_measure(&f, 200));
    f = (struct stop_facts){.now = 600};
    assert_false(stop_wants_measure(&f, 200));
}

static void test_words(void **state) {
    (void)state;
    char text[256];
    stop_describe(STOP_TERM_TIGHT, 17, 10, text, sizeof text);
    assert_non_null(strstr(text, "SIGTERM"));
    assert_non_null(strstr(text, "after step 17; the checkpoint is of step 10"));
    stop_describe(STOP_LIMIT, 17, 17, text, sizeof text);
    assert_non_null(strstr(text, "time limit after step 17; the checkpoint is of step 17"));
    stop_describe(STOP_TERM_TIGHT, 17, -1, text, sizeof text);
    assert_non_null(strstr(text, "no checkpoint yet"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_parse),
        cmocka_unit_test(test_signals),
        cmocka_unit_test(test_limit),
        cmocka_unit_test(test_words),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
