/* CHECK for tests that run on several ranks, where a failed test must go on to its next collective: counts
 * and names. */
#ifndef COLLIMATE_TESTS_CHECK_H
#define COLLIMATE_TESTS_CHECK_H

#include <stdio.h>

#include "util/status.h"

static int failures;

#define CHECK(condition)                                                                                 \
    do {                                                                                                 \
        if (!(condition)) {                                                                              \
            fprintf(stderr, "%s:%d: %s (%s)\n", __FILE__, __LINE__, #condition, status_message()->text); \
            failures++;                                                                                  \
        }                                                                                                \
    } while (0)

#endif
