/* One verdict and one message on all ranks, whoever fails. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mpi/comm.h"
#include "tests/check.h"

/* Ranks >= first fail, each in its own way. */
static void test_some_fail(struct comm *c, int first) {
    status_clear();
    enum status st = OK;
    if (c->rank >= first) {
        st = fail(c->rank == first ? ERR_DATA : ERR_SYSTEM, "pairs.jsonl, line %d: broken", c->rank + 1);
    }
    char want[256];
    int others = c->size - first - 1;
    if (c->size == 1) {
        snprintf(want, sizeof want, "pairs.jsonl, line 1: broken");
    } else if (others > 0) {
        snprintf(want, sizeof want, "rank %d of %d on %s (and %d more): pairs.jsonl, line %d: broken", first,
                 c->size, c->host, others, first + 1);
    } else {
        snprintf(want, sizeof want, "rank %d of %d on %s: pairs.jsonl, line %d: broken", first, c->size,
                 c->host, first + 1);
    }
    enum status agreed = comm_agree(c, st);
    CHECK(agreed == ERR_DATA && status_code() == ERR_DATA);
    CHECK(strcmp(status_message()->text, want) == 0);
    /* Agreeing again on the way up changes nothing. */
    CHECK(comm_agree(c, agreed) == ERR_DATA);
    CHECK(strcmp(status_message()->text, want) == 0);
}

static void test_message_of_another_failure(struct comm *c) {
    fail(ERR_DATA, "an old message");
    CHECK(comm_agree(c, REQUEUE) == REQUEUE);
    CHECK(strstr(status_message()->text, "old") == NULL);
}

static void test_same(struct comm *c) {
    status_clear();
    CHECK(comm_same(c, 42, "the configuration") == OK);
    CHECK(comm_same(c, UINT64_MAX, "the configuration") == OK);
    if (c->size > 1) {
        uint64_t value = c->rank == c->size - 1 ? 7 : 42;
        char who[64];
        snprintf(who, sizeof who, "on rank %d of %d", c->size - 1, c->size);
        CHECK(comm_same(c, value, "the configuration") == ERR_INTERNAL);
        CHECK(strncmp(status_message()->text, "the configuration differs between ranks", 39) == 0);
        CHECK(strstr(status_message()->text, who) != NULL);
    }
}

/* Run by e2e/test_ranks.sh, which looks at the exit code and the one line: what must end all ranks. */
static void misbehave(struct comm *c, const char *how) {
    double value = c->rank;
    status_clear();
    if (strcmp(how, "abort") == 0) {
        fail(ERR_WRITE, "run/model: disk full");
        comm_abort(c, ERR_WRITE);
    } else if (strcmp(how, "abort-one") == 0 && c->rank == c->size - 1) {
        fail(ERR_SYSTEM, "out of memory");
        comm_abort(c, ERR_SYSTEM);
    } else if (strcmp(how, "skip") == 0 && c->rank == c->size - 1) {
        (void)comm_broadcast(c, 0, &value, sizeof value);
    }
    (void)comm_sum_f64(c, &value, 1);
}

int main(int argc, char **argv) {
    struct comm *c;
    setenv("COLLIMATE_CHECK", "collectives", 1);
    if (comm_start(&argc, &argv, &c) != OK) {
        return 1;
    }
    if (argc > 1) {
        misbehave(c, argv[1]);
        return 1;
    }
    CHECK(comm_agree(c, OK) == OK);
    for (int first = 0; first < c->size; first++) {
        test_some_fail(c, first);
    }
    CHECK(comm_agree(c, OK) == OK);
    test_message_of_another_failure(c);
    test_same(c);
    comm_finish(c);
    return failures != 0;
}
