/* Responses to prompts: continuous batching on the key/value cache.
 *
 * A row's text depends on the model, its prompt and (seed, row) alone: prompts are prefilled one by one, and
 * every later step multiplies DECODER_ROWS rows, idle ones included, because a matrix product may round a
 * row differently when the number of rows beside it changes (the CPU's takes another way below 7 rows, a
 * device's library has kernels for small products; within one shape a row's bits do not depend on its place).
 * Finished sequences make room for the next prompt at once.
 */
#ifndef COLLIMATE_DECODE_DECODER_H
#define COLLIMATE_DECODE_DECODER_H

#include "decode/sampler.h"
#include "model/model.h"

enum { DECODER_ROWS = 16 };

struct decoder_options {
    struct sampling sampling;
    uint64_t seed;
    int32_t sequences;      /* in flight; rounded up to a multiple of DECODER_ROWS */
    int32_t max_prompt;     /* tokens of the longest prompt */
    int32_t max_new_tokens; /* at most, the stop token included */
    const int32_t *stops;   /* ids that end a response; borrowed */
    int32_t n_stops;
    const bool *barred; /* by id of the model's vocabulary: never drawn; NULL: none; borrowed */
};
struct prompt {
    int64_t row; /* names the random stream */
    const int32_t *tokens;
    int32_t count; /* at least 1 */
};
struct response_tokens {
    int32_t *tokens; /* room for max_new_tokens, the caller's; a stop token stays as the last */
    int32_t count;
    bool stopped; /* by a stop token, not by the limit */
};

/* Bytes of workspace for these options. */
enum status decoder_bytes(const struct model_config *c, const struct backend_caps *caps,
                          const struct decoder_options *o, int64_t *out);
struct decoder;
/* Local. model and workspace are borrowed. */
enum status decoder_open(struct model *m, struct workspace *w, const struct decoder_options *o,
                         struct decoder **out);
void decoder_close(struct decoder *d);
/* Local. Responses to all n prompts. on_done (may be NULL) is told how many are finished. Fails: ERR_DATA
 * naming the row (a token outside the vocabulary, logits that are not finite). */
typedef void decoder_on_done(void *context, int64_t done);
enum status decoder_run(struct decoder *d, const struct prompt *prompts, int64_t n,
                        struct response_tokens *out, decoder_on_done *on_done, void *context);

#endif
