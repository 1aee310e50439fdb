/* Gradients of a device, summed over ranks: the ring of staging slots, the group's way, the choice between
 * them, failures of one rank. The device is a plain one of this test: host memory, whose copies happen late
 * and in any order that events allow. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "mpi/comm_internal.h"
#include "tests/check.h"
#include "train/transfer.h"
#include "util/log.h"
#include "util/mem.h"
#include "util/rng.h"

enum { MOST_WORK = 4096 };

/* An event passes when as many records of it are done as were made. */
struct event {
    int recorded, passed;
};
struct copy {
    void *to;
    const void *from;
    size_t bytes;
    struct event *after; /* NULL: at once */
    int point;
    struct event *done;
};
struct stream {
    struct copy queue[MOST_WORK];
    int first, last;
};
struct device {
    struct backend backend; /* first: a backend * is a device * */
    struct backend_ops ops;
    struct backend_transfers transfers;
    struct stream down, up;
    pthread_mutex_t lock;
    struct rng rng;
    bool has_group, fetch_fails;
    long group_pause_ns;
    MPI_Comm group;
    int open_events, open_memory, waits, fetches, sums;
};

static struct device *device_of(struct backend *b) {
    return (struct device *)b;
}

/* Does the next copy of a stream, if its event has passed. */
static bool step(struct stream *s) {
    if (s->first == s->last) {
        return false;
    }
    struct copy *c = &s->queue[s->first % MOST_WORK];
    if (c->after && c->after->passed < c->point) {
        return false;
    }
    memcpy(c->to, c->from, c->bytes);
    c->done->passed++;
    s->first++;
    return true;
}

static void wander(struct device *d) {
    if (rng_below(&d->rng, 3) == 0) {
        (void)step(rng_below(&d->rng, 2) == 0 ? &d->down : &d->up);
    }
}

static enum status host_alloc(struct backend *b, int64_t bytes, void **out) {
    device_of(b)->open_memory++;
    *out = mem_aligned(bytes, 1);
    return *out ? OK : ERR_SYSTEM;
}
static void host_free(struct backend *b, void *data) {
    device_of(b)->open_memory--;
    mem_free(data);
}
static enum status event_open(struct backend *b, void **event) {
    struct event *e;
    TRY(NEW_ARRAY(e, 1));
    device_of(b)->open_events++;
    *event = e;
    return OK;
}
static void event_close(struct backend *b, void *event) {
    device_of(b)->open_events--;
    mem_free(event);
}
static enum status mark(struct backend *b, void *event) {
    struct device *d = device_of(b);
    struct event *e = event;
    pthread_mutex_lock(&d->lock);
    e->recorded++;
    e->passed++; /* the operations are this test's own stores: done */
    pthread_mutex_unlock(&d->lock);
    return OK;
}
static enum status is_passed(struct backend *b, void *event, bool *out) {
    struct device *d = device_of(b);
    const struct event *e = event;
    pthread_mutex_lock(&d->lock);
    wander(d);
    *out = e->passed == e->recorded;
    pthread_mutex_unlock(&d->lock);
    return OK;
}
static enum status follow(struct backend *b, void *event) {
    struct device *d = device_of(b);
    const struct event *e = event;
    pthread_mutex_lock(&d->lock);
    d->waits++;
    while (e->passed < e->recorded && (step(&d->down) || step(&d->up))) {
    }
    CHECK(e->passed == e->recorded);
    pthread_mutex_unlock(&d->lock);
    return OK;
}
static void push(struct stream *s, struct copy c) {
    CHECK(s->last - s->first < MOST_WORK);
    s->queue[s->last++ % MOST_WORK] = c;
}
static enum status fetch(struct backend *b, void *host, const void *from, int64_t bytes, void *after,
                         void *done) {
    struct device *d = device_of(b);
    struct event *a = after, *e = done;
    if (d->fetch_fails) {
        return fail(ERR_SYSTEM, "the test's device has lost its way");
    }
    pthread_mutex_lock(&d->lock);
    memset(host, 0xff, (size_t)bytes); /* a slot that is read or delivered from too early shows */
    e->recorded++;
    d->fetches++;
    push(&d->down, (struct copy){host, from, (size_t)bytes, a, a->recorded, e});
    wander(d);
    pthread_mutex_unlock(&d->lock);
    return OK;
}
static enum status deliver(struct backend *b, void *to, const void *host, int64_t bytes, void *done) {
    struct device *d = device_of(b);
    struct event *e = done;
    pthread_mutex_lock(&d->lock);
    e->recorded++;
    push(&d->up, (struct copy){to, host, (size_t)bytes, NULL, 0, e});
    wander(d);
    pthread_mutex_unlock(&d->lock);
    return OK;
}
static enum status group_find(struct backend *b, char name[64]) {
    snprintf(name, 64, "test");
    return device_of(b)->has_group ? OK : fail(ERR_SYSTEM, "no group in this test");
}
static enum status group_key(struct backend *b, unsigned char key[BACKEND_GROUP_KEY_BYTES]) {
    (void)b;
    memset(key, 7, BACKEND_GROUP_KEY_BYTES);
    return OK;
}
static enum status group_open(struct backend *b, const unsigned char key[BACKEND_GROUP_KEY_BYTES], int rank,
                              int size) {
    int mine, all;
    (void)b;
    MPI_Comm_rank(MPI_COMM_WORLD, &mine);
    MPI_Comm_size(MPI_COMM_WORLD, &all);
    CHECK(rank == mine && size == all && key[0] == 7 && key[BACKEND_GROUP_KEY_BYTES - 1] == 7);
    CHECK(MPI_Comm_dup(MPI_COMM_WORLD, &device_of(b)->group) == MPI_SUCCESS);
    return OK;
}
static void group_close(struct backend *b) {
    if (device_of(b)->group != MPI_COMM_NULL) {
        MPI_Comm_free(&device_of(b)->group);
    }
}
static enum status group_sum(struct backend *b, void *values, int64_t n, enum dtype type, void *after,
                             void *done) {
    struct device *d = device_of(b);
    struct event *e = done;
    bool is_final = false;
    TRY(is_passed(b, after, &is_final));
    CHECK(is_final && type == DTYPE_F32);
    nanosleep(&(struct timespec){.tv_nsec = d->group_pause_ns}, NULL);
    CHECK(MPI_Allreduce(MPI_IN_PLACE, values, (int)n, MPI_FLOAT, MPI_SUM, d->group) == MPI_SUCCESS);
    d->sums++;
    pthread_mutex_lock(&d->lock);
    e->recorded++;
    e->passed++;
    pthread_mutex_unlock(&d->lock);
    return OK;
}
static enum status sync_device(struct backend *b) {
    struct device *d = device_of(b);
    pthread_mutex_lock(&d->lock);
    while (step(&d->down) || step(&d->up)) {
    }
    pthread_mutex_unlock(&d->lock);
    return OK;
}

