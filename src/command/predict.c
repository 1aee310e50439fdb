/* --dry-run of sft, dpo and reward: what a run would read, hold and take, without doing it. */
#include <stdio.h>
#include <string.h>

#include "command/trainer.h"
#include "store/model_source.h"
#include "train/gradient.h"
#include "train/speed.h"
#include "util/mem.h"

/* Steps whose forests are looked at, and the share of the measured product rate that a step reaches. */
enum { WALKED_STEPS = 256 };
static const double step_efficiency = 0.6;

/* Arenas stand on large pages. */
enum { LARGE_PAGE = 2 << 20 };

/* The arena's size from a model on the back end that counts and holds nothing. */
static enum status count_parameters(const struct model_config *config, int64_t *out) {
    const struct backend_request request = {.device = "plan", .device_index = -1};
    struct backend *plan;
    struct model *model;
    char why[256];
    TRY(backend_open(&request, &plan, why));
    enum status st = model_open(plan, config, &model);
    if (st == OK) {
        *out = model->trained->elements;
        model_close(model);
    }
    backend_close(plan);
    return st;
}

static enum status walk(const struct trainer *t, int64_t *tokens) {
    int64_t steps = t->training.steps < WALKED_STEPS ? t->training.steps : WALKED_STEPS;
    *tokens = 0;
    for (int64_t step = 0; step < steps; step++) {
        int64_t largest;
        TRY(batch_largest(&t->data, step, &largest));
        *tokens = largest > *tokens ? largest : *tokens;
    }
    return OK;
}

static enum status pass_memory(const struct trainer *t, const struct model_config *config,
                               struct prediction *p) {
    const struct rows *rows = &t->session.train;
    const struct backend_caps *caps = &t->session.backend->caps;
    double share = rows->tokens > 0 ? (double)rows->scored / (double)rows->tokens : 1;
    int tokens;
    TRY(to_int(p->forest_tokens, "tokens of the largest forest", &tokens));
    TRY(pass_bytes(config, caps, t->training.keep, tokens, (int32_t)(share * tokens) + 1, &p->pass));
    if (t->training.eval_data) {
        int64_t most = t->eval_data.plan.micro_tokens;
        most = t->session.eval.tokens < most ? t->session.eval.tokens : most;
        most = t->session.eval.longest > most ? t->session.eval.longest : most;
        TRY(to_int(most, "tokens of an evaluation's forest", &tokens));
        TRY(pass_bytes(config, caps, KEEP_NOTHING, tokens, (int32_t)(share * tokens) + 1,
                       &p->evaluation_pass));
    }
    return OK;
}

static int64_t state_arenas(const struct optimizer_options *o) {
    switch (o->kind) {
    case OPTIMIZER_SGD:
        return o->momentum != 0;
    case OPTIMIZER_RMSPROP:
        return 1 + (o->momentum != 0);
    default:
        return 2;
    }
}

static enum status predict_memory(const struct trainer *t, const struct model_config *config,
                                  struct prediction *p) {
    const struct backend_caps *caps = &t->session.backend->caps;
    struct optimizer_options options = trainer_optimizer(t->session.settings);
    int64_t slots = (t->data.plan.slots + t->data.size - 1) / t->data.size;
    TRY(count_parameters(config, &p->parameters));
    TRY(walk(t, &p->forest_tokens));
    int64_t arena = p->parameters * dtype_size(caps->master);
    arena = (arena + LARGE_PAGE - 1) / LARGE_PAGE * LARGE_PAGE;
    p->inside = backend_scratch_bytes(t->session.backend, config->width, config->vocabulary);
    for (; t->data.plan.deterministic && (int64_t)1 << p->partial_arenas < slots; p->partial_arenas++) {
    }
    p->state_arenas = state_arenas(&options);
    p->model = arena + (caps->compute != caps->master ? p->parameters * dtype_size(caps->compute) : 0);
    p->gradients = arena;
    struct shard_map shards = trainer_shards(t->session.settings, t->session.comm, p->parameters);
    int64_t share = shard_count(&shards, shards.rank) * dtype_size(caps->master);
    p->optimizer = p->state_arenas * ((share + LARGE_PAGE - 1) / LARGE_PAGE * LARGE_PAGE);
    p->partial = p->partial_arenas * arena;
    p->batches = 2 * t->data.plan.batch / t->data.size * t->session.train.tokens / t->session.train.n *
                 (int64_t)sizeof(int32_t);
    p->baseline = mem_peak_resident();
    return pass_memory(t, config, p);
}

static double mib(int64_t bytes) {
    return (double)bytes / (1 << 20);
}

