/* Sorted numbers of all ranks' rows: the same however rows are dealt out, with ranks that have none, and
 * after a failure. */
#include "evaluate/batch_order.h"

#include <stdlib.h>

#include "tests/check.h"

enum { ROWS = 37 };

/* Permutations of the numbers from 0, and of their halves. */
static void numbers(int64_t row, double pair[2]) {
    pair[0] = (double)(row * 10 % ROWS);
    pair[1] = (double)(row * 23 % ROWS / 2) - 5;
}

/* Rank r takes the rows from r on in strides, or the last rank takes all. */
static enum status add_rows(struct comm *c, struct order *o, bool last_takes_all) {
    int64_t first = last_takes_all ? 0 : c->rank, stride = last_takes_all ? 1 : c->size;
    for (int64_t row = first; row < ROWS && (!last_takes_all || c->rank == c->size - 1); row += stride) {
        double pair[2];
        numbers(row, pair);
        TRY(order_add(o, pair));
    }
    return OK;
}

static void test_sorted(struct comm *c) {
    struct order o = {0};
    for (int round = 0; round < 4; round++) {
        const double *sorted;
        CHECK(order_gather(c, &o, add_rows(c, &o, round % 2), &sorted) == OK);
        CHECK(sorted[0] == ROWS);
        for (int64_t i = 0; i < ROWS; i++) {
            CHECK(sorted[1 + i] == (double)i);
            CHECK(sorted[1 + ROWS + i] == (double)(i / 2) - 5);
        }
    }
    order_free(&o);
}

static void test_failure(struct comm *c) {
    struct order o = {0};
    const double *sorted;
    enum status st = c->rank == c->size - 1 ? fail(ERR_DATA, "a row") : OK;
    CHECK(order_gather(c, &o, st, &sorted) == ERR_DATA && sorted == NULL);
    status_clear();
    CHECK(order_gather(c, &o, add_rows(c, &o, false), &sorted) == OK && sorted[0] == ROWS);
    order_free(&o);
}

int main(int argc, char **argv) {
    struct comm *c;
    setenv("COLLIMATE_CHECK", "collectives", 1);
    if (comm_start(&argc, &argv, &c) != OK) {
        return 1;
    }
    test_sorted(c);
    test_failure(c);
    int64_t all = failures;
    CHECK(comm_sum_i64(c, &all, 1) == OK);
    comm_finish(c);
    return all != 0;
}
