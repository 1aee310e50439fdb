#include "model/family.h"

#include <math.h>
#include <string.h>

#define INT(name_, field) \
    { name_, KEY_INT, offsetof(struct model_config, field), false }
#define NEED(name_, field) \
    { name_, KEY_INT, offsetof(struct model_config, field), true }
#define NUMBER(name_, field) \
    { name_, KEY_NUMBER, offsetof(struct model_config, field), false }
#define BOOL(name_, field) \
    { name_, KEY_BOOL, offsetof(struct model_config, field), false }

/* Keys that most families share. */
#define SHAPE_KEYS                                                                                     \
    NEED("vocab_size", vocabulary), NEED("hidden_size", width), NEED("num_hidden_layers", layers),     \
        NEED("num_attention_heads", heads), NEED("intermediate_size", ffn),                            \
        INT("max_position_embeddings", max_positions), NUMBER("initializer_range", initializer_range), \
        BOOL("tie_word_embeddings", tied)
#define LLAMA_KEYS                                                               \
    SHAPE_KEYS, INT("num_key_value_heads", kv_heads), INT("head_dim", head_dim), \
        NUMBER("rms_norm_eps", norm_epsilon)
#define END \
    { NULL, KEY_INT, 0, false }

static const struct config_key llama_keys[] = {
    LLAMA_KEYS,
    BOOL("attention_bias", qkv_bias),
    BOOL("attention_bias", out_bias),
    BOOL("mlp_bias", mlp_bias),
    END,
};
static const struct config_key mistral_keys[] = {LLAMA_KEYS, END};
static const struct config_key attention_bias_keys[] = {
    LLAMA_KEYS,
    BOOL("attention_bias", qkv_bias),
    BOOL("attention_bias", out_bias),
    END,
};
static const struct config_key gemma2_keys[] = {
    LLAMA_KEYS,
    BOOL("attention_bias", qkv_bias),
    BOOL("attention_bias", out_bias),
    INT("query_pre_attn_scalar", query_scalar),
    NUMBER("attn_logit_softcapping", attention_softcap),
    NUMBER("final_logit_softcapping", logit_softcap),
    END,
};
static const struct config_key neox_keys[] = {
    SHAPE_KEYS,
    NUMBER("layer_norm_eps", norm_epsilon),
    BOOL("use_parallel_residual", parallel_residual),
    BOOL("attention_bias", qkv_bias),
    BOOL("attention_bias", out_bias),
    END,
};
static const struct config_key phi_keys[] = {
    SHAPE_KEYS,
    INT("num_key_value_heads", kv_heads),
    NUMBER("layer_norm_eps", norm_epsilon),
    END,
};
static const struct config_key gpt2_keys[] = {
    NEED("vocab_size", vocabulary),
    NEED("n_embd", width),
    NEED("n_layer", layers),
    NEED("n_head", heads),
    INT("n_inner", ffn),
    INT("n_positions", max_positions),
    NUMBER("layer_norm_epsilon", norm_epsilon),
    NUMBER("initializer_range", initializer_range),
    BOOL("tie_word_embeddings", tied),
    BOOL("scale_attn_weights", scaled_attention),
    END,
};

static const char *const no_refused[] = {NULL};
static const char *const phi_refused[] = {"qk_layernorm", NULL};
static const char *const smollm3_refused[] = {"use_sliding_window", NULL};
static const char *const gemma_refused[] = {"use_bidirectional_attention", NULL};
static const char *const gpt2_refused[] = {"add_cross_attention", "scale_attn_by_inverse_layer_idx", NULL};

static void window_set(struct model_config *c, int64_t layer) {
    c->window_layers[layer / 64] |= 1ull << (layer % 64);
}

