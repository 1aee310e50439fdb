/* bench.kind=step: DPO updates of a model shape on random tokens, by the step that training takes. */
#include "command/bench/bench.h"
#include "command/bench/bench_samples.h"
#include "command/bench/bench_step_table.h"
#include "command/trainer.h"
#include "train/step.h"
#include "util/clock.h"
#include "util/mem.h"

struct step_bench {
    struct bench *bench;
    struct model *model;
    struct optimizer optimizer;
    struct workspace workspace;
    struct terms terms;
    struct bench_samples samples;
    struct step step;
    struct bench_step_result result;
    double *seconds;
};

/* Collective. Seconds of one update, and what it came to. */
static enum status run_once(struct step_bench *b, double *seconds) {
    struct verdict v;
    TRY(comm_barrier(b->bench->session.comm));
    step_clock(&b->step);
    double began = clock_seconds();
    TRY(step_run(&b->step, &b->samples.batch, &(struct wish){0}, &v));
    enum status st = step_update(&b->step, &v, 1);
    TRY(comm_agree(b->bench->session.comm, st == OK ? backend_sync(b->bench->session.backend) : st));
    *seconds = clock_seconds() - began;
    b->result.loss = v.sums.v[SUM_LOSS] / v.sums.v[SUM_ROWS];
    b->result.flops = v.sums.v[SUM_FLOPS];
    return OK;
}

static enum status run_steps(struct step_bench *b) {
    int64_t repeats = b->bench->session.settings->bench.repeats;
    for (int64_t i = -BENCH_STEP_WARM_UP; i < repeats; i++) {
        double seconds;
        TRY(run_once(b, &seconds));
        if (i == -BENCH_STEP_WARM_UP) {
            b->result.first_s = seconds;
        } else if (i >= 0) {
            b->seconds[i] = seconds;
            b->result.waited_s += b->step.spans[SPAN_WAIT] / (double)repeats;
        }
    }
    b->result.pairs_in_forest = b->samples.pairs_in_forest;
    b->result.parameters = b->model->trained->elements;
    TRY(times_reduce(b->step.parts.comm, b->seconds, repeats, &b->result.times));
    return bench_step_table(b->bench, &b->result);
}

/* Local. */
static enum status open_model(struct step_bench *b) {
    const struct settings *s = b->bench->session.settings;
    struct backend *backend = b->bench->session.backend;
    struct optimizer_options options = trainer_optimizer(s);
    TRY(model_open(backend, &b->bench->config, &b->model));
    TRY(arena_initialize(b->model->base, (uint64_t)s->seed));
    TRY(arena_need_gradients(b->model->trained));
    struct shard_map shards = trainer_shards(s, b->bench->session.comm, b->model->trained->elements);
    TRY(optimizer_open(b->model->trained, &options, &shards, &b->optimizer));
    b->samples.vocabulary = b->model->config.vocabulary;
    TRY(bench_samples_open(&b->samples));
    b->terms = (struct terms){.has_reference = true, .options = {.beta = 0.1}};
    TRY(terms_parse("sigmoid", &b->terms));
    int tokens;
    int64_t bytes;
    TRY(to_int(b->samples.pairs_in_forest * s->bench.tokens, "tokens of a forest", &tokens));
    TRY(pass_bytes(&b->model->config, &backend->caps, trainer_keep(s), tokens, tokens, &bytes));
    TRY(workspace_open(backend, bytes, &b->workspace));
    return NEW_ARRAY(b->seconds, s->bench.repeats);
}

/* Collective. */
static enum status open_step(struct step_bench *b) {
    const struct settings *s = b->bench->session.settings;
    TRY(batch_check(&b->samples.plan, b->bench->session.comm->size));
    TRY(comm_agree(b->bench->session.comm, open_model(b)));
    const struct step_parts parts = {b->bench->session.comm, &b->workspace, b->model, &b->optimizer,
                                     &b->terms};
    const struct step_options options = {.slots = s->train.slots,
                                         .deterministic = s->train.deterministic,
                                         .keep = trainer_keep(s),
                                         .bucket_bytes = s->train.bucket_bytes,
                                         .communication = (enum communication)s->train.communication};
    return step_open(&parts, &options, &b->step);
}

enum status bench_step(struct bench *bench) {
    const struct settings *s = bench->session.settings;
    struct comm *comm = bench->session.comm;
    struct step_bench b = {.bench = bench};
    b.samples = (struct bench_samples){.plan = {.rows = s->train.batch,
                                                .batch = s->train.batch,
                                                .slots = s->train.slots,
                                                .micro_tokens = s->train.micro_tokens,
                                                .seed = (uint64_t)s->seed,
                                                .deterministic = s->train.deterministic},
                                       .pair_tokens = s->bench.tokens,
                                       .rank = comm->rank,
                                       .size = comm->size};
    enum status st = open_step(&b);
    if (st == OK) {
        st = run_steps(&b);
        step_close(&b.step);
    }
    bench_samples_close(&b.samples);
    workspace_close(&b.workspace);
    optimizer_close(&b.optimizer);
    if (b.model) {
        model_close(b.model);
    }
    mem_free(b.seconds);
    return st;
}
