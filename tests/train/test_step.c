/* The step: a loss that sees the whole batch takes two passes and gives the bits of one that is told the
 * batch's mean; a rank that fails, in either pass or meanwhile, drains, and all ranks say why. */
#include "tests/model_fixture.h"

#include "train/step.h"
#include "util/rng.h"

enum { SLOTS = 8, PAIRS = 12, PROMPT = 5, RESPONSE = 4, IN_PAIR = PROMPT + 2 * RESPONSE };

static struct backend *backend;
static struct fixture fixture;

static double difference(const struct scored_row *row) {
    return row->responses[0].logp - row->responses[1].logp;
}

/* (d - mean)^2, the mean held constant. */
static double around(double mean, const struct scored_row *row, double weight, const struct slope *slope) {
    double off = difference(row) - mean;
    slope->logp[0] += weight * 2 * off;
    slope->logp[1] -= weight * 2 * off;
    return off * off;
}

static double around_gathered(const struct objective *o, const struct terms *t, const struct scored_row *row,
                              const double *gathered, double weight, const struct slope *slope) {
    (void)o;
    (void)t;
    return around(gathered[0] / gathered[1], row, weight, slope);
}

static double around_beta(const struct objective *o, const struct terms *t, const struct scored_row *row,
                          const double *gathered, double weight, const struct slope *slope) {
    (void)o;
    (void)gathered;
    return around(t->options.beta, row, weight, slope);
}

static void gather_differences(const struct objective *o, const struct terms *t, const struct scored_row *row,
                               double *gathered) {
    (void)o;
    (void)t;
    gathered[0] += difference(row);
    gathered[1] += 1;
}

/* This rank's pairs of the batch, a slot at a time: pair i is in slot i modulo SLOTS. */
struct pairs {
    struct batch batch;
    struct sample samples[PAIRS];
    struct sample_response responses[2 * PAIRS];
    struct forest_cut cuts[SLOTS];
    int32_t tokens[PAIRS][IN_PAIR];
};

static void make_pair(struct pairs *p, int64_t row) {
    int64_t at = p->batch.n++;
    struct rng r = rng_stream(5, RNG_CHECK, row, 0);
    for (int t = 0; t < IN_PAIR; t++) {
        p->tokens[at][t] = (int32_t)rng_below(&r, fixture.model->config.vocabulary);
    }
    for (int j = 0; j < 2; j++) {
        p->responses[2 * at + j] = (struct sample_response){
            .id = 2 * row + j, .tokens = p->tokens[at] + PROMPT + j * RESPONSE, .count = RESPONSE};
    }
    p->samples[at] = (struct sample){.row = row,
                                     .n_responses = 2,
                                     .prompt = p->tokens[at],
                                     .prompt_count = PROMPT,
                                     .responses = &p->responses[2 * at]};
}

static void make_pairs(struct pairs *p) {
    struct range slots = range_part(SLOTS, world->rank, world->size);
    *p = (struct pairs){.batch = {.samples = p->samples, .cuts = p->cuts, .place = {.count = PAIRS}}};
    for (int64_t slot = slots.first; slot < slots.last; slot++) {
        struct forest_cut *cut = &p->cuts[p->batch.n_cuts++];
        *cut = (struct forest_cut){.first = p->batch.n, .slot = slot - slots.first};
        for (int64_t row = slot; row < PAIRS; row += SLOTS) {
            make_pair(p, row);
        }
        cut->last = p->batch.n;
    }
}

struct outcome {
    enum status st;
    struct verdict verdict;
    float *gradients;
};

static struct outcome run(const struct objective *o, double beta, struct pairs *p, const struct wish *wish) {
    struct terms terms = {.rows = OVER_PAIRS,
                          .scope = o->scope,
                          .reads = READS_LOGP,
                          .n = 1,
                          .list = {{o, 1}},
                          .options = {.beta = beta}};
    struct arena *arena = fixture.model->trained;
    struct shard_map whole = shard_map_whole(arena->elements);
    struct optimizer optimizer;
    struct step step;
    struct outcome out = {0};
    MUST(optimizer_open(arena, &(struct optimizer_options){.kind = OPTIMIZER_SGD}, &whole, &optimizer));
    const struct step_parts parts = {world, &fixture.w, fixture.model, &optimizer, &terms};
    const struct step_options options = {
        .slots = SLOTS, .deterministic = true, .keep = KEEP_ALL, .bucket_bytes = 1 << 20};
    MUST(step_open(&parts, &options, &step));
    out.st = step_run(&step, &p->batch, wish, &out.verdict);
    out.gradients = mem_calloc(arena->elements, sizeof *out.gradients);
    MUST(backend_read(backend, out.gradients, arena->gradients.data, arena->elements * 4));
    step_close(&step);
    optimizer_close(&optimizer);
    return out;
}

