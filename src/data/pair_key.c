#include "data/pair_key.h"

struct pair_key pair_key(int64_t a, int64_t b) {
    return (struct pair_key){a < b ? a : b, a < b ? b : a};
}

int pair_key_order(const void *a, const void *b) {
    const struct pair_key *x = a;
    const struct pair_key *y = b;
    if (x->low != y->low) {
        return x->low < y->low ? -1 : 1;
    }
    return x->high < y->high ? -1 : x->high > y->high;
}
