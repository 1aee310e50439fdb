/* What the files of the CUDA back end share: its state, errors, scratch memory, and small device functions.
 *
 * Everything runs on one stream, in the order in which it is given; nothing waits except cuda_read(),
 * cuda_sync() and cuda_sum_squares(). No kernel adds floating-point numbers with atomics, and every sum has
 * an order that only the shapes decide, so equal operations give equal bits on a device.
 *
 * This shared object sees none of the program's symbols (the program exports nothing), so failures go
 * through a function that the program hands in: cuda_fail().
 *
 * Ids and targets live on the device. A kernel that meets one outside its table leaves it out and raises
 * `fault`, which the next wait turns into ERR_INTERNAL.
 */
#ifndef COLLIMATE_CUDA_DEVICE_CUH
#define COLLIMATE_CUDA_DEVICE_CUH

#include <cstddef>
#include <cstdint>

#include <cuda_runtime.h>

extern "C" {
#include "backend/backend.h"
}

/* A kernel launch, and a block's shared memory whose size the launch gives. tests/cuda_emulation/ compiles
 * these files for the CPU and has its own meaning of the two. A kernel's template arguments must hold no
 * comma; else parenthesize the kernel. */
#ifdef __CUDACC__
#define LAUNCH(kernel, grid, block, shared, stream, ...) \
    kernel<<<(grid), (block), (shared), (stream)>>>(__VA_ARGS__)
#define DYNAMIC_SHARED(type, name) extern __shared__ type name[]
#endif

struct products;
struct device_group;
struct fused;

/* Memory that an operation needs inside; each kind has one buffer, grown when asked and kept. */
enum cuda_scratch {
    SCRATCH_SLAB,    /* a slab of logits and the running statistics of its rows */
    SCRATCH_DZ,      /* the slab's gradient, where compute is bf16 */
    SCRATCH_DHIDDEN, /* dhidden in fp32, where compute is bf16 */
    SCRATCH_DELTA,   /* attention's rowsum(dO * O) */
    SCRATCH_MAP,     /* an attention map */
    SCRATCH_SUMS,
    SCRATCH_RUNS,       /* fused attention: an attention map's runs */
    SCRATCH_NUMBERS,    /* offsets and lengths of a batch of runs */
    SCRATCH_STATISTICS, /* padded log-sum-exps, and rowsum(dO * O) */
    SCRATCH_DQ_SUMS,    /* dq in fp32 */
    SCRATCH_PART,       /* a part's output or gradients */
    SCRATCH_PART_LSE,
    SCRATCH_LIBRARY, /* what cuDNN works in */
    SCRATCH_KINDS
};

enum cuda_fault { FAULT_NONE, FAULT_EMBED, FAULT_SCATTER, FAULT_GATHER, FAULT_POOL, FAULT_HEAD, FAULT_FILM };

/* An attention map on the device: see attention.cuh. */
struct device_map {
    const struct device_span *spans;
    const struct device_link *links;
    const struct query_tile *tiles;
    const int32_t *entry_first; /* key_tiles + 1: where each key tile's links begin in entries */
    const int32_t *entries;     /* links that touch a key tile */
    int32_t tile_count, key_tiles;
};

struct cuda {
    void (*record)(const struct message *failure); /* the program's status_set() */
    int device;
    cudaStream_t stream;
    cudaStream_t down, up, sums; /* transfer.cu: to the host, to the device, NCCL's */
    struct products *products;   /* gemm.cu */
    struct device_group *group;  /* group.cu */
    struct fused *fused;         /* fused.cu; NULL: own kernels only */
    bool deterministic, allows_tf32;
    char *staging[2]; /* pinned; halves take turns */
    cudaEvent_t staging_done[2];
    void *scratch[SCRATCH_KINDS];
    int64_t scratch_bytes[SCRATCH_KINDS];
    int *fault;          /* pinned, written by kernels, read after a wait; an enum cuda_fault */
    int shared_limit;    /* bytes of shared memory that a block may ask for */
    cudaEvent_t *stamps; /* BACKEND_STAMPS of them, or NULL; stamps.cu */
    bool has_map;
    uint64_t map_id;
    int64_t map_keys;
    struct device_map map;
};

static inline struct cuda *cuda_of(const struct backend *b) {
    return static_cast<struct cuda *>(b->context);
}

