#include "train/gradient.h"

#include <math.h>

#include "util/mem.h"

void sums_tree_begin(struct sums_tree *t, bool deterministic) {
    *t = (struct sums_tree){.deterministic = deterministic};
}

void sums_add(struct sums *to, const struct sums *from) {
    if (from->v[SUM_RESPONSES] > 0) {
        bool is_first = to->v[SUM_RESPONSES] == 0;
        to->lowest = is_first ? from->lowest : fmin(to->lowest, from->lowest);
        to->highest = is_first ? from->highest : fmax(to->highest, from->highest);
    }
    for (int i = 0; i < SUM_COUNT; i++) {
        to->v[i] += from->v[i];
    }
}

void sums_tree_push(struct sums_tree *t, const struct sums *slot) {
    if (!t->deterministic) {
        sums_add(&t->total, slot);
        return;
    }
    struct sums carry = *slot;
    int level = 0;
    for (; t->pushed >> level & 1; level++) {
        struct sums left = t->level[level];
        sums_add(&left, &carry);
        carry = left;
    }
    t->level[level] = carry;
    t->pushed++;
    t->total = carry; /* the whole sum where the number of slots is a power of two */
}

enum status sums_extremes(struct comm *c, struct sums *s) {
    bool has = s->v[SUM_RESPONSES] > 0;
    double extremes[] = {has ? -s->lowest : -INFINITY, has ? s->highest : -INFINITY};
    TRY(comm_max_f64(c, extremes, 2));
    s->lowest = -extremes[0];
    s->highest = extremes[1];
    return OK;
}

enum status sums_reduce(struct comm *c, bool deterministic, double *values, int64_t n) {
    return deterministic ? sum_tree_f64(c, values, n) : comm_sum_f64(c, values, n);
}

static int levels_for(int64_t slots, bool deterministic) {
    int levels = 0;
    while (deterministic && (int64_t)1 << levels < slots) {
        levels++;
    }
    return levels;
}

static enum status open_levels(struct gradient_sum *g, int64_t slots, bool deterministic) {
    struct model *m = g->model;
    enum dtype master = m->backend->caps.master;
    int64_t bytes = m->arena_elements * dtype_size(master);
    int levels = levels_for(slots, deterministic);
    if (levels >= GRADIENT_LEVELS) {
        return fail(ERR_USAGE, "train.slots: more than 2^%d slots on a rank", GRADIENT_LEVELS - 1);
    }
    for (int i = 0; i < levels; i++) {
        void *data;
        if (backend_alloc(m->backend, bytes, &data) != OK) {
            return note("taking memory for partial sum %d of %d of the gradients", i + 1, levels);
        }
        g->level[i] = tensor_at(data, 1, m->arena_elements, master);
        g->n_levels = i + 1;
    }
    return OK;
}

/* Collective. Where the buckets find the gradients; on one rank nothing leaves the device. */
static enum status open_way(struct comm *c, struct gradient_sum *g, const struct bucket_options *buckets,
                            enum communication wanted) {
    struct model *m = g->model;
    const struct transfer_options options = {
        .comm = c, .backend = m->backend, .type = m->gradients.type, .buckets = *buckets, .wanted = wanted};
    bool has_transfers = m->backend->ops->transfers != NULL;
    if (wanted != COMMUNICATION_AUTO && !has_transfers) {
        return fail(ERR_USAGE,
                    "train.communication: device %s has its gradients in host memory; leave it at auto",
                    m->backend->caps.name);
    }
    if (c->size == 1 || backend_host_address(m->backend, m->gradients.data)) {
        return OK;
    }
    if (has_transfers) {
        return transfer_open(&options, m->gradients.data, g->buckets, &g->transfer);
    }
    g->staging = mem_aligned(m->arena_elements, (size_t)dtype_size(m->backend->caps.master));
    return comm_agree(c, mem_ok(g->staging));
}

