/* Random numbers: published known answers, parity with NumPy and CPython, and what a permutation must be. */
#include "tests/unit.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "util/mem.h"
#include "util/rng.h"

/* kat_vectors of Random123 for philox4x32-10: counter, key, result. */
static void test_philox(void **state) {
    (void)state;
    static const uint32_t vectors[][10] = {
        {0, 0, 0, 0, 0, 0, 0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8},
        {~0u, ~0u, ~0u, ~0u, ~0u, ~0u, 0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd},
        {0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344, 0xa4093822, 0x299f31d0, 0xd16cfe09, 0x94fdcceb,
         0x5001e420, 0x24126ea1},
    };
    for (int i = 0; i < 3; i++) {
        struct rng r = {.used = 4};
        memcpy(r.counter, vectors[i], sizeof r.counter);
        memcpy(r.key, vectors[i] + 4, sizeof r.key);
        for (int j = 0; j < 4; j++) {
            assert_int_equal(rng_u32(&r), vectors[i][6 + j]);
        }
    }
}

/* The low counter word carries into the next, so a stream does not repeat after 2^34 words. */
static void test_counter_carries(void **state) {
    (void)state;
    struct rng r = rng_stream(1, RNG_CHECK, 0, 0);
    r.counter[0] = UINT32_MAX;
    struct rng next = r;
    next.counter[0] = 0;
    next.counter[1] = 1;
    for (int i = 0; i < 4; i++) {
        rng_u32(&r);
    }
    assert_int_equal(rng_u64(&r), rng_u64(&next));
}

/* Every argument moves the stream; the same arguments replay it. */
static void test_streams(void **state) {
    (void)state;
    uint64_t first[6];
    struct rng streams[] = {rng_stream(1, RNG_CHECK, 2, 3),  rng_stream(2, RNG_CHECK, 2, 3),
                            rng_stream(1, RNG_SAMPLE, 2, 3), rng_stream(1, RNG_CHECK, 3, 2),
                            rng_stream(1, RNG_CHECK, 2, 4),  rng_stream(1, RNG_CHECK, -2, 3)};
    for (int i = 0; i < 6; i++) {
        first[i] = rng_u64(&streams[i]);
        for (int j = 0; j < i; j++) {
            assert_true(first[i] != first[j]);
        }
    }
    struct rng again = rng_stream(1, RNG_CHECK, 2, 3);
    struct rng copy = again;
    assert_true(rng_u64(&again) == first[0] && rng_u64(&copy) == first[0]);
    assert_true(rng_u64(&again) == rng_u64(&copy));
}

/* Moments and bins; the stream is fixed, so 4.5 sigma cannot flicker. */
static void test_distributions(void **state) {
    (void)state;
    enum { N = 400000, BINS = 64 };
    struct rng r = rng_stream(7, RNG_CHECK, 0, 0);
    double uniform[2] = {0, 0};
    double normal[4] = {0, 0, 0, 0};
    double bins[BINS] = {0};
    double below[7] = {0};
    double neighbors = 0; /* first draws of neighboring rows must not be related */
    double previous = 0;
    for (int i = 0; i < N; i++) {
        double u = rng_uniform(&r);
        double z = rng_normal(&r);
        assert_true(u >= 0 && u < 1 && isfinite(z));
        bins[(int)(u * BINS)] += 1;
        below[rng_below(&r, 7)] += 1;
        uniform[0] += u / N;
        uniform[1] += u * u / N;
        for (int p = 0; p < 4; p++) {
            normal[p] += pow(z, p + 1) / N;
        }
        struct rng row = rng_stream(7, RNG_SAMPLE, i, 1);
        double here = rng_uniform(&row) - 0.5;
        neighbors += here * previous / N;
        previous = here;
    }
    double s = 4.5 / sqrt(N);
    assert_true(fabs(uniform[0] - 0.5) < s * sqrt(1.0 / 12));
    assert_true(fabs(uniform[1] - 1.0 / 3) < s * sqrt(4.0 / 45));
    assert_true(fabs(normal[0]) < s && fabs(normal[1] - 1) < s * sqrt(2));
    assert_true(fabs(normal[2]) < s * sqrt(15) && fabs(normal[3] - 3) < s * sqrt(96));
    assert_true(fabs(neighbors) < s / 12);
    double chi = 0;
    for (int i = 0; i < BINS; i++) {
        chi += pow(bins[i] - (double)N / BINS, 2) * BINS / N;
    }
    assert_true(fabs(chi - (BINS - 1)) < 4.5 * sqrt(2.0 * (BINS - 1)));
    chi = 0;
    for (int i = 0; i < 7; i++) {
        chi += pow(below[i] - N / 7.0, 2) * 7 / N;
    }
    assert_true(chi < 6 + 4.5 * sqrt(12));
}

