/* What the tests of operations share: each tensor twice, on the device under test and on the reference.
 *
 * A `pair` holds the same numbers on both sides (rounded to the device's type first, so that neither side has
 * an advantage). An operation runs on both through the front functions; expect_close() then compares, element
 * by element, with a bound derived from types and lengths, and checks that the gaps between strided rows
 * stayed as they were.
 *
 * Devices: cpu and check:cpu, or the one that COLLIMATE_TEST_DEVICE names (with COLLIMATE_TEST_COMPUTE, fp32
 * by default, and COLLIMATE_TEST_PRODUCTS, of the CPU with bf16).
 */
#ifndef COLLIMATE_TESTS_HARNESS_H
#define COLLIMATE_TESTS_HARNESS_H

#include "backend/backend.h"
#include "util/rng.h"

enum { HARNESS_DEVICES = 4, HARNESS_PAIRS = 64 };

enum role { ROLE_MASTER, ROLE_COMPUTE, ROLE_READOUT, ROLE_INDEX };

struct pair {
    struct tensor device, reference;
    void *device_base, *reference_base;
    int64_t pad;    /* unused columns at the end of each row */
    double *before; /* rows x stride, what both sides held first */
};

struct harness {
    struct backend *devices[HARNESS_DEVICES];
    int device_count;
    struct backend *reference;
    /* Of the device that a test is working on: */
    struct backend *device;
    struct rng rng;
    struct pair pairs[HARNESS_PAIRS]; /* made since harness_begin() */
    int pair_count;
};

/* cmocka group set-up and tear-down; *state is a struct harness. */
int harness_setup(void **state);
int harness_teardown(void **state);
/* A test runs its cases between these, once per device. */
void harness_begin(struct harness *h, int device, uint64_t seed);
void harness_end(struct harness *h);
#define FOR_EACH_DEVICE(h, i) for (int i = 0; i < (h)->device_count; i++)

/* Fails the running test with the message of the last failure. */
void must(enum status st);

/* rows x columns of normal numbers times `spread`, `pad` unused columns per row (filled as well). */
struct pair pair_normal(struct harness *h, enum role role, int64_t rows, int64_t columns, int64_t pad,
                        double spread);
/* rows x columns integers of [low, high). */
struct pair pair_indices(struct harness *h, int64_t rows, int64_t columns, int64_t low, int64_t high);
/* New content, rows x columns (contiguous) on both sides. */
void pair_set(struct harness *h, struct pair *p, const double *values);
void pair_set_indices(struct harness *h, struct pair *p, const int32_t *values);
/* A view of columns [first, first + count) of both. */
struct pair pair_columns(struct pair p, int64_t first, int64_t count);
/* What each side holds now, rows x columns, contiguous. The caller releases it with mem_free(). */
double *device_values(struct harness *h, struct pair p);
double *reference_values(struct pair p);

/* Unit roundoff of a type: half the gap above 1. */
double roundoff(enum dtype type);
/* Rounding of a sum of n products, each step rounding the partial sum: sqrt(n) + 4 roundings of fp32, since
 * roundings are as good as independent (Higham, Mary 2019). To be multiplied by the sum of magnitudes. */
double sum_error(int64_t n);

/* bound[i]: largest difference allowed at element i on top of the final rounding to the device's type. */
void expect_close(struct harness *h, struct pair p, const double *bound, const char *what);
/* The same bound everywhere. */
void expect_within(struct harness *h, struct pair p, double bound, const char *what);
/* The gaps of a padded pair on the device are as they were made. */
void expect_gaps_kept(struct harness *h, struct pair p, const char *what);

#endif