enum status gradient_open(struct comm *c, struct model *m, const struct gradient_options *o,
                          struct gradient_sum *out) {
    *out = (struct gradient_sum){
        .model = m, .deterministic = o->deterministic, .shards = o->shards, .own = m->gradients.data};
    enum status st = comm_agree(c, open_levels(out, o->slots, o->deterministic));
    const struct bucket_options options = {
        .elements = m->arena_elements,
        .element_bytes = (int)dtype_size(m->backend->caps.master),
        .bucket_bytes = o->bucket_bytes,
        .deterministic = o->deterministic,
        .threaded = true,
        .shards = o->shards.size > 1 ? &out->shards : NULL,
    };
    if (st == OK) {
        st = bucket_open(c, &options, &out->buckets);
    }
    if (st == OK) {
        st = open_way(c, out, &options, o->communication);
    }
    if (st != OK) {
        gradient_close(out);
    }
    return st;
}

void gradient_close(struct gradient_sum *g) {
    if (g->buckets) {
        bucket_close(g->buckets);
    }
    for (int i = 0; i < g->n_levels; i++) {
        if (g->level[i].data == g->own) { /* the arena may stand in one allocation with others */
            struct tensor partial = g->model->gradients;
            g->model->gradients = g->level[i];
            g->level[i] = partial;
        }
        backend_free(g->model->backend, g->level[i].data);
    }
    transfer_close(g->transfer);
    mem_free(g->staging);
    *g = (struct gradient_sum){0};
}

/* The buckets sum the arena that the model has now, or its copy on the host. */
static void begin_buckets(struct gradient_sum *g) {
    void *arena = g->model->gradients.data;
    if (g->transfer) {
        bucket_begin(g->buckets, NULL, transfer_begin(g->transfer, arena));
    } else {
        bucket_begin(g->buckets, g->staging ? g->staging : backend_host_address(g->model->backend, arena),
                     NULL);
    }
}

enum status gradient_begin(struct gradient_sum *g) {
    g->pushed = 0;
    if (g->n_levels == 0) {
        begin_buckets(g);
    }
    return model_zero_gradients(g->model);
}

enum status gradient_push(struct gradient_sum *g, bool last) {
    struct backend *b = g->model->backend;
    struct tensor *arena = &g->model->gradients;
    int level = 0;
    for (; g->pushed >> level & 1; level++) {
        TRY(backend_add(b, *arena, 1.0, g->level[level]));
    }
    g->pushed++;
    if (last) {
        return OK;
    }
    struct tensor partial = *arena; /* stays where it is; the next slot goes into the level's free memory */
    *arena = g->level[level];
    g->level[level] = partial;
    return model_zero_gradients(g->model);
}

void gradient_final(void *context, int64_t first_final) {
    struct gradient_sum *g = context;
    if (!g->staging) {
        bucket_ready(g->buckets, first_final);
    }
}

/* From staging to the back end: what is promised. */
static enum status write_sums(const struct gradient_sum *g) {
    struct tensor arena = g->model->gradients;
    int64_t size = dtype_size(arena.type);
    for (int64_t unit = 0, units = shard_units(&g->shards); unit < units; unit++) {
        struct range r = shard_range(&g->shards, unit, g->shards.rank);
        TRY(backend_write(g->model->backend, (char *)arena.data + r.first * size,
                          (char *)g->staging + r.first * size, (r.last - r.first) * size));
    }
    return OK;
}

enum status gradient_finish(struct gradient_sum *g, double *waited_s) {
    struct tensor arena = g->model->gradients;
    struct backend *b = g->model->backend;
    if (g->n_levels > 0) {
        begin_buckets(g);
    }
    enum status st = OK; /* with transfers nobody waits: what comes next follows the sums on the device */
    if (g->staging) {
        st = backend_read(b, g->staging, arena.data, arena.columns * dtype_size(arena.type));
    } else if (!g->transfer) {
        st = backend_sync(b);
    }
    TRY(bucket_finish(g->buckets, waited_s));
    return st == OK && g->staging ? write_sums(g) : st;
}
