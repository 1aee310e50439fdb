/* The emulated devices, what the environment asks of them, errors, counts, and pseudo-random numbers. */
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <numeric>

#include "emulation.h"

namespace emulation {

static uint64_t number_of(const char *name, uint64_t otherwise) {
    const char *text = getenv(name);
    char *end = nullptr;
    if (!text || !text[0]) {
        return otherwise;
    }
    uint64_t value = strtoull(text, &end, 10);
    if (*end) {
        misuse("%s=%s is not a number", name, text);
    }
    return value;
}

const settings &asked() {
    static const settings s = {static_cast<int>(number_of("EMULATED_DEVICES", 1)),
                               number_of("EMULATED_MEMORY", uint64_t(4) << 30), number_of("EMULATED_SEED", 0),
                               number_of("EMULATED_GUARD", 0) != 0, getenv("EMULATED_LOG")};
    return s;
}

counts counted;

/* At the end of the process a line of counts. */
static struct at_the_end {
    ~at_the_end() {
        FILE *log = asked().log ? fopen(asked().log, "a") : nullptr;
        if (!log) {
            return;
        }
        const counts &n = counted;
        fprintf(log,
                "{\"device_allocations\": %llu, \"host_allocations\": %llu, \"streams\": %llu, \"events\": "
                "%llu, \"kernels\": %llu, \"blocks\": %llu, \"copies\": %llu, \"synchronizations\": %llu, "
                "\"bytes_left\": %llu, \"peak\": %llu}\n",
                (unsigned long long)n.device_allocations, (unsigned long long)n.host_allocations,
                (unsigned long long)n.streams, (unsigned long long)n.events, (unsigned long long)n.kernels,
                (unsigned long long)n.blocks, (unsigned long long)n.copies,
                (unsigned long long)n.synchronizations, (unsigned long long)n.device_bytes,
                (unsigned long long)n.device_peak);
        fclose(log);
    }
} at_the_end;

std::recursive_mutex &lock() {
    static std::recursive_mutex one;
    return one;
}

void misuse(const char *format, ...) {
    va_list args;
    va_start(args, format);
    fprintf(stderr, "emulated CUDA: ");
    vfprintf(stderr, format, args);
    fprintf(stderr, "\n");
    va_end(args);
    abort();
}

/* splitmix64 (Steele, Lea, Flood 2014). */
uint64_t draw() {
    static uint64_t state = asked().seed;
    uint64_t z = state += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

order order_of(uint64_t n) {
    if (asked().seed == 0 || n < 2) {
        return order{0, 1, n ? n : 1};
    }
    uint64_t first = draw() % n;
    uint64_t step = n < UINT32_MAX ? 1 + draw() % (n - 1) : n - 1; /* no overflow in i * step */
    while (std::gcd(step, n) != 1) {
        step++;
    }
    return order{first, step % n, n};
}

static cudaError_t last_error = cudaSuccess;
static int current_device = 0;

cudaError_t remember(cudaError_t error) {
    if (error != cudaSuccess) {
        last_error = error;
    }
    return error;
}

} // namespace emulation

using namespace emulation;

cudaError_t cudaGetDeviceCount(int *count) {
    *count = asked().devices;
    return remember(asked().devices > 0 ? cudaSuccess : cudaErrorNoDevice);
}

cudaError_t cudaSetDevice(int device) {
    if (device < 0 || device >= asked().devices) {
        return remember(cudaErrorInvalidDevice);
    }
    current_device = device;
    return cudaSuccess;
}

cudaError_t cudaGetDevice(int *device) {
    *device = current_device;
    return cudaSuccess;
}

/* What an H100 answers, where the back end decides by it. */
enum { SHARED_MOST = 232448, PROCESSORS = 132, L2_BYTES = 50 << 20 };

cudaError_t cudaDeviceGetAttribute(int *value, cudaDeviceAttr attribute, int device) {
    if (device < 0 || device >= asked().devices) {
        return remember(cudaErrorInvalidDevice);
    }
    switch (attribute) {
    case cudaDevAttrMultiProcessorCount:
        *value = PROCESSORS;
        break;
    case cudaDevAttrMaxSharedMemoryPerBlockOptin:
        *value = SHARED_MOST;
        break;
    case cudaDevAttrComputeCapabilityMajor:
        *value = 9;
        break;
    case cudaDevAttrComputeCapabilityMinor:
    case cudaDevAttrConcurrentManagedAccess:
        *value = 0;
        break;
    case cudaDevAttrL2CacheSize:
        *value = L2_BYTES;
        break;
    }
    return cudaSuccess;
}

cudaError_t cudaGetDeviceProperties(cudaDeviceProp *out, int device) {
    if (device < 0 || device >= asked().devices) {
        return remember(cudaErrorInvalidDevice);
    }
    *out = cudaDeviceProp{};
    snprintf(out->name, sizeof out->name, "emulated device");
    std::memset(out->uuid.bytes, 0xe0 + device, sizeof out->uuid.bytes);
    out->totalGlobalMem = asked().memory;
    out->sharedMemPerBlockOptin = SHARED_MOST;
    out->major = 9;
    out->multiProcessorCount = PROCESSORS;
    out->l2CacheSize = L2_BYTES;
    out->pciBusID = device;
    return cudaSuccess;
}

cudaError_t cudaDriverGetVersion(int *version) {
    *version = asked().devices > 0 ? CUDART_VERSION : 0;
    return cudaSuccess;
}

cudaError_t cudaRuntimeGetVersion(int *version) {
    *version = CUDART_VERSION;
    return cudaSuccess;
}

cudaError_t cudaGetLastError(void) {
    cudaError_t error = last_error;
    last_error = cudaSuccess;
    return error;
}

cudaError_t cudaPeekAtLastError(void) {
    return last_error;
}

static const struct {
    cudaError_t error;
    const char *name, *text;
} errors[] = {
    {cudaSuccess, "cudaSuccess", "no error"},
    {cudaErrorInvalidValue, "cudaErrorInvalidValue", "invalid argument"},
    {cudaErrorMemoryAllocation, "cudaErrorMemoryAllocation", "out of memory"},
    {cudaErrorInvalidConfiguration, "cudaErrorInvalidConfiguration", "invalid configuration argument"},
    {cudaErrorInvalidMemcpyDirection, "cudaErrorInvalidMemcpyDirection", "invalid copy direction for memcpy"},
    {cudaErrorInsufficientDriver, "cudaErrorInsufficientDriver",
     "CUDA driver version is insufficient for CUDA runtime version"},
    {cudaErrorNoDevice, "cudaErrorNoDevice", "no CUDA-capable device is detected"},
    {cudaErrorInvalidDevice, "cudaErrorInvalidDevice", "invalid device ordinal"},
    {cudaErrorInvalidResourceHandle, "cudaErrorInvalidResourceHandle", "invalid resource handle"},
    {cudaErrorNotReady, "cudaErrorNotReady", "device not ready"},
};

const char *cudaGetErrorString(cudaError_t error) {
    for (const auto &e : errors) {
        if (e.error == error) {
            return e.text;
        }
    }
    return "unrecognized error code";
}

const char *cudaGetErrorName(cudaError_t error) {
    for (const auto &e : errors) {
        if (e.error == error) {
            return e.name;
        }
    }
    return "unrecognized error code";
}
