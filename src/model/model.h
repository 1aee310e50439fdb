/* A decoder on a back end: parameters in one flat arena, forward, readouts, backward.
 *
 * The arena: named parameters are ranges of one buffer of master type; gradients and optimizer state are
 * buffers of the same layout; the compute copy is another where the compute type differs. A model knows no
 * file: store/model_folder.c moves safetensors in and out by the names below.
 *
 * One path for everything: pass_forward() runs a forest to the final norm; readouts come from there; their
 * gradients come back in the same shape and pass_backward() runs once, adding into the gradient arena.
 */
#ifndef COLLIMATE_MODEL_MODEL_H
#define COLLIMATE_MODEL_MODEL_H

#include "backend/workspace.h"
#include "model/config.h"
#include "model/forest.h"

struct parameter {
    char name[96]; /* Hugging Face's, e.g. "model.layers.0.self_attn.q_proj.weight" */
    int64_t rows,
        columns; /* as the model uses it: y = x W^T, W (rows = outputs, columns = inputs); vectors: rows 1 */
    int64_t offset;         /* elements, in the arena; multiples of 16 but inside a group (q, k, v; gate, up),
                               whose members follow each other so that one product serves them */
    bool decay;             /* weight decay applies: matrices, not embeddings' norms or biases */
    int n_dims;             /* 1 or 2, as stored */
    bool stored_transposed; /* GPT-2's Conv1D: the file holds W^T */
    int64_t stored_heads;   /* GPT-NeoX's query_key_value: the file's rows are [head][q, k, v][head_dim], ours
                               [q, k, v][head][head_dim]; 0: as the file has them */
    enum { INIT_NORMAL, INIT_ZERO, INIT_ONE } init;
    double init_scale; /* times initializer_range */
};

struct model {
    struct model_config config;
    struct backend *backend;
    struct parameter
        *parameters; /* in order of use in forward, so backward finishes the arena from its end */
    int n_parameters;
    int64_t arena_elements;
    struct tensor master;    /* 1 x arena_elements */
    struct tensor compute;   /* the same as master where the types are equal */
    struct tensor gradients; /* none until model_need_gradients() */
    struct workspace store;  /* one allocation that holds these, and what model_open_beside() left room for */
    struct model_plan *plan; /* which parameter plays which role in which layer (params.c) */
};

/* Local. Allocates the arena; parameters are not set. Fused weights (GPT-NeoX's query_key_value, GPT-2's
 * c_attn) are one parameter, as in the file; the layer takes views. */
enum status model_open(struct backend *b, const struct model_config *config, struct model **out);
/* With room for `beside` bytes that model_take() will ask for: gradients and optimizer state. */
enum status model_open_beside(struct backend *b, const struct model_config *config, int64_t beside,
                              struct model **out);
void model_close(struct model *m);
/* Local. 1 x elements, zero, of the model's own allocation where there is room, else of a new one; ends with
 * model_give_back(), before the model and in the opposite order of taking. */
enum status model_take(struct model *m, const char *what, int64_t elements, enum dtype type,
                       struct tensor *out);
void model_give_back(struct model *m, struct tensor *t);
enum status model_need_gradients(struct model *m);
enum status model_zero_gradients(struct model *m);

/* Local. Host floats in and out, elements [first, first + count) of parameter i as the FILE stores it
 * (stored_transposed and stored_heads are undone here; such parameters are cheapest in one piece). After
 * writing: model_refresh() renews the compute copy. */
enum status model_write(struct model *m, int i, int64_t first, int64_t count, const float *values);
enum status model_read(struct model *m, int i, int64_t first, int64_t count, float *values);
enum status model_refresh(struct model *m);
/* Local. Random initialisation as transformers does: normal(0, initializer_range), zero biases, one norms; a
 * function of (seed, parameter name, element), so the same on any rank. */
enum status model_initialize(struct model *m, uint64_t seed);
/* Local. Hash of the master parameters' bits: the sum, modulo 2^64, of its parts. */
enum status model_hash(struct model *m, uint64_t *out);
/* Local. What blocks [first, last) of model_hash_blocks() add to it. */
enum status model_hash_part(struct model *m, int64_t first, int64_t last, uint64_t *sum);
int64_t model_hash_blocks(const struct model *m);
/* Elements of all parameters (the arena has gaps). */
int64_t model_parameter_count(const struct model *m);
const struct parameter *model_find(const struct model *m, const char *name);

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
/* Local. Layers and final norm over f (borrowed until backward). Releases what the pass held before. Where f
 * has readouts, rows that none of them reads are left out of the last layer but for their keys and values,
 * and the other readouts below take only rows that f reads; a forest without readouts has every row. Passes
 * that share a workspace are opened and used in turns, as on a stack. */
enum status pass_forward(struct pass *p, const struct forest *f);

/* Readout 1: log-probabilities of f's readouts. Host arrays of f->n_readouts; any may be NULL but logp. */
struct token_scores {
    double *logp, *entropy, *mean_logit;
    bool *is_top;
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

/* Gradients of the readouts made since pass_forward; adds d value / d parameter into m->gradients. Runs once
 * per forward. */
struct readout_gradients {
    const double *logp;   /* d value / d logp of each readout, or NULL */
    const double *values; /* d value / d values of the last pass_values, or NULL */
};
/* on_final (may be NULL) is called as backward goes, with the arena offset from which on all gradients are
 * final. */
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
/* Local. One token for each of the n sequences listed; logits as above. */
enum status cache_step(struct cache *c, const int32_t *sequences, const int32_t *tokens, int32_t n,
                       float *logits);
/* Bytes of workspace for a cache and its steps. */
enum status cache_bytes(const struct model_config *c, const struct backend_caps *caps, int32_t sequences,
                        int32_t max_tokens, int64_t *out);

#endif
