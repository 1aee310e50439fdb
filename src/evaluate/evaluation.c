#include "evaluate/evaluation.h"

#include "mpi/exact.h"

#include "util/mem.h"

void evaluate_count_work(const struct scorer *scorer, double passes, struct sums *sums) {
    sums->v[SUM_FLOPS] += passes * scorer_flops(scorer);
    sums->v[SUM_FOREST_TOKENS] += scorer->forest.n_tokens;
    for (int64_t i = 0; i < scorer->n_samples; i++) {
        const struct sample *s = &scorer->samples[i];
        for (int j = 0; j < s->n_responses; j++) {
            sums->v[SUM_SEQUENCE_TOKENS] += (double)s->prompt_count + s->responses[j].count;
        }
    }
}

struct scored_row batch_scored(const struct batch *b, const struct scorer *scorer,
                               const struct forest_cut *cut, int64_t i) {
    return (struct scored_row){
        .sample = &b->samples[i],
        .scores = &scorer->scores[scorer->first[i - cut->first]],
        .reference = b->reference ? &b->reference[SCORER_RESPONSES * i] : NULL,
    };
}

/* Work is counted by forest, which no rank count leaves alone; everything else by row. */
static bool is_work(int sum) {
    return sum == SUM_FLOPS || sum == SUM_FOREST_TOKENS || sum == SUM_SEQUENCE_TOKENS;
}

struct evaluation_sums {
    struct exact_sums exact; /* of rows */
    struct sums rank;        /* this rank's, for extremes and work */
};

static enum status add_row(const struct recipe *r, const struct scored_row *row, struct evaluation_sums *to) {
    const struct denominators unused = {1, 1};
    struct sums sums = {0};
    if (!recipe_row(r, row, &unused, NULL, &sums)) {
        return fail(ERR_DATA, "evaluation: the value of row %lld is not finite", (long long)row->sample->row);
    }
    for (int i = 0; i < SUM_COUNT; i++) {
        exact_add(&to->exact, i, exact_of(&to->exact, sums.v[i]), 1);
    }
    sums_add(&to->rank, &sums);
    return OK;
}

static enum status score_batch(struct scorer *scorer, const struct recipe *r, const struct batch *b,
                               evaluate_visit *visit, void *context, struct evaluation_sums *to) {
    for (int64_t k = 0; k < b->n_cuts; k++) {
        const struct forest_cut *cut = &b->cuts[k];
        TRY(scorer_run(scorer, b->samples + cut->first, cut->last - cut->first));
        evaluate_count_work(scorer, 1, &to->rank);
        for (int64_t i = cut->first; i < cut->last; i++) {
            const struct scored_row row = batch_scored(b, scorer, cut, i);
            TRY(add_row(r, &row, to));
            if (visit) {
                visit(context, &row);
            }
        }
    }
    return OK;
}

static enum status reduce(struct comm *c, struct evaluation_sums *from, struct sums *out) {
    double exact[SUM_COUNT];
    *out = from->rank;
    TRY(sums_extremes(c, out));
    TRY(comm_sum_f64(c, out->v, SUM_COUNT));
    TRY(exact_reduce(c, &from->exact, exact));
    for (int i = 0; i < SUM_COUNT; i++) {
        out->v[i] = is_work(i) ? out->v[i] : exact[i];
    }
    return OK;
}

enum status evaluate_rows(struct comm *c, struct scorer *scorer, const struct batch_source *source,
                          const struct recipe *r, evaluate_visit *visit, void *context, struct sums *out) {
    struct evaluation_sums sums = {0};
    struct batch batch = {0};
    enum status st = comm_agree(c, exact_open(SUM_COUNT, &sums.exact));
    *out = (struct sums){0};
    for (int64_t step = 0; step < batch_steps(&source->plan) && st == OK; step++) {
        st = batch_read(source, step, &batch);
        st = st == OK ? score_batch(scorer, r, &batch, visit, context, &sums) : st;
        st = comm_agree(c, st); /* every step, so that no rank waits long for one that failed or is slow */
    }
    st = st == OK ? reduce(c, &sums, out) : st;
    batch_free(&batch);
    exact_close(&sums.exact);
    return st;
}
