#include "score/work.h"

#include "data/batch.h"
#include "mpi/watchdog.h"
#include "util/mem.h"

struct round {
    struct range units;
    int64_t *missing; /* by unit of the round: 1 or 0 */
    int64_t *list;    /* the n missing units, */
    int64_t n;
    /* and with DEAL_BY_COST: those of rank r, in the order of computing, are dealt[first[r]] to
     * dealt[first[r + 1] - 1]. */
    int64_t *dealt, *first;
    int32_t *cost;
    int64_t *order;     /* scratch */
    int64_t n_computed; /* of all rounds so far, over all ranks */
};

static int64_t done_before(const struct work *w, int64_t unit) {
    return w->done_before ? w->done_before(w->context, unit) : unit;
}

static enum status round_open(const struct comm *c, const struct work *w, struct round *r) {
    TRY(NEW_ARRAY(r->missing, w->round));
    TRY(NEW_ARRAY(r->list, w->round));
    TRY(NEW_ARRAY(r->dealt, w->round));
    TRY(NEW_ARRAY(r->order, w->round));
    TRY(NEW_ARRAY(r->cost, w->round));
    return NEW_ARRAY(r->first, c->size + 1);
}

static void round_close(struct round *r) {
    mem_free(r->missing);
    mem_free(r->list);
    mem_free(r->dealt);
    mem_free(r->order);
    mem_free(r->cost);
    mem_free(r->first);
}

/* Local. */
static enum status look(const struct work *w, struct round *r) {
    for (int64_t i = r->units.first; i < r->units.last; i++) {
        bool is_missing = true;
        TRY(w->is_missing ? w->is_missing(w->context, i, &is_missing) : OK);
        r->missing[i - r->units.first] = is_missing;
    }
    return OK;
}

/* Collective. */
static enum status find_missing(struct comm *c, const struct work *w, struct round *r) {
    int64_t n = r->units.last - r->units.first;
    TRY(comm_agree(c, look(w, r)));
    TRY(w->is_missing ? comm_max_i64(c, r->missing, n) : OK);
    r->n = 0;
    for (int64_t i = 0; i < n; i++) {
        if (r->missing[i]) {
            r->list[r->n++] = r->units.first + i;
        }
    }
    return OK;
}

/* Local, the same on every rank. */
static enum status deal_by_cost(const struct comm *c, const struct work *w, struct round *r) {
    for (int64_t i = 0; i < r->n; i++) {
        r->cost[i] = w->cost(w->context, r->list[i]);
    }
    TRY(batch_deal(r->cost, r->list, r->n, c->size, r->order, r->first));
    for (int64_t i = 0; i < r->n; i++) {
        r->dealt[i] = r->list[r->order[i]];
    }
    return OK;
}

static enum status compute(const struct comm *c, const struct work *w, struct round *r) {
    if (w->deal == DEAL_BY_COST) {
        TRY(deal_by_cost(c, w, r));
        int64_t first = r->first[c->rank];
        return w->compute(w->context, r->dealt + first, r->first[c->rank + 1] - first);
    }
    struct range mine = w->deal == DEAL_TO_ALL ? (struct range){0, r->n} : range_part(r->n, c->rank, c->size);
    return w->compute(w->context, r->list + mine.first, mine.last - mine.first);
}

/* Collective. */
static enum status run_round(struct comm *c, const struct work *w, struct round *r) {
    TRY(find_missing(c, w, r));
    if (r->n == 0) {
        return OK;
    }
    r->n_computed += r->n;
    TRY(comm_agree(c, compute(c, w, r)));
    return w->write(w->context);
}

/* Collective. What is written stays: the next run goes on from there. */
static enum status stop_if_asked(struct comm *c, const struct work *w, int64_t unit) {
    bool asked;
    if (!w->stopped[0]) {
        return OK;
    }
    TRY(comm_stop_asked(c, &asked));
    if (!asked || (unit == w->n && !w->goes_on)) {
        return OK;
    }
    log_root(LOG_WARN, "stopped on SIGUSR1 after %s%lld%s; run the same command again to go on",
             w->stopped[0], (long long)done_before(w, unit), w->stopped[1]);
    return fail(REQUEUE, "stopped on SIGUSR1");
}

enum status work_run(struct comm *c, struct work *w) {
    struct round round = {0};
    const struct range all = {0, w->n};
    progress_start(&w->progress, w->label, w->unit, (double)done_before(w, w->n));
    enum status st = comm_agree(c, round_open(c, w, &round));
    for (int64_t at = 0; at < w->n && st == OK; at = round.units.last) {
        round.units = range_block(all, at, w->round);
        watchdog_phase(c->watchdog, "%s %lld", w->phase, (long long)done_before(w, at));
        st = run_round(c, w, &round);
        progress_update(&w->progress, (double)done_before(w, round.units.last), NULL);
        st = st == OK ? stop_if_asked(c, w, round.units.last) : st;
    }
    if (round.n_computed > 0) {
        progress_end(&w->progress, (double)done_before(w, round.units.last));
    }
    round_close(&round);
    return st;
}
