/* Gradient buckets: sums over ranks that start while backward still runs.
 *
 * The arena is cut from its end into buckets, because backward finishes it from the end. A communication
 * thread sums bucket after bucket as they become final; every rank has the same buckets in the same order,
 * so the collectives match whatever the ranks' pace. Blocking calls in pieces on a thread beat nonblocking
 * collectives, which make no progress unless somebody polls. Values on a device come and go through a struct
 * reducer; a rank where that fails goes on taking part, with whatever is in the buckets, and says so at the
 * end.
 */
#include <pthread.h>
#include <signal.h>
#include <time.h>

#include "mpi/sum_internal.h"
#include "mpi/watchdog.h"
#include "util/clock.h"
#include "util/lock.h"
#include "util/mem.h"

/* Pieces of a bucket that stay in cache through the rounds of the tree: measured best of 1 to 64 MB on one
 * host. Between hosts a bucket goes as a whole: every piece pays the network's latency twice a round. */
static const int64_t piece_bytes = (int64_t)1 << 20;
static const int64_t default_bucket_bytes = (int64_t)4 << 20;

struct bucket_sum {
    struct comm *comm;
    struct lane lane;
    struct bucket_options options;
    int64_t bucket; /* elements */
    void *scratch;
    bool has_thread;
    pthread_t thread;
    /* Shared with the thread, under the lock. */
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool running; /* between begin and finish */
    char *values;
    const struct reducer *reducer;
    int64_t ready; /* buckets below are final here */
    int64_t done;  /* buckets below are summed */
    bool closing;
    struct message failure; /* the first one of this step */
};

int64_t bucket_count(const struct bucket_sum *b) {
    return (b->options.elements + b->bucket - 1) / b->bucket;
}

/* The arena's end first. Buckets begin at multiples of their size, so that they are made of whole units of
 * shares; the one at the arena's end may be shorter. */
struct bucket bucket_at(const struct bucket_sum *b, int64_t index) {
    int64_t first = (bucket_count(b) - 1 - index) * b->bucket, rest = b->options.elements - first;
    return (struct bucket){index, first, first + (rest < b->bucket ? rest : b->bucket)};
}

/* n elements at values, in pieces. */
static enum status sum_values(struct bucket_sum *b, char *values, int64_t n, bool only_library) {
    const struct shard_map *shards = b->options.shards;
    int element_bytes = b->options.element_bytes;
    MPI_Datatype type = element_bytes == SUM_F32 ? MPI_FLOAT : MPI_DOUBLE;
    int64_t most = only_library ? n : shards ? shards->size * shards->width : piece_bytes / element_bytes;
    for (int64_t first = 0; first < n; first += most) {
        int64_t count = n - first < most ? n - first : most;
        char *at = values + first * element_bytes;
        if (only_library || !is_power_of_two(b->lane.size)) {
            TRY(lane_allreduce(&b->lane, at, count, type, MPI_SUM));
        } else if (shards) {
            lane_begin(&b->lane, "sum of shares", count);
            TRY(lane_reduce_shares(&b->lane, at, count, shards->width, element_bytes, b->scratch));
            lane_end(&b->lane);
        } else {
            TRY(lane_sum_tree(&b->lane, at, count, element_bytes, b->scratch));
        }
    }
    return OK;
}

/* Waits until every rank has a bucket to sum, asleep: MPI's own waiting spins, and would take the core from
 * this rank's computation. */
static enum status meet(struct bucket_sum *b) {
    MPI_Request request;
    int arrived = 0;
    lane_times_begin(&b->lane, "meeting");
    TRY(mpi_ok(MPI_Ibarrier(b->lane.comm, &request), "MPI_Ibarrier"));
    for (;;) {
        TRY(mpi_ok(MPI_Test(&request, &arrived, MPI_STATUS_IGNORE), "MPI_Test"));
        if (arrived) {
            lane_times_end(&b->lane);
            return OK;
        }
        nanosleep(&(struct timespec){.tv_nsec = 50 * 1000}, NULL);
    }
}

