#include "decode/logits.h"

#include <math.h>

#include "util/level.h"

/* Loops over the vocabulary are compiled for several instruction sets and taken at run time. Their sums are
 * LANES sums side by side, added up in a fixed order, and no multiplication is fused with an addition
 * (CMakeLists.txt), so that the bits are the same in each. */
enum { LANES = 32 };

static inline double add_lanes(const double *lanes) {
    double sum = 0;
    for (int i = 0; i < LANES; i++) {
        sum += lanes[i];
    }
    return sum;
}

/* e^x for x <= 0, vectorised: no branches, no calls. x = n ln 2 + r with |r| <= ln 2 / 2, and e^r by its
 * series up to r^12 / 12!, whose rest is below 2^-52; below -708 it is 0. */
static inline double exp_negative(double x) {
    const double rounder = 0x1.8p52; /* adding it rounds to an integer, which is then in the low bits */
    double clamped = x < -708.0 ? -708.0 : x;
    union {
        double value;
        uint64_t bits;
    } rounded = {clamped * 0x1.71547652b82fep0 + rounder}, power;
    double whole = rounded.value - rounder;
    double r =
        clamped - whole * 0x1.62e42fefa0000p-1; /* ln 2 in two parts: the product with the first is exact */
    r -= whole * 0x1.cf79abc9e3b39p-40;
    double p = 1.0 / 479001600;
    p = p * r + 1.0 / 39916800;
    p = p * r + 1.0 / 3628800;
    p = p * r + 1.0 / 362880;
    p = p * r + 1.0 / 40320;
    p = p * r + 1.0 / 5040;
    p = p * r + 1.0 / 720;
    p = p * r + 1.0 / 120;
    p = p * r + 1.0 / 24;
    p = p * r + 1.0 / 6;
    p = p * r + 0.5;
    p = p * r + 1;
    p = p * r + 1;
    power.bits = (rounded.bits + 1023) << 52;
    return x < -708.0 ? 0.0 : p * power.value;
}

/* The largest, and how many are NaN or infinite upwards. */
BEST_LEVEL static float largest_of(const float *row, int64_t n, int64_t *broken_out) {
    float largest = -INFINITY;
    int32_t broken = 0;
#pragma omp simd reduction(max : largest) reduction(+ : broken)
    for (int64_t i = 0; i < n; i++) {
        largest = row[i] > largest ? row[i] : largest;
        broken += !(row[i] < INFINITY);
    }
    *broken_out = broken;
    return largest;
}

/* The first place of a value; n: none. */
BEST_LEVEL static int64_t place_of(const float *row, int64_t n, float value) {
    enum { BLOCK = 8 * LANES };
    int64_t at = 0;
    for (int32_t found = 0; at + BLOCK <= n; at += BLOCK) {
#pragma omp simd reduction(| : found)
        for (int l = 0; l < BLOCK; l++) {
            found |= row[at + l] == value;
        }
        if (found) {
            break;
        }
    }
    for (; at < n && row[at] != value; at++) {
    }
    return at;
}

enum status logits_top(const float *row, int64_t n, int32_t *out) {
    int64_t broken = 0, at = 0;
    float largest = largest_of(row, n, &broken);
    for (; broken > 0 && row[at] < INFINITY; at++) {
    }
    if (broken > 0) {
        return fail(ERR_DATA, "the logit of token %lld is %g; the model's weights are broken", (long long)at,
                    (double)row[at]);
    }
    at = place_of(row, n, largest); /* clang begins a max at -FLT_MAX */
    if (at == n || largest == -INFINITY) {
        return fail(ERR_DATA, "all logits are -inf; the model's weights are broken");
    }
    *out = (int32_t)at;
    return OK;
}

/* One row's sum of e^((x - largest) / temperature); each term to out, where there is one. */
BEST_LEVEL static double weights(const float *restrict row, int64_t n, double largest, double temperature,
                                 double *restrict out) {
    double lanes[LANES] = {0};
    int64_t i = 0;
    for (; i + LANES <= n; i += LANES) {
#pragma omp simd
        for (int l = 0; l < LANES; l++) {
            out[i + l] = exp_negative(((double)row[i + l] - largest) / temperature);
            lanes[l] += out[i + l];
        }
    }
    for (int l = 0; i < n; i++, l++) {
        out[i] = exp_negative(((double)row[i] - largest) / temperature);
        lanes[l] += out[i];
    }
    return add_lanes(lanes);
}

BEST_LEVEL static double sum_weights(const float *row, int64_t n, double largest) {
    double lanes[LANES] = {0};
    int64_t i = 0;
    for (; i + LANES <= n; i += LANES) {
#pragma omp simd
        for (int l = 0; l < LANES; l++) {
            lanes[l] += exp_negative((double)row[i + l] - largest);
        }
    }
    for (int l = 0; i < n; i++, l++) {
        lanes[l] += exp_negative((double)row[i] - largest);
    }
    return add_lanes(lanes);
}

/* A token's term of KL(p || q). */
static inline double kl_term(const struct logits *p, const struct logits *q, int64_t i) {
    double logp = (double)p->row[i] - p->lse;
    double term = exp_negative(logp < 0 ? logp : 0) * (logp - ((double)q->row[i] - q->lse));
    return logp < -708.0 ? 0.0 : term;
}

BEST_LEVEL static double sum_kl(const struct logits *p, const struct logits *q) {
    double lanes[LANES] = {0};
    int64_t i = 0;
    for (; i + LANES <= p->n; i += LANES) {
#pragma omp simd
        for (int l = 0; l < LANES; l++) {
            lanes[l] += kl_term(p, q, i + l);
        }
    }
    for (int l = 0; i < p->n; i++, l++) {
        lanes[l] += kl_term(p, q, i);
    }
    return add_lanes(lanes);
}

enum status logits_open(const float *row, int64_t n, struct logits *out) {
    *out = (struct logits){.row = row, .n = n};
    TRY(logits_top(row, n, &out->top));
    out->lse = (double)row[out->top] + log(sum_weights(row, n, (double)row[out->top]));
    return OK;
}

double logits_logp(const struct logits *l, int32_t token) {
    return (double)l->row[token] - l->lse;
}

double logits_kl(const struct logits *p, const struct logits *q) {
    double sum = p->row == q->row ? 0 : sum_kl(p, q);
    return sum > 0 ? sum : 0;
}

double logits_weights(const float *row, int64_t n, int32_t top, double temperature, double *out) {
    return weights(row, n, (double)row[top], temperature, out);
}
