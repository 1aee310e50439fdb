/* CUDA's language and run-time calls as far as cuda/ uses them, for a C++ compiler and no device: README.md.
 *
 * Threads of a block are fibers on one processor; a block runs alone, from begin to end. So __shared__ is a
 * static variable (thread_local, that it can be found and filled with NaN), threadIdx a global one that
 * changes when fibers do, and a barrier is a switch to a fiber that has not arrived.
 */
#ifndef CUDA_EMULATION_CUDA_RUNTIME_H
#define CUDA_EMULATION_CUDA_RUNTIME_H

#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <source_location>
#include <tuple>
#include <type_traits>

#define CUDA_EMULATION 1
#define CUDART_VERSION 12000

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __shared__ static thread_local
#define LAUNCH(kernel, grid, block, shared, stream, ...)    \
    emulation::launch(#kernel, grid, block, shared, stream, \
                      [](auto... argument) { kernel(argument...); } __VA_OPT__(, ) __VA_ARGS__)
#define DYNAMIC_SHARED(type, name) type *const name = static_cast<type *>(emulation::dynamic_shared())

using std::isinf;
using std::isnan;

struct uint3 {
    unsigned x, y, z;
};
struct dim3 {
    unsigned x, y, z;
    constexpr dim3(unsigned x_ = 1, unsigned y_ = 1, unsigned z_ = 1) : x(x_), y(y_), z(z_) {
    }
};
struct alignas(8) float2 {
    float x, y;
};
struct alignas(16) float4 {
    float x, y, z, w;
};
struct alignas(8) uint2 {
    unsigned x, y;
};
struct alignas(16) uint4 {
    unsigned x, y, z, w;
};
struct alignas(16) int4 {
    int x, y, z, w;
};
static inline float2 make_float2(float x, float y) {
    return float2{x, y};
}
static inline float4 make_float4(float x, float y, float z, float w) {
    return float4{x, y, z, w};
}
static inline uint2 make_uint2(unsigned x, unsigned y) {
    return uint2{x, y};
}
static inline uint4 make_uint4(unsigned x, unsigned y, unsigned z, unsigned w) {
    return uint4{x, y, z, w};
}

extern uint3 threadIdx, blockIdx;
extern dim3 blockDim, gridDim;
enum { warpSize = 32 };

typedef enum {
    cudaSuccess = 0,
    cudaErrorInvalidValue = 1,
    cudaErrorMemoryAllocation = 2,
    cudaErrorInvalidConfiguration = 9,
    cudaErrorInvalidMemcpyDirection = 21,
    cudaErrorInsufficientDriver = 35,
    cudaErrorNoDevice = 100,
    cudaErrorInvalidDevice = 101,
    cudaErrorInvalidResourceHandle = 400,
    cudaErrorNotReady = 600,
} cudaError_t;
typedef struct CUstream_st *cudaStream_t;
typedef struct CUevent_st *cudaEvent_t;
typedef enum {
    cudaMemcpyHostToHost,
    cudaMemcpyHostToDevice,
    cudaMemcpyDeviceToHost,
    cudaMemcpyDeviceToDevice,
    cudaMemcpyDefault
} cudaMemcpyKind;
typedef enum {
    cudaDevAttrMultiProcessorCount,
    cudaDevAttrMaxSharedMemoryPerBlockOptin,
    cudaDevAttrComputeCapabilityMajor,
    cudaDevAttrComputeCapabilityMinor,
    cudaDevAttrConcurrentManagedAccess,
    cudaDevAttrL2CacheSize,
} cudaDeviceAttr;
typedef enum { cudaFuncAttributeMaxDynamicSharedMemorySize = 8 } cudaFuncAttribute;
enum { cudaStreamDefault = 0, cudaStreamNonBlocking = 1 };
enum { cudaEventDefault = 0, cudaEventBlockingSync = 1, cudaEventDisableTiming = 2 };
enum { cudaHostAllocDefault = 0, cudaHostAllocPortable = 1, cudaHostAllocMapped = 2 };

