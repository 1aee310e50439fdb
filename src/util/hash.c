#include "util/hash.h"

#include <stdio.h>

#include <xxhash.h>

uint64_t hash_bytes(const void *data, size_t n, uint64_t seed) {
    return XXH3_64bits_withSeed(data, n, seed);
}

uint64_t hash_join(uint64_t a, uint64_t b) {
    uint64_t pair[2] = {a, b};
    return hash_bytes(pair, sizeof pair, 0);
}

void hash_text(uint64_t hash, char out[17]) {
    snprintf(out, 17, "%016llx", (unsigned long long)hash);
}
