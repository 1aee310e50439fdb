/* A decoder on a back end: parameters in arenas, forward, readouts, backward.
 *
 * A model knows no file: store/model_folder.c moves safetensors in and out by the parameters' names.
 *
 * One path for everything: pass_forward() runs a forest to the final norm; readouts come from there; their
 * gradients come back in the same shape and pass_backward() runs once, adding into the gradients of the arena
 * that is trained.
 */
#ifndef COLLIMATE_MODEL_MODEL_H
#define COLLIMATE_MODEL_MODEL_H

#include "model/arena.h"
#include "model/config.h"
#include "model/film.h"
#include "model/forest.h"

struct model {
    struct model_config config;
    struct backend *backend;
    struct arena *base;      /* the parameters that config.json and files name, in order of use in forward */
    struct arena *trained;   /* what gradients are for: base itself, or one beside a frozen base; or NULL */
    struct model_plan *plan; /* which parameter plays which role in which layer (params.c), in use */
    struct model_plan *bare; /* the same without adapters */
    struct lora *loras;      /* sets of adapters (lora.h) */
};

/* Local. Parameters are not set. Fused weights (GPT-NeoX's query_key_value, GPT-2's c_attn) are one
 * parameter, as in the file; the layer takes views. */
enum status model_open(struct backend *b, const struct model_config *config, struct model **out);
/* The same with a base of this kind, and room beside it as arena_allocate() makes it. */
enum status model_open_as(struct backend *b, const struct model_config *config, enum arena_kind kind,
                          int64_t beside, struct model **out);
void model_close(struct model *m); /* and its arenas */

/* What a pass keeps for backward. */
enum pass_keep {
    KEEP_NOTHING, /* inference: activations are reused layer by layer */
    KEEP_ALL,     /* everything backward needs */
    KEEP_INPUTS,  /* layer inputs only: activations are recomputed in backward (activation checkpointing) */
};

struct pass;
/* Local. A pass takes its memory from w between pass_forward and the next one. w is borrowed. */
enum status pass_open(struct model *m, struct workspace *w, enum pass_keep keep, struct pass **out);
void pass_close(struct pass *p);
/* From now on adapters' inputs are dropped, in forward and backward, by numbers that are a function of (seed,
 * step, the row that a tree is named by, segment in the tree, position, module, column); step -1: they are
 * not, as at opening. */
void pass_drop(struct pass *p, uint64_t seed, int64_t step);
/* From now on segments have conditions of c, borrowed; NULL: none. Read by forward and, for dz, backward. */
void pass_condition(struct pass *p, const struct condition *c);
/* Local. Layers and final norm over f (borrowed until backward). Releases what the pass held before. Where f
 * has readouts, rows that none of them reads are left out of the last layer but for their keys and values,
 * and the other readouts below take only rows that f reads; a forest without readouts has every row. Passes
 * that share a workspace are opened and used in turns, as on a stack. */
enum status pass_forward(struct pass *p, const struct forest *f);

/* Readout 1: log-probabilities of f's readouts. Host arrays of f->n_readouts; any may be NULL but logp. */
struct token_scores {
    double *logp, *entropy, *mean_logit, *collision; /* collision: log of the sum of squared probabilities */
    bool *is_top;
    double *value; /* of a value head, at the same hidden states; only where the model has one */
};
enum status pass_logps(struct pass *p, const struct token_scores *out);
/* Readout 2: values of a score head (HEAD_SCORE) at hidden rows at[n]. */
enum status pass_values(struct pass *p, const int32_t *at, int32_t n, double *out);
/* Readout 3: means of final-norm hidden states over rows [spans[2i], +spans[2i+1]): out n x width. layer: -1
 * the final norm's output, l >= 0 the input of layer l (as hidden_states[l]; only with KEEP_ALL or
 * KEEP_INPUTS). */
enum status pass_means(struct pass *p, const int32_t *spans, int32_t n, int layer, float *out);
/* Readout 4: all logits of hidden rows at[n]: out n x vocabulary. For decoding. */
enum status pass_logits(struct pass *p, const int32_t *at, int32_t n, float *out);
/* The log-probabilities of targets[n] in rows of logits that pass_logits (or a cache's steps) gave: on the
 * CPU the same bits as pass_logps gives for the same hidden rows; elsewhere in double from the logits as they
 * are. Right after a run of the same pass. */
enum status pass_token_logps(struct pass *p, const float *logits, const int32_t *targets, int32_t n,
                             double *out);

/* Gradients of the readouts made since pass_forward; adds d value / d parameter into the gradients of
 * m->trained. Runs once per forward. */
struct readout_gradients {
    const double *logp;         /* d value / d logp of each readout, or NULL */
    const double *values;       /* d value / d values of the last pass_values, or NULL */
    const double *divergence;   /* d value / d divergence of each readout (pass_divergence.h), or NULL */
    const double *token_values; /* d value / d value of each readout, beside logp, or NULL */
};
/* on_final (may be NULL) is called as backward goes, with the offset in m->trained from which on all
 * gradients are final. */
typedef void pass_on_final(void *context, int64_t first_final);
enum status pass_backward(struct pass *p, const struct readout_gradients *g, pass_on_final *on_final,
                          void *context);

/* Bytes of workspace that a pass over `tokens` tokens with `readouts` scored ones takes at most: what
 * --dry-run says and what callers open workspaces with. Counted by running the pass on the `plan` back end.
 */
enum status pass_bytes(const struct model_config *c, const struct backend_caps *caps, enum pass_keep keep,
                       int32_t tokens, int32_t readouts, int64_t *out);

/* Decoding with a key/value cache: sequences of at most max_tokens. */
struct cache;
enum status cache_open(struct model *m, struct workspace *w, int32_t sequences, int32_t max_tokens,
                       struct cache **out);
void cache_close(struct cache *c);
/* Local. Prefill: prompts end to end (offsets n + 1); logits of each prompt's last token, n x vocabulary on
 * the host. */
enum status cache_prefill(struct cache *c, const int32_t *tokens, const int32_t *offsets, int32_t n,
                          float *logits);
/* Local. Prefill of one prompt into one sequence, whatever it held before; the others stay. logits: 1 x
 * vocabulary. */
enum status cache_start(struct cache *c, int32_t sequence, const int32_t *tokens, int32_t count,
                        float *logits);
/* Local. Prompts (offsets n + 1) into the sequences listed, whatever they held before; logits as above. */
enum status cache_start_all(struct cache *c, const int32_t *sequences, const int32_t *tokens,
                            const int32_t *offsets, int32_t n, float *logits);
/* Local. Sequence `to` begins where the prompt of `from` ends, whatever it held before. */
enum status cache_copy_prompt(struct cache *c, int32_t from, int32_t to);
/* Local. pass_token_logps of the cache's model. */
enum status cache_token_logps(struct cache *c, const float *logits, const int32_t *targets, int32_t n,
                              double *out);
/* Local. One token for each of the n sequences listed; logits as above. */
enum status cache_step(struct cache *c, const int32_t *sequences, const int32_t *tokens, int32_t n,
                       float *logits);
/* From now on sequences have conditions of c, borrowed; each begins without one. */
void cache_condition(struct cache *c, const struct condition *condition);
/* Of a sequence, before its prompt is read; -1: none. cache_copy_prompt() takes it along. */
void cache_set_condition(struct cache *c, int32_t sequence, int32_t condition);
/* Bytes of workspace for a cache and its steps. */
enum status cache_bytes(const struct model_config *c, const struct backend_caps *caps, int32_t sequences,
                        int32_t max_tokens, int64_t *out);

#endif
