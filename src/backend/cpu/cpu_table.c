/* The operations of one instruction set. */
#include "backend/cpu/cpu_attention.h"

#define ENTRY(name, type) , .name = CPU_OPERATION(name)

/* With attention's tiles of each thread. */
static int64_t scratch_bytes(const struct backend *b, int64_t width, int64_t vocabulary, int head_dim) {
    const struct cpu *cpu = cpu_of(b);
    int64_t forward = cpu_forward_bytes(cpu->dot, head_dim);
    int64_t backward = cpu_backward_bytes(cpu->dot, head_dim);
    return cpu_scratch_bytes(b, width, vocabulary) + cpu->threads * (forward > backward ? forward : backward);
}

const struct backend_ops cpu_table = {
    .api_version = BACKEND_API_VERSION,
    .alloc = cpu_alloc,
    .free = cpu_free,
    .write = cpu_write,
    .read = cpu_read,
    .copy = cpu_copy,
    .zero = cpu_zero,
    .sync = cpu_sync,
    .host_address = cpu_host_address,
    .scratch_bytes = scratch_bytes,
    .keep_weights = cpu_keep_weights,
    .weights_changed = cpu_weights_changed,
    .drop_weights = cpu_drop_weights,
    .destroy = cpu_destroy OPERATIONS(ENTRY) CPU_OPERATIONS(ENTRY),
};