/* transformers 5 lists each layer's kind; *listed says that it did. */
static enum status take_layer_types(const json_t *json, const char *where, struct model_config *c,
                                    bool *listed) {
    const json_t *types = json_object_get(json, "layer_types");
    *listed = json_is_array(types);
    if (!*listed) {
        return OK;
    }
    if ((int64_t)json_array_size(types) != c->layers) {
        return fail(ERR_DATA, "%s: layer_types has %zu entries for %lld layers", where,
                    json_array_size(types), (long long)c->layers);
    }
    for (int64_t l = 0; l < c->layers; l++) {
        const char *type = json_string_value(json_array_get(types, (size_t)l));
        if (type && strcmp(type, "sliding_attention") == 0) {
            window_set(c, l);
        } else if (!type || strcmp(type, "full_attention") != 0) {
            return fail(ERR_DATA,
                        "%s: layer_types: \"%s\" is not supported (full_attention, sliding_attention)", where,
                        type ? type : "?");
        }
    }
    return OK;
}

/* Reads sliding_window into c->window and says which layers have it: those of layer_types, else from layer
 * `first` on, every one or (period 2) every other. */
static enum status take_window(const json_t *json, const char *where, struct model_config *c, int64_t first,
                               int64_t period) {
    int64_t window = c->window;
    bool listed;
    const json_t *value = json_object_get(json, "sliding_window");
    TRY(json_take_int(json, "sliding_window", where, &window));
    c->window = 0;
    if ((value && json_is_null(value)) || window == 0) {
        return OK;
    }
    if (window < 1 || window > INT32_MAX) {
        return fail(ERR_DATA, "%s: sliding_window is %lld; expected 1 to 2^31 - 1", where, (long long)window);
    }
    c->window = (int)window;
    TRY(take_layer_types(json, where, c, &listed));
    for (int64_t l = first; !listed && l < c->layers; l += period) {
        window_set(c, l);
    }
    bool any = false;
    for (int64_t l = 0; l < c->layers; l++) {
        any = any || model_window(c, l) > 0;
    }
    c->window = any ? c->window : 0;
    return OK;
}

static enum status adapt_mistral(const json_t *json, const char *where, struct model_config *c) {
    return take_window(json, where, c, 0, 1);
}

static enum status adapt_qwen(const json_t *json, const char *where, struct model_config *c) {
    bool use = false;
    int64_t first = 28;
    TRY(json_take_bool(json, "use_sliding_window", where, &use));
    TRY(json_take_int(json, "max_window_layers", where, &first));
    if (!use) {
        c->window = 0;
        return OK;
    }
    return take_window(json, where, c, first < 0 ? 0 : first, 1);
}

/* no_rope_layers has a 1 for each layer that turns; without it every fourth does not. */
static enum status adapt_smollm3(const json_t *json, const char *where, struct model_config *c) {
    const json_t *list = json_object_get(json, "no_rope_layers");
    int64_t interval = 4;
    TRY(json_take_int(json, "no_rope_layer_interval", where, &interval));
    bool listed = list && !json_is_null(list);
    if (listed ? (int64_t)json_array_size(list) != c->layers : interval < 1) {
        return fail(ERR_DATA,
                    "%s: no_rope_layers needs an entry for each of %lld layers, or an interval of at "
                    "least 1",
                    where, (long long)c->layers);
    }
    for (int64_t l = 0; l < c->layers; l++) {
        const json_t *turns = json_array_get(list, (size_t)l);
        if (listed && !json_is_integer(turns)) {
            return fail(ERR_DATA, "%s: no_rope_layers[%lld] is neither 0 nor 1", where, (long long)l);
        }
        bool is_plain = listed ? json_integer_value(turns) == 0 : (l + 1) % interval == 0;
        c->plain_layers[l / 64] |= (uint64_t)is_plain << (l % 64);
    }
    return OK;
}

static enum status adapt_gemma(const json_t *json, const char *where, struct model_config *c) {
    (void)json;
    (void)where;
    /* Releases say "gelu" and mean the tanh form; transformers reads it so too. */
    if (c->activation == ACTIVATION_GELU) {
        c->activation = ACTIVATION_GELU_TANH;
    }
    c->embedding_scale = sqrt((double)c->width);
    return OK;
}

