#include "train/transfer.h"

#include <math.h>
#include <stdio.h>

#include "util/clock.h"
#include "util/log.h"
#include "util/mem.h"

enum { SLOTS = 8, PROBE_ELEMENTS = 16 << 20 };

/* A place in the ring. Bucket i stands in place i mod SLOTS from its fetch to the end of its delivery. */
struct ring_place {
    void *memory;
    void *fetched, *delivered; /* events */
    int64_t bucket; /* being fetched or summed; -1: none, though a delivery may still be under way */
};

struct transfer {
    struct transfer_options options;
    const struct backend_transfers *device;
    struct bucket_sum *buckets; /* the arena's, or the probe's while measuring */
    char *arena;
    int64_t n_final;
    void **final; /* a mark for each bucket */
    struct ring_place slots[SLOTS];
    void *summed; /* event of the group's last sum */
    void *last;   /* event that finish() follows, or NULL */
    struct reducer ways[COMMUNICATION_NCCL];
    int n_ways;
    const struct reducer *chosen;
};

static char *address(const struct transfer *t, int64_t first) {
    return t->arena + first * t->options.buckets.element_bytes;
}

static int64_t bytes_of(const struct transfer *t, const struct bucket *b) {
    return (b->last - b->first) * t->options.buckets.element_bytes;
}

static enum status mark_final(void *context, const struct bucket *bucket) {
    const struct transfer *t = context;
    return t->device->mark(t->options.backend, t->final[bucket->index]);
}

/* The main line goes on behind the last copy or sum: they are made in order. */
static enum status finish(void *context) {
    struct transfer *t = context;
    void *last = t->last;
    t->last = NULL;
    for (int i = 0; i < SLOTS; i++) {
        t->slots[i].bucket = -1;
    }
    return last ? t->device->follow(t->options.backend, last) : OK;
}

/* Starts a bucket's copy to the host unless it is under way, or its place is still being delivered from. */
static enum status start_fetch(struct transfer *t, int64_t index) {
    struct ring_place *s = &t->slots[index % SLOTS];
    struct bucket bucket = bucket_at(t->buckets, index);
    bool is_free = false;
    if (s->bucket >= 0) {
        return OK;
    }
    TRY(t->device->is_passed(t->options.backend, s->delivered, &is_free));
    if (!is_free) {
        return OK;
    }
    TRY(t->device->fetch(t->options.backend, s->memory, address(t, bucket.first), bytes_of(t, &bucket),
                         t->final[index], s->fetched));
    s->bucket = index;
    return OK;
}

static enum status staged_fetch(void *context, const struct bucket *bucket, int64_t n_final, void **values) {
    struct transfer *t = context;
    struct ring_place *s = &t->slots[bucket->index % SLOTS];
    bool is_there = false;
    enum status st = OK;
    for (int64_t i = bucket->index; i < n_final && i < bucket->index + SLOTS && st == OK; i++) {
        st = start_fetch(t, i);
    }
    if (st == OK && s->bucket == bucket->index) {
        st = t->device->is_passed(t->options.backend, s->fetched, &is_there);
    }
    *values = is_there || st != OK ? s->memory : NULL;
    return st;
}

static enum status staged_deliver(void *context, const struct bucket *bucket) {
    struct transfer *t = context;
    struct ring_place *s = &t->slots[bucket->index % SLOTS];
    s->bucket = -1;
    TRY(t->device->deliver(t->options.backend, address(t, bucket->first), s->memory, bytes_of(t, bucket),
                           s->delivered));
    t->last = s->delivered;
    return OK;
}

/* MPI gets the device's address once the bucket is final there; its sum is complete when it returns. */
static enum status direct_fetch(void *context, const struct bucket *bucket, int64_t n_final, void **values) {
    const struct transfer *t = context;
    bool is_there = false;
    (void)n_final;
    enum status st = t->device->is_passed(t->options.backend, t->final[bucket->index], &is_there);
    *values = is_there || st != OK ? address(t, bucket->first) : NULL;
    return st;
}

static enum status direct_deliver(void *context, const struct bucket *bucket) {
    (void)context, (void)bucket;
    return OK;
}

