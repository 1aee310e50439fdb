/* The next token from logits: greedy, or drawn after temperature, top-k, top-p and min-p, in this order, as
 * transformers applies them.
 *
 * Arithmetic in double; ties go to the lowest id; the draw comes from a stream that belongs to (seed, row,
 * step). So the same logits give the same token, whatever the batch and whoever computes it.
 */
#ifndef COLLIMATE_DECODE_SAMPLER_H
#define COLLIMATE_DECODE_SAMPLER_H

#include "decode/logits.h"
#include "util/rng.h"

struct sampling {
    double temperature; /* 0: greedy, and the others do not matter */
    int64_t top_k;      /* among the k most likely; 0: all */
    double top_p;       /* then among the fewest most likely that together reach this share; 1: all */
    double min_p;       /* then among those at least this share as likely as the likeliest; 0: all */
};

struct sampler;
/* Local. Scratch for logits of n tokens. */
enum status sampler_open(int64_t vocabulary, struct sampler **out);
void sampler_close(struct sampler *s);
/* Local. logits: vocabulary of them, natural logarithms up to a constant; -inf is a token that never comes.
 * Takes at most one uniform from r. Fails: ERR_DATA if a logit is NaN or +inf, or all are -inf. */
enum status sampler_draw(struct sampler *s, const struct sampling *how, const float *logits, struct rng *r,
                         int32_t *token);
/* Local. The log-probability with which the last draw drew its token, and KL of what it was drawn from
 * against q; greedy is a point mass. The
 * logits of that draw are still there. */
double sampler_logp(const struct sampler *s);
double sampler_kl(const struct sampler *s, const struct logits *q);

#endif
