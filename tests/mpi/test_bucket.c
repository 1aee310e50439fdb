/* Gradient buckets: exact sums for any bucket size, pace and strategy, step after step. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "mpi/sum_internal.h"
#include "tests/check.h"
#include "util/mem.h"
#include "util/rng.h"

/* Small integers: sums are exact in any order. */
static float value_of(int rank, int step, int64_t i) {
    return (float)((i * 7 + step * 13 + rank * 101) % 1000);
}

/* Whether a sum is promised on this rank. */
static bool is_promised(const struct shard_map *shards, int64_t i) {
    return !shards || share_of(shards->rank, shards->size) == i / shards->width % shards->size;
}

/* Backward of another pace on every rank: ready in ragged steps, with pauses on the last rank. */
static void run_step(struct comm *c, struct bucket_sum *b, const struct shard_map *shards, int step,
                     int64_t n, float *values) {
    struct rng r = rng_stream(3, RNG_CHECK, c->rank, step);
    memset(values, 0xff, (size_t)n * sizeof *values); /* NaN until final */
    bucket_begin(b, values, NULL);
    for (int64_t first = n; first > 0;) {
        int64_t next = first - 1 - rng_below(&r, n / 3 + 1);
        next = next > 0 ? next : 0;
        for (int64_t i = next; i < first; i++) {
            values[i] = value_of(c->rank, step, i);
        }
        first = next;
        bucket_ready(b, first);
        if (c->rank == c->size - 1) {
            nanosleep(&(struct timespec){.tv_nsec = 200 * 1000}, NULL);
        }
    }
    double waited = -1;
    CHECK(bucket_finish(b, &waited) == OK && waited >= 0);
    int64_t wrong = 0;
    for (int64_t i = 0; i < n; i++) {
        float want = 0;
        for (int rank = 0; rank < c->size; rank++) {
            want += value_of(rank, step, i);
        }
        wrong += is_promised(shards, i) && values[i] != want;
    }
    CHECK(wrong == 0);
}

static void test_case(struct comm *c, int64_t n, int64_t bucket_bytes, bool threaded, bool sharded) {
    struct shard_map shards = shard_map_over(c, n);
    struct bucket_options o = {.elements = n,
                               .element_bytes = SUM_F32,
                               .bucket_bytes = bucket_bytes,
                               .deterministic = n % 2 == 0 && (c->size & (c->size - 1)) == 0,
                               .threaded = threaded,
                               .shards = sharded ? &shards : NULL};
    struct bucket_sum *b;
    CHECK(bucket_open(c, &o, &b) == OK);
    float *values = mem_aligned(n, sizeof *values);
    for (int step = 0; step < 3; step++) {
        run_step(c, b, o.shards, step, n, values);
    }
    bucket_close(b);
    mem_free(values);
}

int main(int argc, char **argv) {
    struct comm *c;
    setenv("COLLIMATE_CHECK", "collectives", 1);
    if (comm_start(&argc, &argv, &c) != OK) {
        return 1;
    }
    int64_t sizes[] = {0, 1, 100, 1000, 65537, 300000}, bytes[] = {0, 4, 4000, 1 << 20};
    for (int i = 0; i < COUNT_OF(sizes); i++) {
        for (int k = 0; k < COUNT_OF(bytes); k++) {
            /* In each bucket all ranks meet, which on busy cores takes its time: of the cases with more than
             * 100 of them there is one, in one way. */
            bool is_many = bytes[k] > 0 && sizes[i] > 100 * bytes[k] / 4;
            if (is_many && (sizes[i] != 1000 || bytes[k] != 4)) {
                continue;
            }
            for (int way = 0; way < (is_many ? 1 : 4); way++) {
                test_case(c, sizes[i], bytes[k], way & 1, way & 2);
            }
        }
    }
    struct bucket_options wrong = {.elements = 10, .element_bytes = 2};
    struct bucket_sum *b;
    CHECK(bucket_open(c, &wrong, &b) == ERR_INTERNAL);
    comm_finish(c);
    return failures != 0;
}
