#include "evaluate/evaluation.h"

#include "evaluate/batch_order.h"
#include "mpi/exact.h"
#include "util/hash.h"
#include "util/mem.h"

int64_t evaluation_unit(const struct sample *s) {
    return s->prompt_count <= 1
               ? s->row
               : (int64_t)hash_bytes(s->prompt, (size_t)s->prompt_count * sizeof *s->prompt, 0);
}

void evaluate_count_work(const struct scorer *scorer, double passes, struct sums *sums) {
    sums->v[SUM_FLOPS] += passes * scorer_flops(scorer);
    sums->v[SUM_FOREST_TOKENS] += scorer->forest.n_tokens;
    for (int64_t i = 0; i < scorer->n_samples; i++) {
        const struct sample *s = &scorer->samples[i];
        for (int j = 0; j < (s->is_mismatched ? 1 : s->n_responses); j++) {
            sums->v[SUM_SEQUENCE_TOKENS] += (double)s->prompt_count + s->responses[j].count;
        }
    }
}

/* Work is counted by forest, which no rank count leaves alone; everything else by row. */
static bool is_work(int sum) {
    return sum == SUM_FLOPS || sum == SUM_FOREST_TOKENS || sum == SUM_SEQUENCE_TOKENS;
}

/* A look at all rows: what is added up of each. */
struct look {
    struct comm *comm;
    struct scorer *scorer;
    const struct batch_source *source;
    const struct terms *terms;
    bool gathers; /* the first pass of terms that see the batch */
    struct order order;
    const double *gathered;
    evaluate_visit *visit;
    void *context;
    struct exact_sums exact; /* of rows */
    struct sums rank;        /* this rank's, for extremes and work */
};

static enum status add_row(struct look *l, const struct sample *sample, const struct scored_row *row) {
    const struct denominators d = {.rows = 1, .target_tokens = 1, .gathered = l->gathered};
    struct sums sums = {0};
    if (l->gathers && l->terms->scope == SCOPE_ORDER) {
        double pair[2];
        objective_order(l->terms, row, pair);
        return order_add(&l->order, pair);
    }
    if (l->gathers) {
        objective_gather(l->terms, row, &sums);
    } else if (!objective_row(l->terms, row, &d, NULL, &sums)) {
        return fail(ERR_DATA, "evaluation: the value of row %lld is not finite", (long long)row->row);
    }
    for (int i = 0; i < SUM_COUNT; i++) {
        exact_add(&l->exact, i, exact_of(&l->exact, sums.v[i]), 1);
    }
    sums_add(&l->rank, &sums);
    if (l->visit && !l->gathers) {
        l->visit(l->context, sample, row, &sums);
    }
    return OK;
}

static enum status look_at_batch(struct look *l, const struct batch *b) {
    for (int64_t k = 0; k < b->n_cuts; k++) {
        const struct forest_cut *cut = &b->cuts[k];
        TRY(scorer_run(l->scorer, b->samples + cut->first, cut->last - cut->first));
        evaluate_count_work(l->scorer, 1, &l->rank);
        for (int64_t i = cut->first; i < cut->last; i++) {
            const struct scored_row row = scorer_row(l->scorer, b, cut, i);
            TRY(add_row(l, &b->samples[i], &row));
        }
    }
    return OK;
}

static enum status reduce(struct look *from, struct sums *out) {
    double exact[SUM_COUNT];
    *out = from->rank;
    TRY(sums_extremes(from->comm, out));
    TRY(comm_sum_f64(from->comm, out->v, SUM_COUNT));
    TRY(exact_reduce(from->comm, &from->exact, exact));
    for (int i = 0; i < SUM_COUNT; i++) {
        out->v[i] = is_work(i) ? out->v[i] : exact[i];
    }
    return OK;
}

/* Collective. All rows, a step at a time. */
static enum status look_at_steps(struct look *l) {
    struct batch batch = {0};
    enum status st = OK;
    for (int64_t step = 0; step < batch_steps(&l->source->plan) && st == OK; step++) {
        st = batch_read(l->source, step, &batch);
        st = st == OK ? look_at_batch(l, &batch) : st;
        st = comm_agree(l->comm, st); /* every step: no rank waits long for one that failed or is slow */
    }
    batch_free(&batch);
    return st;
}

/* Collective. */
static enum status look_at_all(struct look *l, struct sums *out) {
    enum status st = comm_agree(l->comm, exact_open(SUM_COUNT, &l->exact));
    l->rank = *out = (struct sums){0};
    st = st == OK ? look_at_steps(l) : st;
    st = st == OK ? reduce(l, out) : st;
    exact_close(&l->exact);
    return st;
}

enum status evaluate_rows(struct comm *c, struct scorer *scorer, const struct batch_source *source,
                          const struct terms *t, evaluate_visit *visit, void *context, struct sums *out) {
    struct look look = {
        .comm = c, .scorer = scorer, .source = source, .terms = t, .visit = visit, .context = context};
    struct sums gathered;
    enum status st = OK;
    look.gathers = t->scope != SCOPE_ROW;
    if (t->scope == SCOPE_BATCH) {
        st = look_at_all(&look, &gathered);
        look.gathered = &gathered.v[SUM_GATHERED];
    } else if (t->scope == SCOPE_ORDER) {
        st = look_at_steps(&look);
        st = st == OK ? order_gather(c, &look.order, OK, &look.gathered) : st;
    }
    look.gathers = false;
    st = st == OK ? look_at_all(&look, out) : st;
    order_free(&look.order);
    return st;
}
