/* The CPU back end: opening, memory, and the choice of an instruction set. */
#include <cblas.h>
#include <math.h>
#include <omp.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#ifdef __SSE2__
#include <emmintrin.h>
#endif

#include "backend/cpu/cpu_internal.h"
#include "backend/cpu/dot_kernel.h"
#include "util/mem.h"

/* Tables of the other compilations of cpu_*.c; the names are CPU_NAME's. */
extern const struct backend_ops cpu_table_v3;
extern const struct backend_ops cpu_table_v4;

/* The best instruction set that this processor has. COLLIMATE_CPU_LEVEL=v3 or =base takes a lower one, so
 * that machines of different ages give the same bits (and tests reach every table). */
static const struct backend_ops *choose_table(const char **name) {
#ifdef COLLIMATE_CPU_LEVELS
    const char *level = cpu_level_wanted();
    bool allows_v4 = !level || strcmp(level, "v4") == 0;
    bool allows_v3 = allows_v4 || strcmp(level, "v3") == 0;
    __builtin_cpu_init();
    if (allows_v4 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
        __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
        __builtin_cpu_supports("avx512cd")) {
        *name = "AVX-512";
        return &cpu_table_v4;
    }
    if (allows_v3 && __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
        __builtin_cpu_supports("bmi2")) {
        *name = "AVX2";
        return &cpu_table_v3;
    }
#endif
    *name = "baseline instructions";
    return &cpu_table;
}

/* Asks for large pages: a product walks down columns of C, a page per row, and 4 KiB pages then cost a fifth
 * of its time in address translation. Only advice, so failure does not matter. */
static void advise_large_pages(void *data, int64_t bytes) {
    const uintptr_t large = (uintptr_t)2 << 20;
    uintptr_t first = ((uintptr_t)data + large - 1) / large * large;
    uintptr_t end = ((uintptr_t)data + (uintptr_t)bytes) / large * large;
    if (first < end) {
        (void)madvise((void *)first, end - first, MADV_HUGEPAGE);
    }
}

static void *large_pages(int64_t bytes) {
    void *data = mem_aligned(bytes, 1);
    if (data) {
        advise_large_pages(data, bytes);
    }
    return data;
}

enum status cpu_large_pages(int64_t bytes, const char *what, void **out) {
    void *data = large_pages(bytes);
    if (!data) {
        return note("taking memory for %s", what);
    }
    *out = data;
    return OK;
}

enum status cpu_scratch(struct cpu *cpu, enum cpu_scratch kind, int64_t bytes, void **out) {
    if (bytes > cpu->scratch_bytes[kind]) {
        void *grown = large_pages(bytes);
        if (!grown) {
            return note("making room for an operation's inside");
        }
        mem_free(cpu->scratch[kind]);
        cpu->scratch[kind] = grown;
        cpu->scratch_bytes[kind] = bytes;
    }
    *out = cpu->scratch[kind];
    return OK;
}

enum status cpu_alloc(struct backend *b, int64_t bytes, void **out) {
    (void)b;
    void *data = large_pages(bytes);
    TRY(mem_ok(data));
    *out = data;
    return OK;
}

void cpu_free(struct backend *b, void *data) {
    (void)b;
    mem_free(data);
}

/* Pieces for threads that copy or clear: a page or more each, and first touch by those who will compute. */
enum { PIECE = 1 << 20 };

static void copy_bytes(int threads, char *to, const char *from, int64_t bytes) {
#pragma omp parallel for num_threads(threads) if (bytes > PIECE)
    for (int64_t i = 0; i < bytes; i += PIECE) {
        memcpy(to + i, from + i, (size_t)(bytes - i < PIECE ? bytes - i : PIECE));
    }
}

enum status cpu_write(struct backend *b, void *to, const void *host, int64_t bytes) {
    copy_bytes(cpu_of(b)->threads, to, host, bytes);
    return OK;
}

enum status cpu_read(struct backend *b, void *host, const void *from, int64_t bytes) {
    copy_bytes(cpu_of(b)->threads, host, from, bytes);
    return OK;
}

enum status cpu_copy(struct backend *b, void *to, const void *from, int64_t bytes) {
    copy_bytes(cpu_of(b)->threads, to, from, bytes);
    return OK;
}

/* More than caches hold is written past them: a line is then not read to be overwritten. */
enum { CLEARED_PAST_CACHES = 64 << 20 };

