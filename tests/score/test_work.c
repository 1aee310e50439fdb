/* Work on many units: each missing one is computed exactly once, whatever the number of ranks and the way of
 * dealing; those that are there are skipped; dear ones are spread; a rank that fails ends all of them after
 * the rounds before are written; a signal ends it between two rounds, and a second run does the rest. */
#include "score/work.h"

#include <signal.h>
#include <string.h>

#include "tests/check.h"
#include "util/mem.h"

enum { UNITS = 53, ROUND = 12, NEVER = UNITS };

struct world {
    struct comm *comm;
    bool there[UNITS];          /* safe: what a later run finds */
    int64_t times[UNITS];       /* computed by this rank */
    int64_t order[UNITS], n;    /* units of this rank in the round, */
    int64_t cost;               /* and what they cost */
    int64_t rounds, most, all;  /* written; cost of the dearest rank, and of all, over all rounds */
    int64_t fails_at, asks_at;  /* unit that fails or at which the signal comes */
    int64_t hidden_from, hides; /* rank that does not see this unit, which is there */
};

static int32_t cost_of(void *context, int64_t unit) {
    (void)context;
    return unit % ROUND == 0 ? 60 : 10;
}

static enum status is_missing(void *context, int64_t unit, bool *out) {
    const struct world *w = context;
    *out = !w->there[unit] || (unit == w->hides && w->comm->rank == w->hidden_from);
    return OK;
}

static enum status compute(void *context, const int64_t *units, int64_t n) {
    struct world *w = context;
    w->n = w->cost = 0;
    for (int64_t i = 0; i < n; i++) {
        if (units[i] == w->fails_at) {
            return fail(ERR_DATA, "unit %lld is bad", (long long)units[i]);
        }
        if (units[i] == w->asks_at) {
            raise(SIGUSR1);
        }
        w->times[units[i]]++;
        w->order[w->n++] = units[i];
        w->cost += cost_of(w, units[i]);
    }
    return OK;
}

/* What any rank computed is there on all of them. */
static enum status write_round(void *context) {
    struct world *w = context;
    int64_t now[UNITS] = {0}, most = w->cost, all = w->cost;
    for (int64_t i = 0; i < w->n; i++) {
        now[w->order[i]] = 1;
    }
    TRY(comm_max_i64(w->comm, now, UNITS));
    TRY(comm_max_i64(w->comm, &most, 1));
    TRY(comm_sum_i64(w->comm, &all, 1));
    for (int i = 0; i < UNITS; i++) {
        w->there[i] = w->there[i] || now[i];
    }
    w->rounds++;
    w->most += most;
    w->all += all;
    return OK;
}

static int64_t tens(void *context, int64_t unit) {
    (void)context;
    return 10 * unit;
}

static enum status run(struct world *w, enum work_deal deal, bool stops) {
    struct work work = {.context = w,
                        .label = "test",
                        .unit = "tens",
                        .phase = "testing from",
                        .n = UNITS,
                        .round = ROUND,
                        .deal = deal,
                        .done_before = tens,
                        .is_missing = is_missing,
                        .cost = cost_of,
                        .compute = compute,
                        .write = write_round,
                        .stopped = {stops ? "ten " : NULL, " of 530"}};
    memset(w->times, 0, sizeof w->times);
    w->rounds = w->most = w->all = 0;
    return work_run(w->comm, &work);
}

static struct world world(struct comm *c) {
    return (struct world){.comm = c, .fails_at = NEVER, .asks_at = NEVER, .hides = NEVER};
}

/* times[i] over all ranks. */
static void check_times(struct world *w, const int64_t expected[UNITS]) {
    int64_t times[UNITS];
    memcpy(times, w->times, sizeof times);
    CHECK(comm_sum_i64(w->comm, times, UNITS) == OK);
    for (int i = 0; i < UNITS; i++) {
        CHECK(times[i] == expected[i]);
        CHECK(w->there[i]);
    }
}

static void test_each_once(struct comm *c, enum work_deal deal) {
    struct world w = world(c);
    int64_t expected[UNITS];
    for (int i = 0; i < UNITS; i++) {
        expected[i] = deal == DEAL_TO_ALL ? c->size : 1;
    }
    CHECK(run(&w, deal, false) == OK);
    CHECK(w.rounds == (UNITS + ROUND - 1) / ROUND);
    check_times(&w, expected);
}

/* A whole round is there; a unit is there for all ranks but one, which brings it back. */
static void test_skip(struct comm *c, enum work_deal deal) {
    struct world w = world(c);
    int64_t expected[UNITS];
    for (int i = 0; i < UNITS; i++) {
        w.there[i] = (i >= ROUND && i < 2 * ROUND) || i % 5 == 0;
        expected[i] = w.there[i] ? 0 : deal == DEAL_TO_ALL ? c->size : 1;
    }
    w.hidden_from = c->size - 1;
    w.hides = 5;
    expected[5] = deal == DEAL_TO_ALL ? c->size : 1;
    CHECK(run(&w, deal, false) == OK);
    CHECK(w.rounds == (UNITS + ROUND - 1) / ROUND - 1);
    check_times(&w, expected);
    w.hides = NEVER;
    CHECK(run(&w, deal, false) == OK);
    CHECK(w.rounds == 0);
}

