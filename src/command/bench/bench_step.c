/* bench.kind=step: DPO updates of a model shape on random tokens, as the training loop makes them: forests,
 * backward, buckets, closing sum, update. Each rank takes its share of train.batch pairs of bench.tokens
 * tokens: half of them the prompt, which is computed once, a quarter each response. */
#include <stdio.h>

#include "command/bench/bench.h"
#include "command/trainer.h"
#include "evaluate/evaluation.h"
#include "util/clock.h"
#include "util/log.h"
#include "util/mem.h"
#include "util/rng.h"

enum { WARM_UP = 3 };

struct step_bench {
    struct bench *bench;
    struct comm *comm;
    const struct settings *settings;
    struct model *model;
    struct optimizer optimizer;
    struct workspace workspace;
    struct scorer scorer;
    struct gradient_sum gradient;
    struct recipe recipe;
    int64_t pairs_in_forest, n_slots; /* of this rank */
    struct range slots;
    int64_t first_pair, n_pairs; /* this rank's */
    struct sample *samples;
    struct sample_response *responses; /* two a sample */
    int32_t *tokens;
    double *gradients, *seconds;
    double loss, flops, waited_s; /* of the last step: over all ranks; waited by this one */
};

static enum status make_samples(struct step_bench *b) {
    int64_t in_pair = b->settings->bench.tokens, response = in_pair / 4, prompt = in_pair - 2 * response, n;
    if (response < 1) {
        return fail(ERR_USAGE, "bench.tokens=%lld: a pair has at least 4 tokens", (long long)in_pair);
    }
    TRY(size_mul(b->n_pairs, in_pair, "tokens", &n));
    TRY(NEW_ARRAY(b->tokens, n));
    TRY(NEW_ARRAY(b->samples, b->n_pairs));
    TRY(NEW_ARRAY(b->responses, 2 * b->n_pairs));
    TRY(NEW_ARRAY(b->gradients, SCORER_RESPONSES * b->n_pairs));
    for (int64_t i = 0; i < b->n_pairs; i++) {
        int64_t row = b->first_pair + i;
        int32_t *tokens = b->tokens + i * in_pair;
        struct rng r = rng_stream((uint64_t)b->settings->seed, RNG_BENCH, row, 0);
        for (int64_t t = 0; t < in_pair; t++) {
            tokens[t] = (int32_t)rng_below(&r, b->model->config.vocabulary);
        }
        b->samples[i] = (struct sample){
            .row = row,
            .n_responses = 2,
            .prompt = tokens,
            .prompt_count = (int32_t)prompt,
            .responses = &b->responses[2 * i],
        };
        for (int j = 0; j < 2; j++) {
            b->responses[2 * i + j] = (struct sample_response){
                .id = 2 * row + j, .tokens = tokens + prompt + j * response, .count = (int32_t)response};
        }
    }
    return OK;
}

static enum status open_model(struct step_bench *b) {
    const struct settings *s = b->settings;
    struct backend *backend = b->bench->session.backend;
    struct optimizer_options options = trainer_optimizer(s);
    TRY(model_open(backend, &b->bench->config, &b->model));
    TRY(arena_initialize(b->model->base, (uint64_t)s->seed));
    TRY(arena_need_gradients(b->model->trained));
    struct shard_map shards = trainer_shards(s, b->comm, b->model->trained->elements);
    TRY(optimizer_open(b->model->trained, &options, &shards, &b->optimizer));
    TRY(make_samples(b));
    b->pairs_in_forest = s->train.micro_tokens / s->bench.tokens;
    b->pairs_in_forest = b->pairs_in_forest > 0 ? b->pairs_in_forest : 1;
    b->recipe = (struct recipe){.kind = RECIPE_PREFERENCE, .has_reference = true, .options = {.beta = 0.1}};
    TRY(recipe_parse("sigmoid", &b->recipe));
    int tokens;
    int64_t bytes;
    enum pass_keep keep = trainer_keep(s);
    TRY(to_int(b->pairs_in_forest * s->bench.tokens, "tokens of a forest", &tokens));
    TRY(pass_bytes(&b->model->config, &backend->caps, keep, tokens, tokens, &bytes));
    TRY(workspace_open(backend, bytes, &b->workspace));
    TRY(NEW_ARRAY(b->seconds, s->bench.repeats));
    return scorer_open(b->model, &b->workspace, keep, &b->scorer);
}

