/* Checked sizes and memory, and the record of what failed. */
#include "tests/unit.h"

#include <limits.h>
#include <string.h>

#include "util/mem.h"
#include "util/status.h"

static void test_allocation(void **state) {
    (void)state;
    double *zeros;
    assert_int_equal(NEW_ARRAY(zeros, 1000), OK);
    for (int i = 0; i < 1000; i++) {
        assert_true(zeros[i] == 0);
    }
    zeros = mem_grow(zeros, 5000, sizeof *zeros);
    assert_true(zeros && zeros[999] == 0);
    mem_free(zeros);
    char *nothing;
    assert_int_equal(NEW_ARRAY(nothing, 0), OK);
    assert_non_null(nothing);
    mem_free(nothing);
    for (int64_t n = 0; n < 200; n += 13) {
        char *aligned = mem_aligned(n, 3);
        assert_int_equal((uintptr_t)aligned % 64, 0);
        memset(aligned, 1, (size_t)(3 * n + 63) / 64 * 64);
        mem_free(aligned);
    }
    mem_free(NULL);
    char *copy = mem_strndup("abc\0def", 7);
    assert_memory_equal(copy, "abc\0def", 8);
    mem_free(copy);
    copy = mem_strdup("");
    assert_string_equal(copy, "");
    mem_free(copy);
    assert_true(mem_peak_resident() > 100000);
}

static void test_impossible_sizes(void **state) {
    (void)state;
    static const int64_t counts[] = {-1, INT64_MIN, INT64_MAX, INT64_MAX / 8 + 1, INT64_MAX / 4};
    for (int i = 0; i < 5; i++) {
        status_clear();
        assert_null(mem_calloc(counts[i], 8));
        assert_int_equal(status_code(), ERR_SYSTEM);
        assert_null(mem_aligned(counts[i], 8));
        assert_null(mem_grow(NULL, counts[i], 8));
        double *p;
        assert_int_equal(NEW_ARRAY(p, counts[i]), ERR_SYSTEM);
    }
    status_clear();
}

static void test_reserve(void **state) {
    (void)state;
    int32_t *p = NULL;
    int64_t capacity = 0;
    for (int64_t i = 0; i < 10000; i++) {
        assert_int_equal(GROW_ARRAY(p, capacity, i + 1), OK);
        assert_true(capacity > i);
        p[i] = (int32_t)i;
    }
    assert_true(capacity <= 20000);
    int32_t *before = p;
    int64_t old = capacity;
    assert_int_equal(GROW_ARRAY(p, capacity, INT64_MAX), ERR_SYSTEM);
    assert_int_equal(GROW_ARRAY(p, capacity, -1), ERR_SYSTEM); /* a size that overflowed on its way here */
    assert_true(p == before && capacity == old && p[9999] == 9999);
    mem_free(p);
    status_clear();
}

static void test_reserve_all(void **state) {
    (void)state;
    int32_t *numbers = NULL;
    double *values = NULL;
    char *marks = NULL;
    int64_t capacity = 0;
    for (int i = 0; i < 1000; i++) {
        assert_int_equal(GROW_ARRAYS(capacity, i + 1, GROWN(numbers), GROWN(values), GROWN(marks)), OK);
        numbers[i] = i;
        values[i] = i / 2.0;
        marks[i] = (char)(i % 100);
    }
    assert_true(capacity >= 1000 && capacity <= 2000);
    for (int i = 0; i < 1000; i++) {
        assert_true(numbers[i] == i && values[i] == i / 2.0 && marks[i] == i % 100);
    }
    int64_t old = capacity;
    assert_int_equal(GROW_ARRAYS(capacity, INT64_MAX / 6, GROWN(values), GROWN(numbers)), ERR_SYSTEM);
    assert_true(capacity == old && numbers[999] == 999 && values[999] == 499.5);
    mem_free(numbers);
    mem_free(values);
    mem_free(marks);
    status_clear();
}

static void test_sizes(void **state) {
    (void)state;
    int64_t out = 7;
    int narrow = 7;
    assert_int_equal(size_mul(3, 5, "x", &out), OK);
    assert_int_equal(out, 15);
    assert_int_equal(size_mul(INT64_MAX, 1, "x", &out), OK);
    assert_int_equal(size_add(INT64_MAX - 1, 1, "x", &out), OK);
    assert_int_equal(size_mul(INT64_C(1) << 32, INT64_C(1) << 31, "rows", &out), ERR_DATA);
    assert_non_null(strstr(status_message()->text, "rows"));
    assert_int_equal(size_mul(-1, 5, "x", &out), ERR_DATA);
    assert_int_equal(size_mul(-1, -1, "x", &out), ERR_DATA);
    assert_int_equal(size_add(INT64_MAX, 1, "x", &out), ERR_DATA);
    assert_int_equal(size_add(5, -1, "x", &out), ERR_DATA);
    assert_int_equal(to_int(INT_MAX, "x", &narrow), OK);
    assert_int_equal(narrow, INT_MAX);
    assert_int_equal(to_int(INT_MIN, "x", &narrow), OK);
    assert_int_equal(to_int((int64_t)INT_MAX + 1, "x", &narrow), ERR_DATA);
    assert_int_equal(narrow, INT_MIN);
    status_clear();
}

static enum status deep(int level) {
    if (level == 0) {
        return fail(ERR_INPUT, "%s: missing", "a.jsonl");
    }
    TRY(deep(level - 1));
    return OK;
}

static void test_record(void **state) {
    (void)state;
    status_clear();
    assert_int_equal(status_code(), OK);
    assert_int_equal(deep(3), ERR_INPUT);
    assert_int_equal(note("reading %d", 5), ERR_INPUT);
    assert_string_equal(status_message()->text, "a.jsonl: missing (while reading 5)");
    /* a message may be built from the record itself */
    assert_int_equal(fail(ERR_DATA, "then %s", status_message()->text), ERR_DATA);
    assert_string_equal(status_message()->text, "then a.jsonl: missing (while reading 5)");
    char longer[3000];
    memset(longer, 'y', sizeof longer - 1);
    longer[sizeof longer - 1] = 0;
    assert_int_equal(fail(ERR_DATA, "%s", longer), ERR_DATA);
    assert_int_equal(note("%s", longer), ERR_DATA); /* cut, never past the end */
    assert_int_equal(strlen(status_message()->text), sizeof status_message()->text - 1);
    struct message kept = *status_message();
    status_clear();
    status_set(&kept);
    assert_int_equal(status_code(), ERR_DATA);
    static const enum status codes[] = {OK,         ERR_USAGE, ERR_DATA, ERR_INPUT, ERR_INTERNAL,
                                        ERR_SYSTEM, ERR_WRITE, ERR_LOST, REQUEUE};
    for (int i = 0; i < COUNT_OF(codes); i++) {
        assert_string_not_equal(status_name(codes[i]), "unknown");
    }
    status_clear();
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_allocation), cmocka_unit_test(test_impossible_sizes),
        cmocka_unit_test(test_reserve),    cmocka_unit_test(test_reserve_all),
        cmocka_unit_test(test_sizes),      cmocka_unit_test(test_record),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