static enum status group_sum(void *context, const struct bucket *bucket) {
    struct transfer *t = context;
    TRY(t->device->group_sum(t->options.backend, address(t, bucket->first), bucket->last - bucket->first,
                             t->options.type, t->final[bucket->index], t->summed));
    t->last = t->summed;
    return OK;
}

/* Collective. Every rank opens the group, or none does. */
static enum status open_group(struct transfer *t, char name[64]) {
    struct comm *c = t->options.comm;
    struct backend *b = t->options.backend;
    unsigned char key[BACKEND_GROUP_KEY_BYTES] = {0};
    TRY(comm_agree(c, t->device->group_find(b, name)));
    TRY(comm_agree(c, c->rank == 0 ? t->device->group_key(b, key) : OK));
    TRY(comm_broadcast(c, 0, key, sizeof key));
    return comm_agree(c, t->device->group_open(b, key, c->rank, c->size));
}

static enum status open_memory(struct transfer *t) {
    struct backend *b = t->options.backend;
    int64_t n = bucket_count(t->buckets);
    struct bucket whole = bucket_at(t->buckets, n - 1);
    TRY(NEW_ARRAY(t->final, n));
    for (; t->n_final < n; t->n_final++) {
        TRY(t->device->event_open(b, &t->final[t->n_final]));
    }
    TRY(t->device->event_open(b, &t->summed));
    for (int i = 0; i < SLOTS; i++) {
        struct ring_place *s = &t->slots[i];
        s->bucket = -1;
        TRY(t->device->host_alloc(b, n > 0 ? bytes_of(t, &whole) : 1, &s->memory));
        TRY(t->device->event_open(b, &s->fetched));
        TRY(t->device->event_open(b, &s->delivered));
    }
    return OK;
}

static void add_way(struct transfer *t, const struct reducer *way) {
    t->ways[t->n_ways] = *way;
    t->ways[t->n_ways].context = t;
    t->ways[t->n_ways].final = mark_final;
    t->ways[t->n_ways].finish = finish;
    t->n_ways++;
}

static bool is_wanted(const struct transfer *t, enum communication way) {
    enum communication wanted = t->options.wanted;
    return wanted == way || (wanted == COMMUNICATION_AUTO && !t->options.buckets.deterministic);
}

/* Collective. The ways that are there, of those asked for. */
static enum status find_ways(struct transfer *t) {
    const struct reducer staged = {
        .name = "staged through pinned memory", .fetch = staged_fetch, .deliver = staged_deliver};
    const struct reducer direct = {.name = "MPI on device memory",
                                   .only_library = true,
                                   .fetch = direct_fetch,
                                   .deliver = direct_deliver};
    const struct reducer group = {.name = "NCCL", .sum = group_sum};
    char name[64] = "";
    bool is_forced = t->options.wanted != COMMUNICATION_AUTO;
    if (!is_forced || is_wanted(t, COMMUNICATION_STAGED)) {
        add_way(t, &staged);
    }
    if (is_wanted(t, COMMUNICATION_MPI)) {
        int64_t takes = comm_takes_device_memory();
        TRY(comm_min_i64(t->options.comm, &takes, 1));
        if (takes) {
            add_way(t, &direct);
        } else if (is_forced) {
            return fail(ERR_SYSTEM,
                        "train.communication=mpi: this MPI (%s) does not take device memory; use "
                        "staged or nccl",
                        comm_library());
        }
    }
    if (is_wanted(t, COMMUNICATION_NCCL)) {
        enum status st = open_group(t, name);
        if (st != OK && is_forced) {
            return note("opening train.communication=nccl");
        }
        if (st != OK) {
            log_root(LOG_INFO, "communication: %s", status_message()->text);
            status_clear();
        } else {
            add_way(t, &group);
        }
    }
    return OK;
}

