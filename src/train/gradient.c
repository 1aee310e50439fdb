/* Deterministic mode, one rank with slots 0 … 7 (more ranks: the same tree, its top over ranks):
 *
 *     level 2            ((0+1)+(2+3))  ---------------.
 *     level 1      (0+1)       (2+3)    (4+5)           (6+7)
 *     slots        0    1      2    3   4    5          6    7
 *
 * Partial sums stand on a stack, as the digits of a binary counter: after slot i, level l holds a sum where
 * bit l of i + 1 is set. Slot i is added straight into the memory of the level where its sum will stand, so
 * that a slot costs one addition a set bit and no copy, and log2(slots) buffers are enough. The order of
 * additions depends on the number of slots alone; a rank that owns an aligned range of a power of two owns a
 * subtree, which is why 1, 2, 4, … ranks give the same bits.
 */
#include "train/gradient.h"

#include "util/mem.h"

static int levels_for(int64_t slots, bool deterministic) {
    int levels = 0;
    while (deterministic && (int64_t)1 << levels < slots) {
        levels++;
    }
    return levels;
}

static enum status open_levels(struct gradient_sum *g, int64_t slots, bool deterministic) {
    const struct arena *a = g->arena;
    int64_t bytes = a->elements * dtype_size(a->gradients.type);
    int levels = levels_for(slots, deterministic);
    if (levels >= GRADIENT_LEVELS) {
        return fail(ERR_USAGE, "train.slots: more than 2^%d slots on a rank", GRADIENT_LEVELS - 1);
    }
    for (int i = 0; i < levels; i++) {
        void *data;
        if (backend_alloc(a->backend, bytes, &data) != OK) {
            return note("taking memory for partial sum %d of %d of the gradients", i + 1, levels);
        }
        g->level[i] = tensor_at(data, 1, a->elements, a->gradients.type);
        g->n_levels = i + 1;
    }
    return OK;
}

/* Collective. Where the buckets find the gradients; on one rank nothing leaves the device. */
static enum status open_way(struct comm *c, struct gradient_sum *g, const struct bucket_options *buckets,
                            enum communication wanted) {
    struct arena *a = g->arena;
    const struct transfer_options options = {
        .comm = c, .backend = a->backend, .type = a->gradients.type, .buckets = *buckets, .wanted = wanted};
    bool has_transfers = a->backend->ops->transfers != NULL;
    if (wanted != COMMUNICATION_AUTO && !has_transfers) {
        return fail(ERR_USAGE,
                    "train.communication: device %s has its gradients in host memory; leave it at auto",
                    a->backend->caps.name);
    }
    if (c->size == 1 || backend_host_address(a->backend, a->gradients.data)) {
        return OK;
    }
    if (has_transfers) {
        return transfer_open(&options, a->gradients.data, g->buckets, &g->transfer);
    }
    g->staging = mem_aligned(a->elements, (size_t)dtype_size(a->gradients.type));
    return comm_agree(c, mem_ok(g->staging));
}

enum status gradient_open(struct comm *c, struct arena *a, const struct gradient_options *o,
                          struct gradient_sum *out) {
    *out = (struct gradient_sum){
        .arena = a, .deterministic = o->deterministic, .shards = o->shards, .slots = o->slots};
    enum status st = comm_agree(c, open_levels(out, o->slots, o->deterministic));
    const struct bucket_options options = {
        .elements = a->elements,
        .element_bytes = (int)dtype_size(a->gradients.type),
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
    if (g->n_levels > 0) {
        arena_collect_into(g->arena, (struct tensor){0});
    }
    for (int i = 0; i < g->n_levels; i++) {
        backend_free(g->arena->backend, g->level[i].data);
    }
    transfer_close(g->transfer);
    mem_free(g->staging);
    *g = (struct gradient_sum){0};
}

static void begin_buckets(struct gradient_sum *g) {
    void *sum = g->arena->gradients.data;
    if (g->transfer) {
        bucket_begin(g->buckets, NULL, transfer_begin(g->transfer, sum));
    } else {
        bucket_begin(g->buckets, g->staging ? g->staging : backend_host_address(g->arena->backend, sum),
                     NULL);
    }
}

/* The level at which a slot's partial sum comes to stand: how many ones its number ends in. */
static int level_of(int64_t slot) {
    int level = 0;
    for (; slot >> level & 1; level++) {
    }
    return level;
}

/* The next slot's backward adds where its partial sum will stand: that level is free, or, after the last
 * slot, the arena itself. */
static enum status begin_slot(struct gradient_sum *g) {
    bool last = g->n_levels == 0 || g->pushed == g->slots - 1;
    arena_collect_into(g->arena, last ? (struct tensor){0} : g->level[level_of(g->pushed)]);
    return arena_zero_gradients(g->arena);
}

enum status gradient_begin(struct gradient_sum *g) {
    g->pushed = 0;
    if (g->n_levels == 0) {
        begin_buckets(g);
    }
    return begin_slot(g);
}

enum status gradient_push(struct gradient_sum *g) {
    for (int level = 0; level < level_of(g->pushed); level++) {
        TRY(backend_add(g->arena->backend, g->arena->sink, 1.0, g->level[level]));
    }
    g->pushed++;
    return g->pushed < g->slots ? begin_slot(g) : OK;
}

void gradient_final(void *context, int64_t first_final) {
    struct gradient_sum *g = context;
    if (!g->staging) {
        bucket_ready(g->buckets, first_final);
    }
}

/* From staging to the back end: what is promised. */
static enum status write_sums(const struct gradient_sum *g) {
    struct tensor sum = g->arena->gradients;
    int64_t size = dtype_size(sum.type);
    for (int64_t unit = 0, units = shard_units(&g->shards); unit < units; unit++) {
        struct range r = shard_range(&g->shards, unit, g->shards.rank);
        TRY(backend_write(g->arena->backend, (char *)sum.data + r.first * size,
                          (char *)g->staging + r.first * size, (r.last - r.first) * size));
    }
    return OK;
}

enum status gradient_finish(struct gradient_sum *g, double *waited_s) {
    struct tensor sum = g->arena->gradients;
    struct backend *b = g->arena->backend;
    if (g->n_levels > 0) {
        begin_buckets(g);
    }
    enum status st = OK; /* with transfers nobody waits: what comes next follows the sums on the device */
    if (g->staging) {
        st = backend_read(b, g->staging, sum.data, sum.columns * dtype_size(sum.type));
    } else if (!g->transfer) {
        st = backend_sync(b);
    }
    TRY(bucket_finish(g->buckets, waited_s));
    return st == OK && g->staging ? write_sums(g) : st;
}
