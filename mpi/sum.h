/* Sums of gradients over slots and ranks.
 *
 * A global batch is cut into S slots; rank r owns the slots range_part(S, r, size). Two ways:
 *
 *   fast           the rank adds its slots' gradients into one buffer, and the ranks' buffers are added in
 *                  buckets, in backward order, on a communication thread.
 *   deterministic  slots are the leaves of a binary tree over [0, S), S a power of two: aligned ranges are
 *                  subtrees, so with a power-of-two rank count the same additions happen in the same order
 *                  on any number of ranks. Inside a rank: a stack of partial sums as in binary counting
 *                  (log2(slots per rank) extra buffers). Between ranks: recursive halving at distance
 *                  1, 2, 4, … then doubling, so every element is summed as ((r0+r1)+(r2+r3))+… at a ring's
 *                  traffic.
 *
 * Between ranks both ways use the tree where the rank count is a power of two (it is also the fastest), and
 * fast falls back to the library's allreduce elsewhere.
 *
 * Works on host memory; for values on a device, its owner hands in a struct reducer that brings buckets to
 * the host and back, or sums them there, so this room knows no device.
 */
#ifndef COLLIMATE_MPI_SUM_H
#define COLLIMATE_MPI_SUM_H

#include "mpi/shard.h"

enum { SUM_F32 = 4, SUM_F64 = 8 }; /* bytes an element */

/* What the fixed tree asks of rank counts. Local. */
bool is_power_of_two(int64_t n);

/* Collective. In-place sum of n elements over all ranks, in the fixed tree: every rank gets the same bits,
 * and the same as any other power-of-two rank count gives for the same leaves. Fails: ERR_USAGE if size is
 * not a power of two. scratch: n elements. */
enum status sum_tree(struct comm *c, void *values, int64_t n, int element_bytes, void *scratch);
/* Same for a small array of doubles without scratch (loss sums, squared norms). */
enum status sum_tree_f64(struct comm *c, double *values, int64_t n);

/* Buckets: the gradient arena cut into pieces of about `bucket_bytes`, sent as backward finishes them, last
 * piece first. */
struct bucket_sum;
struct bucket_options {
    int64_t elements;     /* of the whole arena */
    int element_bytes;    /* SUM_F32 or SUM_F64 */
    int64_t bucket_bytes; /* 0: 4 MiB */
    bool deterministic;
    bool threaded; /* a communication thread (needs MPI_THREAD_MULTIPLE) */
    /* NULL: every rank gets all sums. Else the sums are promised in this rank's shares only: on a power of
     * two of ranks half of the traffic is saved (elsewhere they are summed everywhere all the same, which is
     * faster here than the library's reduce-scatter). Borrowed until bucket_close. */
    const struct shard_map *shards;
};
enum status bucket_open(struct comm *c, const struct bucket_options *options, struct bucket_sum **out);

/* A way to sum buckets that are not in host memory. Buckets are numbered in the order in which they leave; an
 * entry's `bucket` says which elements. final() and finish() are called on the thread that calls
 * bucket_ready() and bucket_finish(), the others in bucket order on the one thread that sums, all of them
 * without a lock; none may wait for the device. Two kinds: with sum NULL a bucket is fetched, summed by this
 * room where fetch says, and delivered; else sum() does it all, in the same order on every rank. */
struct bucket {
    int64_t index, first, last; /* elements [first, last) */
};
struct reducer {
    const char *name;
    void *context;
    bool only_library; /* fetch gives addresses that only MPI itself may read: no sums of our own */
    /* Final on this rank once the work that the device has been given so far is done. */
    enum status (*final)(void *context, const struct bucket *bucket);
    /* *values: where the bucket's elements are now, or NULL: not there yet, ask again. Buckets below n_final
     * are final, and may be started. After a failure *values is memory to take part with all the same. */
    enum status (*fetch)(void *context, const struct bucket *bucket, int64_t n_final, void **values);
    enum status (*deliver)(void *context, const struct bucket *bucket);
    enum status (*sum)(void *context, const struct bucket *bucket);
    /* What the device is given from now on sees the sums. */
    enum status (*finish)(void *context);
};

/* Local. Starts a step's sum over `values` (host memory, stays put until bucket_finish); or, with a reducer,
 * over what that knows of (values NULL). */
void bucket_begin(struct bucket_sum *b, void *values, const struct reducer *reducer);
/* Local. How many buckets there are, and the elements of one. */
int64_t bucket_count(const struct bucket_sum *b);
struct bucket bucket_at(const struct bucket_sum *b, int64_t index);
/* Local in meaning. Elements [first, elements) are final on this rank: whole buckets there may leave. first
 * only falls during a step. */
void bucket_ready(struct bucket_sum *b, int64_t first);
/* Collective. Everything is sent and summed when it returns; *waited_s: seconds this rank waited here. */
enum status bucket_finish(struct bucket_sum *b, double *waited_s);
void bucket_close(struct bucket_sum *b);

#endif
