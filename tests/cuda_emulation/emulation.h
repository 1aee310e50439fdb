/* What the files of the emulation share. One lock covers everything: a call that finds another thread inside
 * waits, as kernels run on the thread that waits for them. */
#ifndef CUDA_EMULATION_EMULATION_H
#define CUDA_EMULATION_EMULATION_H

#include <cstdint>
#include <functional>
#include <mutex>

#include <cuda_runtime.h>

namespace emulation {

/* From the environment, read once: README.md. */
struct settings {
    int devices;     /* EMULATED_DEVICES, 1 */
    uint64_t memory; /* EMULATED_MEMORY, bytes of a device, 4 GiB */
    uint64_t seed;   /* EMULATED_SEED: 0 everything in order and at once */
    bool is_guarded; /* EMULATED_GUARD=1: a host access to device memory is a segmentation fault; slow */
    const char *log; /* EMULATED_LOG: a file to which the counts below are appended at the end, or NULL */
};
const settings &asked();

struct counts {
    uint64_t device_allocations, host_allocations, streams, events, kernels, blocks, copies, synchronizations;
    uint64_t device_bytes, device_peak;
};
extern counts counted;

std::recursive_mutex &lock();
using guard = std::lock_guard<std::recursive_mutex>;

/* Ends the process with a message: what a device would leave undefined. */
[[noreturn]] void misuse(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* Keeps an error for cudaGetLastError() and returns it. */
cudaError_t remember(cudaError_t error);

/* Pseudo-random numbers of the seed. */
uint64_t draw();
/* i -> (first + i * step) mod n: an order of n things; the identity for seed 0. */
struct order {
    uint64_t first, step, n;
    uint64_t operator[](uint64_t i) const {
        return (first + i * step) % n;
    }
};
order order_of(uint64_t n);

struct kernel {
    const char *name;
    dim3 grid, block;
    size_t shared;
    std::function<void()> thread;
};
/* Every block, one after another. */
void run_kernel(const kernel &k);

/* Work in the order of a stream, done now or at a later wait. */
void enqueue(cudaStream_t stream, std::function<void()> work);
void finish_stream(cudaStream_t stream);
void finish_all();

/* [data, data + bytes) lies in one device allocation (or is empty). */
bool is_device(const void *data, size_t bytes);
bool touches_device(const void *data);
bool is_pinned(const void *data, size_t bytes);
/* The host may touch device memory only in between. Nests. */
void open_device_memory();
void close_device_memory();

} // namespace emulation

#endif
