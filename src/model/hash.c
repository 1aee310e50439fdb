/* The hash of a model's parameters: a sum over blocks modulo 2^64, so that threads and ranks may take any of
 * them. */
#include "util/hash.h"
#include "model/model.h"
#include "util/mem.h"

enum { BLOCK = 1 << 18 }; /* elements */

int64_t model_hash_blocks(const struct model *m) {
    return (m->arena_elements + BLOCK - 1) / BLOCK;
}

static int64_t block_bytes(const struct model *m, int64_t block) {
    int64_t left = m->arena_elements - block * BLOCK;
    return (left < BLOCK ? left : BLOCK) * dtype_size(m->master.type);
}

/* Through a copy on the host. */
static enum status hash_copied(struct model *m, int64_t first, int64_t last, uint64_t *sum) {
    int64_t size = dtype_size(m->master.type);
    char *bytes = mem_aligned(BLOCK, (size_t)size);
    enum status st = mem_ok(bytes);
    for (int64_t i = first; i < last && st == OK; i++) {
        st = backend_read(m->backend, bytes, (char *)m->master.data + i * BLOCK * size, block_bytes(m, i));
        *sum += hash_bytes(bytes, (size_t)block_bytes(m, i), (uint64_t)i);
    }
    mem_free(bytes);
    return st;
}

enum status model_hash_part(struct model *m, int64_t first, int64_t last, uint64_t *sum) {
    int64_t stride = BLOCK * dtype_size(m->master.type);
    const char *host = backend_host_address(m->backend, m->master.data);
    *sum = 0;
    TRY(backend_sync(m->backend));
    if (!host) {
        return hash_copied(m, first, last, sum);
    }
    uint64_t all = 0;
#pragma omp parallel for schedule(static) reduction(+ : all) num_threads(m->backend->caps.threads)
    for (int64_t i = first; i < last; i++) {
        all += hash_bytes(host + i * stride, (size_t)block_bytes(m, i), (uint64_t)i);
    }
    *sum = all;
    return OK;
}

enum status model_hash(struct model *m, uint64_t *out) {
    return model_hash_part(m, 0, model_hash_blocks(m), out);
}
