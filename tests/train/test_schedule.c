/* Schedules against the published multipliers and their limits. */
#include "tests/unit.h"

#include <math.h>
#include <string.h>

#include "train/optimizer.h"
#include "util/json.h"

static void assert_near(double got, double want, double tolerance) {
    if (!(fabs(got - want) <= tolerance)) {
        FAIL("got %.17g, want %.17g", got, want);
    }
}

/* The DPO authors' warm-up over 150 updates. */
static void test_constant(void **state) {
    (void)state;
    assert_near(schedule_multiplier(SCHEDULE_CONSTANT, 0, 150, 0), .0066225, 5e-8);
    assert_near(schedule_multiplier(SCHEDULE_CONSTANT, 149, 150, 0), .9933775, 5e-8);
    assert_near(schedule_multiplier(SCHEDULE_CONSTANT, 150, 150, 0), 1, 0);
    assert_near(schedule_multiplier(SCHEDULE_CONSTANT, 1000000, 150, 10), 1, 0);
    assert_near(schedule_multiplier(SCHEDULE_CONSTANT, 0, 0, 0), 1, 0);
}

/* transformers' cosine, 50 of 750 updates of warm-up; clamped past the end. */
static void test_cosine(void **state) {
    (void)state;
    assert_near(schedule_multiplier(SCHEDULE_COSINE, 0, 50, 750), 0, 0);
    assert_near(schedule_multiplier(SCHEDULE_COSINE, 25, 50, 750), .5, 0);
    assert_near(schedule_multiplier(SCHEDULE_COSINE, 50, 50, 750), 1, 0);
    assert_near(schedule_multiplier(SCHEDULE_COSINE, 400, 50, 750), .5, 1e-15);
    assert_near(schedule_multiplier(SCHEDULE_COSINE, 750, 50, 750), 0, 1e-15);
    assert_near(schedule_multiplier(SCHEDULE_COSINE, 1000, 50, 750), 0, 1e-15);
}

static void test_linear(void **state) {
    (void)state;
    assert_near(schedule_multiplier(SCHEDULE_LINEAR, 0, 4, 10), 0, 0);
    assert_near(schedule_multiplier(SCHEDULE_LINEAR, 2, 4, 10), .5, 0);
    assert_near(schedule_multiplier(SCHEDULE_LINEAR, 4, 4, 10), 1, 0);
    assert_near(schedule_multiplier(SCHEDULE_LINEAR, 7, 4, 10), .5, 1e-15);
    assert_near(schedule_multiplier(SCHEDULE_LINEAR, 10, 4, 10), 0, 0);
    assert_near(schedule_multiplier(SCHEDULE_LINEAR, 50, 4, 10), 0, 0);
    assert_near(schedule_multiplier(SCHEDULE_LINEAR, 0, 0, 0), 1, 0);
}

/* Every update's rate is that of transformers' get_scheduler (fixtures/make_schedules.py). */
static void test_transformers(void **state) {
    static const struct {
        const char *name;
        enum schedule kind;
    } kinds[] = {{"constant", SCHEDULE_CONSTANT},
                 {"linear", SCHEDULE_LINEAR},
                 {"cosine", SCHEDULE_COSINE},
                 {"constant_with_warmup", SCHEDULE_CONSTANT_WITH_WARMUP}};
    json_t *all;
    size_t i, s;
    const json_t *row, *rate;
    int compared = 0;
    (void)state;
    assert_int_equal(json_load(FIXTURES "/schedules.json", &all), OK);
    json_array_foreach(all, i, row) {
        const char *name = json_string_value(json_object_get(row, "schedule"));
        int64_t warmup = json_integer_value(json_object_get(row, "warmup"));
        int64_t total = json_integer_value(json_object_get(row, "total"));
        for (int k = 0; k < COUNT_OF(kinds); k++) {
            json_array_foreach(strcmp(kinds[k].name, name) == 0 ? json_object_get(row, "rates") : NULL, s,
                               rate) {
                assert_near(schedule_multiplier(kinds[k].kind, (int64_t)s, warmup, total),
                            json_number_value(rate), 1e-15);
                compared++;
            }
        }
    }
    assert_true(compared > 100);
    json_decref(all);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_constant),
        cmocka_unit_test(test_cosine),
        cmocka_unit_test(test_linear),
        cmocka_unit_test(test_transformers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
