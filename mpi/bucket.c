/* Gradient buckets: sums over ranks that start while backward still runs.
 *
 * The arena is cut from its end into buckets, because backward finishes it from the end. A communication
 * thread sums bucket after bucket as they become final; every rank has the same buckets in the same order,
 * so the collectives match whatever the ranks' pace. Blocking calls in pieces on a thread beat nonblocking
 * collectives, which make no progress unless somebody polls.
 */
#include <pthread.h>
#include <signal.h>
#include <time.h>

#include "mpi/sum_internal.h"
#include "util/clock.h"
#include "util/mem.h"

/* Pieces of a bucket that stay in cache through the rounds of the tree: measured best of 1 to 64 MB. */
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
    char *values;
    int64_t ready; /* elements [ready, elements) are final here */
    int64_t done;  /* elements [done, elements) are summed */
    bool closing;
    struct message failure;
};

static enum status sum_range(struct bucket_sum *b, int64_t first, int64_t last) {
    const struct shard_map *shards = b->options.shards;
    int element_bytes = b->options.element_bytes;
    MPI_Datatype type = element_bytes == SUM_F32 ? MPI_FLOAT : MPI_DOUBLE;
    int64_t piece = shards ? shards->size * shards->width : piece_bytes / element_bytes;
    for (; first < last; first += piece) {
        int64_t n = last - first < piece ? last - first : piece;
        char *at = b->values + first * element_bytes;
        if (shards && is_power_of_two(b->lane.size)) {
            lane_check(&b->lane, "sum of shares", n);
            TRY(lane_reduce_shares(&b->lane, at, n, shards->width, element_bytes, b->scratch));
        } else if (is_power_of_two(b->lane.size)) {
            TRY(lane_sum_tree(&b->lane, at, n, element_bytes, b->scratch));
        } else {
            TRY(lane_allreduce(&b->lane, at, n, type, MPI_SUM));
        }
    }
    return OK;
}

/* Start of the next bucket below `done`. Buckets begin at multiples of their size, so that they are made of
 * whole units of shares; the one at the arena's end may be shorter. */
static int64_t next_start(const struct bucket_sum *b) {
    return (b->done - 1) / b->bucket * b->bucket;
}

/* Waits until every rank has a bucket to sum, asleep: MPI's own waiting spins, and would take the core from
 * this rank's computation. */
static enum status meet(struct bucket_sum *b) {
    MPI_Request request;
    int arrived = 0;
    TRY(mpi_ok(MPI_Ibarrier(b->lane.comm, &request), "MPI_Ibarrier"));
    for (;;) {
        TRY(mpi_ok(MPI_Test(&request, &arrived, MPI_STATUS_IGNORE), "MPI_Test"));
        if (arrived) {
            return OK;
        }
        nanosleep(&(struct timespec){.tv_nsec = 50 * 1000}, NULL);
    }
}

static void *communicate(void *argument) {
    struct bucket_sum *b = argument;
    sigset_t all;
    sigfillset(&all); /* signals are the main thread's */
    pthread_sigmask(SIG_BLOCK, &all, NULL);
    pthread_mutex_lock(&b->lock);
    for (;;) {
        while (!b->closing && !(b->values && b->done > 0 && next_start(b) >= b->ready)) {
            pthread_cond_wait(&b->changed, &b->lock);
        }
        if (b->closing) {
            break;
        }
        int64_t first = next_start(b), last = b->done;
        pthread_mutex_unlock(&b->lock);
        enum status st = meet(b);
        if (st == OK) {
            st = sum_range(b, first, last);
        }
        pthread_mutex_lock(&b->lock);
        if (st != OK) {
            b->failure = *status_message();
        }
        b->done = first;
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
    pthread_mutex_init(&b->lock, NULL);
    pthread_cond_init(&b->changed, NULL);
    enum status st;
    b->scratch = mem_aligned(SUM_SCRATCH_BYTES, 1);
    TRY_TO(failed, comm_agree(c, mem_ok(b->scratch))); /* opening the lane is collective */
    TRY_TO(failed, lane_open(&b->lane, c->mpi->world.comm, "buckets"));
    if (options->threaded && c->size > 1 && c->mpi->thread_level == MPI_THREAD_MULTIPLE) {
        st = start_thread(b);
    }
    TRY_TO(failed, comm_agree(c, st));
    *out = b;
    return OK;
failed:
    bucket_close(b);
    return st;
}

void bucket_begin(struct bucket_sum *b, void *values) {
    pthread_mutex_lock(&b->lock);
    b->values = values;
    b->ready = b->done = b->options.elements;
    pthread_mutex_unlock(&b->lock);
}

void bucket_ready(struct bucket_sum *b, int64_t first) {
    pthread_mutex_lock(&b->lock);
    if (first < b->ready) {
        b->ready = first;
        pthread_cond_broadcast(&b->changed);
    }
    pthread_mutex_unlock(&b->lock);
}

/* Without a thread everything is summed here. */
static enum status finish_inline(struct bucket_sum *b) {
    while (b->done > 0) {
        int64_t first = next_start(b);
        TRY(sum_range(b, first, b->done));
        b->done = first;
    }
    return OK;
}

enum status bucket_finish(struct bucket_sum *b, double *waited_s) {
    double start = clock_seconds();
    enum status st = OK;
    if (b->lane.size > 1 && !b->has_thread) {
        st = finish_inline(b);
    } else if (b->has_thread) {
        bucket_ready(b, 0);
        pthread_mutex_lock(&b->lock);
        while (b->done > 0) {
            pthread_cond_wait(&b->changed, &b->lock);
        }
        if (b->failure.code != OK) {
            status_set(&b->failure);
            st = b->failure.code;
        }
        pthread_mutex_unlock(&b->lock);
    }
    b->comm->mpi->world.bytes += b->lane.bytes;
    b->lane.bytes = 0;
    b->values = NULL;
    *waited_s = clock_seconds() - start;
    return st;
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
