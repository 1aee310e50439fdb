#include "cuda/product.h"

#include <string.h>

enum { LEADING_BITS = 4, MOST_ALIGNMENT = 256 };

int64_t product_round(int64_t n) {
    int64_t unit = 1;
    while (n / unit >= 1 << LEADING_BITS) {
        unit *= 2;
    }
    return (n + unit - 1) / unit * unit;
}

int64_t product_leading(struct tensor t) {
    int64_t least = t.columns > 1 ? t.columns : 1;
    return t.stride > least ? t.stride : least;
}

/* Logarithm of the largest power of two, up to MOST_ALIGNMENT, that divides the address of every row. */
static int64_t alignment_bits(struct tensor t, int place) {
    uint64_t bits = (uint64_t)(uintptr_t)t.data | (uint64_t)MOST_ALIGNMENT;
    bits |= t.rows > 1 ? (uint64_t)(product_leading(t) * dtype_size(t.type)) : 0;
    return t.data ? (int64_t)__builtin_ctzll(bits) << 8 * place : 0;
}

int64_t product_alignment(const struct product_key *key, int place) {
    return INT64_C(1) << (key->alignment >> 8 * place & 0xff);
}

static int64_t type_bits(struct tensor t, int place) {
    return t.data ? (int64_t)(t.type + 1) << 8 * place : 0;
}

struct product_key product_exact(const struct gemm *g, struct tensor activated) {
    return (struct product_key){
        .m = g->c.rows,
        .n = g->c.columns,
        .k = g->transpose_a ? g->a.rows : g->a.columns,
        .lda = product_leading(g->a),
        .ldb = product_leading(g->b),
        .ldc = product_leading(g->c),
        .ldd = activated.data ? product_leading(activated) : 0,
        .types = type_bits(g->a, 0) | type_bits(g->b, 1) | type_bits(g->c, 2) | type_bits(g->bias, 3),
        .flags = (g->transpose_a ? PRODUCT_TRANSPOSE_A : 0) | (g->transpose_b ? PRODUCT_TRANSPOSE_B : 0) |
                 (g->beta != 0 ? PRODUCT_ADDS : 0) | (g->bias.data ? PRODUCT_BIAS : 0) |
                 (activated.data ? PRODUCT_GELU : 0),
        .alignment = alignment_bits(g->a, 0) | alignment_bits(g->b, 1) | alignment_bits(g->c, 2) |
                     alignment_bits(activated, 3) | alignment_bits(g->bias, 4),
    };
}

/* m is a number of rows of A and C unless A is transposed; k one of A and B where A is and B is not. A width
 * is bounded by its leading dimension and stays. */
struct product_key product_class(const struct gemm *g, struct tensor activated) {
    struct product_key key = product_exact(g, activated);
    if (!g->transpose_a) {
        key.m = product_round(key.m);
    } else if (!g->transpose_b) {
        key.k = product_round(key.k);
    }
    return key;
}

/* Place of a key, or of the free place where it would go. FNV-1a over its words. */
static int64_t place_of(const struct product_table *t, const struct product_key *key) {
    uint64_t words[sizeof *key / sizeof(uint64_t)];
    uint64_t hash = UINT64_C(14695981039346656037);
    memcpy(words, key, sizeof *key);
    for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
        hash = (hash ^ words[i]) * UINT64_C(1099511628211);
        hash ^= hash >> 29;
    }
    int64_t place = (int64_t)(hash % PRODUCT_CHOICES);
    while (t->places[place].is_taken && memcmp(&t->places[place].key, key, sizeof *key) != 0) {
        place = (place + 1) % PRODUCT_CHOICES;
    }
    return place;
}

const struct product_choice *product_find(const struct product_table *t, const struct product_key *key) {
    int64_t place = place_of(t, key);
    return t->places[place].is_taken ? &t->places[place].choice : NULL;
}

const struct product_choice *product_remember(struct product_table *t, const struct product_key *key,
                                              const struct product_choice *choice) {
    if (t->count >= PRODUCT_CHOICES * 3 / 4) {
        *t = (struct product_table){0};
    }
    int64_t place = place_of(t, key);
    t->count += !t->places[place].is_taken;
    t->places[place].key = *key;
    t->places[place].choice = *choice;
    t->places[place].is_taken = true;
    return &t->places[place].choice;
}
