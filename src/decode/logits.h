/* Rows of logits as distributions: what rules and samplers compute from them, in double.
 *
 * A row is natural logarithms of probabilities up to a constant; -inf is a token that never comes.
 */
#ifndef COLLIMATE_DECODE_LOGITS_H
#define COLLIMATE_DECODE_LOGITS_H

#include <stdint.h>

#include "util/status.h"

struct logits {
    const float *row; /* borrowed */
    int64_t n;
    int32_t top; /* the largest, the lowest id among equals */
    double lse;  /* log sum e^row */
};

/* Local. Index of the largest. Fails: ERR_DATA if one is NaN or +inf, or all are -inf. */
enum status logits_top(const float *row, int64_t n, int32_t *out);
/* Local. Fails: as logits_top. */
enum status logits_open(const float *row, int64_t n, struct logits *out);
/* Local. The log-probability of a token. */
double logits_logp(const struct logits *l, int32_t token);
/* Local. KL(p || q) over the whole vocabulary, at least 0; inf where p has a token that q has not. */
double logits_kl(const struct logits *p, const struct logits *q);
/* Local. out[i] = e^((row[i] - row[top]) / temperature); gives their sum. temperature > 0. */
double logits_weights(const float *row, int64_t n, int32_t top, double temperature, double *out);

#endif
