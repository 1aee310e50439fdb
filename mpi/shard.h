/* Who holds which elements of the parameter arena where optimizer state is sharded over the ranks (stage 1 of
 * ZeRO: Rajbhandari et al. 2020, arXiv 1910.02054).
 *
 * The arena is cut into units of size x width elements, and each unit into one share a rank, so that every
 * bucket of gradients, whenever backward finishes it, has work for all ranks. On a power of two of ranks a
 * rank's share is the one that recursive halving at distance 1, 2, 4, … leaves with it (its number's bits
 * reversed): half of the tree sum of mpi/sum.h is the reduce-scatter, the other half the gathering.
 *
 * A rank keeps the state of its shares end to end, in the order of units ("packed").
 */
#ifndef COLLIMATE_MPI_SHARD_H
#define COLLIMATE_MPI_SHARD_H

#include "mpi/comm.h"

/* Shares are multiples of a grain that depends on the arena alone: what is computed grain by grain has the
 * same bits on any number of ranks. */
enum { SHARD_GRAINS = 1024 }; /* at most, in an arena */
int64_t shard_grain(int64_t elements);

struct shard_map {
    int64_t elements, width;
    int rank, size;
};
/* Local. Over all ranks; units of about a mebibyte of 4-byte elements where the arena is large enough. */
struct shard_map shard_map_over(const struct comm *c, int64_t elements);
/* Local. One rank's share is everything: not sharded. */
struct shard_map shard_map_whole(int64_t elements);
int64_t shard_units(const struct shard_map *m);
/* Elements of `unit` that `rank` holds; none of them where the arena ends before. */
struct range shard_range(const struct shard_map *m, int64_t unit, int rank);
/* Elements that `rank` holds in all. */
int64_t shard_count(const struct shard_map *m, int rank);

/* Collective. values: the arena, right in this rank's shares; afterwards right everywhere. */
enum status shard_gather(struct comm *c, const struct shard_map *m, void *values, int element_bytes);
/* The overlaps of a rank's shares with a range of the arena, in order; and their elements in all. */
struct shard_overlaps {
    const struct shard_map *map;
    struct range range;
    int rank;
    int64_t unit, last_unit;
};
struct shard_overlaps shard_overlaps(const struct shard_map *m, struct range range, int rank);
bool shard_overlaps_next(struct shard_overlaps *o, struct range *out);
int64_t shard_overlap_count(const struct shard_map *m, struct range range, int rank);
/* Where element `at` of a share of this rank stands in its packed shares. */
int64_t shard_packed(const struct shard_map *m, int64_t at);

#endif
