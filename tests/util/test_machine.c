/* What the machine grants: lists of cores, what memory is left under limits, limits that are really set. */
#include "tests/unit.h"

#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>

#include "util/machine.h"

static void set(struct machine_cores *c, int core) {
    c->mask[core / 8] |= (uint8_t)(1 << core % 8);
    c->count++;
}

static void expect_list(const struct machine_cores *c, const char *want) {
    struct text out = {0};
    assert_int_equal(machine_cores_print(c, &out), OK);
    assert_string_equal(out.data ? out.data : "", want);
    text_free(&out);
}

static void test_core_lists(void **state) {
    (void)state;
    struct machine_cores c = {0};
    expect_list(&c, "");
    set(&c, 3);
    expect_list(&c, "3");
    set(&c, 0);
    set(&c, 1);
    set(&c, 7);
    set(&c, 8);
    set(&c, 9);
    expect_list(&c, "0-1,3,7-9");
    set(&c, MACHINE_CORES - 1);
    expect_list(&c, "0-1,3,7-9,1023");
}

/* The mask is the one that this process really has. */
static void test_affinity(void **state) {
    (void)state;
    struct machine_cores all, one;
    cpu_set_t before, first;
    assert_int_equal(sched_getaffinity(0, sizeof before, &before), 0);
    machine_cores(&all);
    assert_int_equal(all.count, CPU_COUNT(&before));
    int core = 0;
    while (!CPU_ISSET(core, &before)) {
        core++;
    }
    CPU_ZERO(&first);
    CPU_SET(core, &first);
    assert_int_equal(sched_setaffinity(0, sizeof first, &first), 0);
    machine_cores(&one);
    assert_int_equal(sched_setaffinity(0, sizeof before, &before), 0);
    char want[16];
    snprintf(want, sizeof want, "%d", core);
    assert_int_equal(one.count, 1);
    expect_list(&one, want);
}

static void test_memory_left(void **state) {
    (void)state;
    const struct {
        struct machine_memory memory;
        int64_t left;
    } cases[] = {
        {{.available = 100}, 100},                                 /* no group */
        {{.available = 100, .group = 80, .group_used = 30}, 50},   /* the group is tighter */
        {{.available = 100, .group = 500, .group_used = 30}, 100}, /* the machine is */
        {{.available = 0, .group = 80, .group_used = 30}, 50},     /* the machine does not say */
        {{.available = 0}, 0},                                     /* nobody says */
        {{.available = 100, .group = 80, .group_used = 80}, 0},
    };
    for (int i = 0; i < COUNT_OF(cases); i++) {
        assert_int_equal(machine_memory_left(&cases[i].memory), cases[i].left);
    }
}

static void test_limits(void **state) {
    (void)state;
    struct machine_memory m;
    struct rlimit before, limit;
    machine_memory(&m);
    assert_true(m.total > (int64_t)1 << 26 && m.available > 0 && m.available <= m.total);
    assert_true(m.group == 0 || (m.group > 0 && m.group_used >= 0));
    assert_int_equal(getrlimit(RLIMIT_AS, &before), 0);
    limit = before;
    limit.rlim_cur = (rlim_t)1 << 46; /* above what AddressSanitizer reserves */
    assert_int_equal(setrlimit(RLIMIT_AS, &limit), 0);
    machine_memory(&m);
    assert_int_equal(setrlimit(RLIMIT_AS, &before), 0);
    assert_true(m.process == (int64_t)1 << 46);
}

static void test_link(void **state) {
    (void)state;
    struct machine_link link;
    machine_link(&link);
    assert_true(link.bytes_per_s >= 0 && strcmp(link.name, "lo") != 0);
    assert_true(memchr(link.name, '\0', sizeof link.name) != NULL);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_core_lists),  cmocka_unit_test(test_affinity),
        cmocka_unit_test(test_memory_left), cmocka_unit_test(test_limits),
        cmocka_unit_test(test_link),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
