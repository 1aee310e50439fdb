#include "mpi/exact.h"

#include <math.h>

#include "util/mem.h"

static const double units_per_one = 0x1p64;
static const double most = 0x1p63; /* of one term */

enum { LIMBS = 4, LIMB_BITS = 32 };

enum status exact_open(int64_t n, struct exact_sums *out) {
    *out = (struct exact_sums){.n = n};
    return NEW_ARRAY(out->v, n);
}

void exact_close(struct exact_sums *s) {
    mem_free(s->v);
    *s = (struct exact_sums){0};
}

exact_units exact_of(struct exact_sums *s, double value) {
    if (!(fabs(value) < most)) { /* also not a number */
        s->lost = true;
        return 0;
    }
    return (exact_units)(value * units_per_one);
}

void exact_add(struct exact_sums *s, int64_t i, exact_units term, int times) {
    exact_units product = term;
    s->lost |= times != 1 && __builtin_mul_overflow(term, (exact_units)times, &product);
    s->lost |= __builtin_add_overflow(s->v[i], product, &s->v[i]);
}

/* MPI adds no 128-bit integers: each goes as four limbs of 32 bits, the highest with the sign, in 64-bit
 * integers that hold the sum over 2^31 ranks. */
static void split(const struct exact_sums *s, int64_t *limbs) {
    for (int64_t i = 0; i < s->n; i++) {
        exact_units rest = s->v[i];
        for (int l = 0; l < LIMBS; l++) {
            limbs[LIMBS * i + l] = l < LIMBS - 1 ? (int64_t)(uint32_t)rest : (int64_t)rest;
            rest >>= LIMB_BITS;
        }
    }
}

static bool join(const int64_t *limbs, exact_units *out) {
    exact_units sum = limbs[LIMBS - 1];
    bool lost = false;
    for (int l = LIMBS - 2; l >= 0; l--) {
        lost |= __builtin_mul_overflow(sum, (exact_units)1 << LIMB_BITS, &sum);
        lost |= __builtin_add_overflow(sum, (exact_units)limbs[l], &sum);
    }
    *out = sum;
    return !lost;
}

enum status exact_reduce(struct comm *c, struct exact_sums *s, double *out) {
    int64_t *limbs = NULL;
    int64_t n;
    enum status st = size_mul(s->n, LIMBS, "sums", &n);
    st = st == OK ? NEW_ARRAY(limbs, n) : st;
    if (st == OK && s->lost) {
        st = fail(ERR_DATA, "a value to be summed is not finite, or a sum is beyond 2^63");
    }
    TRY_TO(done, comm_agree(c, st));
    split(s, limbs);
    TRY_TO(done, comm_sum_i64(c, limbs, n));
    for (int64_t i = 0; i < s->n; i++) {
        if (!join(limbs + LIMBS * i, &s->v[i])) {
            st = fail(ERR_DATA, "a sum over all ranks is beyond 2^63");
        }
        out[i] = (double)s->v[i] / units_per_one;
    }
done:
    mem_free(limbs);
    return st;
}