static const struct objective gathering = {.name = "gathering",
                                           .rows = OVER_PAIRS,
                                           .reads = READS_LOGP,
                                           .scope = SCOPE_BATCH,
                                           .loss = around_gathered,
                                           .gather = gather_differences};
static const struct objective told = {
    .name = "told", .rows = OVER_PAIRS, .reads = READS_LOGP, .loss = around_beta};

/* The mean by a plain sum over all pairs' differences, each scored on its own rank. */
static double mean_difference(struct pairs *p) {
    struct scorer scorer;
    double sum = 0;
    MUST(scorer_open(fixture.model, &fixture.w, KEEP_NOTHING, &scorer));
    for (int64_t k = 0; k < p->batch.n_cuts; k++) {
        const struct forest_cut *cut = &p->batch.cuts[k];
        MUST(scorer_run(&scorer, p->batch.samples + cut->first, cut->last - cut->first));
        for (int64_t i = cut->first; i < cut->last; i++) {
            const struct scored_row row = scorer_row(&scorer, &p->batch, cut, i);
            sum += difference(&row);
        }
    }
    scorer_close(&scorer);
    MUST(comm_sum_f64(world, &sum, 1));
    return sum / PAIRS;
}

static void test_two_passes(void **state) {
    (void)state;
    struct pairs p;
    make_pairs(&p);
    struct outcome two = run(&gathering, 0, &p, &(struct wish){0});
    MUST(two.st);
    const double *v = two.verdict.sums.v;
    assert_int_equal((int64_t)v[SUM_ROWS], PAIRS);
    struct outcome one = run(&told, mean_difference(&p), &p, &(struct wish){0});
    MUST(one.st);
    assert_true(fabs(one.verdict.sums.v[SUM_LOSS] - v[SUM_LOSS]) <= 1e-12 * v[SUM_LOSS] && v[SUM_LOSS] > 0);
    assert_true(fabs(one.verdict.grad_norm - two.verdict.grad_norm) <= 1e-6 * one.verdict.grad_norm);
    double worst = 0, most = 0;
    for (int64_t i = 0; i < fixture.model->trained->elements; i++) {
        worst = fmax(worst, fabs((double)one.gradients[i] - two.gradients[i]));
        most = fmax(most, fabs((double)one.gradients[i]));
    }
    assert_true(most > 0 && worst <= 1e-6 * most);
    mem_free(one.gradients);
    mem_free(two.gradients);
}

/* The last rank's last token is none of the vocabulary. */
static void test_failing_rank(void **state) {
    (void)state;
    const struct objective *const objectives[] = {&gathering, &told};
    for (int k = 0; k < COUNT_OF(objectives); k++) {
        struct pairs p;
        make_pairs(&p);
        if (world->rank == world->size - 1) {
            p.tokens[p.batch.n - 1][IN_PAIR - 1] = 1 << 30;
        }
        struct outcome out = run(objectives[k], 0, &p, &(struct wish){0});
        assert_int_equal(out.st, ERR_DATA);
        assert_non_null(strstr(status_message()->text, "row"));
        mem_free(out.gradients);
    }
}

static enum status fail_on_last(void *context) {
    (void)context;
    return world->rank == world->size - 1 ? fail(ERR_INPUT, "the next batch is not there") : OK;
}

static void test_failing_meanwhile(void **state) {
    (void)state;
    struct pairs p;
    make_pairs(&p);
    struct outcome out = run(&told, 0, &p, &(struct wish){.meanwhile = fail_on_last});
    assert_int_equal(out.st, ERR_INPUT);
    assert_non_null(strstr(status_message()->text, "the next batch is not there"));
    mem_free(out.gradients);
}

int main(int argc, char **argv) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_two_passes),
        cmocka_unit_test(test_failing_rank),
        cmocka_unit_test(test_failing_meanwhile),
    };
    char why[256];
    MUST(comm_start(&argc, &argv, &world));
    MUST(backend_open(&(struct backend_request){.device = "cpu", .compute = "fp32", .threads = 1}, &backend,
                      why));
    fixture_open(&fixture, backend, "llama");
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    fixture_close(&fixture);
    backend_close(backend);
    comm_finish(world);
    return failed;
}
