/* What every cmocka test includes first: cmocka and its own needs, with its fail() out of the way of ours.
 * FAIL(format, …) ends the test with a message. */
#ifndef COLLIMATE_TESTS_UNIT_H
#define COLLIMATE_TESTS_UNIT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#undef fail
#define FAIL(...)                  \
    do {                           \
        print_error(__VA_ARGS__);  \
        print_error("\n");         \
        _fail(__FILE__, __LINE__); \
    } while (0)

/* The folder of fixtures: FIXTURES of the environment (a copy on another machine), or the build's. */
#ifdef FIXTURES
static inline const char *fixtures(void) {
    const char *given = getenv("FIXTURES");
    return given && *given ? given : FIXTURES;
}
#endif

/* The device of a test that takes one: COLLIMATE_TEST_DEVICE, or the CPU. */
static inline const char *test_device(void) {
    const char *asked = getenv("COLLIMATE_TEST_DEVICE");
    return asked && *asked ? asked : "cpu";
}

#endif
