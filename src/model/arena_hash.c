/* The hash of an arena's values: a sum over blocks modulo 2^64, so that threads and ranks may take any of
 * them. */
#include "model/arena.h"
#include "util/hash.h"
#include "util/mem.h"

enum { BLOCK = 1 << 18 }; /* elements */

struct blocks {
    int64_t first, last;
};

int64_t arena_hash_blocks(const struct arena *a) {
    return (a->elements + BLOCK - 1) / BLOCK;
}

static int64_t block_bytes(const struct arena *a, struct tensor values, int64_t block) {
    int64_t left = a->elements - block * BLOCK;
    return (left < BLOCK ? left : BLOCK) * dtype_size(values.type);
}

/* Through a copy on the host. */
static enum status hash_copied(const struct arena *a, struct tensor values, struct blocks of, uint64_t *sum) {
    int64_t size = dtype_size(values.type);
    char *bytes = mem_aligned(BLOCK, (size_t)size);
    enum status st = mem_ok(bytes);
    for (int64_t i = of.first; i < of.last && st == OK; i++) {
        int64_t n = block_bytes(a, values, i);
        st = backend_read(a->backend, bytes, (char *)values.data + i * BLOCK * size, n);
        *sum += hash_bytes(bytes, (size_t)n, (uint64_t)i);
    }
    mem_free(bytes);
    return st;
}

static enum status hash_blocks(const struct arena *a, struct tensor values, struct blocks of, uint64_t *sum) {
    int64_t stride = BLOCK * dtype_size(values.type);
    const char *host = backend_host_address(a->backend, values.data);
    *sum = 0;
    TRY(backend_sync(a->backend));
    if (!host) {
        return hash_copied(a, values, of, sum);
    }
    uint64_t all = 0;
#pragma omp parallel for schedule(static) reduction(+ : all) num_threads(a->backend->caps.threads)
    for (int64_t i = of.first; i < of.last; i++) {
        all += hash_bytes(host + i * stride, (size_t)block_bytes(a, values, i), (uint64_t)i);
    }
    *sum = all;
    return OK;
}

enum status arena_hash_part(const struct arena *a, int64_t first, int64_t last, uint64_t *sum) {
    return hash_blocks(a, arena_values(a), (struct blocks){first, last}, sum);
}

enum status arena_hash(const struct arena *a, uint64_t *out) {
    return hash_blocks(a, a->compute, (struct blocks){0, arena_hash_blocks(a)}, out);
}