typedef struct {
    char bytes[16];
} cudaUUID_t;
struct cudaDeviceProp {
    char name[256];
    cudaUUID_t uuid;
    size_t totalGlobalMem, sharedMemPerBlockOptin;
    int major, minor, multiProcessorCount, l2CacheSize, memoryBusWidth;
    int pciBusID, pciDeviceID, pciDomainID;
};

extern "C" {
cudaError_t cudaGetDeviceCount(int *count);
cudaError_t cudaSetDevice(int device);
cudaError_t cudaGetDevice(int *device);
cudaError_t cudaDeviceGetAttribute(int *value, cudaDeviceAttr attribute, int device);
cudaError_t cudaGetDeviceProperties(cudaDeviceProp *out, int device);
cudaError_t cudaMemGetInfo(size_t *unused, size_t *total);
cudaError_t cudaDriverGetVersion(int *version);
cudaError_t cudaRuntimeGetVersion(int *version);
cudaError_t cudaGetLastError(void);
cudaError_t cudaPeekAtLastError(void);
const char *cudaGetErrorString(cudaError_t error);
const char *cudaGetErrorName(cudaError_t error);
cudaError_t cudaDeviceSynchronize(void);
cudaError_t cudaFuncSetAttribute(const void *kernel, cudaFuncAttribute attribute, int value);

cudaError_t cudaMalloc(void **out, size_t bytes);
cudaError_t cudaFree(void *data);
cudaError_t cudaHostAlloc(void **out, size_t bytes, unsigned flags);
cudaError_t cudaMallocHost(void **out, size_t bytes);
cudaError_t cudaFreeHost(void *data);
cudaError_t cudaHostGetDevicePointer(void **out, void *host, unsigned flags);
cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t bytes, cudaMemcpyKind kind, cudaStream_t s);
cudaError_t cudaMemcpy(void *to, const void *from, size_t bytes, cudaMemcpyKind kind);
cudaError_t cudaMemsetAsync(void *to, int value, size_t bytes, cudaStream_t s);
cudaError_t cudaMemset(void *to, int value, size_t bytes);

cudaError_t cudaStreamCreate(cudaStream_t *out);
cudaError_t cudaStreamCreateWithFlags(cudaStream_t *out, unsigned flags);
cudaError_t cudaStreamCreateWithPriority(cudaStream_t *out, unsigned flags, int priority);
cudaError_t cudaDeviceGetStreamPriorityRange(int *least, int *greatest);
cudaError_t cudaStreamDestroy(cudaStream_t s);
cudaError_t cudaStreamSynchronize(cudaStream_t s);
cudaError_t cudaStreamQuery(cudaStream_t s);
cudaError_t cudaStreamWaitEvent(cudaStream_t s, cudaEvent_t e, unsigned flags);
cudaError_t cudaEventCreate(cudaEvent_t *out);
cudaError_t cudaEventCreateWithFlags(cudaEvent_t *out, unsigned flags);
cudaError_t cudaEventDestroy(cudaEvent_t e);
cudaError_t cudaEventRecord(cudaEvent_t e, cudaStream_t s);
cudaError_t cudaEventSynchronize(cudaEvent_t e);
cudaError_t cudaEventQuery(cudaEvent_t e);
cudaError_t cudaEventElapsedTime(float *milliseconds, cudaEvent_t from, cudaEvent_t to);
cudaError_t cudaLaunchHostFunc(cudaStream_t s, void (*function)(void *), void *data);
}