static void print_memory(const struct prediction *p) {
    int64_t pass = p->pass > p->evaluation_pass ? p->pass : p->evaluation_pass;
    printf("memory per rank (MiB)\n");
    printf("  process      %10.1f\n", mib(p->baseline));
    printf("  parameters   %10.1f  %lld\n", mib(p->model), (long long)p->parameters);
    printf("  gradients    %10.1f\n", mib(p->gradients));
    printf("  optimizer    %10.1f  %lld states\n", mib(p->optimizer), (long long)p->state_arenas);
    if (p->partial) {
        printf("  partial sums %10.1f  %lld arenas\n", mib(p->partial), (long long)p->partial_arenas);
    }
    printf("  pass         %10.1f  largest forest %lld tokens\n", mib(pass), (long long)p->forest_tokens);
    printf("  operations   %10.1f\n", mib(p->inside));
    printf("  batches      %10.1f\n", mib(p->batches));
    printf("  total        %10.1f\n", mib(p->total));
}

static void print_rows(const char *name, const struct rows *r) {
    const struct cut_counts *c = &r->counts;
    printf("%s\n  file %s\n  rows %lld\n  tokens %lld (prompts once), scored %lld, longest row %lld\n"
           "  cut: prompts %lld, responses %lld; without an end token %lld; empty %lld\n",
           name, dataset_path(r->data), (long long)r->n, (long long)r->tokens, (long long)r->scored,
           (long long)r->longest, (long long)c->prompts_cut, (long long)c->responses_cut,
           (long long)c->without_end, (long long)c->empty_dropped);
}

static double step_flops(const struct trainer *t, const struct model_config *config) {
    const struct rows *r = &t->session.train;
    double per_row =
        ((double)r->tokens * model_flops_layers(config) + (double)r->scored * model_flops_head(config) +
         r->attention_pairs * model_flops_attention(config)) /
        (double)r->n;
    return 3 * per_row * (double)t->data.plan.batch;
}

static void print_time(const struct trainer *t, const struct prediction *p) {
    printf("step\n  %.4g GFLOP; products run at %.4g GFLOP/s over all ranks now; at %.0f %% of that %.3g s a "
           "step,\n  %.4g s for %lld steps\n",
           p->step_flops / 1e9, t->training.peak_flops / 1e9, 100 * step_efficiency, p->step_seconds,
           p->step_seconds * (double)t->training.steps, (long long)t->training.steps);
}

/* Local. Of the model that is to be trained, with its head. */
static enum status read_config(const struct trainer *t, struct model_config *out) {
    struct text folder = {0};
    enum status st = model_source_folder(t->session.settings->model, &folder);
    st = st == OK ? model_source_config(folder.data, out) : st;
    out->head = model_head_for(t->terms.reads & READS_VALUE);
    text_free(&folder);
    return st;
}

enum status trainer_state_bytes(struct trainer *t, int64_t *out) {
    struct session *s = &t->session;
    struct optimizer_options options = trainer_optimizer(s->settings);
    struct model_config config;
    int64_t parameters = 0;
    TRY(read_config(t, &config));
    TRY(count_parameters(&config, &parameters));
    struct shard_map shards = trainer_shards(s->settings, s->comm, parameters);
    *out = (parameters + state_arenas(&options) * shard_count(&shards, shards.rank)) *
           dtype_size(s->backend->caps.master);
    return OK;
}

enum status trainer_memory(struct trainer *t, struct model_config *config, struct prediction *out) {
    struct comm *c = t->session.comm;
    struct prediction p = {0};
    enum status st = read_config(t, config);
    TRY(comm_agree(c, st == OK ? predict_memory(t, config, &p) : st));
    TRY(comm_max_i64(c, &p.forest_tokens, 1));
    TRY(comm_max_i64(c, &p.pass, 1));
    TRY(comm_max_i64(c, &p.baseline, 1));
    TRY(comm_max_i64(c, &p.optimizer, 1));
    p.total = p.baseline + p.model + p.gradients + p.optimizer + p.partial + p.batches + p.inside +
              (p.pass > p.evaluation_pass ? p.pass : p.evaluation_pass);
    *out = p;
    return OK;
}

enum status trainer_estimate(struct trainer *t, struct model_config *config, struct prediction *out) {
    struct comm *c = t->session.comm;
    TRY(trainer_memory(t, config, out));
    TRY(comm_agree(c, speed_gemm(t->session.backend, SPEED_USUAL_S, &t->training.peak_flops)));
    TRY(comm_sum_f64(c, &t->training.peak_flops, 1));
    out->step_flops = step_flops(t, config);
    out->step_seconds = out->step_flops / (t->training.peak_flops * step_efficiency);
    return OK;
}

enum status trainer_predict(struct trainer *t) {
    struct comm *c = t->session.comm;
    struct model_config config;
    struct prediction p;
    struct text resolved = {0};
    TRY(trainer_estimate(t, &config, &p));
    enum status st = comm_agree(c, options_print(t->session.run->options, false, &resolved));
    if (st == OK && c->rank == 0) {
        printf("%s", resolved.data);
        print_rows("data", &t->session.train);
        if (t->training.eval_data) {
            print_rows("eval_data", &t->session.eval);
        }
        print_memory(&p);
        print_time(t, &p);
    }
    text_free(&resolved);
    return st;
}
