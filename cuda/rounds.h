/* An attention map as rounds of runs for a library's attention: what can be said without a device, in C,
 * tested on the CPU.
 *
 * A run is a block of queries that see one block of keys, all of it or causally. Round 0 holds the spans'
 * causal ranges. Spans that stand side by side and share a whole range (the responses to one prompt) are one
 * run over it, so that a prompt's keys are read once and their gradient is written once. In a round no query
 * and no key occurs twice and both ascend: a round's results have one writer per row, and rounds merge by
 * log-sum-exp.
 */
#ifndef COLLIMATE_CUDA_ROUNDS_H
#define COLLIMATE_CUDA_ROUNDS_H

#include "backend/backend.h"

struct run {
    int32_t q_first, q_count, k_first, k_count;
};
enum { ROUNDS_MOST = 4 };
struct rounds {
    bool fits; /* every query has a causal range, and the causal ranges are disjoint: round 0 is there */
    bool whole_fits;  /* the whole ranges fit in the other rounds; else first[] ends after round 0 */
    bool covers_keys; /* round 0 reaches every key */
    int count;
    int32_t first[ROUNDS_MOST + 1]; /* of each round in the runs */
};
/* Local. Writes at most map->range_count runs to `runs`, which has room for twice as many. keys: rows of k.
 */
void rounds_of(const struct attention_map *map, int64_t queries, int64_t keys, struct run *runs,
               struct rounds *out);

/* Part of a round that one call computes: a number of runs and their lengths, from a few classes, so that
 * plans are few and are used again. */
enum { BATCH_MOST = 32 };
struct batch {
    int32_t first, count;
    int32_t queries, keys; /* classes that hold the longest */
    bool is_square;        /* every run has as many queries as keys */
};
/* Local. The batch that begins at run `first`; end: of the round. */
struct batch rounds_batch(const struct run *runs, int32_t first, int32_t end);
/* Local. n rounded up to 64 times a number with at most two leading bits; at most a third more above 128. */
int32_t rounds_length(int32_t n);

#endif
