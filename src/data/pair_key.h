/* Two responses in no order, the lower id first: what pairs of different files are compared by. */
#ifndef COLLIMATE_DATA_PAIR_KEY_H
#define COLLIMATE_DATA_PAIR_KEY_H

#include <stdint.h>

struct pair_key {
    int64_t low, high;
};
struct pair_key pair_key(int64_t a, int64_t b);
/* For qsort and bsearch, also of structs that begin with a key: by the lower id, then the higher. */
int pair_key_order(const void *a, const void *b);

#endif
