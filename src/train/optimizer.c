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

int optimizer_states(const struct optimizer_options *o) {
    return keeps_first(o) + keeps_second(o);
}

enum status optimizer_open(struct arena *a, const struct optimizer_options *options,
                           const struct shard_map *shards, struct optimizer *out) {
    struct optimizer o = {.options = *options, .arena = a, .shards = *shards};
    int64_t elements = shard_count(shards, shards->rank);
    enum status st = OK;
    if (keeps_first(options)) {
        TRY_TO(failed, arena_take(a, "the optimizer's first state", elements, a->master.type, &o.first));
    }
    if (keeps_second(options)) {
        TRY_TO(failed, arena_take(a, "the optimizer's second state", elements, a->master.type, &o.second));
    }
    if (optimizer_is_sharded(&o) && !backend_host_address(a->backend, a->master.data)) {
        o.staging = mem_aligned(a->elements, (size_t)dtype_size(a->master.type));
        TRY_TO(failed, mem_ok(o.staging));
    }
    *out = o;
    return OK;
failed:
    optimizer_close(&o);
    return st;
}

void optimizer_close(struct optimizer *o) {
    if (!o || !o->arena) {
        return;
    }
    arena_give_back(o->arena, &o->second);
    arena_give_back(o->arena, &o->first);
    mem_free(o->staging);
    *o = (struct optimizer){0};
}

bool optimizer_is_sharded(const struct optimizer *o) {
    return o->shards.size > 1;
}

/* `count` elements from `first` of a buffer, or none. */
static struct tensor part(struct tensor whole, int64_t first, int64_t count) {
    return whole.data ? tensor_columns(whole, first, count) : (struct tensor){0};
}

static double rate_of(const struct parameter *p) {
    return p->rate > 0 ? p->rate : 1;
}

static bool agree(const struct parameter *a, const struct parameter *b) {
    return a->decay == b->decay && rate_of(a) == rate_of(b);
}

/* Updates the overlap of share [share.first, share.last), whose state begins at `packed`, with the parameters
 * from i on that agree about decay and rate. *next: the first parameter that does not. */
static enum status update_run(struct optimizer *o, struct optimizer_step *s, struct range share,
                              int64_t packed, int i, int *next) {
    struct arena *a = o->arena;
    const struct parameter *p = &a->parameters[i];
    double rate = s->learning_rate;
    for (*next = i + 1; *next < a->n && agree(p, &a->parameters[*next]); ++*next) {
    }
    int64_t run_last = *next < a->n ? a->parameters[*next].offset : a->elements;
    int64_t first = p->offset > share.first ? p->offset : share.first;
    int64_t count = (run_last < share.last ? run_last : share.last) - first;
    if (count <= 0) {
        return OK;
    }
    s->weight_decay = p->decay ? o->options.weight_decay : 0;
    s->learning_rate = rate * rate_of(p);
    s->parameters = part(a->master, first, count);
    s->gradients = part(a->gradients, first, count);
    s->first = part(o->first, packed + first - share.first, count);
    s->second = part(o->second, packed + first - share.first, count);
    s->copy = a->compute.type != a->master.type ? part(a->compute, first, count) : (struct tensor){0};
    enum status st = backend_optimizer(a->backend, s);
    s->learning_rate = rate;
    return st;
}

enum status optimizer_update(struct optimizer *o, double rate_multiplier, double gradient_scale) {
    const struct optimizer_options *p = &o->options;
    struct arena *a = o->arena;
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
        for (int i = 0, next; i < a->n; i = next) {
            TRY(update_run(o, &s, share, packed, i, &next));
        }
        packed += share.last - share.first;
    }
    o->updates++;
    arena_changed(a);
    return OK;
}

/* This rank's shares of the parameters, from the device. */
static enum status read_shares(struct optimizer *o) {
    struct tensor master = o->arena->master;
    int64_t size = dtype_size(master.type);
    for (int64_t unit = 0, units = shard_units(&o->shards); unit < units; unit++) {
        struct range r = shard_range(&o->shards, unit, o->shards.rank);
        TRY(backend_read(o->arena->backend, (char *)o->staging + r.first * size,
                         (char *)master.data + r.first * size, (r.last - r.first) * size));
    }
    return OK;
}

enum status parameters_gather(struct comm *c, struct optimizer *o, enum status updated) {
    struct tensor master = o->arena->master;
    struct backend *b = o->arena->backend;
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
    return arena_refresh(o->arena);
}

int optimizer_state(const struct optimizer *o, struct tensor *tensors, const char **names) {
    int n = 0;
    if (o->first.data) {
        tensors[n] = o->first;
        names[n++] = "first";
    }
    if (o->second.data) {
        tensors[n] = o->second;
        names[n++] = "second";
    }
    return n;
}
