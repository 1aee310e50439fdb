/* An attention map taken apart into rounds of runs, as the CUDA back end gives them to a library. */
#include "cuda/rounds.h"

#include <string.h>

#include "tests/unit.h"
#include "util/rng.h"

enum { MOST = 64, MOST_ROWS = 600 };

struct forest {
    struct query_span spans[MOST];
    struct key_range ranges[MOST * MOST];
    struct attention_map map;
    int64_t rows;
};

/* Segments in depth-first order, with up to `depth` ancestors each. */
static void grow(struct forest *f, struct rng *rng, int segments, int depth) {
    int chain[MOST];
    int above = 0;
    int32_t firsts[MOST];
    int32_t counts[MOST];
    *f = (struct forest){0};
    for (int s = 0; s < segments; s++) {
        above = above > 0 ? (int)rng_below(rng, (uint64_t)(above < depth ? above : depth) + 1) : 0;
        chain[above++] = s;
        firsts[s] = (int32_t)f->rows;
        counts[s] = 1 + (int32_t)rng_below(rng, 8);
        f->spans[s] = (struct query_span){firsts[s], counts[s], f->map.range_count, above};
        for (int i = 0; i < above; i++) {
            f->ranges[f->map.range_count++] =
                (struct key_range){firsts[chain[i]], counts[chain[i]], i + 1 == above};
        }
        f->rows += counts[s];
    }
    f->map.span_count = segments;
    f->map.spans = f->spans;
    f->map.ranges = f->ranges;
}

/* How often query i meets key j in a map, or in rounds; a round gives no row two writers. */
static void count_map(const struct attention_map *map, char *seen) {
    for (int s = 0; s < map->span_count; s++) {
        const struct query_span *span = &map->spans[s];
        for (int r = 0; r < span->range_count; r++) {
            const struct key_range *range = &map->ranges[span->range_first + r];
            for (int i = 0; i < span->count; i++) {
                int end = range->causal ? range->count - span->count + i + 1 : range->count;
                for (int j = 0; j < end; j++) {
                    seen[(span->first + i) * MOST_ROWS + range->first + j]++;
                }
            }
        }
    }
}

static void count_rounds(const struct rounds *rounds, const struct run *runs, char *seen) {
    for (int r = 0; r < rounds->count; r++) {
        int q_end = 0;
        int k_end = 0;
        for (int x = rounds->first[r]; x < rounds->first[r + 1]; x++) {
            assert_true(runs[x].q_first >= q_end && runs[x].k_first >= k_end);
            q_end = runs[x].q_first + runs[x].q_count;
            k_end = runs[x].k_first + runs[x].k_count;
            for (int i = 0; i < runs[x].q_count; i++) {
                int end = r == 0 ? runs[x].k_count - runs[x].q_count + i + 1 : runs[x].k_count;
                for (int j = 0; j < end; j++) {
                    seen[(runs[x].q_first + i) * MOST_ROWS + runs[x].k_first + j]++;
                }
            }
        }
    }
}

static void test_forests(void **state) {
    (void)state;
    static char wanted[MOST_ROWS * MOST_ROWS];
    static char got[MOST_ROWS * MOST_ROWS];
    static struct forest f;
    static struct run runs[2 * MOST * MOST];
    struct rng rng = rng_stream(1, RNG_CHECK, 0, 0);
    for (int round = 0; round < 60; round++) {
        int depth = round % 5;
        struct rounds rounds;
        memset(wanted, 0, sizeof wanted);
        memset(got, 0, sizeof got);
        grow(&f, &rng, 1 + (int)rng_below(&rng, MOST - 1), depth);
        rounds_of(&f.map, f.rows, f.rows, runs, &rounds);
        assert_true(rounds.fits && rounds.covers_keys);
        assert_true(depth >= ROUNDS_MOST || rounds.whole_fits); /* a round per level */
        count_map(&f.map, wanted);
        count_rounds(&rounds, runs, got);
        if (rounds.whole_fits) {
            assert_memory_equal(wanted, got, sizeof wanted);
        }
    }
}