namespace emulation {

using site = std::source_location;

/* A block's dynamic shared memory, NaN where nothing was written. */
void *dynamic_shared();
/* Waits for the block's threads that have not ended. Returns the or, the and and the number of `value`. */
struct verdict {
    int any, all, count;
};
verdict barrier(bool value, site at);

/* What a warp does together: lanes named in mask meet, each with a value. */
enum class meeting { SYNC, SHUFFLE, VOTE, MATRIX };
/* Returns the value of lane `source`, which must be in the mask. */
uint64_t meet(unsigned mask, meeting what, uint64_t value, int source, site at);
unsigned vote(unsigned mask, bool value, site at);
/* All 32 lanes: `work` is done once, when all have come, with every lane's `own` pointer. */
void meet_all(void *own, void (*work)(void *const own[32]), site at);
int lane_number();

void enqueue_kernel(const char *name, dim3 grid, dim3 block, size_t shared, cudaStream_t stream,
                    std::function<void()> thread);

template <typename Kernel, typename... Arguments>
void launch(const char *name, dim3 grid, dim3 block, size_t shared, cudaStream_t stream, Kernel kernel,
            Arguments... arguments) {
    std::tuple<Arguments...> values(arguments...);
    enqueue_kernel(name, grid, block, shared, stream, [kernel, values] { std::apply(kernel, values); });
}

template <typename T> uint64_t bits_of(T value) {
    static_assert(std::is_trivially_copyable_v<T> && sizeof(T) <= sizeof(uint64_t));
    uint64_t bits = 0;
    std::memcpy(&bits, &value, sizeof value);
    return bits;
}
template <typename T> T value_from(uint64_t bits) {
    T value;
    std::memcpy(&value, &bits, sizeof value);
    return value;
}
template <typename T> T shuffle(unsigned mask, T value, int source, site at) {
    return value_from<T>(meet(mask, meeting::SHUFFLE, bits_of(value), source, at));
}
} // namespace emulation

#define HERE emulation::site at = emulation::site::current()

static inline void __syncthreads(HERE) {
    emulation::barrier(false, at);
}
static inline int __syncthreads_or(int value, HERE) {
    return emulation::barrier(value != 0, at).any;
}
static inline int __syncthreads_and(int value, HERE) {
    return emulation::barrier(value != 0, at).all;
}
static inline int __syncthreads_count(int value, HERE) {
    return emulation::barrier(value != 0, at).count;
}
static inline void __syncwarp(unsigned mask = 0xffffffffu, HERE) {
    emulation::meet(mask, emulation::meeting::SYNC, 0, emulation::lane_number(), at);
}
static inline unsigned __ballot_sync(unsigned mask, int value, HERE) {
    return emulation::vote(mask, value != 0, at);
}
static inline int __any_sync(unsigned mask, int value, HERE) {
    return emulation::vote(mask, value != 0, at) != 0;
}
static inline int __all_sync(unsigned mask, int value, HERE) {
    return emulation::vote(mask, value != 0, at) == mask;
}
template <typename T> T __shfl_sync(unsigned mask, T value, int source, int width = 32, HERE) {
    int segment = emulation::lane_number() & ~(width - 1);
    return emulation::shuffle(mask, value, segment + (source & (width - 1)), at);
}
template <typename T> T __shfl_xor_sync(unsigned mask, T value, int lanes, int width = 32, HERE) {
    int lane = emulation::lane_number();
    int source = lane ^ lanes;
    return emulation::shuffle(mask, value, (source ^ lane) < width ? source : lane, at);
}
template <typename T> T __shfl_down_sync(unsigned mask, T value, unsigned by, int width = 32, HERE) {
    int lane = emulation::lane_number();
    int source = lane + static_cast<int>(by);
    return emulation::shuffle(mask, value, source / width == lane / width ? source : lane, at);
}
template <typename T> T __shfl_up_sync(unsigned mask, T value, unsigned by, int width = 32, HERE) {
    int lane = emulation::lane_number();
    int source = lane - static_cast<int>(by);
    return emulation::shuffle(mask, value, source >= (lane & ~(width - 1)) ? source : lane, at);
}
#undef HERE

static inline float __uint_as_float(unsigned bits) {
    return std::bit_cast<float>(bits);
}
static inline unsigned __float_as_uint(float value) {
    return std::bit_cast<unsigned>(value);
}
static inline int __ffs(int bits) {
    return __builtin_ffs(bits);
}
static inline int __popc(unsigned bits) {
    return __builtin_popcount(bits);
}
static inline int __clz(int bits) {
    return bits ? __builtin_clz(static_cast<unsigned>(bits)) : 32;
}
static inline float rsqrtf(float x) {
    return 1.0f / sqrtf(x);
}
/* glibc declares these two names as its own. */
#define __expf(x) expf(x)
#define __logf(x) logf(x)
static inline float __fdividef(float x, float y) {
    return x / y;
}
template <typename T> T __ldg(const T *from) {
    return *from;
}
static inline void __threadfence() {
}

#endif