/* In order, a rank's units are consecutive and behind those of the ranks before. */
static void test_order(struct comm *c) {
    struct world w = world(c);
    CHECK(run(&w, DEAL_IN_ORDER, false) == OK);
    for (int64_t i = 1; i < w.n; i++) {
        CHECK(w.order[i] == w.order[i - 1] + 1);
    }
    int64_t before, total, last = w.n > 0 ? w.order[w.n - 1] : -1;
    CHECK(comm_scan_i64(c, w.n, &before, &total) == OK);
    CHECK(w.n == 0 || w.order[0] == UNITS / ROUND * ROUND + before);
    CHECK(comm_max_i64(c, &last, 1) == OK);
    CHECK(total == UNITS % ROUND && last == UNITS - 1);
}

/* One dear unit a round: nobody gets more than it, or than an even share and one cheap unit. */
static void test_cost(struct comm *c) {
    struct world w = world(c);
    CHECK(run(&w, DEAL_BY_COST, false) == OK);
    CHECK(w.all == 5 * 60 + (UNITS - 5) * 10);
    int64_t even = 4 * ((60 + (ROUND - 1) * 10) / c->size + 10) + (60 + 4 * 10) / c->size + 10;
    CHECK(w.most <= (even > 5 * 60 ? even : 5 * 60));
}

/* The rank whose unit fails drains: every rank returns its code and its words, and what was written stays. */
static void test_failure(struct comm *c, enum work_deal deal) {
    struct world w = world(c);
    w.fails_at = ROUND + 3;
    CHECK(run(&w, deal, false) == ERR_DATA);
    CHECK(strstr(status_message()->text, "unit 15 is bad"));
    status_clear();
    CHECK(w.rounds == 1);
    for (int i = 0; i < UNITS; i++) {
        CHECK(w.there[i] == (i < ROUND));
    }
    w.fails_at = NEVER;
    CHECK(run(&w, deal, false) == OK);
    CHECK(w.rounds == (UNITS + ROUND - 1) / ROUND - 1);
}

/* A pending signal cannot be taken back, so this is the last test. It ends the work after the round it came
 * in; later runs after their first round, unless that is the last and nothing goes on. */
static void test_signal(struct comm *c) {
    struct world w = world(c);
    comm_watch_usr1();
    w.asks_at = ROUND + 1;
    CHECK(run(&w, DEAL_BY_COST, true) == REQUEUE);
    CHECK(strstr(status_message()->text, "stopped on SIGUSR1"));
    status_clear();
    CHECK(w.rounds == 2 && w.there[2 * ROUND - 1] && !w.there[2 * ROUND]);
    w.asks_at = NEVER;
    CHECK(run(&w, DEAL_BY_COST, false) == OK); /* work that has nothing to go on from goes on */
    CHECK(w.rounds == 3);
    CHECK(run(&w, DEAL_BY_COST, true) == REQUEUE); /* all of it is there: after the first round */
    status_clear();
    CHECK(w.rounds == 0);
}

/* After the last round a signal matters to what follows only. */
static void test_signal_at_end(struct comm *c) {
    struct world w = world(c);
    struct work work = {.context = &w,
                        .label = "test",
                        .unit = "units",
                        .phase = "testing from",
                        .n = UNITS,
                        .round = UNITS,
                        .compute = compute,
                        .write = write_round,
                        .stopped = {"unit ", ""}};
    CHECK(work_run(c, &work) == OK);
    work.goes_on = true;
    CHECK(work_run(c, &work) == REQUEUE);
    status_clear();
    CHECK(w.rounds == 2); /* without is_missing all are missing */
}

int main(int argc, char **argv) {
    struct comm *c;
    static const enum work_deal deals[] = {DEAL_IN_ORDER, DEAL_BY_COST, DEAL_TO_ALL};
    if (comm_start(&argc, &argv, &c) != OK) {
        return 1;
    }
    log_init(c->rank, c->size, LOG_ERROR);
    for (int i = 0; i < COUNT_OF(deals); i++) {
        test_each_once(c, deals[i]);
        test_skip(c, deals[i]);
        test_failure(c, deals[i]);
    }
    test_order(c);
    test_cost(c);
    test_signal(c);
    test_signal_at_end(c);
    int64_t all = failures;
    CHECK(comm_sum_i64(c, &all, 1) == OK);
    comm_finish(c);
    return all != 0;
}
