/* A decoder's description: what config.json says, in our terms, and the table of families.
 *
 * One descriptor serves every family: norms, rotary share, biases, activation, residual form, head. A family
 * is a row: its architecture strings, how its config.json keys map to the descriptor, and the patterns of its
 * tensor names. forward.c and backward.c know no family.
 */
#ifndef COLLIMATE_MODEL_CONFIG_H
#define COLLIMATE_MODEL_CONFIG_H

#include "backend/backend.h"
#include "util/json.h"
#include "util/text.h"

enum { MODEL_MAX_LAYERS = 1024, ROPE_MOST_FACTORS = 256 };

enum rope_scaling { ROPE_DEFAULT, ROPE_LINEAR, ROPE_DYNAMIC, ROPE_LLAMA3, ROPE_YARN, ROPE_LONG };

struct rope_config {
    int rotary_dim; /* 0: no rotary embedding */
    bool interleaved;
    double theta;
    enum rope_scaling scaling;
    double factor, low_freq_factor, high_freq_factor, original_max_positions;
    double beta_fast, beta_slow; /* yarn */
    double attention_factor;     /* yarn, longrope */
    bool truncate;               /* yarn: correction range to whole dimensions */
    /* longrope: divisors of each pair's angle, in sequences up to the original positions and in longer ones
     */
    double short_factors[ROPE_MOST_FACTORS], long_factors[ROPE_MOST_FACTORS];
};

enum model_head {
    HEAD_LANGUAGE,
    HEAD_SCORE
}; /* next token; one value at the last token (…ForSequenceClassification) */

static inline enum model_head model_head_for(bool values) {
    return values ? HEAD_SCORE : HEAD_LANGUAGE;
}

/* The parameter of a value head. */
#define VALUE_HEAD "value_head.weight"

struct lora_layout;

struct model_config {
    const struct family *family;
    const struct lora_layout *lora; /* adapters in use beside a frozen base (lora.h); NULL: none. Borrowed */
    enum model_head head;
    bool value_head; /* of a language model: "value_head.weight" as well, a value at each readout */
    int64_t vocabulary, width, layers, heads, kv_heads, head_dim, ffn;
    int64_t max_positions;
    enum norm_kind norm;
    double norm_epsilon, norm_offset; /* offset 1: Gemma's 1 + w */
    bool norm_bias;
    enum activation activation;
    bool gated;             /* act(gate) * up */
    bool parallel_residual; /* x + attention(n1 x) + mlp(n2 x) */
    bool shared_norm;       /* parallel with one norm for both (Phi, GPT-J) */
    bool post_norms;        /* Gemma 2: norms after attention and mlp as well; OLMo 2: those alone */
    bool qk_norm;           /* Qwen3, Gemma 3: RMS norm of each head's q and k */
    bool qk_norm_whole;     /* OLMo 2: with qk_norm, one norm over all heads */
    bool qkv_bias, out_bias, mlp_bias, head_bias;
    bool tied;              /* the head is the embedding */
    bool untied;            /* config.json says tied, the weights have a head of their own: not tied */
    bool learned_positions; /* GPT-2 */
    struct rope_config rope;
    double local_theta;     /* Gemma 3: of the layers with a window, without scaling; else 0 */
    double embedding_scale; /* sqrt(d) for Gemma, else 1 */
    double residual_scale;  /* Granite: of what a branch adds to the residual stream; else 1 */
    double logit_scale;     /* Cohere, Granite: of logits, before their soft cap; else 1 */
    double logit_divisor;   /* Granite: logit_scale is its inverse; else 0 */
    double attention_scale; /* 1 / sqrt(head_dim) unless the family says otherwise */
    bool scaled_attention;  /* GPT-2: false, attention_scale is 1 */
    int64_t query_scalar;   /* Gemma 2: attention_scale is its root's inverse; else 0 */
    double attention_softcap, logit_softcap;
    int window;                                    /* sliding window of some layers, 0: none */
    uint64_t window_layers[MODEL_MAX_LAYERS / 64]; /* bit l: layer l has it */
    bool rope_choice; /* SmolLM3: some layers do not turn q and k, as config.json lists them */
    uint64_t plain_layers[MODEL_MAX_LAYERS / 64]; /* bit l: layer l is one of them */
    bool residual_init; /* GPT-2: projections into the residual stream start 1 / sqrt(2 layers) as wide */
    double initializer_range;
    int32_t begin_id, end_id, pad_id; /* -1: none */
};

/* Local. From the text of a config.json (transformers 4 or 5 layout). Fails: ERR_DATA naming what it asks for
 * and we lack (an unknown architecture lists the known ones). where: path, for messages. */
enum status model_config_parse(const char *json, size_t len, const char *where, struct model_config *out);
/* Local. A config.json (transformers 4 layout) that transformers loads. source (may be NULL): the object that
 * was read, whose other keys are kept. dtype: of the weights beside it, "float32". */
enum status model_config_print(const struct model_config *config, const json_t *source, const char *dtype,
                               struct text *out);

/* Whether it says values; otherwise log-probabilities. */
static inline bool model_gives_values(const struct model_config *c) {
    return c->head == HEAD_SCORE;
}

/* How many positions a sequence may have, 0: any number. max_position_embeddings, times the factor of a rope
 * scaling that reaches further (linear, yarn); transformers itself computes longer rows without a word. */
int64_t model_positions(const struct model_config *c);
/* A sequence of more tokens has other angles than the same tokens in a shorter one (dynamic, longrope);
 * INT64_MAX: angles do not depend on the length. */
int64_t model_rope_break(const struct model_config *c);

/* The window of a layer's attention, 0: none. */
int model_window(const struct model_config *c, int64_t layer);

/* Whether a layer turns its queries and keys by their positions. */
bool model_turns(const struct model_config *c, int64_t layer);

/* Policy FLOPs of a forward pass, per token, without attention scores: 2 x the parameters a token meets (head
 * only where scored). attention: 4 x width-of-heads per (query, key) pair. Backward is twice the forward. MFU
 * counts these. */
double model_flops_layers(const struct model_config *c);    /* per token */
double model_flops_head(const struct model_config *c);      /* per scored token */
double model_flops_attention(const struct model_config *c); /* per query-key pair, all layers */
/* Forward and backward of a training step, in forwards: a frozen base has no weight gradients. Adapters' own
 * products are not counted. */
static inline double model_flops_training(const struct model_config *c) {
    return c->lora ? 2 : 3;
}

#endif
