#include "util/rng.h"

#include <math.h>

/* Philox4x32-10 constants from the paper. */
#define PHILOX_M0 0xD2511F53u
#define PHILOX_M1 0xCD9E8D57u
#define PHILOX_W0 0x9E3779B9u
#define PHILOX_W1 0xBB67AE85u
enum { PHILOX_ROUNDS = 10 };

static void philox(const uint32_t counter[4], const uint32_t key[2], uint32_t out[4]) {
    uint32_t c[4] = {counter[0], counter[1], counter[2], counter[3]};
    uint32_t k0 = key[0];
    uint32_t k1 = key[1];
    for (int round = 0; round < PHILOX_ROUNDS; round++) {
        uint64_t p0 = (uint64_t)PHILOX_M0 * c[0];
        uint64_t p1 = (uint64_t)PHILOX_M1 * c[2];
        uint32_t next[4] = {(uint32_t)(p1 >> 32) ^ c[1] ^ k0, (uint32_t)p1, (uint32_t)(p0 >> 32) ^ c[3] ^ k1,
                            (uint32_t)p0};
        for (int i = 0; i < 4; i++) {
            c[i] = next[i];
        }
        k0 += PHILOX_W0;
        k1 += PHILOX_W1;
    }
    for (int i = 0; i < 4; i++) {
        out[i] = c[i];
    }
}

/* splitmix64's finaliser: spreads (seed, purpose, row, step) over key and counter. */
static uint64_t mix64(uint64_t x) {
    x += 0x9E3779B97F4A7C15u;
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9u;
    x = (x ^ (x >> 27)) * 0x94D049BB133111EBu;
    return x ^ (x >> 31);
}

struct rng rng_stream(uint64_t seed, enum rng_purpose purpose, int64_t row, int64_t step) {
    uint64_t key = mix64(seed ^ mix64((uint64_t)purpose));
    uint64_t place = mix64(mix64((uint64_t)row) + (uint64_t)step);
    struct rng r = {
        .key = {(uint32_t)key, (uint32_t)(key >> 32)},
        .counter = {0, 0, (uint32_t)place, (uint32_t)(place >> 32)},
        .used = 4,
    };
    return r;
}

uint32_t rng_u32(struct rng *r) {
    if (r->used == 4) {
        philox(r->counter, r->key, r->block);
        if (++r->counter[0] == 0) {
            r->counter[1]++;
        }
        r->used = 0;
    }
    return r->block[r->used++];
}

uint64_t rng_u64(struct rng *r) {
    uint64_t low = rng_u32(r);
    return low | (uint64_t)rng_u32(r) << 32;
}

double rng_uniform(struct rng *r) {
    return (double)(rng_u64(r) >> 11) * 0x1p-53;
}

double rng_normal(struct rng *r) {
    double u = 1.0 - rng_uniform(r); /* (0, 1], so that the logarithm is finite */
    double v = rng_uniform(r);
    return sqrt(-2.0 * log(u)) * cos(6.283185307179586 * v);
}

int64_t rng_below(struct rng *r, int64_t n) {
    uint64_t bound = (uint64_t)n;
    uint64_t limit = UINT64_MAX - UINT64_MAX % bound; /* draws from limit up would favour small values */
    uint64_t draw;
    do {
        draw = rng_u64(r);
    } while (draw >= limit);
    return (int64_t)(draw % bound);
}

int64_t rng_permute(uint64_t seed, int64_t epoch, int64_t n, int64_t i) {
    int half_bits = 1;
    while (half_bits < 31 && ((uint64_t)1 << (2 * half_bits)) < (uint64_t)n) {
        half_bits++;
    }
    uint64_t mask = ((uint64_t)1 << half_bits) - 1;
    uint64_t key = mix64(seed ^ mix64((uint64_t)RNG_SHUFFLE + ((uint64_t)epoch << 8)));
    uint64_t value = (uint64_t)i;
    do {
        uint64_t left = value >> half_bits;
        uint64_t right = value & mask;
        for (uint64_t round = 0; round < 6; round++) {
            uint64_t next = left ^ (mix64(right ^ mix64(key + round)) & mask);
            left = right;
            right = next;
        }
        value = left << half_bits | right;
    } while (value >= (uint64_t)n);
    return (int64_t)value;
}

enum { MT_N = 624, MT_M = 397 };

static void mt_init(struct mt19937 *m, uint32_t seed) {
    m->state[0] = seed;
    for (int i = 1; i < MT_N; i++) {
        m->state[i] = 1812433253u * (m->state[i - 1] ^ (m->state[i - 1] >> 30)) + (uint32_t)i;
    }
    m->next = MT_N;
}

void mt_seed_numpy(struct mt19937 *m, uint32_t seed) {
    mt_init(m, seed);
}

/* init_by_array of the reference implementation, key = the seed's little-endian 32-bit limbs. */
void mt_seed_python(struct mt19937 *m, uint64_t seed) {
    uint32_t key[2] = {(uint32_t)seed, (uint32_t)(seed >> 32)};
    int length = key[1] != 0 ? 2 : 1;
    mt_init(m, 19650218u);
    int i = 1;
    int j = 0;
    for (int k = MT_N; k > 0; k--) {
        uint32_t previous = m->state[i - 1] ^ (m->state[i - 1] >> 30);
        m->state[i] = (m->state[i] ^ previous * 1664525u) + key[j] + (uint32_t)j;
        i++;
        j = j + 1 < length ? j + 1 : 0;
        if (i >= MT_N) {
            m->state[0] = m->state[MT_N - 1];
            i = 1;
        }
    }
    for (int k = MT_N - 1; k > 0; k--) {
        uint32_t previous = m->state[i - 1] ^ (m->state[i - 1] >> 30);
        m->state[i] = (m->state[i] ^ previous * 1566083941u) - (uint32_t)i;
        i++;
        if (i >= MT_N) {
            m->state[0] = m->state[MT_N - 1];
            i = 1;
        }
    }
    m->state[0] = 0x80000000u;
}

static void mt_refill(struct mt19937 *m) {
    for (int i = 0; i < MT_N; i++) {
        uint32_t y = (m->state[i] & 0x80000000u) | (m->state[(i + 1) % MT_N] & 0x7fffffffu);
        m->state[i] = m->state[(i + MT_M) % MT_N] ^ (y >> 1) ^ (y & 1 ? 0x9908b0dfu : 0);
    }
    m->next = 0;
}

uint32_t mt_u32(struct mt19937 *m) {
    if (m->next >= MT_N) {
        mt_refill(m);
    }
    uint32_t y = m->state[m->next++];
    y ^= y >> 11;
    y ^= y << 7 & 0x9d2c5680u;
    y ^= y << 15 & 0xefc60000u;
    return y ^ y >> 18;
}

double mt_double(struct mt19937 *m) {
    uint32_t a = mt_u32(m) >> 5;
    uint32_t b = mt_u32(m) >> 6;
    return ((double)a * 67108864.0 + (double)b) / 9007199254740992.0;
}

uint32_t mt_numpy_below(struct mt19937 *m, uint32_t n) {
    uint32_t mask = n - 1;
    for (int shift = 1; shift < 32; shift *= 2) {
        mask |= mask >> shift;
    }
    uint32_t draw;
    do {
        draw = mt_u32(m) & mask;
    } while (draw > n - 1);
    return draw;
}

uint32_t mt_python_below(struct mt19937 *m, uint32_t n) {
    int bits = 0;
    while (bits < 32 && n >> bits) {
        bits++;
    }
    uint32_t draw;
    do {
        draw = mt_u32(m) >> (32 - bits);
    } while (draw >= n);
    return draw;
}