/* Forward, loss, backward of pairs [first, last) of this rank. */
static enum status run_forest(struct step_bench *b, int64_t first, int64_t last, bool is_last,
                              struct sums *sums) {
    const struct denominators d = {(double)b->settings->train.batch, 1};
    TRY(scorer_run(&b->scorer, b->samples + first, last - first));
    evaluate_count_work(&b->scorer, 3, sums);
    for (int64_t i = 0; i < last - first; i++) {
        const struct response_score *scores = &b->scorer.scores[b->scorer.first[i]];
        /* A reference near the random model: -log V a token. */
        const double reference[] = {-10.8 * (double)scores[0].tokens, -10.8 * (double)scores[1].tokens};
        const struct scored_row row = {&b->samples[first + i], scores, reference};
        if (!recipe_row(&b->recipe, &row, &d, &b->gradients[b->scorer.first[i]], sums)) {
            return fail(ERR_DATA, "bench: the loss is not finite");
        }
    }
    return scorer_backward(&b->scorer, b->gradients, is_last ? gradient_final : NULL, &b->gradient);
}

static enum status run_slots(struct step_bench *b, struct sums *sums) {
    bool deterministic = b->gradient.deterministic;
    TRY(gradient_begin(&b->gradient));
    for (int64_t i = 0; i < b->n_slots; i++) {
        struct range part = {0, b->n_pairs};
        if (deterministic) {
            part = range_part(b->settings->train.batch, b->slots.first + i, b->settings->train.slots);
            part.first -= b->first_pair;
            part.last -= b->first_pair;
        }
        for (int64_t first = part.first; first < part.last; first += b->pairs_in_forest) {
            int64_t last = first + b->pairs_in_forest < part.last ? first + b->pairs_in_forest : part.last;
            bool is_last = last == part.last && b->n_slots == 1;
            TRY(run_forest(b, first, last, is_last, sums));
        }
        if (deterministic) {
            TRY(gradient_push(&b->gradient));
        }
    }
    return OK;
}

/* Collective. */
static enum status run_step(struct step_bench *b) {
    struct sums sums = {0};
    enum status st = run_slots(b, &sums);
    enum status summed = gradient_finish(&b->gradient, &b->waited_s);
    double closing[] = {st != OK || summed != OK, sums.v[SUM_LOSS], sums.v[SUM_ROWS], sums.v[SUM_FLOPS]};
    TRY(comm_sum_f64(b->comm, closing, COUNT_OF(closing)));
    if (closing[0] > 0) {
        return comm_agree(b->comm, st == OK ? summed : st);
    }
    b->loss = closing[1] / closing[2];
    b->flops = closing[3];
    st = optimizer_update(&b->optimizer, 1, 1);
    return optimizer_is_sharded(&b->optimizer) ? parameters_gather(b->comm, &b->optimizer, st) : st;
}

/* Peak: of the device's memory, or of this process. */
static double memory_mib(struct backend *b) {
    int64_t taken = backend_memory_taken(b);
    return (double)(taken > 0 ? taken : mem_peak_resident()) / (1 << 20);
}

