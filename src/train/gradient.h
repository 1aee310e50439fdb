/* The gradient of an update, summed over slots and ranks.
 *
 * Fast mode: backward adds all of the rank's forests into the arena's gradients, and buckets leave while the
 * last forest's backward still runs. Deterministic mode: the slots are the leaves of a fixed binary tree;
 * inside the rank partial sums stand on a stack as the digits of a binary counter, between ranks mpi/sum.h
 * goes on with the same tree. The sum is in the arena's gradients at the end, in either mode. Scalars take
 * the same two ways (evaluate/sums.h).
 */
#ifndef COLLIMATE_TRAIN_GRADIENT_H
#define COLLIMATE_TRAIN_GRADIENT_H

#include "model/arena.h"
#include "mpi/sum.h"
#include "train/transfer.h"

enum { GRADIENT_LEVELS = 21 }; /* log2 of the most slots, + 1 */

struct gradient_sum {
    struct arena *arena;
    struct bucket_sum *buckets;
    struct shard_map shards; /* where sums are promised: everywhere if it has one rank */
    bool deterministic;
    /* Where the back end's memory is not the host's, and there are ranks to sum over: its transfers, or a
     * copy that the buckets sum. */
    struct transfer *transfer;
    void *staging;
    int n_levels;
    struct tensor level[GRADIENT_LEVELS]; /* the partial sums' own memory: level l's sum is of 2^l slots */
    int64_t slots, pushed;                /* of this rank */
};
struct gradient_options {
    int64_t slots; /* of this rank */
    bool deterministic;
    int64_t bucket_bytes;
    struct shard_map shards; /* where sharded: each rank gets the sums of its shares only */
    enum communication communication;
};
/* Collective. Allocates the partial sums of deterministic mode. The arena is borrowed and has gradients. */
enum status gradient_open(struct comm *c, struct arena *a, const struct gradient_options *o,
                          struct gradient_sum *out);
void gradient_close(struct gradient_sum *g);
/* Local. Zero gradients; the step begins. */
enum status gradient_begin(struct gradient_sum *g);
/* Local, deterministic mode: the slot's gradient (zero for an empty slot) is complete, the next slot's
 * begins. After the rank's last slot the arena's gradients are the rank's sum. */
enum status gradient_push(struct gradient_sum *g);
/* A pass_on_final: buckets above first_final may leave. context is the gradient_sum. */
void gradient_final(void *context, int64_t first_final);
/* Collective, always, also after a local failure (the rank drains): the arena's gradients are the sum
 * over all ranks when it returns OK; where sharded, in this rank's shares. */
enum status gradient_finish(struct gradient_sum *g, double *waited_s);

#endif
