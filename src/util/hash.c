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

void hash_library(char out[32]) {
    unsigned version = XXH_versionNumber(); /* 10000 major + 100 minor + release */
    snprintf(out, 32, "%u.%u.%u", version / 10000, version / 100 % 100, version % 100);
}