static enum status adapt_gemma2(const json_t *json, const char *where, struct model_config *c) {
    c->embedding_scale = sqrt((double)c->width);
    if (c->query_scalar < 1) {
        return fail(ERR_DATA, "%s: query_pre_attn_scalar is %lld; expected at least 1", where,
                    (long long)c->query_scalar);
    }
    c->attention_scale = 1 / sqrt((double)c->query_scalar);
    const char *softcaps[] = {"attn_logit_softcapping", "final_logit_softcapping"};
    double *fields[] = {&c->attention_softcap, &c->logit_softcap};
    for (int i = 0; i < 2; i++) {
        if (json_is_null(json_object_get(json, softcaps[i]))) {
            *fields[i] = 0;
        }
    }
    return take_window(json, where, c, 0, 2);
}

static enum status adapt_gpt2(const json_t *json, const char *where, struct model_config *c) {
    (void)json;
    (void)where;
    if (!c->scaled_attention) {
        c->attention_scale = 1;
    }
    if (c->ffn == 0) {
        c->ffn = 4 * c->width;
    }
    return OK;
}

#define LLAMA_NAMES                                                                                 \
    .base = "model.", .embed = "model.embed_tokens", .final_norm = "model.norm", .head = "lm_head", \
    .norm1 = "model.layers.*.input_layernorm", .q = "model.layers.*.self_attn.q_proj",              \
    .k = "model.layers.*.self_attn.k_proj", .v = "model.layers.*.self_attn.v_proj",                 \
    .out = "model.layers.*.self_attn.o_proj", .gate = "model.layers.*.mlp.gate_proj",               \
    .up = "model.layers.*.mlp.up_proj", .down = "model.layers.*.mlp.down_proj"
#define LLAMA_BASE                                                                                           \
    .norm = NORM_RMS, .norm_epsilon = 1e-6, .gated = true, .max_positions = 2048, .initializer_range = 0.02, \
    .embedding_scale = 1, .rope = {.theta = 10000}
#define LAYER_NORM_BASE                                                                              \
    .norm = NORM_LAYER, .norm_epsilon = 1e-5, .norm_bias = true, .qkv_bias = true, .out_bias = true, \
    .mlp_bias = true, .max_positions = 2048, .initializer_range = 0.02, .embedding_scale = 1,        \
    .rope = {.theta = 10000}
#define NORM2 .norm2 = "model.layers.*.post_attention_layernorm"
#define IDS(begin, end, pad) .begin_id = (begin), .end_id = (end), .pad_id = (pad)

