/* The processor's own peak: fused multiply-adds in registers, in the widest instruction set that it has. */
#include "command/bench/bench.h"
#include "util/clock.h"

enum { ROUNDS = 1 << 21 };

/* A function that runs CHAINS chains of dependent multiply-adds side by side, on vectors of BYTES bytes. The
 * best count is latency times ports, and no more than registers: two are tried. */
#define DEFINE_CHAINS(name, TARGET, BYTES, CHAINS)                          \
    TARGET static float name(float seed) {                                  \
        typedef float lanes __attribute__((vector_size(BYTES)));            \
        lanes a[CHAINS], x = (lanes){0} + 0.999999f, y = (lanes){0} + seed; \
        for (int i = 0; i < CHAINS; i++) {                                  \
            a[i] = (lanes){0} + (float)i;                                   \
        }                                                                   \
        for (int64_t round = 0; round < ROUNDS; round++) {                  \
            _Pragma("GCC unroll 12") for (int i = 0; i < CHAINS; i++) {     \
                a[i] = a[i] * x + y;                                        \
            }                                                               \
        }                                                                   \
        float sum = 0;                                                      \
        for (int i = 0; i < CHAINS; i++) {                                  \
            sum += a[i][0];                                                 \
        }                                                                   \
        return sum;                                                         \
    }

#define ANY_TARGET
DEFINE_CHAINS(narrow_8, ANY_TARGET, 16, 8)
DEFINE_CHAINS(narrow_12, ANY_TARGET, 16, 12)
#if defined(__x86_64__)
DEFINE_CHAINS(avx2_8, __attribute__((target("avx2,fma"))), 32, 8)
DEFINE_CHAINS(avx2_12, __attribute__((target("avx2,fma"))), 32, 12)
DEFINE_CHAINS(avx512_8, __attribute__((target("avx512f,fma"))), 64, 8)
DEFINE_CHAINS(avx512_12, __attribute__((target("avx512f,fma"))), 64, 12)
#endif

typedef float chains(float seed);
struct kernels {
    chains *eight, *twelve;
    int lanes;
};

static struct kernels choose(void) {
#if defined(__x86_64__)
    if (__builtin_cpu_supports("avx512f")) {
        return (struct kernels){avx512_8, avx512_12, 16};
    }
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) {
        return (struct kernels){avx2_8, avx2_12, 8};
    }
#endif
    return (struct kernels){narrow_8, narrow_12, 4};
}

static double rate(chains *work, int n, int lanes, int threads) {
    float sum = 0;
    double began = clock_seconds();
#pragma omp parallel num_threads(threads) reduction(+ : sum)
    sum += work(1e-9f);
    double seconds = clock_seconds() - began;
    /* sum is looked at, so that the work is done */
    return sum != 0 ? 2.0 * lanes * n * ROUNDS * threads / seconds : 0;
}

double bench_peak_fma(int threads) {
    enum { REPEATS = 5 };
    struct kernels k = choose();
    double best = 0;
    for (int i = 0; i < REPEATS; i++) {
        double a = rate(k.eight, 8, k.lanes, threads), b = rate(k.twelve, 12, k.lanes, threads);
        best = a > best ? a : best;
        best = b > best ? b : best;
    }
    return best;
}

enum { READ_LANES = 32, READ_BLOCK = 1 << 20 };

/* Sums side by side, so that no addition waits for the one before. A block as `streams` pieces, read a few
 * values of each in turn: processors fetch ahead of one stream or of several, some one better, some the
 * other.
 */
static inline float sum_streams(const float *x, const int streams) {
    const int width = READ_LANES / streams;
    float lanes[READ_LANES] = {0}, sum = 0;
    for (int64_t j = 0; j < READ_BLOCK / streams; j += width) {
        for (int s = 0; s < streams; s++) {
            const float *from = x + s * (READ_BLOCK / streams) + j;
#pragma omp simd
            for (int l = 0; l < width; l++) {
                lanes[s * width + l] += from[l];
            }
        }
    }
    for (int l = 0; l < READ_LANES; l++) {
        sum += lanes[l];
    }
    return sum;
}

static float sum_block(const float *x, bool is_one) {
    return is_one ? sum_streams(x, 1) : sum_streams(x, 8);
}

/* Whether what the back end has is read where it lies. */
static enum status is_in_host_memory(struct backend *backend, bool *out) {
    void *data;
    TRY(backend_alloc(backend, 1, &data));
    *out = backend_host_address(backend, data) != NULL;
    backend_free(backend, data);
    return OK;
}

/* Bytes per second of adding up 256 MiB: nothing is written, as in a step of decoding. That is more than most
 * processors' last-level caches hold; where one holds it, this is that cache's rate, not the memory's. */
enum status bench_peak_read(struct backend *backend, double *bytes_per_s) {
    enum { REPEATS = 10, BLOCKS = 64 };
    void *data;
    bool is_host;
    double best = 0;
    const int64_t n = (int64_t)BLOCKS * READ_BLOCK, bytes = n * (int64_t)sizeof(float);
    *bytes_per_s = 0;
    TRY(is_in_host_memory(backend, &is_host));
    if (!is_host) {
        return OK;
    }
    TRY(backend_alloc(backend, bytes, &data));
    const float *x = backend_host_address(backend, data);
    enum status st = backend_zero_tensor(backend, tensor_at(data, 1, n, DTYPE_F32));
    for (int i = 0; i < REPEATS && st == OK; i++) {
        float sum = 0;
        double began = clock_seconds();
#pragma omp parallel for num_threads(backend->caps.threads) schedule(static) reduction(+ : sum)
        for (int64_t j = 0; j < BLOCKS; j++) {
            sum += sum_block(x + j * READ_BLOCK, i % 2 == 0);
        }
        double seconds = clock_seconds() - began;
        double rate = sum == 0 ? (double)bytes / seconds : 0;
        best = rate > best ? rate : best;
    }
    backend_free(backend, data);
    *bytes_per_s = best;
    return st;
}