/* Collective. Seconds of the slowest rank for one sum; INFINITY where it failed on a rank. */
static enum status time_way(struct transfer *t, const struct reducer *way, double *seconds) {
    struct comm *c = t->options.comm;
    double waited;
    TRY(comm_barrier(c));
    double began = clock_seconds();
    bucket_begin(t->buckets, NULL, way);
    enum status st = bucket_finish(t->buckets, &waited);
    enum status synced = backend_sync(t->options.backend);
    *seconds = st == OK && synced == OK ? clock_seconds() - began : INFINITY;
    return comm_max_f64(c, seconds, 1);
}

/* Collective. Sums a probe each way, twice: first times are slow. */
static enum status measure(struct transfer *t) {
    struct bucket_options probe = t->options.buckets;
    struct bucket_sum *whole = t->buckets;
    struct bucket usual = bucket_at(whole, bucket_count(whole) - 1);
    double best = INFINITY, seconds[COUNT_OF(t->ways)] = {0};
    probe.elements = probe.elements < PROBE_ELEMENTS ? probe.elements : PROBE_ELEMENTS;
    probe.bucket_bytes = bytes_of(t, &usual);
    probe.shards = NULL;
    TRY(bucket_open(t->options.comm, &probe, &t->buckets));
    enum status st = OK;
    for (int i = 0; i < t->n_ways && st == OK; i++) {
        double first = 0;
        st = time_way(t, &t->ways[i], &first);
        st = st == OK ? time_way(t, &t->ways[i], &seconds[i]) : st;
        if (st == OK && !isfinite(seconds[i])) {
            log_root(LOG_WARN, "communication: %s fails here: %s", t->ways[i].name, status_message()->text);
        } else if (st == OK) {
            log_root(LOG_INFO, "communication: %s, %.2f GB/s", t->ways[i].name,
                     (double)(probe.elements * probe.element_bytes) / seconds[i] / 1e9);
        }
        if (st == OK && seconds[i] < best) {
            best = seconds[i];
            t->chosen = &t->ways[i];
        }
    }
    bucket_close(t->buckets);
    t->buckets = whole;
    TRY(st);
    return t->chosen ? OK : status_code();
}

static enum status choose(struct transfer *t) {
    TRY(find_ways(t));
    if (t->n_ways == 1) {
        t->chosen = &t->ways[0];
        log_root(LOG_INFO, "communication: %s", t->chosen->name);
        return OK;
    }
    TRY(measure(t));
    log_root(LOG_INFO, "communication: %s is taken", t->chosen->name);
    return OK;
}

enum status transfer_open(const struct transfer_options *options, void *arena, struct bucket_sum *buckets,
                          struct transfer **out) {
    struct transfer *t;
    enum communication wanted = options->wanted;
    if (options->buckets.deterministic && (wanted == COMMUNICATION_MPI || wanted == COMMUNICATION_NCCL)) {
        return fail(ERR_USAGE,
                    "train.communication: with train.deterministic sums are made in the fixed tree, "
                    "which is staged; leave it at auto");
    }
    TRY(comm_agree(options->comm, NEW_ARRAY(t, 1)));
    t->options = *options;
    t->device = options->backend->ops->transfers;
    t->buckets = buckets;
    t->arena = arena;
    enum status st = comm_agree(options->comm, open_memory(t));
    if (st == OK) {
        st = comm_agree(options->comm, choose(t));
    }
    if (st != OK) {
        transfer_close(t);
        return st;
    }
    *out = t;
    return OK;
}

void transfer_close(struct transfer *t) {
    if (!t) {
        return;
    }
    struct backend *b = t->options.backend;
    t->device->group_close(b);
    for (int64_t i = 0; i < t->n_final; i++) {
        t->device->event_close(b, t->final[i]);
    }
    for (int i = 0; i < SLOTS; i++) {
        struct ring_place *s = &t->slots[i];
        void *events[] = {s->fetched, s->delivered};
        for (int j = 0; j < COUNT_OF(events); j++) {
            if (events[j]) {
                t->device->event_close(b, events[j]);
            }
        }
        if (s->memory) {
            t->device->host_free(b, s->memory);
        }
    }
    if (t->summed) {
        t->device->event_close(b, t->summed);
    }
    mem_free(t->final);
    mem_free(t);
}

const struct reducer *transfer_begin(struct transfer *t, void *arena) {
    t->arena = arena;
    return t->chosen;
}
