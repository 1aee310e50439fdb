#include "text/pool.h"

#include <string.h>

#include "util/mem.h"

struct pool_block {
    struct pool_block *older;
    size_t size;
    max_align_t bytes[];
};

/* Under AddressSanitizer each piece is a block of its own, so that a step past its end is seen. */
#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define POOL_APART
#endif
#endif
#if defined(__SANITIZE_ADDRESS__)
#define POOL_APART
#endif
#ifdef POOL_APART
enum { BLOCK = 0 };
#else
enum { BLOCK = 64 << 10 };
#endif

static enum status add_block(struct pool *p, size_t size) {
    char *bytes = mem_calloc((int64_t)(sizeof(struct pool_block) + size), 1);
    TRY(mem_ok(bytes));
    struct pool_block *block = (struct pool_block *)(void *)bytes;
    block->older = p->blocks;
    block->size = size;
    p->blocks = block;
    p->left = size;
    return OK;
}

enum status pool_take(struct pool *p, int64_t count, size_t size, void *out) {
    int64_t bytes;
    TRY(size_mul(count, (int64_t)size, "a template's memory", &bytes));
    if (bytes > p->limit - p->taken) {
        return fail(ERR_DATA, "a chat template needs more than its %lld MiB of memory",
                    (long long)(p->limit >> 20));
    }
    size_t rounded = ((size_t)bytes + sizeof(max_align_t) - 1) / sizeof(max_align_t) * sizeof(max_align_t);
    if (rounded > p->left || !p->blocks) {
        TRY(add_block(p, rounded > BLOCK / 4 ? rounded : BLOCK));
    }
    char *at = (char *)p->blocks->bytes + (p->blocks->size - p->left);
    p->left -= rounded;
    p->taken += (int64_t)rounded;
    memcpy(out, &at, sizeof at);
    return OK;
}

enum status pool_reserve(struct pool *p, void *array, int64_t *capacity, int64_t need, size_t size) {
    if (need <= *capacity) {
        return OK;
    }
    int64_t wanted = *capacity < 4 ? 4 : *capacity;
    while (wanted < need) {
        TRY(size_mul(wanted, 2, "a template's memory", &wanted));
    }
    void *grown;
    void *old;
    TRY(pool_take(p, wanted, size, &grown));
    memcpy(&old, array, sizeof old);
    if (*capacity > 0) {
        memcpy(grown, old, (size_t)*capacity * size);
    }
    memcpy(array, &grown, sizeof grown);
    *capacity = wanted;
    return OK;
}

void pool_free(struct pool *p) {
    while (p->blocks) {
        struct pool_block *older = p->blocks->older;
        mem_free(p->blocks);
        p->blocks = older;
    }
    p->left = 0;
    p->taken = 0;
}