static void test_below_bounds(void **state) {
    (void)state;
    struct rng r = rng_stream(3, RNG_CHECK, 0, 0);
    static const int64_t bounds[] = {1, 2, 3, INT64_C(1) << 40, INT64_MAX};
    for (int i = 0; i < 5; i++) {
        for (int j = 0; j < 1000; j++) {
            int64_t draw = rng_below(&r, bounds[i]);
            assert_true(draw >= 0 && draw < bounds[i]);
        }
    }
}

static void check_bijection(int64_t n, uint64_t seed, int64_t epoch) {
    unsigned char *seen = mem_calloc(n, 1);
    assert_non_null(seen);
    for (int64_t i = 0; i < n; i++) {
        int64_t place = rng_permute(seed, epoch, n, i);
        assert_true(place >= 0 && place < n);
        assert_int_equal(seen[place], 0);
        seen[place] = 1;
    }
    mem_free(seen);
}

static void test_permutation(void **state) {
    (void)state;
    for (int64_t n = 1; n <= 300; n++) {
        check_bijection(n, (uint64_t)n, n % 3);
    }
    static const int64_t sizes[] = {1023, 1024, 1025, 4096, 4097, 65535, 65537, 200003};
    for (int i = 0; i < 8; i++) {
        check_bijection(sizes[i], 5, i);
    }
    int64_t huge = INT64_C(1) << 40;
    assert_true(rng_permute(1, 0, huge, huge - 1) < huge);
}

/* Shuffled: few fixed points and few neighbors stay neighbors, and an epoch is unlike the one before. */
static void test_permutation_mixes(void **state) {
    (void)state;
    enum { N = 50000 };
    int same_place = 0;
    int neighbors = 0;
    int same_as_before = 0;
    double drift = 0;
    for (int64_t i = 0; i < N; i++) {
        int64_t place = rng_permute(11, 1, N, i);
        same_place += place == i;
        neighbors += i > 0 && llabs(place - rng_permute(11, 1, N, i - 1)) == 1;
        same_as_before += place == rng_permute(11, 0, N, i);
        drift += ((double)place - N / 2.0) * ((double)i - N / 2.0);
    }
    /* each count is Poisson with mean 1 or 2 */
    assert_true(same_place <= 8 && neighbors <= 10 && same_as_before <= 8);
    assert_true(fabs(drift / N / ((double)N * N / 12)) < 4.5 / sqrt(N));
}

