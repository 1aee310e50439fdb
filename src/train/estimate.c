#include "train/estimate.h"

#include "model/lora.h"
#include "train/speed.h"
#include "util/mem.h"

/* Arenas stand on large pages. */
enum { LARGE_PAGE = 2 << 20 };

/* The arenas' sizes from a model on the back end that counts and holds nothing. *base 0: it is what is
 * trained. *kept: bytes that a back end with these capabilities keeps of its weights, each read both ways. */
static enum status count_parameters(const struct model_config *config, const struct backend_caps *caps,
                                    int64_t *trained, int64_t *base, int64_t *kept) {
    const struct backend_request request = {.device = "plan", .device_index = -1};
    struct backend *plan;
    struct model *model = NULL;
    struct lora *lora;
    char why[256];
    TRY(backend_open(&request, &plan, why));
    plan->caps.compute = caps->compute;
    plan->caps.keeps_weights = caps->keeps_weights;
    enum status st = model_open(plan, config, &model);
    st = st == OK && config->lora ? lora_open(model, config->lora, ARENA_TRAINED, 0, &lora) : st;
    if (st == OK) {
        *trained = model->trained->elements;
        *base = config->lora ? model->base->elements : 0;
        /* the embedding comes first, and is looked up where it is no head */
        *kept = arena_kept_bytes(model->base, true, config->tied ? -1 : 0);
        *kept += config->lora ? arena_kept_bytes(model->trained, true, -1) : 0;
    }
    model_close(model);
    backend_close(plan);
    return st;
}

enum status estimate_elements(const struct model_config *config, int64_t *out) {
    struct model_config bare = *config;
    int64_t base, kept;
    bare.lora = NULL;
    return count_parameters(&bare, &(struct backend_caps){.compute = DTYPE_F32}, out, &base, &kept);
}

static struct shard_map shards_of(const struct estimate_options *o, int64_t parameters) {
    return o->is_sharded ? shard_map_over(o->comm, parameters) : shard_map_whole(parameters);
}

static int64_t on_pages(int64_t bytes) {
    return (bytes + LARGE_PAGE - 1) / LARGE_PAGE * LARGE_PAGE;
}

/* Of forests of so many tokens, of which any may be scored. */
static enum status pass_memory(const struct estimate_options *o, enum pass_keep keep, int64_t tokens,
                               int64_t *out) {
    int n;
    TRY(to_int(tokens, "tokens of the largest forest", &n));
    return pass_bytes(&o->config, &o->backend->caps, keep, n, n, out);
}

static int64_t evaluation_tokens(const struct estimate_options *o) {
    const struct batch_source *s = o->eval_source;
    return o->eval_tokens > 0 ? o->eval_tokens
                              : batch_forest_tokens(&s->plan, s->size, &o->eval_rows->lengths);
}

