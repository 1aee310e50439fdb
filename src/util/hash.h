/* 64-bit hashes (XXH3) that name data: model weights, token rows, files. Not for security. */
#ifndef COLLIMATE_UTIL_HASH_H
#define COLLIMATE_UTIL_HASH_H

#include <stddef.h>
#include <stdint.h>

uint64_t hash_bytes(const void *data, size_t n, uint64_t seed);
/* Order-dependent combination of two hashes. */
uint64_t hash_join(uint64_t a, uint64_t b);
/* 16 lower-case hexadecimal digits and a NUL. */
void hash_text(uint64_t hash, char out[17]);

/* Local. "0.8.1": the version of xxHash that runs. */
void hash_library(char out[32]);

#endif
