/* Random numbers without state: every draw is a function of (seed, purpose, row, step), so that no result
 * depends on which rank drew it or on what was drawn before (Philox4x32-10, Salmon et al. 2011). MT19937 is
 * here only for parity with NumPy's and CPython's generators (SPEC of the synthetic worlds).
 */
#ifndef COLLIMATE_UTIL_RNG_H
#define COLLIMATE_UTIL_RNG_H

#include <stdint.h>

/* One value per use of randomness; part of the numbers, so never renumber. */
enum rng_purpose {
    RNG_SHUFFLE = 1,
    RNG_INIT = 2,
    RNG_SAMPLE = 3,
    RNG_BOOTSTRAP = 4,
    RNG_SYNTH = 5,
    RNG_SELECT = 6,
    RNG_CHECK = 7,
    RNG_BENCH = 8,
    RNG_DROPOUT = 9,
    RNG_HINDSIGHT = 10,
};

/* A stream of draws. Cheap to make; copy it to replay it. */
struct rng {
    uint32_t key[2];
    uint32_t counter[4];
    uint32_t block[4];
    int used; /* words of block already given out; 4 = none left */
};

struct rng rng_stream(uint64_t seed, enum rng_purpose purpose, int64_t row, int64_t step);
uint32_t rng_u32(struct rng *r);
uint64_t rng_u64(struct rng *r);
double rng_uniform(struct rng *r);           /* [0, 1), 53 bits */
double rng_normal(struct rng *r);            /* Box-Muller, one value for two uniforms */
int64_t rng_below(struct rng *r, int64_t n); /* [0, n), unbiased */

/* Place of row i in a permutation of [0, n) that is a function of (seed, epoch): a Feistel network with
 * cycle walking, so no rank ever holds the order. 0 <= i < n. */
int64_t rng_permute(uint64_t seed, int64_t epoch, int64_t n, int64_t i);

/* MT19937. */
struct mt19937 {
    uint32_t state[624];
    int next;
};
void mt_seed_numpy(struct mt19937 *m, uint32_t seed);  /* numpy.random.seed(int) */
void mt_seed_python(struct mt19937 *m, uint64_t seed); /* random.seed(int) */
uint32_t mt_u32(struct mt19937 *m);
double mt_double(struct mt19937 *m);                     /* [0, 1), 53 bits from two draws */
uint32_t mt_numpy_below(struct mt19937 *m, uint32_t n);  /* randint(0, n), masked rejection */
uint32_t mt_python_below(struct mt19937 *m, uint32_t n); /* Random._randbelow(n) */

#endif