static struct device *open_device(int rank, bool has_group, long group_pause_ns) {
    struct device *d = mem_aligned(1, sizeof *d);
    *d = (struct device){.has_group = has_group,
                         .group_pause_ns = group_pause_ns,
                         .group = MPI_COMM_NULL,
                         .rng = rng_stream(5, RNG_CHECK, rank, has_group)};
    pthread_mutex_init(&d->lock, NULL);
    d->transfers = (struct backend_transfers){host_alloc, host_free,  event_open,  event_close, mark,
                                              is_passed,  follow,     fetch,       deliver,     group_find,
                                              group_key,  group_open, group_close, group_sum};
    d->ops = (struct backend_ops){.sync = sync_device, .transfers = &d->transfers};
    d->backend.ops = &d->ops;
    return d;
}

static void close_device(struct device *d) {
    CHECK(d->open_events == 0 && d->open_memory == 0);
    pthread_mutex_destroy(&d->lock);
    mem_free(d);
}

/* Small integers: sums are exact in any order. */
static float value_of(int rank, int step, int64_t i) {
    return (float)((i * 7 + step * 13 + rank * 101) % 1000);
}

static enum status run_step(struct comm *c, struct bucket_sum *b, struct transfer *t, int step_number,
                            float *values, int64_t n) {
    struct rng r = rng_stream(3, RNG_CHECK, c->rank, step_number);
    bucket_begin(b, NULL, transfer_begin(t, values));
    for (int64_t first = n; first > 0;) {
        int64_t next = first - 1 - rng_below(&r, n / 3 + 1);
        next = next > 0 ? next : 0;
        for (int64_t i = next; i < first; i++) {
            values[i] = value_of(c->rank, step_number, i);
        }
        first = next;
        bucket_ready(b, first);
    }
    double waited = -1;
    return bucket_finish(b, &waited);
}

static int64_t count_wrong(const struct comm *c, int step_number, const float *values, int64_t n) {
    int64_t wrong = 0;
    for (int64_t i = 0; i < n; i++) {
        float want = 0;
        for (int rank = 0; rank < c->size; rank++) {
            want += value_of(rank, step_number, i);
        }
        wrong += values[i] != want;
    }
    return wrong;
}

struct test_case {
    int64_t n, bucket_bytes;
    bool deterministic, has_group, threaded;
    long group_pause_ns;
    enum communication wanted;
    const char *chosen; /* NULL: opening fails */
};

static const char STAGED[] = "staged through pinned memory";

static void run_case(struct comm *c, const struct test_case *k) {
    struct device *d = open_device(c->rank, k->has_group, k->group_pause_ns);
    float *values = mem_aligned(k->n, sizeof *values);
    struct bucket_options o = {.elements = k->n,
                               .element_bytes = SUM_F32,
                               .bucket_bytes = k->bucket_bytes,
                               .deterministic = k->deterministic,
                               .threaded = k->threaded};
    const struct transfer_options options = {
        .comm = c, .backend = &d->backend, .type = DTYPE_F32, .buckets = o, .wanted = k->wanted};
    struct bucket_sum *b;
    struct transfer *t = NULL;
    memset(values, 0, (size_t)k->n * sizeof *values);
    CHECK(bucket_open(c, &o, &b) == OK);
    enum status st = transfer_open(&options, values, b, &t);
    CHECK((st == OK) == (k->chosen != NULL));
    if (st == OK) {
        CHECK(strcmp(transfer_begin(t, values)->name, k->chosen) == 0);
        for (int step_number = 0; step_number < 3; step_number++) {
            CHECK(run_step(c, b, t, step_number, values, k->n) == OK);
            CHECK(count_wrong(c, step_number, values, k->n) == 0);
        }
        CHECK(d->waits > 0 && (k->chosen == STAGED ? d->fetches >= 3 : d->sums >= 3));
    }
    bucket_close(b);
    transfer_close(t);
    status_clear();
    mem_free(values);
    close_device(d);
}