static const struct family families[] = {
    {
        .type = "llama",
        .lora_targets = "q_proj,v_proj",
        .causal = "LlamaForCausalLM",
        .classifier = "LlamaForSequenceClassification",
        .keys = llama_keys,
        .activation_key = "hidden_act",
        .refused = no_refused,
        .base = {LLAMA_BASE, .activation = ACTIVATION_SILU, IDS(1, 2, -1)},
        .names = {LLAMA_NAMES, NORM2},
        .theta_key = "rope_theta",
        .rotary_share = 1,
    },
    {
        .type = "mistral",
        .lora_targets = "q_proj,v_proj",
        .causal = "MistralForCausalLM",
        .classifier = "MistralForSequenceClassification",
        .keys = mistral_keys,
        .activation_key = "hidden_act",
        .refused = no_refused,
        .base = {LLAMA_BASE, .activation = ACTIVATION_SILU, .kv_heads = 8, .window = 4096, IDS(1, 2, -1)},
        .names = {LLAMA_NAMES, NORM2},
        .theta_key = "rope_theta",
        .rotary_share = 1,
        .adapt = adapt_mistral,
    },
    {
        .type = "gpt_neox",
        .lora_targets = "query_key_value",
        .causal = "GPTNeoXForCausalLM",
        .classifier = "GPTNeoXForSequenceClassification",
        .keys = neox_keys,
        .activation_key = "hidden_act",
        .refused = no_refused,
        .base = {LAYER_NORM_BASE, .activation = ACTIVATION_GELU, .parallel_residual = true, IDS(0, 2, -1)},
        .names = {.base = "gpt_neox.",
                  .embed = "gpt_neox.embed_in",
                  .final_norm = "gpt_neox.final_layer_norm",
                  .head = "embed_out",
                  .norm1 = "gpt_neox.layers.*.input_layernorm",
                  .norm2 = "gpt_neox.layers.*.post_attention_layernorm",
                  .qkv = "gpt_neox.layers.*.attention.query_key_value",
                  .out = "gpt_neox.layers.*.attention.dense",
                  .up = "gpt_neox.layers.*.mlp.dense_h_to_4h",
                  .down = "gpt_neox.layers.*.mlp.dense_4h_to_h"},
        .heads_interleaved = true,
        .theta_key = "rotary_emb_base",
        .rotary_share_key = "rotary_pct",
        .rotary_share = 0.25,
    },
    {
        .type = "gpt2",
        .lora_targets = "c_attn",
        .causal = "GPT2LMHeadModel",
        .classifier = "GPT2ForSequenceClassification",
        .keys = gpt2_keys,
        .activation_key = "activation_function",
        .refused = gpt2_refused,
        .base = {LAYER_NORM_BASE, .activation = ACTIVATION_GELU_TANH, .learned_positions = true, .tied = true,
                 .residual_init = true, .scaled_attention = true, IDS(50256, 50256, -1)},
        .names = {.base = "transformer.",
                  .embed = "transformer.wte",
                  .positions = "transformer.wpe",
                  .final_norm = "transformer.ln_f",
                  .head = "lm_head",
                  .norm1 = "transformer.h.*.ln_1",
                  .norm2 = "transformer.h.*.ln_2",
                  .qkv = "transformer.h.*.attn.c_attn",
                  .out = "transformer.h.*.attn.c_proj",
                  .up = "transformer.h.*.mlp.c_fc",
                  .down = "transformer.h.*.mlp.c_proj"},
        .stored_transposed = true,
        .adapt = adapt_gpt2,
    },
    {
        .type = "qwen2",
        .lora_targets = "q_proj,v_proj",
        .causal = "Qwen2ForCausalLM",
        .classifier = "Qwen2ForSequenceClassification",
        .keys = mistral_keys,
        .activation_key = "hidden_act",
        .refused = no_refused,
        .base = {LLAMA_BASE, .activation = ACTIVATION_SILU, .qkv_bias = true, .window = 4096,
                 IDS(-1, -1, -1)},
        .names = {LLAMA_NAMES, NORM2},
        .theta_key = "rope_theta",
        .rotary_share = 1,
        .adapt = adapt_qwen,
    },
    {
        .type = "qwen3",
        .lora_targets = "q_proj,v_proj",
        .causal = "Qwen3ForCausalLM",
        .classifier = "Qwen3ForSequenceClassification",
        .keys = attention_bias_keys,
        .activation_key = "hidden_act",
        .refused = no_refused,
        .base = {LLAMA_BASE, .activation = ACTIVATION_SILU, .head_dim = 128, .qk_norm = true, .window = 4096,
                 IDS(-1, -1, -1)},
        .names = {LLAMA_NAMES, NORM2, .q_norm = "model.layers.*.self_attn.q_norm",
                  .k_norm = "model.layers.*.self_attn.k_norm"},
        .theta_key = "rope_theta",
        .rotary_share = 1,
        .adapt = adapt_qwen,
    },
    {
        .type = "smollm3",
        .causal = "SmolLM3ForCausalLM",
        .classifier = "SmolLM3ForSequenceClassification",
        .keys = llama_keys,
        .activation_key = "hidden_act",
        .refused = smollm3_refused,
        .base = {.norm = NORM_RMS,
                 .norm_epsilon = 1e-6,
                 .gated = true,
                 .initializer_range = 0.02,
                 .embedding_scale = 1,
                 .activation = ACTIVATION_SILU,
                 .kv_heads = 4,
                 .max_positions = 32768,
                 .tied = true,
                 .rope = {.theta = 2000000},
                 .rope_choice = true,
                 IDS(128000, 128001, 128004)},
        .names = {LLAMA_NAMES, NORM2},
        .theta_key = "rope_theta",
        .rotary_share = 1,
        .adapt = adapt_smollm3,
    },
    {
        .type = "phi",
        .lora_targets = "q_proj,v_proj,fc1,fc2",
        .causal = "PhiForCausalLM",
        .classifier = "PhiForSequenceClassification",
        .keys = phi_keys,
        .activation_key = "hidden_act",
        .refused = phi_refused,
        .base = {LAYER_NORM_BASE, .activation = ACTIVATION_GELU_TANH, .parallel_residual = true,
                 .shared_norm = true, .head_bias = true, IDS(1, 2, -1)},
        .names = {.base = "model.",
                  .embed = "model.embed_tokens",
                  .final_norm = "model.final_layernorm",
                  .head = "lm_head",
                  .norm1 = "model.layers.*.input_layernorm",
                  .q = "model.layers.*.self_attn.q_proj",
                  .k = "model.layers.*.self_attn.k_proj",
                  .v = "model.layers.*.self_attn.v_proj",
                  .out = "model.layers.*.self_attn.dense",
                  .up = "model.layers.*.mlp.fc1",
                  .down = "model.layers.*.mlp.fc2"},
        .theta_key = "rope_theta",
        .rotary_share_key = "partial_rotary_factor",
        .rotary_share = 0.5,
    },
    {
        .type = "gemma",
        .lora_targets = "q_proj,v_proj",
        .causal = "GemmaForCausalLM",
        .classifier = "GemmaForSequenceClassification",
        .keys = attention_bias_keys,
        .activation_key = "hidden_activation",
        .refused = gemma_refused,
        .base = {LLAMA_BASE, .activation = ACTIVATION_GELU_TANH, .head_dim = 256, .norm_offset = 1,
                 .tied = true, IDS(2, 1, 0)},
        .names = {LLAMA_NAMES, NORM2},
        .theta_key = "rope_theta",
        .rotary_share = 1,
        .adapt = adapt_gemma,
    },
    {
        .type = "gemma2",
        .lora_targets = "q_proj,v_proj",
        .causal = "Gemma2ForCausalLM",
        .classifier = "Gemma2ForSequenceClassification",
        .keys = gemma2_keys,
        .activation_key = "hidden_activation",
        .refused = gemma_refused,
        .base = {LLAMA_BASE, .activation = ACTIVATION_GELU_TANH, .head_dim = 256, .norm_offset = 1,
                 .post_norms = true, .tied = true, .query_scalar = 256, .attention_softcap = 50,
                 .logit_softcap = 30, .window = 4096, IDS(2, 1, 0)},
        .names = {LLAMA_NAMES, .norm2 = "model.layers.*.pre_feedforward_layernorm",
                  .post_norm1 = "model.layers.*.post_attention_layernorm",
                  .post_norm2 = "model.layers.*.post_feedforward_layernorm"},
        .theta_key = "rope_theta",
        .rotary_share = 1,
        .adapt = adapt_gemma2,
    },
};

const struct family *family_find(const char *name, enum model_head *head) {
    for (int i = 0; i < COUNT_OF(families); i++) {
        const struct family *f = &families[i];
        if (strcmp(name, f->causal) == 0 || strcmp(name, f->type) == 0) {
            *head = HEAD_LANGUAGE;
            return f;
        }
        if (strcmp(name, f->classifier) == 0) {
            *head = HEAD_SCORE;
            return f;
        }
    }
    return NULL;
}

enum status family_list(struct text *out) {
    for (int i = 0; i < COUNT_OF(families); i++) {
        TRY(text_printf(out, "%s%s", i ? ", " : "", families[i].causal));
    }
    return OK;
}