#ifdef __SSE2__
static void clear_past_caches(char *to, int64_t bytes) {
    int64_t head = (int64_t)(-(uintptr_t)to % sizeof(__m128i));
    int64_t i = head < bytes ? head : bytes;
    memset(to, 0, (size_t)i);
    for (; i + (int64_t)sizeof(__m128i) <= bytes; i += (int64_t)sizeof(__m128i)) {
        _mm_stream_si128((__m128i *)(void *)(to + i), _mm_setzero_si128());
    }
    memset(to + i, 0, (size_t)(bytes - i));
    _mm_sfence();
}
#else
static void clear_past_caches(char *to, int64_t bytes) {
    memset(to, 0, (size_t)bytes);
}
#endif

enum status cpu_zero(struct backend *b, void *to, int64_t bytes) {
    char *data = to;
#pragma omp parallel for num_threads(cpu_of(b)->threads) if (bytes > PIECE)
    for (int64_t i = 0; i < bytes; i += PIECE) {
        int64_t piece = bytes - i < PIECE ? bytes - i : PIECE;
        if (bytes > CLEARED_PAST_CACHES) {
            clear_past_caches(data + i, piece);
        } else {
            memset(data + i, 0, (size_t)piece);
        }
    }
    return OK;
}

enum status cpu_sync(struct backend *b) {
    (void)b;
    return OK;
}

enum status cpu_keep_weights(struct backend *b, struct tensor weights) {
    struct cpu *cpu = cpu_of(b);
    return cpu->dot && weights.type == DTYPE_BF16
               ? kept_declare(&cpu->kept, weights.data, weights.rows, weights.columns)
               : OK;
}

void cpu_weights_changed(struct backend *b, const void *data, int64_t bytes) {
    kept_change(&cpu_of(b)->kept, data, bytes);
}

void cpu_drop_weights(struct backend *b, const void *data, int64_t bytes) {
    kept_drop(&cpu_of(b)->kept, data, bytes);
}

void *cpu_host_address(struct backend *b, void *data) {
    (void)b;
    return data;
}

/* A product's panels and, where C is not fp32, its sums, with every thread's room where rows are few; a slab
 * of logits with its rows' hidden states and their gradients. */
int64_t cpu_scratch_bytes(const struct backend *b, int64_t width, int64_t vocabulary) {
    int64_t columns = vocabulary < CPU_SLAB_COLUMNS ? vocabulary : CPU_SLAB_COLUMNS;
    int64_t products = b->caps.compute == DTYPE_F32 ? CPU_PACK_BYTES : 2 * CPU_PACK_BYTES;
    products += (int64_t)cpu_of(b)->threads * CPU_NARROW_BYTES;
    return products + CPU_SLAB_ROWS * (columns + 2 * width) * (int64_t)sizeof(float);
}

void cpu_destroy(struct backend *b) {
    struct cpu *cpu = cpu_of(b);
    for (int i = 0; i < SCRATCH_KINDS; i++) {
        mem_free(cpu->scratch[i]);
    }
    kept_close(&cpu->kept);
    mem_free(cpu);
    mem_free(b);
}

/* A product against plain loops: a library that does nothing here, or uses instructions that this machine
 * computes wrongly, is found in a millisecond and not in the loss. */
static enum status check_product(struct backend *b, int m, bool transpose_a, bool transpose_b) {
    enum { M = 51, N = 45, K = 61 };
    static const float unit = 1.0f / 64.0f; /* all sums are exact */
    float a[M * K];
    float x[N * K];
    float c[M * N];
    for (int i = 0; i < m * K; i++) {
        a[i] = (float)(i * 7 % 31 - 15) * unit;
    }
    for (int i = 0; i < N * K; i++) {
        x[i] = (float)(i * 11 % 29 - 14) * unit;
    }
    struct gemm g = {.a = transpose_a ? tensor_at(a, K, m, DTYPE_F32) : tensor_at(a, m, K, DTYPE_F32),
                     .b = transpose_b ? tensor_at(x, N, K, DTYPE_F32) : tensor_at(x, K, N, DTYPE_F32),
                     .c = tensor_at(c, m, N, DTYPE_F32),
                     .transpose_a = transpose_a,
                     .transpose_b = transpose_b,
                     .alpha = 1.0};
    TRY(b->ops->gemm(b, &g));
    for (int i = 0; i < m; i++) {
        for (int j = 0; j < N; j++) {
            float sum = 0.0f;
            for (int k = 0; k < K; k++) {
                sum += a[transpose_a ? k * m + i : i * K + k] * x[transpose_b ? j * K + k : k * N + j];
            }
            if (c[i * N + j] != sum) {
                return fail(ERR_SYSTEM,
                            "cpu: a product of small integers is wrong (element %d, %d is %g, not %g); this "
                            "build does not fit this machine (%s)",
                            i, j, (double)c[i * N + j], (double)sum, b->caps.description);
            }
        }
    }
    return OK;
}

/* In each way: two of them are in a step of training, and each has its own way of packing; with one row or
 * few, as in decoding, and with more. */
