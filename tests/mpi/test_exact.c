/* Exact sums: the same bits for any order and any dealing to ranks, right to the last bit where a sum in long
 * arithmetic is known, and loud when they cannot be. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "mpi/exact.h"
#include "tests/check.h"
#include "util/rng.h"

enum { TERMS = 1000, SUMS = 2 };

/* Over sixteen orders of magnitude, so that another order of additions in double shows. */
static double term(int64_t i) {
    struct rng r = rng_stream(3, RNG_CHECK, i, 0);
    return rng_normal(&r) * pow(10, 10 * rng_uniform(&r) - 2);
}

static void add(struct exact_sums *s, int64_t i) {
    exact_add(s, 0, exact_of(s, term(i)), 1);
    exact_add(s, 1, exact_of(s, 1e15 + 0.125), 3); /* 3 (10^15 + 1/8) is exact in double */
    exact_add(s, 1, exact_of(s, -1e15), 3);
}

static void check_order(struct comm *c) {
    struct exact_sums mine, serial, alone;
    double sums[SUMS], want[SUMS];
    long double reference = 0;
    CHECK(exact_open(SUMS, &mine) == OK && exact_open(SUMS, &serial) == OK && exact_open(0, &alone) == OK);
    for (int64_t i = 0; i < TERMS; i++) {
        if ((i * 7 + i / 13) % c->size == c->rank) { /* some dealing */
            add(&mine, TERMS - 1 - i);
        }
        if (c->rank == 0) {
            add(&serial, i);
        }
        reference += term(i);
    }
    CHECK(exact_reduce(c, &mine, sums) == OK);
    CHECK(exact_reduce(c, &serial, want) == OK);
    CHECK(exact_reduce(c, &alone, sums + SUMS) == OK);
    CHECK(memcmp(sums, want, sizeof sums) == 0);
    CHECK(fabs(sums[0] - (double)reference) <= 1e-15 * fabs((double)reference));
    CHECK(sums[1] == 3 * 0.125 * TERMS);
    exact_close(&mine);
    exact_close(&serial);
    exact_close(&alone);
}

static void check_range(struct comm *c) {
    static const double bad[] = {NAN, INFINITY, 0x1p63, -0x1p63};
    struct exact_sums s;
    double sum;
    for (int i = 0; i < (int)(sizeof bad / sizeof *bad); i++) { /* on the last rank only: all fail */
        CHECK(exact_open(1, &s) == OK);
        if (c->rank == c->size - 1) {
            exact_add(&s, 0, exact_of(&s, bad[i]), 1);
        }
        CHECK(exact_reduce(c, &s, &sum) == ERR_DATA);
        exact_close(&s);
    }
    CHECK(exact_open(1, &s) == OK); /* each rank's sum fits, together they fit only on one */
    exact_add(&s, 0, exact_of(&s, -0x1p62), 1);
    exact_add(&s, 0, exact_of(&s, -0x1p60), 1);
    CHECK(exact_reduce(c, &s, &sum) == (c->size == 1 ? OK : ERR_DATA));
    CHECK(c->size > 1 || sum == -0x1.4p62);
    exact_close(&s);
    CHECK(exact_open(1, &s) == OK); /* in this rank's own additions */
    exact_add(&s, 0, exact_of(&s, 0x1p62), 2);
    CHECK(exact_reduce(c, &s, &sum) == ERR_DATA);
    exact_close(&s);
    status_clear();
}

int main(int argc, char **argv) {
    struct comm *c;
    setenv("COLLIMATE_CHECK", "collectives", 1);
    if (comm_start(&argc, &argv, &c) != OK) {
        return 1;
    }
    check_order(c);
    check_range(c);
    comm_finish(c);
    return failures != 0;
}
