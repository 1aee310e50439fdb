/* Which algorithm multiplies which shape: what can be said without a device, in C, tested on the CPU.
 *
 * Forests have another number of tokens each time, so "once per shape" would ask the library for nearly every
 * product. Shapes are therefore put into classes: a dimension that is only ever a number of rows (tokens) is
 * rounded up to four leading bits, at most an eighth more; widths are exact. The library is asked for the
 * class's own shape, never for the first shape that came along: what is chosen is a function of the shape,
 * not of what ran before, so a resumed run or another number of ranks gets the same algorithm and the same
 * bits.
 */
#ifndef COLLIMATE_CUDA_PRODUCT_H
#define COLLIMATE_CUDA_PRODUCT_H

#include "backend/backend.h"

/* What an algorithm depends on; 64-bit fields only, so that equal keys are equal bytes. m, n, k: rows and
 * columns of C and the length of the sums, as the caller counts (row-major). */
struct product_key {
    int64_t m, n, k;
    int64_t lda, ldb, ldc, ldd; /* ldd: of the activation; 0: none */
    int64_t types;              /* of A, B, C and the bias */
    int64_t flags;              /* transposes, C read, epilogue */
    int64_t alignment; /* bytes, of A, B, C, the activation and the bias: a byte of logarithms each */
};
enum {
    PRODUCT_TRANSPOSE_A = 1,
    PRODUCT_TRANSPOSE_B = 2,
    PRODUCT_ADDS = 4,
    PRODUCT_BIAS = 8,
    PRODUCT_GELU = 16
};

/* Local. The key of g's class, or of exactly its shape; activated: where its GELU goes, or none. */
struct product_key product_class(const struct gemm *g, struct tensor activated);
struct product_key product_exact(const struct gemm *g, struct tensor activated);
/* Local. Bytes that address and rows of operand `place` (0 A, 1 B, 2 C, 3 activation, 4 bias) are multiples
 * of. */
int64_t product_alignment(const struct product_key *key, int place);
/* Local. n rounded up to a number with at most four leading bits; small ones stay. */
int64_t product_round(int64_t n);
/* Local. The leading dimension of a row-major matrix: its stride, but at least its width and 1. */
int64_t product_leading(struct tensor t);

/* What the library said; words are its own. */
struct product_choice {
    uint64_t algorithm[8];
    int64_t workspace_bytes;
    bool is_usable; /* false: the library has nothing for this class */
};
enum { PRODUCT_CHOICES = 1024 };
struct product_table {
    int64_t count;
    struct {
        struct product_key key;
        struct product_choice choice;
        bool is_taken;
    } places[PRODUCT_CHOICES];
};
/* Local. The choice for key, or NULL. Valid until the next product_remember(). */
const struct product_choice *product_find(const struct product_table *t, const struct product_key *key);
/* Local. Keeps a choice; a table that is nearly full is emptied first (choices can be made again). */
const struct product_choice *product_remember(struct product_table *t, const struct product_key *key,
                                              const struct product_choice *choice);

#endif