static enum status report(struct step_bench *b, double first_s, const struct times *t, double waited_s) {
    const struct settings *s = b->settings;
    double rates[] = {b->bench->peak_fma, b->bench->peak_product, b->bench->peak_flops};
    TRY(comm_sum_f64(b->comm, rates, COUNT_OF(rates)));
    TRY(comm_max_f64(b->comm, &waited_s, 1));
    if (b->comm->rank != 0) {
        return OK;
    }
    double pairs = (double)s->train.batch / t->median, rate = b->flops / t->median;
    double tokens = pairs * (double)s->bench.tokens, memory = memory_mib(b->bench->session.backend);
    printf("# dpo step, %lld parameters, %lld pairs of %lld tokens (prompt once), %lld pairs a forest\n"
           "# FLOP a step: 3 x (layers %.4g x tokens + head %.4g x scored + attention %.4g x query-key pairs)"
           " = %.4g\n"
           "# median of %lld after %d warm-up steps, the slowest rank's; mfu against %.1f GFLOP/s\n",
           (long long)b->model->trained->elements, (long long)s->train.batch, (long long)s->bench.tokens,
           (long long)b->pairs_in_forest, model_flops_layers(&b->model->config),
           model_flops_head(&b->model->config), model_flops_attention(&b->model->config), b->flops,
           (long long)s->bench.repeats, WARM_UP, rates[2] / 1e9);
    printf("%6s %8s %17s %8s %10s %10s %9s %7s %9s %8s %10s\n", "ranks", "step s", "p10-p90", "first s",
           "pairs/s", "tokens/s", "GFLOP/s", "mfu %", "exposed s", "MiB", "loss");
    printf("%6d %8.4f %8.4f-%8.4f %8.4f %10.4g %10.5g %9.1f %7.1f %9.4f %8.0f %10.6f\n", b->comm->size,
           t->median, t->p10, t->p90, first_s, pairs, tokens, rate / 1e9, 100 * rate / rates[2], waited_s,
           memory, b->loss);
    char stamp[32];
    clock_stamp(stamp, sizeof stamp);
    TRY(bench_row(b->bench,
                  "date,ranks,threads,device,shape,pair_tokens,batch,micro_tokens,step_s_median,step_s_p10,"
                  "step_s_p90,first_step_s,tokens_per_s,pairs_per_s,gflops,peak_gflops,product_gflops,mfu,"
                  "comm_exposed_s,mem_peak_mib,loss_at_n"));
    return bench_row(b->bench,
                     "%s,%d,%d,%s,%s,%lld,%lld,%lld,%.6f,%.6f,%.6f,%.6f,%.6g,%.6g,%.6g,%.6g,%.6g,%.5f,%.6f,"
                     "%.1f,%.9g",
                     stamp, b->comm->size, b->bench->session.backend->caps.threads,
                     b->bench->session.backend->caps.name, b->bench->shape, (long long)s->bench.tokens,
                     (long long)s->train.batch, (long long)s->train.micro_tokens, t->median, t->p10, t->p90,
                     first_s, tokens, pairs, rate / 1e9, rates[2] / 1e9, rates[1] / 1e9, rate / rates[2],
                     waited_s, memory, b->loss);
}

static enum status run_steps(struct step_bench *b) {
    int64_t repeats = b->settings->bench.repeats;
    double first_s = 0, waited_s = 0;
    for (int64_t i = -WARM_UP; i < repeats; i++) {
        TRY(comm_barrier(b->comm));
        double began = clock_seconds();
        TRY(run_step(b));
        TRY(comm_agree(b->comm, backend_sync(b->bench->session.backend)));
        double seconds = clock_seconds() - began;
        if (i == -WARM_UP) {
            first_s = seconds;
        } else if (i >= 0) {
            b->seconds[i] = seconds;
            waited_s += b->waited_s / (double)repeats;
        }
    }
    struct times times;
    TRY(times_reduce(b->comm, b->seconds, repeats, &times));
    return report(b, first_s, &times, waited_s);
}

enum status bench_step(struct bench *bench) {
    struct step_bench b = {.bench = bench, .comm = bench->session.comm, .settings = bench->session.settings};
    const struct settings *s = b.settings;
    bool deterministic = s->train.deterministic;
    struct range pairs = range_part(s->train.batch, b.comm->rank, b.comm->size);
    b.slots = range_part(s->train.slots, b.comm->rank, b.comm->size);
    b.n_slots = deterministic ? b.slots.last - b.slots.first : 1;
    if (deterministic) {
        pairs.first = range_part(s->train.batch, b.slots.first, s->train.slots).first;
        pairs.last = range_part(s->train.batch, b.slots.last - 1, s->train.slots).last;
    }
    b.first_pair = pairs.first;
    b.n_pairs = pairs.last - pairs.first;
    enum status st = OK;
    if (deterministic && s->train.slots % b.comm->size != 0) {
        st = fail(ERR_USAGE, "train.slots=%lld does not divide among %d ranks", (long long)s->train.slots,
                  b.comm->size);
    }
    st = comm_agree(b.comm, st == OK ? open_model(&b) : st);
    if (st == OK) {
        const struct gradient_options options = {.slots = b.n_slots,
                                                 .deterministic = deterministic,
                                                 .bucket_bytes = s->train.bucket_bytes,
                                                 .shards = b.optimizer.shards,
                                                 .communication = (enum communication)s->train.communication};
        st = gradient_open(b.comm, b.model->trained, &options, &b.gradient);
    }
    if (st == OK) {
        st = run_steps(&b);
        gradient_close(&b.gradient);
    }
    scorer_close(&b.scorer);
    workspace_close(&b.workspace);
    optimizer_close(&b.optimizer);
    if (b.model) {
        model_close(b.model);
    }
    mem_free(b.samples);
    mem_free(b.responses);
    mem_free(b.tokens);
    mem_free(b.gradients);
    mem_free(b.seconds);
    return st;
}