/* Prompts with two responses each: one run over a prompt for both. */
static void test_pairs(void **state) {
    (void)state;
    const struct query_span spans[] = {{0, 5, 0, 1},  {5, 3, 1, 2},  {8, 4, 3, 2},
                                       {12, 6, 5, 1}, {18, 2, 6, 2}, {20, 1, 8, 2}};
    const struct key_range ranges[] = {{0, 5, true},   {0, 5, false}, {5, 3, true},   {0, 5, false},
                                       {8, 4, true},   {12, 6, true}, {12, 6, false}, {18, 2, true},
                                       {12, 6, false}, {20, 1, true}};
    const struct attention_map map = {1, 6, 10, spans, ranges};
    struct run runs[20];
    struct rounds rounds;
    rounds_of(&map, 21, 21, runs, &rounds);
    assert_true(rounds.fits && rounds.whole_fits && rounds.covers_keys);
    assert_int_equal(rounds.count, 2);
    assert_int_equal(rounds.first[1], 6);
    assert_int_equal(rounds.first[2], 8);
    assert_memory_equal(&runs[6], (&(struct run){5, 7, 0, 5}), sizeof *runs);
    assert_memory_equal(&runs[7], (&(struct run){18, 3, 12, 6}), sizeof *runs);
}

/* Maps that are no forests: caches, queries of some rows only, spans without a causal range. */
static void test_others(void **state) {
    (void)state;
    struct run runs[8];
    struct rounds rounds;
    const struct query_span spans[] = {{0, 1, 0, 1}, {1, 2, 1, 1}};
    const struct key_range caches[] = {{0, 50, true}, {64, 7, true}};
    const struct key_range whole[] = {{0, 50, true}, {64, 7, false}};
    const struct key_range shared[] = {{0, 50, true}, {30, 7, true}};
    struct attention_map map = {1, 2, 2, spans, caches};
    rounds_of(&map, 3, 80, runs, &rounds);
    assert_true(rounds.fits && rounds.whole_fits && !rounds.covers_keys);
    assert_int_equal(rounds.count, 1);
    rounds_of(&map, 4, 80, runs, &rounds); /* a row that no span has */
    assert_false(rounds.fits);
    map.ranges = whole;
    rounds_of(&map, 3, 80, runs, &rounds);
    assert_false(rounds.fits);
    map.ranges = shared;
    rounds_of(&map, 3, 80, runs, &rounds);
    assert_false(rounds.fits);
    const struct query_span blind[] = {{0, 1, 0, 1}, {1, 2, 1, 0}};
    map = (struct attention_map){1, 2, 1, blind, caches};
    rounds_of(&map, 3, 80, runs, &rounds);
    assert_false(rounds.fits);
}

/* Batches partition a round, are few, and hold their longest run. */
static void test_batches(void **state) {
    (void)state;
    struct run runs[200];
    struct rng rng = rng_stream(2, RNG_CHECK, 0, 0);
    for (int i = 0; i < COUNT_OF(runs); i++) {
        int32_t n = 1 + (int32_t)rng_below(&rng, 700);
        runs[i] = (struct run){i * 700, n, i * 700, i % 50 == 49 ? n + 1 : n};
    }
    for (int32_t n = 1; n <= COUNT_OF(runs); n++) {
        int batches = 0;
        for (int32_t at = 0; at < n; batches++) {
            struct batch b = rounds_batch(runs, at, n);
            bool square = true;
            assert_true(b.first == at && b.count >= 1 && b.count <= BATCH_MOST && at + b.count <= n);
            for (int32_t i = at; i < at + b.count; i++) {
                assert_true(runs[i].q_count <= b.queries && runs[i].k_count <= b.keys);
                square = square && runs[i].q_count == runs[i].k_count;
            }
            assert_int_equal(b.is_square, square);
            at += b.count;
        }
        assert_true(batches <= n / BATCH_MOST + 4);
    }
    for (int32_t n = 1; n < 20000; n++) {
        int32_t up = rounds_length(n);
        assert_true(up >= n && up % 64 == 0 && rounds_length(up) == up && rounds_length(n + 1) >= up);
        assert_true(up <= 128 || 2 * up <= 3 * (n + 63));
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_forests),
        cmocka_unit_test(test_pairs),
        cmocka_unit_test(test_others),
        cmocka_unit_test(test_batches),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