/* A rank whose copies fail takes part in the sums all the same, and alone says so. */
static void test_failure(struct comm *c) {
    enum { N = 40000 };
    struct device *d = open_device(c->rank, false, 0);
    float *values = mem_aligned(N, sizeof *values);
    struct bucket_options o = {
        .elements = N, .element_bytes = SUM_F32, .bucket_bytes = 4096, .threaded = true};
    const struct transfer_options options = {
        .comm = c, .backend = &d->backend, .type = DTYPE_F32, .buckets = o, .wanted = COMMUNICATION_STAGED};
    struct bucket_sum *b;
    struct transfer *t = NULL;
    CHECK(bucket_open(c, &o, &b) == OK);
    CHECK(transfer_open(&options, values, b, &t) == OK);
    CHECK(run_step(c, b, t, 0, values, N) == OK);
    d->fetch_fails = c->rank == c->size - 1;
    enum status st = run_step(c, b, t, 1, values, N);
    CHECK(st == (d->fetch_fails ? ERR_SYSTEM : OK));
    CHECK(comm_agree(c, st) == ERR_SYSTEM);
    CHECK(strstr(status_message()->text, "lost its way") != NULL);
    status_clear();
    d->fetch_fails = false;
    CHECK(run_step(c, b, t, 2, values, N) == OK);
    CHECK(count_wrong(c, 2, values, N) == 0);
    bucket_close(b);
    transfer_close(t);
    mem_free(values);
    close_device(d);
}

/* Fetch gives addresses that the sum must leave to the library. */
static enum status address_of(void *context, const struct bucket *bucket, int64_t n_final, void **values) {
    *values = bucket->index < n_final ? (float *)context + bucket->first : NULL;
    return OK;
}
static enum status nothing(void *context, const struct bucket *bucket) {
    (void)context, (void)bucket;
    return OK;
}
static enum status no_finish(void *context) {
    (void)context;
    return OK;
}

static void test_library_only(struct comm *c) {
    enum { N = 5000 };
    float values[N];
    struct bucket_options o = {
        .elements = N, .element_bytes = SUM_F32, .bucket_bytes = 1024, .threaded = true};
    const struct reducer direct = {.name = "addresses",
                                   .context = values,
                                   .only_library = true,
                                   .final = nothing,
                                   .fetch = address_of,
                                   .deliver = nothing,
                                   .finish = no_finish};
    struct bucket_sum *b;
    double waited;
    CHECK(bucket_open(c, &o, &b) == OK);
    CHECK(bucket_count(b) == (N + 255) / 256 && bucket_at(b, 0).last == N && bucket_at(b, 19).first == 0);
    for (int64_t i = 0; i < N; i++) {
        values[i] = value_of(c->rank, 4, i);
    }
    bucket_begin(b, NULL, &direct);
    bucket_ready(b, N / 2);
    CHECK(bucket_finish(b, &waited) == OK);
    CHECK(count_wrong(c, 4, values, N) == 0);
    bucket_close(b);
}

int main(int argc, char **argv) {
    struct comm *c;
    if (comm_start(&argc, &argv, &c) != OK) {
        return 1;
    }
    log_init(c->rank, c->size, LOG_ERROR);
    if (c->size > 1) { /* one rank never opens a transfer */
        const struct test_case cases[] = {
            {100000, 4096, true, false, true, 0, COMMUNICATION_AUTO, STAGED},
            {100000, 4096, true, true, false, 0, COMMUNICATION_AUTO, STAGED},
            {70001, 1024, false, false, true, 0, COMMUNICATION_AUTO, STAGED},
            {3, 1 << 20, false, false, true, 0, COMMUNICATION_AUTO, STAGED},
            {70001, 65536, false, true, true, 20 * 1000 * 1000, COMMUNICATION_AUTO, STAGED},
            {70001, 65536, false, true, true, 20 * 1000, COMMUNICATION_NCCL, "NCCL"},
            {70001, 65536, false, true, false, 0, COMMUNICATION_NCCL, "NCCL"},
            {1000, 65536, false, false, true, 0, COMMUNICATION_NCCL, NULL},
            {1000, 65536, true, true, true, 0, COMMUNICATION_NCCL, NULL},
            {70001, 65536, false, true, true, 0, COMMUNICATION_STAGED, STAGED},
        };
        for (int i = 0; i < COUNT_OF(cases); i++) {
            run_case(c, &cases[i]);
        }
        test_failure(c);
        test_library_only(c);
    }
    comm_finish(c);
    return failures != 0;
}