/* numpy.random.seed: randint, rand, permutation. */
static void test_numpy(void **state) {
    (void)state;
    struct mt19937 m;
    mt_seed_numpy(&m, 0);
    assert_true(mt_u32(&m) == 2357136044u && mt_u32(&m) == 2546248239u && mt_u32(&m) == 3071714933u);
    mt_seed_numpy(&m, 0);
    static const double doubles[] = {0.5488135039273248, 0.7151893663724195, 0.6027633760716439,
                                     0.5448831829968969};
    for (int i = 0; i < 4; i++) {
        assert_true(mt_double(&m) == doubles[i]);
    }
    mt_seed_numpy(&m, 0);
    static const uint32_t digits[] = {5, 0, 3, 3, 7, 9, 3, 5, 2, 4};
    for (int i = 0; i < 10; i++) {
        assert_int_equal(mt_numpy_below(&m, 10), digits[i]);
    }
    mt_seed_numpy(&m, 7);
    static const uint32_t large[] = {585903, 189636, 573977, 535030, 759363, 839891};
    for (int i = 0; i < 6; i++) {
        assert_int_equal(mt_numpy_below(&m, 1000003), large[i]);
    }
    mt_seed_numpy(&m, 123456789);
    static const int order[] = {11, 1, 5, 0, 6, 3, 4, 10, 7, 9, 2, 8}; /* permutation(12) */
    int items[12];
    for (int i = 0; i < 12; i++) {
        items[i] = i;
    }
    for (int i = 11; i > 0; i--) {
        int j = (int)mt_numpy_below(&m, (uint32_t)i + 1);
        int other = items[i];
        items[i] = items[j];
        items[j] = other;
    }
    assert_memory_equal(items, order, sizeof order);
    mt_seed_numpy(&m, UINT32_MAX);
    assert_true(mt_double(&m) == 0.0976320289940138);
    assert_int_equal(mt_numpy_below(&m, 1), 0);
}

/* random.seed: random, _randbelow, shuffle, choice and sample; seeds of one and of two words. */
static void test_cpython(void **state) {
    (void)state;
    struct mt19937 m;
    mt_seed_python(&m, 0);
    assert_true(mt_double(&m) == 0.8444218515250481);
    mt_seed_python(&m, 42);
    assert_true(mt_double(&m) == 0.6394267984578837 && mt_double(&m) == 0.025010755222666936);
    mt_seed_python(&m, (UINT64_C(1) << 40) + 12345);
    assert_true(mt_double(&m) == 0.31036222241287226);
    static const uint32_t sevenths[] = {0, 0, 4, 1, 1, 1, 6, 6};
    for (int i = 0; i < 8; i++) {
        assert_int_equal(mt_python_below(&m, 7), sevenths[i]);
    }
    assert_int_equal(mt_python_below(&m, 1), 0);
    assert_int_equal(mt_python_below(&m, UINT32_MAX), 2650147621u);
    mt_seed_python(&m, UINT64_C(1) << 32);
    assert_true(mt_double(&m) == 0.11299430095636409);
    mt_seed_python(&m, 43);
    static const int shuffled[] = {8, 1, 5, 6, 9, 7, 3, 2, 4, 0};
    int items[10];
    for (int i = 0; i < 10; i++) {
        items[i] = i;
    }
    for (int i = 9; i > 0; i--) {
        int j = (int)mt_python_below(&m, (uint32_t)i + 1);
        int other = items[i];
        items[i] = items[j];
        items[j] = other;
    }
    assert_memory_equal(items, shuffled, sizeof shuffled);
    mt_seed_python(&m, 42);
    static const uint32_t sample[] = {25, 759, 281, 250, 228, 142, 754, 104, 692};
    assert_int_equal(mt_python_below(&m, 2), 0); /* choice of 2 */
    for (int i = 0; i < 9; i++) {                /* no repeats among these: rejection never bites */
        assert_int_equal(mt_python_below(&m, 1000), sample[i]);
    }
}

/* Past several refills of the state: the 10000th output of seed 5489, as the C++ standard gives it. */
static void test_long_run(void **state) {
    (void)state;
    struct mt19937 m;
    mt_seed_numpy(&m, 5489);
    uint32_t last = 0;
    for (int i = 0; i < 10000; i++) {
        last = mt_u32(&m);
    }
    assert_int_equal(last, 4123659995u);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_philox),
        cmocka_unit_test(test_counter_carries),
        cmocka_unit_test(test_streams),
        cmocka_unit_test(test_distributions),
        cmocka_unit_test(test_below_bounds),
        cmocka_unit_test(test_permutation),
        cmocka_unit_test(test_permutation_mixes),
        cmocka_unit_test(test_numpy),
        cmocka_unit_test(test_cpython),
        cmocka_unit_test(test_long_run),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