/* Records a failure in the program and returns its code. */
enum status cuda_fail(const struct cuda *c, enum status code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* ERR_SYSTEM with CUDA's own words; `what` names the call or the operation. */
enum status cuda_failed(const struct cuda *c, const char *what, cudaError_t error);
#define CUDA_TRY(c, what, call)                      \
    do {                                             \
        cudaError_t error_ = (call);                 \
        if (error_ != cudaSuccess) {                 \
            return cuda_failed((c), (what), error_); \
        }                                            \
    } while (0)
/* After a launch: bad grids, missing kernel images and earlier asynchronous errors. */
static inline enum status cuda_launched(const struct cuda *c, const char *operation) {
    CUDA_TRY(c, operation, cudaGetLastError());
    return OK;
}

/* Device memory; a failure names `what`, what was asked for and what is free. */
enum status cuda_take(const struct cuda *c, const char *what, int64_t bytes, void **out);
/* At least `bytes`, 256-byte aligned, not cleared. Waits when it has to grow. */
enum status cuda_scratch(struct cuda *c, enum cuda_scratch kind, int64_t bytes, void **out);
enum status cuda_memory_open(struct cuda *c);
void cuda_memory_close(struct cuda *c);
enum status cuda_blas_open(struct cuda *c);
void cuda_blas_close(struct cuda *c);
/* C = alpha op(A) op(B) + beta C without bias; C of any floating type that cuBLASLt pairs with A's. */
enum status cuda_product(struct cuda *c, const struct gemm *g);

enum status cuda_transfers_open(struct cuda *c);
void cuda_transfers_close(struct cuda *c);
enum status cuda_group_find(struct backend *b, char name[64]);
enum status cuda_group_key(struct backend *b, unsigned char key[BACKEND_GROUP_KEY_BYTES]);
enum status cuda_group_open(struct backend *b, const unsigned char key[BACKEND_GROUP_KEY_BYTES], int rank,
                            int size);
void cuda_group_close(struct backend *b);
enum status cuda_group_sum(struct backend *b, void *values, int64_t n, enum dtype type, void *after,
                           void *done);
extern const struct backend_transfers cuda_transfers;

enum status cuda_stamp(struct backend *b, int index);
enum status cuda_stamp_seconds(struct backend *b, int from, int to, double *seconds);
void cuda_stamps_close(struct cuda *c);

/* The table's entries, by file. */
int64_t cuda_memory_taken(struct backend *b);
int64_t cuda_scratch_bytes(const struct backend *b, int64_t width, int64_t vocabulary, int head_dim);
enum status cuda_alloc(struct backend *b, int64_t bytes, void **out);
void cuda_free(struct backend *b, void *data);
enum status cuda_write(struct backend *b, void *to, const void *host, int64_t bytes);
enum status cuda_read(struct backend *b, void *host, const void *from, int64_t bytes);
enum status cuda_copy(struct backend *b, void *to, const void *from, int64_t bytes);
enum status cuda_zero(struct backend *b, void *to, int64_t bytes);
enum status cuda_sync(struct backend *b);
#define CUDA_PROTOTYPE(name, type) enum status cuda_##name(struct backend *b, const type *call);
OPERATIONS(CUDA_PROTOTYPE)
OPTIONAL_OPERATIONS(CUDA_PROTOTYPE)
#undef CUDA_PROTOTYPE

/* bf16 is the upper half of a float; own conversions keep the toolkit's heavy header out of every file. */
struct bf16 {
    uint16_t bits;
};

__device__ inline float value_of(float x) {
    return x;
}
__device__ inline float value_of(struct bf16 x) {
    return __uint_as_float(static_cast<uint32_t>(x.bits) << 16);
}
__device__ inline void put(float *to, float value) {
    *to = value;
}
/* To nearest, ties to even; a NaN stays one. */
__device__ inline void put(struct bf16 *to, float value) {
    uint32_t bits = __float_as_uint(value);
    uint32_t rounded = (bits + 0x7fffu + (bits >> 16 & 1u)) >> 16;
    to->bits = static_cast<uint16_t>(isnan(value) ? (bits >> 16 | 0x40u) : rounded);
}

/* Rows of a tensor inside a kernel. */
template <typename T> struct view {
    T *data;
    int64_t stride;
    __device__ T *row(int64_t i) const {
        return data + i * stride;
    }
};
template <typename T> static inline __host__ __device__ view<T> view_of(struct tensor t) {
    return view<T>{static_cast<T *>(t.data), t.stride};
}

/* Blocks of THREADS over a rows x columns matrix; FOR_EACH_ELEMENT walks it whatever the grid. */
enum { THREADS = 256 };
static inline dim3 grid_over(int64_t rows, int64_t columns) {
    int64_t x = (columns + THREADS - 1) / THREADS;
    return dim3(static_cast<unsigned>(x < 8192 ? x : 8192),
                static_cast<unsigned>(rows < 32768 ? rows : 32768));
}
#define FOR_EACH_ELEMENT(i, j, rows, columns)                                                        \
    for (int64_t i = blockIdx.y; i < (rows); i += gridDim.y)                                         \
        for (int64_t j = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; j < (columns); \
             j += static_cast<int64_t>(gridDim.x) * blockDim.x)

static inline unsigned blocks_for(int64_t n, int64_t per_block) {
    return static_cast<unsigned>((n + per_block - 1) / per_block);
}

__device__ inline float largest_in_warp(float x) {
    for (int step = 16; step > 0; step /= 2) {
        x = fmaxf(x, __shfl_xor_sync(0xffffffffu, x, step));
    }
    return x;
}
template <typename V> __device__ inline V sum_in_warp(V x) {
    for (int step = 16; step > 0; step /= 2) {
        x += __shfl_xor_sync(0xffffffffu, x, step);
    }
    return x;
}
/* Sum over a one-dimensional block (whole warps) in a fixed tree; every thread gets it. */
template <typename V> __device__ inline V sum_in_block(V x) {
    __shared__ V part[32];
    x = sum_in_warp(x);
    __syncthreads(); /* an earlier call's parts have been read */
    if (threadIdx.x % 32 == 0) {
        part[threadIdx.x / 32] = x;
    }
    __syncthreads();
    V total = 0;
    for (unsigned w = 0; w < blockDim.x / 32; w++) {
        total += part[w];
    }
    return total;
}
__device__ inline float largest_in_block(float x) {
    __shared__ float part[32];
    x = largest_in_warp(x);
    __syncthreads();
    if (threadIdx.x % 32 == 0) {
        part[threadIdx.x / 32] = x;
    }
    __syncthreads();
    float most = part[0];
    for (unsigned w = 1; w < blockDim.x / 32; w++) {
        most = fmaxf(most, part[w]);
    }
    return most;
}

#endif