static enum status check_products(struct backend *b) {
    enum { ONE = 1, FEW = 37, MORE = 51 };
    TRY(check_product(b, ONE, false, true));
    TRY(check_product(b, FEW, false, true));
    TRY(check_product(b, MORE, false, true));
    TRY(check_product(b, MORE, false, false));
    return check_product(b, MORE, true, false);
}

bool backend_cpu_offers_products(const char *kind) {
    const struct dot_kernel *kernel = NULL;
    const char *level = cpu_level_wanted();
    if ((level && strcmp(level, "v4") != 0) || dot_kernel_find(kind, &kernel) != OK) {
        status_clear();
        return false;
    }
    return true;
}

void backend_cpu_library(char out[160]) {
    static const char *const threading[] = {"sequential", "pthread", "openmp"};
    const char *isa = NULL;
    int kind = openblas_get_parallel();
    (void)choose_table(&isa);
    /* The configuration begins "OpenBLAS 0.3.21 NO_LAPACKE ...": its first two words. */
    const char *config = openblas_get_config();
    size_t n = strcspn(config, " ");
    n += config[n] == ' ' ? 1 + strcspn(config + n + 1, " ") : 0;
    snprintf(out, 160, "%.*s %s %.30s; own kernels: %s", n > 60 ? 60 : (int)n, config,
             kind >= 0 && kind < COUNT_OF(threading) ? threading[kind] : "unknown threads",
             openblas_get_corename(), isa);
}

static int threads_of(const struct backend_request *request) {
    /* omp_get_num_procs() counts what the affinity mask leaves. */
    return request->threads > 0 ? request->threads : omp_get_num_procs();
}

struct backend_caps cpu_caps(const struct backend_request *request) {
    const char *isa = NULL;
    int threads = threads_of(request);
    bool is_bf16 = request->compute && strcmp(request->compute, "bf16") == 0;
    const struct dot_kernel *dot = NULL;
    char products[48] = "";
    long pages = sysconf(_SC_PHYS_PAGES);
    long available = sysconf(_SC_AVPHYS_PAGES);
    long page = sysconf(_SC_PAGESIZE);
    struct backend_caps caps = {
        .name = "cpu",
        .master = DTYPE_F32,
        .compute = is_bf16 ? DTYPE_BF16 : DTYPE_F32,
        .readout = DTYPE_F32,
        .deterministic = true,
        .steady_rows = true,
        .products = PRODUCTS_FP32,
        .threads = threads,
        .memory_free = available > 0 ? (int64_t)available * page : 0,
        .memory_total = pages > 0 ? (int64_t)pages * page : 0,
    };
    if (is_bf16 && dot_kernel_find(request->products, &dot) != OK) {
        status_clear(); /* cpu_can() says it */
    }
    if (dot) {
        caps.keeps_weights = true;
        caps.products = dot->name;
        snprintf(products, sizeof products, " (bf16 products by %s)", dot->words);
    } else if (is_bf16) {
        snprintf(products, sizeof products, " (bf16 in memory, products in fp32)");
    }
    (void)choose_table(&isa);
    snprintf(caps.description, sizeof caps.description, "%s kernels%s, %d thread%s", isa, products, threads,
             threads == 1 ? "" : "s");
    return caps;
}

enum status cpu_can(const struct backend_request *request) {
    if (request->compute && strcmp(request->compute, "tf32") == 0) {
        return fail(ERR_USAGE, "compute: tf32 is a way of NVIDIA's tensor cores; use device: cuda, or "
                               "compute: fp32");
    }
    const struct dot_kernel *dot = NULL;
    TRY(dot_kernel_find(request->products, &dot));
    return dot && (!request->compute || strcmp(request->compute, "bf16") != 0)
               ? fail(ERR_USAGE, "cpu.products: %s multiplies bf16; it has no effect without compute=bf16",
                      dot->name)
               : OK;
}

enum status cpu_open(const struct backend_request *request, struct backend **out, char why[256]) {
    const char *isa = NULL;
    struct backend *b = NULL;
    struct cpu *cpu = NULL;
    enum status st;
    TRY_TO(failed, cpu_can(request));
    TRY_TO(failed, NEW_ARRAY(b, 1));
    TRY_TO(failed, NEW_ARRAY(cpu, 1));
    cpu->threads = threads_of(request);
    b->ops = choose_table(&isa);
    b->caps = cpu_caps(request);
    b->context = cpu;
    TRY_TO(failed, dot_kernel_find(request->products, &cpu->dot));
    TRY_TO(failed, check_products(b));
    snprintf(why, 256, "asked for");
    *out = b;
    return OK;
failed:
    mem_free(cpu);
    mem_free(b);
    return st;
}
