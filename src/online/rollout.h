/* What a policy writes for the prompts of an update.
 *
 * Prompts are dealt over the ranks by what their responses are expected to take, drawn by each rank's decoder
 * from the policy's own weights, and gathered: every rank then knows all of them, so that advantages, orders
 * over the batch and the deal of the update are the same numbers everywhere without further sums. A response
 * is a function of (weights, prompt, seed, update, row, sample), whoever draws it.
 */
#ifndef COLLIMATE_ONLINE_ROLLOUT_H
#define COLLIMATE_ONLINE_ROLLOUT_H

#include "data/batch.h"
#include "decode/decoder.h"

/* Response k of prompt i is number i * samples + k. Zero-initialised; rollout_free at the end. */
struct rollout {
    int64_t n; /* prompts */
    int32_t samples,
        own;       /* own: the first samples of a prompt, which the policy drew; the last may be another's */
    int64_t *rows; /* of the file, by prompt */
    int64_t *prompt_first; /* n + 1: prompt i's tokens are [prompt_first[i], prompt_first[i + 1]) of: */
    int32_t *prompt_tokens;
    int64_t *first; /* responses + 1: likewise of `tokens` and `logps` */
    int32_t *tokens;
    double *logps; /* when drawn, as a pass would give them */
    bool *stopped; /* by response: by itself, not by the limit */
    double own_s;  /* what this rank's part took */
};
void rollout_free(struct rollout *r);
static inline int64_t rollout_responses(const struct rollout *r) {
    return r->n * r->samples;
}
/* Whether the policy drew response k. */
static inline bool rollout_is_own(const struct rollout *r, int64_t k) {
    return k % r->samples < r->own;
}

/* Who draws. Borrowed. */
struct rollout_parts {
    struct comm *comm;
    struct model *model;
    struct workspace *workspace;    /* all of what decoder_bytes() says is free */
    struct view *view;              /* of bare rows */
    struct decoder_options decoder; /* seed and longest prompt: of all of them */
    int32_t samples;
    const struct decoder_options
        *other;          /* of the last sample of each prompt; NULL: the policy draws it too */
    int32_t first_token; /* in the place of an empty prompt; -1: there is none */
    double *expected;    /* by row of the view: tokens of a response, renewed by what comes */
};
/* Collective. Draws for these rows of the view in `update` (from 0). out is freed first. Fails: ERR_DATA
 * naming the row: an empty prompt without a first token, logits that are no distribution. */
enum status rollout_draw(const struct rollout_parts *p, const int64_t *rows, int64_t n, int64_t update,
                         struct rollout *out);

#endif
