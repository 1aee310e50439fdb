/* The operations of one instruction set. */
#include "backend/cpu/cpu_internal.h"

#define ENTRY(name, type) , .name = CPU_OPERATION(name)

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
    .scratch_bytes = cpu_scratch_bytes,
    .keep_weights = cpu_keep_weights,
    .weights_changed = cpu_weights_changed,
    .drop_weights = cpu_drop_weights,
    .destroy = cpu_destroy OPERATIONS(ENTRY) CPU_OPERATIONS(ENTRY),
};