static void pause_shortly(void) {
    nanosleep(&(struct timespec){.tv_nsec = 20 * 1000}, NULL);
}

/* Sums a bucket that is final here. Whatever fails here, this rank takes part in the collectives. */
static enum status sum_bucket(struct bucket_sum *b, const struct bucket *bucket, int64_t n_final) {
    const struct reducer *r = b->reducer;
    if (r && r->sum) {
        return r->sum(r->context, bucket);
    }
    void *values = NULL;
    enum status st = OK;
    if (!r) {
        values = b->values + bucket->first * b->options.element_bytes;
    }
    while (r && !values && st == OK) {
        st = r->fetch(r->context, bucket, n_final, &values);
        if (!values && st == OK) {
            pause_shortly();
        }
    }
    if (!values) {
        return st != OK ? st : ERR_INTERNAL; /* against the contract: the others will wait for the watchdog */
    }
    if (b->has_thread) {
        TRY(meet(b));
    }
    TRY(sum_values(b, values, bucket->last - bucket->first, r && r->only_library));
    TRY(st);
    return r ? r->deliver(r->context, bucket) : OK;
}

static void keep_failure(struct bucket_sum *b, enum status st) {
    if (st != OK && b->failure.code == OK) {
        b->failure = *status_message();
    }
}

static void *communicate(void *argument) {
    struct bucket_sum *b = argument;
    sigset_t all;
    sigfillset(&all); /* signals are the main thread's */
    pthread_sigmask(SIG_BLOCK, &all, NULL);
    pthread_mutex_lock(&b->lock);
    for (;;) {
        while (!b->closing && !(b->running && b->done < b->ready)) {
            pthread_cond_wait(&b->changed, &b->lock);
        }
        if (b->closing) {
            break;
        }
        struct bucket bucket = bucket_at(b, b->done);
        int64_t n_final = b->ready;
        pthread_mutex_unlock(&b->lock);
        enum status st = sum_bucket(b, &bucket, n_final);
        pthread_mutex_lock(&b->lock);
        keep_failure(b, st);
        b->done++;
        pthread_cond_broadcast(&b->changed);
    }
    pthread_mutex_unlock(&b->lock);
    return NULL;
}

static enum status start_thread(struct bucket_sum *b) {
    int rc = pthread_create(&b->thread, NULL, communicate, b);
    if (rc != 0) {
        return fail(ERR_SYSTEM,
                    "cannot start the communication thread (error %d); raise the limit of "
                    "processes (ulimit -u)",
                    rc);
    }
    b->has_thread = true;
    return OK;
}

static enum status check_options(const struct comm *c, const struct bucket_options *o) {
    if (o->elements < 0 || (o->element_bytes != SUM_F32 && o->element_bytes != SUM_F64)) {
        return fail(ERR_INTERNAL, "bucket_open: %lld elements of %d bytes", (long long)o->elements,
                    o->element_bytes);
    }
    if (o->shards && (o->shards->elements != o->elements || o->shards->size != c->size)) {
        return fail(ERR_INTERNAL, "bucket_open: shares of %lld elements on %d ranks, sums of %lld on %d",
                    (long long)o->shards->elements, o->shards->size, (long long)o->elements, c->size);
    }
    if (o->deterministic && !is_power_of_two(c->size)) {
        return fail(ERR_USAGE,
                    "train.deterministic on %d ranks: the same bits on any rank count need a power of two "
                    "of ranks; start 1, 2, 4, 8, … ranks",
                    c->size);
    }
    return OK;
}

