/* Responses to prompts: continuous batching on key/value caches.
 *
 * A row's text depends on the models, its prompt, the rule and (seed, row, sample) alone. On a back end whose
 * rows are steady (caps.steady_rows: the CPU) every step multiplies the rows that are there, and prompts are
 * read together; elsewhere, where a library may take another kernel for another number of rows, prompts are
 * read one by one and every step multiplies DECODER_ROWS rows, idle ones included. Finished sequences make
 * room for the next ones at once; a prompt is computed once for all its samples.
 *
 * Several voices (models with one vocabulary) may speak: all read the same tokens, and a rule makes one
 * distribution of theirs (rule.h).
 */
#ifndef COLLIMATE_DECODE_DECODER_H
#define COLLIMATE_DECODE_DECODER_H

#include "decode/rule.h"
#include "decode/sampler.h"
#include "model/lora.h"

enum { DECODER_ROWS = 16 };

struct decoder_options {
    struct sampling sampling;
    struct rule rule;
    /* The other voices; NULL: not there. With a reference, what is drawn is compared with it; proxy without
     * one compares with the policy. Borrowed. The policy's place is not read. */
    struct model *voices[VOICES];
    /* Of voices that are the policy's own model: the set of adapters that each goes through, the policy's
     * too; NULL: the base alone. So one base in memory has several voices. Read where has_adapters. */
    const struct lora *adapters[VOICES];
    bool has_adapters;
    const struct condition *condition; /* what prompts are under, for the policy; NULL: none; borrowed */
    double repetition_penalty;         /* logits of tokens that are in prompt or response: divided by it where
                                          positive, else multiplied; 0 and 1: none */
    uint64_t seed;
    int32_t sequences;      /* in flight */
    int32_t max_prompt;     /* tokens of the longest prompt */
    int32_t max_new_tokens; /* at most, the stop token included */
    const int32_t *stops;   /* ids that end a response; borrowed */
    int32_t n_stops;
    const bool *barred; /* by id of the model's vocabulary: never drawn; NULL: none; borrowed */
    /* Whether a response ends with what was drawn last, beside the stops; NULL: never. */
    bool (*is_end)(void *context, const int32_t *tokens, int32_t count);
    void *end_context;
};
/* Neighbours with the same tokens (one address) and condition are samples of one prompt. */
struct prompt {
    int64_t row;       /* names the random stream, */
    int32_t sample;    /* with this */
    int32_t condition; /* of the options', -1: none; not read where they have none */
    const int32_t *tokens;
    int32_t count; /* at least 1 */
};
/* Of a token. logp: under the rule's distribution at temperature 1; where that is a voice's own, the bits
 * that a pass's log-probabilities have (model.h, pass_token_logps). drawn_logp: under what it was drawn from,
 * with temperature and all filters; kl: of that distribution against the reference's. NaN without a
 * reference. */
struct token_numbers {
    double logp, drawn_logp, reference_logp, kl;
};
struct response_tokens {
    int32_t *tokens;               /* room for max_new_tokens, the caller's; a stop token stays as the last */
    struct token_numbers *numbers; /* likewise; NULL: not asked for */
    int32_t count;
    bool stopped; /* by a stop token or is_end, not by the limit */
    bool broken;  /* by logits that are no distribution, after `count` tokens; the others went on */
};

/* Bytes of workspace for these options: of the policy's cache. */
enum status decoder_bytes(const struct model_config *c, const struct backend_caps *caps,
                          const struct decoder_options *o, int64_t *out);
struct decoder;
/* Local. model and workspace are borrowed; other voices have workspaces of their own. */
enum status decoder_open(struct model *m, struct workspace *w, const struct decoder_options *o,
                         struct decoder **out);
void decoder_close(struct decoder *d);
/* Local. Another rule for the next runs. */
void decoder_set_rule(struct decoder *d, const struct rule *rule);
/* Local. Responses to all n prompts. on_done (may be NULL) is told how many are finished. Where one ends
 * broken, status_message() says why the last of them did. Fails: ERR_DATA naming the row (a token outside the
 * vocabulary). */
typedef void decoder_on_done(void *context, int64_t done);
enum status decoder_run(struct decoder *d, const struct prompt *prompts, int64_t n,
                        struct response_tokens *out, decoder_on_done *on_done, void *context);

#endif
