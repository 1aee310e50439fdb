#include "library.h"

#include "emulation.h"

void emulated_enqueue(void *stream, void (*work)(void *), void *data) {
    emulation::guard in(emulation::lock());
    emulation::enqueue(static_cast<cudaStream_t>(stream), [work, data] { work(data); });
}

bool emulated_is_device(const void *data, size_t bytes) {
    emulation::guard in(emulation::lock());
    return emulation::is_device(data, bytes);
}