enum status bucket_open(struct comm *c, const struct bucket_options *options, struct bucket_sum **out) {
    TRY(check_options(c, options));
    struct bucket_sum *b;
    TRY(NEW_ARRAY(b, 1));
    int64_t bytes = options->bucket_bytes > 0 ? options->bucket_bytes : default_bucket_bytes;
    b->comm = c;
    b->options = *options;
    int64_t unit = options->shards ? options->shards->size * options->shards->width : 1;
    int64_t units = bytes / options->element_bytes / unit;
    b->bucket = (units > 0 ? units : 1) * unit;
    b->lane = (struct lane){.comm = MPI_COMM_NULL, .check = MPI_COMM_NULL};
    enum status st = lock_open(&b->lock);
    st = st == OK ? condition_open(&b->changed) : st;
    b->scratch = mem_aligned(SUM_SCRATCH_BYTES, 1);
    TRY_TO(failed, comm_agree(c, st == OK ? mem_ok(b->scratch) : st)); /* opening the lane is collective */
    TRY_TO(failed, lane_open(&b->lane, c->mpi->world.comm, "buckets"));
    if (options->threaded && c->size > 1 && c->mpi->thread_level == MPI_THREAD_MULTIPLE) {
        st = start_thread(b);
    }
    TRY_TO(failed, comm_agree(c, st));
    if (c->mpi->times) {
        b->lane.times = &c->mpi->times->buckets;
        c->mpi->times->buckets_have_thread = b->has_thread;
    }
    *out = b;
    return OK;
failed:
    bucket_close(b);
    return st;
}

void bucket_begin(struct bucket_sum *b, void *values, const struct reducer *reducer) {
    pthread_mutex_lock(&b->lock);
    b->values = values;
    b->reducer = reducer;
    b->running = true;
    b->ready = b->done = 0;
    b->failure = (struct message){0};
    pthread_mutex_unlock(&b->lock);
}

/* How many buckets have all their elements at or above first. */
static int64_t whole_buckets(const struct bucket_sum *b, int64_t first) {
    return bucket_count(b) - (first + b->bucket - 1) / b->bucket;
}

void bucket_ready(struct bucket_sum *b, int64_t first) {
    const struct reducer *r = b->reducer;
    int64_t ready = whole_buckets(b, first);
    for (int64_t i = b->ready; i < ready; i++) { /* only this thread changes b->ready */
        struct bucket bucket = bucket_at(b, i);
        enum status st = r && b->lane.size > 1 ? r->final(r->context, &bucket) : OK;
        pthread_mutex_lock(&b->lock);
        keep_failure(b, st);
        b->ready = i + 1;
        pthread_cond_broadcast(&b->changed);
        pthread_mutex_unlock(&b->lock);
    }
}

/* Without a thread everything is summed here. */
static void finish_inline(struct bucket_sum *b) {
    for (; b->done < b->ready; b->done++) {
        struct bucket bucket = bucket_at(b, b->done);
        keep_failure(b, sum_bucket(b, &bucket, b->ready));
        watchdog_moves(b->comm->watchdog);
    }
}

enum status bucket_finish(struct bucket_sum *b, double *waited_s) {
    const struct reducer *r = b->reducer;
    double start = clock_seconds();
    bucket_ready(b, 0);
    watchdog_wait(b->comm->watchdog, "the sum of gradients");
    if (b->lane.size > 1 && !b->has_thread) {
        finish_inline(b);
    }
    pthread_mutex_lock(&b->lock);
    while (b->has_thread && b->done < b->ready) {
        pthread_cond_wait(&b->changed, &b->lock); /* a bucket is done */
        watchdog_moves(b->comm->watchdog);
    }
    b->running = false;
    pthread_mutex_unlock(&b->lock);
    if (r && b->lane.size > 1) {
        keep_failure(b, r->finish(r->context));
    }
    watchdog_go(b->comm->watchdog);
    *waited_s = clock_seconds() - start;
    if (b->failure.code != OK) {
        status_set(&b->failure);
    }
    return b->failure.code;
}

void bucket_close(struct bucket_sum *b) {
    if (!b) {
        return;
    }
    if (b->has_thread) {
        pthread_mutex_lock(&b->lock);
        b->closing = true;
        pthread_cond_broadcast(&b->changed);
        pthread_mutex_unlock(&b->lock);
        pthread_join(b->thread, NULL);
    }
    pthread_cond_destroy(&b->changed);
    pthread_mutex_destroy(&b->lock);
    lane_close(&b->lane);
    mem_free(b->scratch);
    mem_free(b);
}
