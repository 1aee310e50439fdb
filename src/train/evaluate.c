#include "train/evaluate.h"

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

static enum status score_cut(struct scorer *scorer, const struct recipe *r, const struct batch *b,
                             const struct forest_cut *cut, struct sums *sums) {
    const struct denominators unused = {1, 1};
    TRY(scorer_run(scorer, b->samples + cut->first, cut->last - cut->first));
    evaluate_count_work(scorer, 1, sums);
    for (int64_t i = cut->first; i < cut->last; i++) {
        const struct scored_row row = batch_scored(b, scorer, cut, i);
        if (!recipe_row(r, &row, &unused, NULL, sums)) {
            return fail(ERR_DATA, "evaluation: the value of row %lld is not finite",
                        (long long)b->samples[i].row);
        }
    }
    return OK;
}

enum status evaluate_batch(struct scorer *scorer, const struct recipe *r, const struct batch *b,
                           int64_t n_slots, struct sums_tree *tree, evaluate_visit *visit, void *context) {
    int64_t next = 0;
    for (int64_t slot = 0; slot < n_slots; slot++) {
        struct sums sums = {0};
        for (; next < b->n_cuts && b->cuts[next].slot == slot; next++) {
            const struct forest_cut *cut = &b->cuts[next];
            TRY(score_cut(scorer, r, b, cut, &sums));
            for (int64_t i = cut->first; visit && i < cut->last; i++) {
                const struct scored_row row = batch_scored(b, scorer, cut, i);
                visit(context, &row);
            }
        }
        sums_tree_push(tree, &sums);
    }
    return OK;
}

enum status evaluate_rows(struct comm *c, struct scorer *scorer, const struct batch_source *source,
                          const struct recipe *r, evaluate_visit *visit, void *context, struct sums *out) {
    const struct batch_plan *plan = &source->plan;
    struct range mine = range_part(plan->slots, source->rank, source->size);
    int64_t n_slots = plan->deterministic ? mine.last - mine.first : 1;
    struct batch batch = {0};
    enum status st = OK;
    enum status reduced = OK;
    *out = (struct sums){0};
    for (int64_t step = 0; step < batch_steps(plan) && reduced == OK; step++) {
        struct sums_tree tree;
        sums_tree_begin(&tree, plan->deterministic);
        if (st == OK) { /* a rank that failed goes on with the sums, so that the others do not wait */
            st = batch_read(source, step, &batch);
        }
        if (st == OK) {
            st = evaluate_batch(scorer, r, &batch, n_slots, &tree, visit, context);
        }
        reduced = sums_extremes(c, &tree.total);
        reduced = reduced == OK ? sums_reduce(c, plan->deterministic, tree.total.v, SUM_COUNT) : reduced;
        sums_add(out, &tree.total);
    }
    batch_free(&batch);
    TRY(reduced);
    return comm_agree(c, st);
}
