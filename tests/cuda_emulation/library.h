/* What a stand-in for a library (a shared object of its own) may ask of the emulated device. It finds these
 * in the libcollimate_cuda.so that is loaded already. */
#ifndef CUDA_EMULATION_LIBRARY_H
#define CUDA_EMULATION_LIBRARY_H

#include <cstddef>

extern "C" {
/* Does work(data) in the order of the stream. */
__attribute__((visibility("default"))) void emulated_enqueue(void *stream, void (*work)(void *), void *data);
/* [data, data + bytes) lies in one device allocation. */
__attribute__((visibility("default"))) bool emulated_is_device(const void *data, size_t bytes);
}

#endif
