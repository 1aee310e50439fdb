/* The next token from logits: greedy, or drawn after temperature, top-k and top-p, in this order, as
 * transformers applies them.
 *
 * Arithmetic in double; ties go to the lowest id; the draw comes from a stream that belongs to (seed, row,
 * step). So the same logits give the same token, whatever the batch and whoever computes it.
 */
#ifndef COLLIMATE_DECODE_SAMPLER_H
#define COLLIMATE_DECODE_SAMPLER_H

#include <stdint.h>

#include "util/rng.h"
#include "util/status.h"

struct sampling {
    double temperature; /* 0: greedy, and the other two do not matter */
    int64_t top_k;      /* among the k most likely; 0: all */
    double top_p;       /* then among the fewest most likely that together reach this share; 1: all */
};

struct sampler;
/* Local. Scratch for logits of n tokens. */
enum status sampler_open(int64_t vocabulary, struct sampler **out);
void sampler_close(struct sampler *s);
/* Local. logits: vocabulary of them, natural logarithms up to a constant; -inf is a token that never comes.
 * Takes at most one uniform from r. Fails: ERR_DATA if a logit is NaN or +inf, or all are -inf. */
enum status sampler_draw(struct sampler *s, const struct sampling *how, const float *logits, struct rng *r,
                         int32_t *token);

#endif
