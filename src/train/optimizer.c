/* Optimizer state of this rank's shares of the arena, and the update in ranges of equal weight decay.
 *
 * Decay falls on matrices only, and the arena alternates between matrices and vectors, so an update is one
 * back end operation per run of parameters that agree, cut where shares end. The state's layout is that of
 * the packed shares, padding included; without sharding that is the arena's.
 */
#include "train/optimizer.h"

#include <math.h>

#include "util/mem.h"

/* Which of the two states a kind keeps. */
static bool keeps_first(const struct optimizer_options *o) {
    return o->kind == OPTIMIZER_ADAM || o->kind == OPTIMIZER_ADAMW || o->momentum != 0;
}

static bool keeps_second(const struct optimizer_options *o) {
    return o->kind != OPTIMIZER_SGD;
}

enum status optimizer_open(struct model *m, const struct optimizer_options *options,
                           const struct shard_map *shards, struct optimizer *out) {
    struct optimizer o = {.options = *options, .model = m, .shards = *shards};
    int64_t elements = shard_count(shards, shards->rank);
    enum status st = OK;
    if (keeps_first(options)) {
        TRY_TO(failed, model_take(m, "the optimizer's first state", elements, m->master.type, &o.first));
    }
    if (keeps_second(options)) {
        TRY_TO(failed, model_take(m, "the optimizer's second state", elements, m->master.type, &o.second));
    }
    if (optimizer_is_sharded(&o) && !backend_host_address(m->backend, m->master.data)) {
        o.staging = mem_aligned(m->arena_elements, (size_t)dtype_size(m->master.type));
        TRY_TO(failed, mem_ok(o.staging));
    }
    *out = o;
    return OK;
failed:
    optimizer_close(&o);
    return st;
}

void optimizer_close(struct optimizer *o) {
    if (!o || !o->model) {
        return;
    }
    model_give_back(o->model, &o->second);
    model_give_back(o->model, &o->first);
    mem_free(o->staging);
    *o = (struct optimizer){0};
}

bool optimizer_is_sharded(const struct optimizer *o) {
    return o->shards.size > 1;
}

/* `count` elements from `first` of an arena, or none. */
static struct tensor part(struct tensor arena, int64_t first, int64_t count) {
    return arena.data ? tensor_columns(arena, first, count) : (struct tensor){0};
}

/* Updates the overlap of share [share.first, share.last), whose state begins at `packed`, with the parameters
 * from i on that agree about decay. *next: the first parameter that does not. */
static enum status update_run(struct optimizer *o, struct optimizer_step *s, struct range share,
                              int64_t packed, int i, int *next) {
    struct model *m = o->model;
    bool decay = m->parameters[i].decay;
    for (*next = i + 1; *next < m->n_parameters && m->parameters[*next].decay == decay; ++*next) {
    }
    int64_t run_last = *next < m->n_parameters ? m->parameters[*next].offset : m->arena_elements;
    int64_t first = m->parameters[i].offset > share.first ? m->parameters[i].offset : share.first;
    int64_t count = (run_last < share.last ? run_last : share.last) - first;
    if (count <= 0) {
        return OK;
    }
    s->weight_decay = decay ? o->options.weight_decay : 0;
    s->parameters = part(m->master, first, count);
    s->gradients = part(m->gradients, first, count);
    s->first = part(o->first, packed + first - share.first, count);
    s->second = part(o->second, packed + first - share.first, count);
    s->copy = m->compute.type != m->master.type ? part(m->compute, first, count) : (struct tensor){0};
    return backend_optimizer(m->backend, s);
}

enum status optimizer_update(struct optimizer *o, double rate_multiplier, double gradient_scale) {
    const struct optimizer_options *p = &o->options;
    const struct model *m = o->model;
    double t = (double)(o->updates + 1);
    struct optimizer_step s = {.kind = p->kind,
                               .learning_rate = p->learning_rate * rate_multiplier,
                               .beta1 = p->beta1,
                               .beta2 = p->beta2,
                               .epsilon = p->epsilon,
                               .momentum = p->momentum,
                               .alpha = p->alpha,
                               .bias_correction1 = 1 - pow(p->beta1, t),
                               .bias_correction2 = 1 - pow(p->beta2, t),
                               .gradient_scale = gradient_scale};
    int64_t packed = 0;
    for (int64_t unit = 0, units = shard_units(&o->shards); unit < units; unit++) {
        struct range share = shard_range(&o->shards, unit, o->shards.rank);
        for (int i = 0, next; i < m->n_parameters; i = next) {
            TRY(update_run(o, &s, share, packed, i, &next));
        }
        packed += share.last - share.first;
    }
    o->updates++;
    return OK;
}

/* This rank's shares of the parameters, from the device. */
static enum status read_shares(struct optimizer *o) {
    struct tensor master = o->model->master;
    int64_t size = dtype_size(master.type);
    for (int64_t unit = 0, units = shard_units(&o->shards); unit < units; unit++) {
        struct range r = shard_range(&o->shards, unit, o->shards.rank);
        TRY(backend_read(o->model->backend, (char *)o->staging + r.first * size,
                         (char *)master.data + r.first * size, (r.last - r.first) * size));
    }
    return OK;
}

enum status parameters_gather(struct comm *c, struct optimizer *o, enum status updated) {
    struct tensor master = o->model->master;
    struct backend *b = o->model->backend;
    int size = (int)dtype_size(master.type);
    enum status st = updated;
    if (st == OK) {
        st = o->staging ? read_shares(o) : backend_sync(b);
    }
    TRY(comm_agree(c, st));
    TRY(shard_gather(c, &o->shards, o->staging ? o->staging : backend_host_address(b, master.data), size));
    if (o->staging) {
        TRY(backend_write(b, master.data, o->staging, master.columns * size));
    }
    return model_refresh(o->model);
}

int optimizer_state(struct optimizer *o, struct tensor **tensors, const char **names) {
    int n = 0;
    if (o->first.data) {
        tensors[n] = &o->first;
        names[n++] = "first";
    }
    if (o->second.data) {
        tensors[n] = &o->second;
        names[n++] = "second";
    }
    return n;
}
