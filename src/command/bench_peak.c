/* The processor's own peak: fused multiply-adds in registers, in the widest instruction set that it has. */
#include "command/bench.h"
#include "util/clock.h"

typedef float lanes __attribute__((vector_size(64)));
enum { LANES = 16, ROUNDS = 1 << 22 };

#if defined(__x86_64__)
#define EACH_ISA __attribute__((target_clones("arch=skylake-avx512", "arch=haswell", "default")))
#else
#define EACH_ISA
#endif

/* Chains of dependent multiply-adds side by side: as many as latency times ports, no more than registers.
 * Two counts are tried because instruction sets differ in both. */
__attribute__((always_inline)) static inline float chains(int n, float seed) {
    lanes a[12], x = (lanes){0} + 0.999999f, y = (lanes){0} + seed;
    for (int i = 0; i < n; i++) {
        a[i] = (lanes){0} + (float)i;
    }
    for (int64_t round = 0; round < ROUNDS; round++) {
#pragma GCC unroll 12
        for (int i = 0; i < n; i++) {
            a[i] = a[i] * x + y;
        }
    }
    float sum = 0;
    for (int i = 0; i < n; i++) {
        sum += a[i][0];
    }
    return sum;
}

EACH_ISA static float six(float seed) {
    return chains(6, seed);
}

EACH_ISA static float twelve(float seed) {
    return chains(12, seed);
}

static double rate(float (*work)(float), int n, int threads) {
    float sum = 0;
    double began = clock_seconds();
#pragma omp parallel num_threads(threads) reduction(+ : sum)
    sum += work(1e-9f);
    double seconds = clock_seconds() - began;
    /* sum is used, so that the work is done. */
    return sum != 0 ? 2.0 * LANES * n * ROUNDS * threads / seconds : 0;
}

double bench_peak_fma(int threads) {
    (void)rate(six, 6, threads); /* threads start, the clock settles */
    double a = rate(six, 6, threads), b = rate(twelve, 12, threads);
    return a > b ? a : b;
}