enum status estimate_passes(const struct estimate_options *o, struct estimate *e) {
    e->drawing = o->drawing;
    e->forest_tokens = batch_forest_tokens(&o->source->plan, o->source->size, &o->rows->lengths);
    TRY(pass_memory(o, o->keep, e->forest_tokens, &e->pass));
    if (o->eval_source) {
        TRY(pass_memory(o, o->reference_keep == KEEP_NOTHING ? KEEP_NOTHING : o->keep, evaluation_tokens(o),
                        &e->evaluation_pass));
    }
    if (o->has_follower) {
        int64_t tokens = e->forest_tokens;
        if (o->eval_source) {
            int64_t eval = evaluation_tokens(o);
            tokens = eval > tokens ? eval : tokens;
        }
        TRY(pass_memory(o, o->reference_keep, tokens, &e->reference));
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

/* What training so many parameters takes: master values, gradients, states, and a copy where the types
 * differ. */
static int64_t trained_bytes(const struct estimate_options *o, int64_t parameters) {
    const struct backend_caps *caps = &o->backend->caps;
    struct shard_map shards = shards_of(o, parameters);
    int64_t states = optimizer_states(&o->optimizer) * shard_count(&shards, shards.rank);
    return (2 * parameters + states) * dtype_size(caps->master) +
           (caps->compute != caps->master ? parameters * dtype_size(caps->compute) : 0);
}

/* Of the second model's parameters: compute values alone where nothing writes them. */
static int64_t reference_bytes(const struct estimate_options *o, const struct estimate *e) {
    int64_t whole = e->frozen > 0 ? e->frozen : e->parameters;
    return o->follows ? e->model : on_pages(whole * dtype_size(o->backend->caps.compute));
}

/* Local. */
static enum status count_memory(const struct estimate_options *o, struct estimate *e) {
    const struct backend_caps *caps = &o->backend->caps;
    const struct batch_plan *plan = &o->source->plan;
    TRY(count_parameters(&o->config, caps, &e->parameters, &e->frozen, &e->kept));
    e->base = on_pages(e->frozen * dtype_size(caps->compute));
    e->saved = e->frozen > 0 ? trained_bytes(o, e->frozen) - e->frozen * dtype_size(caps->compute) -
                                   trained_bytes(o, e->parameters)
                             : 0;
    int64_t arena = on_pages(e->parameters * dtype_size(caps->master));
    struct shard_map shards = shards_of(o, e->parameters);
    e->inside =
        backend_scratch_bytes(o->backend, o->config.width, o->config.vocabulary, (int)o->config.head_dim);
    e->partial_arenas = count_partial_arenas(o->source);
    e->state_arenas = optimizer_states(&o->optimizer);
    e->model = arena + (caps->compute != caps->master ? e->parameters * dtype_size(caps->compute) : 0);
    e->gradients = arena;
    e->optimizer = e->state_arenas * on_pages(shard_count(&shards, shards.rank) * dtype_size(caps->master));
    e->partial = e->partial_arenas * arena;
    e->batches = 2 * plan->batch / o->source->size * o->rows->tokens / o->rows->n * (int64_t)sizeof(int32_t);
    e->batches += o->held;
    e->baseline = mem_peak_resident();
    TRY(estimate_passes(o, e));
    e->reference += o->has_follower ? reference_bytes(o, e) + e->kept / 2 : 0; /* forward alone */
    e->others = o->others;
    return OK;
}

int64_t estimate_pass(const struct estimate *e) {
    int64_t pass = e->pass > e->evaluation_pass ? e->pass : e->evaluation_pass;
    return pass > e->drawing ? pass : e->drawing;
}

enum status estimate_memory(const struct estimate_options *o, struct estimate *out) {
    struct comm *c = o->comm;
    struct estimate e = {0};
    TRY(comm_agree(c, count_memory(o, &e)));
    TRY(comm_max_i64(c, &e.baseline, 1));
    TRY(comm_max_i64(c, &e.optimizer, 1));
    e.total = e.baseline + e.base + e.model + e.reference + e.others + e.gradients + e.optimizer + e.partial +
              e.batches + e.inside + e.kept + estimate_pass(&e);
    *out = e;
    return OK;
}

static double step_flops(const struct estimate_options *o) {
    const struct rows *r = o->rows;
    double per_row = ((double)r->tokens * model_flops_layers(&o->config) +
                      (double)r->scored * model_flops_head(&o->config) +
                      r->attention_pairs * model_flops_attention(&o->config)) /
                     (double)r->n;
    return (model_flops_training(&o->config) + o->has_follower) * per_row * (double)o->source->plan.batch;
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
    int64_t parameters = 0, frozen = 0, kept = 0;
    TRY(count_parameters(&o->config, &o->backend->caps, &parameters, &frozen, &kept));
    struct shard_map shards = shards_of(o, parameters);
    *out = (parameters + optimizer_states(&o->optimizer) * shard_count(&shards, shards.rank)) *
           dtype_size(o->backend->caps.master);
    return OK;
}
