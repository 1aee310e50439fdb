#include "train/estimate.h"

#include "train/speed.h"
#include "util/mem.h"

/* Steps whose forests are looked at. */
enum { WALKED_STEPS = 256 };
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

static struct shard_map shards_of(const struct estimate_options *o, int64_t parameters) {
    return o->is_sharded ? shard_map_over(o->comm, parameters) : shard_map_whole(parameters);
}

static int64_t on_pages(int64_t bytes) {
    return (bytes + LARGE_PAGE - 1) / LARGE_PAGE * LARGE_PAGE;
}

static enum status walk(const struct estimate_options *o, int64_t *tokens) {
    int64_t steps = o->steps < WALKED_STEPS ? o->steps : WALKED_STEPS;
    *tokens = 0;
    for (int64_t step = 0; step < steps; step++) {
        int64_t largest;
        TRY(batch_largest(o->source, step, &largest));
        *tokens = largest > *tokens ? largest : *tokens;
    }
    return OK;
}

static enum status pass_memory(const struct estimate_options *o, struct estimate *e) {
    const struct rows *rows = o->rows;
    const struct backend_caps *caps = &o->backend->caps;
    double share = rows->tokens > 0 ? (double)rows->scored / (double)rows->tokens : 1;
    int tokens;
    TRY(to_int(e->forest_tokens, "tokens of the largest forest", &tokens));
    TRY(pass_bytes(&o->config, caps, o->keep, tokens, (int32_t)(share * tokens) + 1, &e->pass));
    if (o->eval_source) {
        int64_t most = o->eval_source->plan.micro_tokens;
        most = o->eval_rows->tokens < most ? o->eval_rows->tokens : most;
        most = o->eval_rows->longest > most ? o->eval_rows->longest : most;
        TRY(to_int(most, "tokens of an evaluation's forest", &tokens));
        TRY(pass_bytes(&o->config, caps, KEEP_NOTHING, tokens, (int32_t)(share * tokens) + 1,
                       &e->evaluation_pass));
    }
    return OK;
}

/* Arenas that slots' sums wait in, one a level of the fixed tree. */
static int64_t count_partial_arenas(const struct batch_source *source) {
    int64_t slots = (source->plan.slots + source->size - 1) / source->size;
    int64_t n = 0;
    for (; source->plan.deterministic && (int64_t)1 << n < slots; n++) {
    }
    return n;
}

/* Local. */
static enum status count_memory(const struct estimate_options *o, struct estimate *e) {
    const struct backend_caps *caps = &o->backend->caps;
    const struct batch_plan *plan = &o->source->plan;
    TRY(count_parameters(&o->config, &e->parameters));
    TRY(walk(o, &e->forest_tokens));
    int64_t arena = on_pages(e->parameters * dtype_size(caps->master));
    struct shard_map shards = shards_of(o, e->parameters);
    e->inside = backend_scratch_bytes(o->backend, o->config.width, o->config.vocabulary);
    e->partial_arenas = count_partial_arenas(o->source);
    e->state_arenas = optimizer_states(&o->optimizer);
    e->model = arena + (caps->compute != caps->master ? e->parameters * dtype_size(caps->compute) : 0);
    e->gradients = arena;
    e->optimizer = e->state_arenas * on_pages(shard_count(&shards, shards.rank) * dtype_size(caps->master));
    e->partial = e->partial_arenas * arena;
    e->batches = 2 * plan->batch / o->source->size * o->rows->tokens / o->rows->n * (int64_t)sizeof(int32_t);
    e->baseline = mem_peak_resident();
    return pass_memory(o, e);
}

int64_t estimate_pass(const struct estimate *e) {
    return e->pass > e->evaluation_pass ? e->pass : e->evaluation_pass;
}

enum status estimate_memory(const struct estimate_options *o, struct estimate *out) {
    struct comm *c = o->comm;
    struct estimate e = {0};
    TRY(comm_agree(c, count_memory(o, &e)));
    TRY(comm_max_i64(c, &e.forest_tokens, 1));
    TRY(comm_max_i64(c, &e.pass, 1));
    TRY(comm_max_i64(c, &e.baseline, 1));
    TRY(comm_max_i64(c, &e.optimizer, 1));
    e.total = e.baseline + e.model + e.gradients + e.optimizer + e.partial + e.batches + e.inside +
              estimate_pass(&e);
    *out = e;
    return OK;
}

static double step_flops(const struct estimate_options *o) {
    const struct rows *r = o->rows;
    double per_row = ((double)r->tokens * model_flops_layers(&o->config) +
                      (double)r->scored * model_flops_head(&o->config) +
                      r->attention_pairs * model_flops_attention(&o->config)) /
                     (double)r->n;
    return 3 * per_row * (double)o->source->plan.batch;
}

enum status estimate_training(const struct estimate_options *o, struct estimate *out) {
    TRY(estimate_memory(o, out));
    TRY(comm_agree(o->comm, speed_gemm(o->backend, SPEED_USUAL_S, &out->peak_flops)));
    TRY(comm_sum_f64(o->comm, &out->peak_flops, 1));
    out->step_flops = step_flops(o);
    out->step_seconds = out->step_flops / (out->peak_flops * ESTIMATE_EFFICIENCY);
    return OK;
}

enum status estimate_state_bytes(const struct estimate_options *o, int64_t *out) {
    int64_t parameters = 0;
    TRY(count_parameters(&o->config, &parameters));
    struct shard_map shards = shards_of(o, parameters);
    *out = (parameters + optimizer_states(&o->optimizer) * shard_count(&shards, shards.rank)) *
           dtype_size(o->backend->caps.master);
    return OK;
}
