/* Shares of an arena: they tile it in whole grains on any rank count, a gathering brings them everywhere,
 * files' parts and packed shares are the same elements, and a sum into shares has the bits of the whole tree.
 */
#include <stdlib.h>
#include <string.h>

#include "mpi/sum_internal.h"
#include "tests/check.h"
#include "util/mem.h"
#include "util/rng.h"

static float value_at(int64_t i) {
    return (float)(i % 8191) + 0.25f;
}

/* A world of any size: no collectives. */
static void test_tiles(int size, int64_t n) {
    struct comm c = {.size = size};
    unsigned char *held = mem_calloc(n, 1);
    int64_t most = 0, wrong = 0;
    for (c.rank = 0; c.rank < size; c.rank++) {
        struct shard_map m = shard_map_over(&c, n);
        int64_t count = 0;
        for (int64_t unit = 0; unit < shard_units(&m); unit++) {
            struct range r = shard_range(&m, unit, c.rank);
            wrong += r.first < r.last && r.first % shard_grain(n) != 0;
            for (int64_t i = r.first; i < r.last; i++) {
                held[i]++;
            }
            count += r.last - r.first;
        }
        CHECK(count == shard_count(&m, c.rank));
        most = count > most ? count : most;
    }
    for (int64_t i = 0; i < n; i++) {
        wrong += held[i] != 1;
    }
    CHECK(wrong == 0);
    /* Even, but for the last unit. */
    struct shard_map m = shard_map_over(&c, n);
    CHECK(most <= n / size + m.width);
    mem_free(held);
}

static void test_gather(struct comm *c, int64_t n) {
    struct shard_map m = shard_map_over(c, n);
    float *values = mem_aligned(n, sizeof *values);
    memset(values, 0xff, (size_t)n * sizeof *values);
    for (int64_t unit = 0; unit < shard_units(&m); unit++) {
        struct range r = shard_range(&m, unit, c->rank);
        for (int64_t i = r.first; i < r.last; i++) {
            values[i] = value_at(i);
        }
    }
    CHECK(shard_gather(c, &m, values, sizeof *values) == OK);
    int64_t wrong = 0;
    for (int64_t i = 0; i < n; i++) {
        wrong += values[i] != value_at(i);
    }
    CHECK(wrong == 0);
    mem_free(values);
}

/* All ranks' overlaps with a range tile it, and each stands where the packed order says. */
static void test_overlaps(struct comm *c, int64_t n, struct range range) {
    struct shard_map m = shard_map_over(c, n);
    int64_t sum = 0, wrong = 0, packed = 0;
    for (int rank = 0; rank < c->size; rank++) {
        struct shard_overlaps o = shard_overlaps(&m, range, rank);
        int64_t count = 0;
        for (struct range r; shard_overlaps_next(&o, &r);) {
            wrong += r.first < range.first || r.last > range.last;
            count += r.last - r.first;
        }
        CHECK(count == shard_overlap_count(&m, range, rank));
        sum += count;
    }
    CHECK(wrong == 0 && sum == range.last - range.first);
    for (int64_t unit = 0; unit < shard_units(&m); unit++) {
        struct range r = shard_range(&m, unit, c->rank);
        for (int64_t i = r.first; i < r.last; i++) {
            wrong += shard_packed(&m, i) != packed++;
        }
    }
    CHECK(wrong == 0);
}

/* Sum into shares, then gather: the bits of the tree over the whole. */
static void test_sum(struct comm *c, int64_t n) {
    struct shard_map m = shard_map_over(c, n);
    float *whole = mem_calloc(n, sizeof *whole), *shares = mem_calloc(n, sizeof *shares);
    void *scratch = mem_aligned(SUM_SCRATCH_BYTES, 1);
    for (int64_t i = 0; i < n; i++) {
        struct rng r = rng_stream(5, RNG_CHECK, c->rank, i);
        whole[i] = shares[i] = (float)rng_normal(&r);
    }
    CHECK(sum_tree(c, whole, n, SUM_F32, scratch) == OK);
    for (int64_t at = 0; at < n; at += m.size * m.width) {
        int64_t left = n - at < m.size * m.width ? n - at : m.size * m.width;
        CHECK(lane_reduce_shares(&c->mpi->world, shares + at, left, m.width, SUM_F32, scratch) == OK);
    }
    CHECK(shard_gather(c, &m, shares, SUM_F32) == OK);
    CHECK(memcmp(whole, shares, (size_t)n * sizeof *whole) == 0);
    mem_free(whole);
    mem_free(shares);
    mem_free(scratch);
}

int main(int argc, char **argv) {
    struct comm *c;
    setenv("COLLIMATE_CHECK", "collectives", 1);
    if (comm_start(&argc, &argv, &c) != OK) {
        return 1;
    }
    const int64_t sizes[] = {0, 1, 17, 5000, 262144, 300001, 1500000};
    for (int i = 0; i < COUNT_OF(sizes); i++) {
        for (int size = 1; size <= 9; size++) {
            test_tiles(size, sizes[i]);
        }
        test_gather(c, sizes[i]);
        test_overlaps(c, sizes[i], (struct range){0, sizes[i]});
        test_overlaps(c, sizes[i], (struct range){sizes[i] / 3, sizes[i] - sizes[i] / 5});
        if (is_power_of_two(c->size)) {
            test_sum(c, sizes[i]);
        }
    }
    comm_finish(c);
    return failures != 0;
}
