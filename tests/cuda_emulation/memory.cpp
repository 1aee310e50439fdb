/* Device memory: own mappings with a guard page behind, full of NaN when fresh, out of the host's reach
 * except while kernels and copies run. Under AddressSanitizer: its own allocations, always within reach. */
#include <cstdlib>
#include <map>

#include <sys/mman.h>
#include <unistd.h>

#include "emulation.h"

namespace emulation {

struct allocation {
    size_t bytes;  /* asked for */
    size_t mapped; /* without the guard; 0: from aligned_alloc */
};
using allocations = std::map<const char *, allocation>;

static allocations &on_device() {
    static allocations all;
    return all;
}
static allocations &pinned() {
    static allocations all;
    return all;
}
static int open_count = 0;

#ifdef __SANITIZE_ADDRESS__
enum { GUARDED = 0 };
#else
enum { GUARDED = 1 };
#endif

static bool lies_in(const allocations &all, const void *data, size_t bytes) {
    const char *at = static_cast<const char *>(data);
    auto after = all.upper_bound(at);
    if (after == all.begin()) {
        return false;
    }
    auto holder = std::prev(after);
    size_t offset = static_cast<size_t>(at - holder->first);
    return offset <= holder->second.bytes && bytes <= holder->second.bytes - offset;
}

bool is_device(const void *data, size_t bytes) {
    return bytes == 0 || lies_in(on_device(), data, bytes);
}

bool touches_device(const void *data) {
    return lies_in(on_device(), data, 1);
}

bool is_pinned(const void *data, size_t bytes) {
    return lies_in(pinned(), data, bytes);
}

static void protect_all(int protection) {
    if (!asked().is_guarded) {
        return;
    }
    for (const auto &a : on_device()) {
        if (a.second.mapped && mprotect(const_cast<char *>(a.first), a.second.mapped, protection) != 0) {
            misuse("mprotect of device memory failed");
        }
    }
}

void open_device_memory() {
    if (open_count++ == 0) {
        protect_all(PROT_READ | PROT_WRITE);
    }
}

void close_device_memory() {
    if (--open_count == 0) {
        protect_all(PROT_NONE);
    }
}

static void *map_guarded(size_t bytes, size_t *mapped) {
    size_t page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
    *mapped = (bytes + page - 1) / page * page;
    void *data = mmap(nullptr, *mapped + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (data == MAP_FAILED || mprotect(static_cast<char *>(data) + *mapped, page, PROT_NONE) != 0) {
        misuse("the machine has no memory for %zu bytes of a device", bytes);
    }
    madvise(data, *mapped, MADV_HUGEPAGE); // protect_all goes page by page, at every kernel
    return data;
}

static void release(void *data, const allocation &a) {
    if (a.mapped) {
        munmap(data, a.mapped + static_cast<size_t>(sysconf(_SC_PAGESIZE)));
    } else {
        free(data);
    }
}

} // namespace emulation

using namespace emulation;

cudaError_t cudaMemGetInfo(size_t *unused, size_t *total) {
    guard in(lock());
    *total = asked().memory;
    *unused = asked().memory - counted.device_bytes;
    return cudaSuccess;
}

cudaError_t cudaMalloc(void **out, size_t bytes) {
    guard in(lock());
    if (bytes > asked().memory - counted.device_bytes) {
        return remember(cudaErrorMemoryAllocation);
    }
    allocation a = {bytes, 0};
    void *data = GUARDED ? map_guarded(bytes, &a.mapped) : aligned_alloc(256, (bytes + 255) / 256 * 256);
    if (!data) {
        misuse("the machine has no memory for %zu bytes of a device", bytes);
    }
    std::memset(data, 0xff, bytes);
    if (a.mapped && open_count == 0 && asked().is_guarded) {
        mprotect(data, a.mapped, PROT_NONE);
    }
    on_device()[static_cast<char *>(data)] = a;
    counted.device_allocations++;
    counted.device_bytes += bytes;
    counted.device_peak = std::max(counted.device_peak, counted.device_bytes);
    *out = data;
    return cudaSuccess;
}

cudaError_t cudaFree(void *data) {
    guard in(lock());
    finish_all();
    if (!data) {
        return cudaSuccess;
    }
    auto a = on_device().find(static_cast<char *>(data));
    if (a == on_device().end()) {
        return remember(cudaErrorInvalidValue);
    }
    counted.device_bytes -= a->second.bytes;
    release(data, a->second);
    on_device().erase(a);
    return cudaSuccess;
}

cudaError_t cudaHostAlloc(void **out, size_t bytes, unsigned) {
    guard in(lock());
    void *data = aligned_alloc(256, (bytes + 255) / 256 * 256);
    if (!data) {
        return remember(cudaErrorMemoryAllocation);
    }
    std::memset(data, 0xff, bytes);
    pinned()[static_cast<char *>(data)] = allocation{bytes, 0};
    counted.host_allocations++;
    *out = data;
    return cudaSuccess;
}

cudaError_t cudaMallocHost(void **out, size_t bytes) {
    return cudaHostAlloc(out, bytes, cudaHostAllocDefault);
}

cudaError_t cudaFreeHost(void *data) {
    guard in(lock());
    finish_all();
    if (!data) {
        return cudaSuccess;
    }
    auto a = pinned().find(static_cast<char *>(data));
    if (a == pinned().end()) {
        return remember(cudaErrorInvalidValue);
    }
    release(data, a->second);
    pinned().erase(a);
    return cudaSuccess;
}

cudaError_t cudaHostGetDevicePointer(void **out, void *host, unsigned) {
    guard in(lock());
    *out = host;
    return is_pinned(host, 1) ? cudaSuccess : remember(cudaErrorInvalidValue);
}

/* Both sides are where the direction says, in one allocation each. */
static bool direction_fits(const void *to, const void *from, size_t bytes, cudaMemcpyKind kind) {
    bool to_device = kind == cudaMemcpyHostToDevice || kind == cudaMemcpyDeviceToDevice;
    bool from_device = kind == cudaMemcpyDeviceToHost || kind == cudaMemcpyDeviceToDevice;
    return bytes == 0 || ((to_device ? is_device(to, bytes) : !touches_device(to)) &&
                          (from_device ? is_device(from, bytes) : !touches_device(from)));
}

cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t bytes, cudaMemcpyKind kind, cudaStream_t s) {
    guard in(lock());
    if (kind == cudaMemcpyDefault) {
        kind = touches_device(to) ? touches_device(from) ? cudaMemcpyDeviceToDevice : cudaMemcpyHostToDevice
               : touches_device(from) ? cudaMemcpyDeviceToHost
                                      : cudaMemcpyHostToHost;
    }
    if (!direction_fits(to, from, bytes, kind)) {
        return remember(cudaErrorInvalidValue);
    }
    counted.copies++;
    bool from_pageable = kind == cudaMemcpyHostToDevice && !is_pinned(from, bytes);
    bool to_pageable = kind == cudaMemcpyDeviceToHost && !is_pinned(to, bytes);
    enqueue(s, [=] { std::memmove(to, from, bytes); });
    if (from_pageable || to_pageable) { /* such a copy has left the host's memory on return */
        finish_stream(s);
    }
    return cudaSuccess;
}

cudaError_t cudaMemcpy(void *to, const void *from, size_t bytes, cudaMemcpyKind kind) {
    guard in(lock());
    finish_all();
    cudaError_t error = cudaMemcpyAsync(to, from, bytes, kind, nullptr);
    finish_all();
    return error;
}

cudaError_t cudaMemsetAsync(void *to, int value, size_t bytes, cudaStream_t s) {
    guard in(lock());
    if (!is_device(to, bytes)) {
        return remember(cudaErrorInvalidValue);
    }
    enqueue(s, [=] { std::memset(to, value, bytes); });
    return cudaSuccess;
}

cudaError_t cudaMemset(void *to, int value, size_t bytes) {
    return cudaMemsetAsync(to, value, bytes, nullptr);
}
