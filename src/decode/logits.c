#include "decode/logits.h"

#include <math.h>

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

enum status logits_top(const float *row, int64_t n, int32_t *out) {
    float largest = -INFINITY;
    int64_t broken = 0, at = 0;
#pragma omp simd reduction(max : largest) reduction(+ : broken)
    for (int64_t i = 0; i < n; i++) {
        largest = row[i] > largest ? row[i] : largest;
        broken += !(row[i] < INFINITY); /* NaN too */
    }
    for (; broken > 0 && row[at] < INFINITY; at++) {
    }
    if (broken > 0) {
        return fail(ERR_DATA, "the logit of token %lld is %g; the model's weights are broken", (long long)at,
                    (double)row[at]);
    }
    for (; at < n && row[at] != largest; at++) { /* clang begins a max at -FLT_MAX */
    }
    if (at == n || largest == -INFINITY) {
        return fail(ERR_DATA, "all logits are -inf; the model's weights are broken");
    }
    *out = (int32_t)at;
    return OK;
}

static double sum_weights(const float *row, int64_t n, double largest) {
    double sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t i = 0; i < n; i++) {
        sum += exp_negative((double)row[i] - largest);
    }
    return sum;
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
    double sum = 0;
    if (p->row == q->row) {
        return 0;
    }
#pragma omp simd reduction(+ : sum)
    for (int64_t i = 0; i < p->n; i++) {
        double logp = (double)p->row[i] - p->lse;
        double term = exp_negative(logp < 0 ? logp : 0) * (logp - ((double)q->row[i] - q->lse));
        sum += logp < -708.0 ? 0.0 : term;
    }
    return sum > 0 ? sum : 0;
}

double logits_weights(const float *row, int64_t n, int32_t top, double temperature, double *out) {
    double largest = (double)row[top], sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t i = 0; i < n; i++) {
        double weight = exp_negative(((double)row[i] - largest) / temperature);
        out[i] = weight;
        sum += weight;
    }
    return sum;
}
