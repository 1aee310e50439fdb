#include "model/family.h"

#include <string.h>

#include "model/family_adapt.h"

#define INT(name_, field) \
    { name_, KEY_INT, offsetof(struct model_config, field), false }
#define NEED(name_, field) \
    { name_, KEY_INT, offsetof(struct model_config, field), true }
#define NUMBER(name_, field) \
    { name_, KEY_NUMBER, offsetof(struct model_config, field), false }
#define CAP(name_, field) \
    { name_, KEY_CAP, offsetof(struct model_config, field), false }
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
static const struct config_key gemma_cap_keys[] = {
    LLAMA_KEYS,
    BOOL("attention_bias", qkv_bias),
    BOOL("attention_bias", out_bias),
    INT("query_pre_attn_scalar", query_scalar),
    CAP("attn_logit_softcapping", attention_softcap),
    CAP("final_logit_softcapping", logit_softcap),
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

static const struct config_key granite_keys[] = {
    LLAMA_KEYS,
    BOOL("attention_bias", qkv_bias),
    BOOL("attention_bias", out_bias),
    BOOL("mlp_bias", mlp_bias),
    NUMBER("embedding_multiplier", embedding_scale),
    NUMBER("attention_multiplier", attention_scale),
    NUMBER("residual_multiplier", residual_scale),
    NUMBER("logits_scaling", logit_divisor),
    END,
};
static const struct config_key cohere_keys[] = {
    SHAPE_KEYS,
    INT("num_key_value_heads", kv_heads),
    NUMBER("layer_norm_eps", norm_epsilon),
    NUMBER("logit_scale", logit_scale),
    BOOL("attention_bias", qkv_bias),
    BOOL("attention_bias", out_bias),
    END,
};

static const char *const no_refused[] = {NULL};
static const char *const phi_refused[] = {"qk_layernorm", NULL};
static const char *const smollm3_refused[] = {"use_sliding_window", NULL};
static const char *const gemma_refused[] = {"use_bidirectional_attention", NULL};
static const char *const cohere_refused[] = {"use_qk_norm", NULL};
static const char *const gpt2_refused[] = {"add_cross_attention", "scale_attn_by_inverse_layer_idx", NULL};

#define LLAMA_NAMES                                                                                 \
    .base = "model.", .embed = "model.embed_tokens", .final_norm = "model.norm", .head = "lm_head", \
    .norm1 = "model.layers.*.input_layernorm", .q = "model.layers.*.self_attn.q_proj",              \
    .k = "model.layers.*.self_attn.k_proj", .v = "model.layers.*.self_attn.v_proj",                 \
    .out = "model.layers.*.self_attn.o_proj", .gate = "model.layers.*.mlp.gate_proj",               \
    .up = "model.layers.*.mlp.up_proj", .down = "model.layers.*.mlp.down_proj"
#define UNSCALED .embedding_scale = 1, .residual_scale = 1, .logit_scale = 1
#define LLAMA_BASE                                                                                           \
    .norm = NORM_RMS, .norm_epsilon = 1e-6, .gated = true, .max_positions = 2048, .initializer_range = 0.02, \
    UNSCALED, .rope = {.theta = 10000}
#define LAYER_NORM_BASE                                                                              \
    .norm = NORM_LAYER, .norm_epsilon = 1e-5, .norm_bias = true, .qkv_bias = true, .out_bias = true, \
    .mlp_bias = true, .max_positions = 2048, .initializer_range = 0.02, UNSCALED, .rope = {.theta = 10000}
#define COHERE_BASE                                                                                          \
    .norm = NORM_LAYER, .norm_epsilon = 1e-5, .gated = true, .parallel_residual = true, .shared_norm = true, \
    .tied = true, .max_positions = 8192, .initializer_range = 0.02, .embedding_scale = 1,                    \
    .residual_scale = 1, .logit_scale = 0.0625, .activation = ACTIVATION_SILU,                               \
    .rope = {.theta = 10000, .interleaved = true}
#define GEMMA_NORMS                                          \
    .norm2 = "model.layers.*.pre_feedforward_layernorm",     \
    .post_norm1 = "model.layers.*.post_attention_layernorm", \
    .post_norm2 = "model.layers.*.post_feedforward_layernorm"
#define QK_NORMS .q_norm = "model.layers.*.self_attn.q_norm", .k_norm = "model.layers.*.self_attn.k_norm"
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
        .names = {LLAMA_NAMES, NORM2, QK_NORMS},
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
                 UNSCALED,
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
        .keys = gemma_cap_keys,
        .activation_key = "hidden_activation",
        .refused = gemma_refused,
        .base = {LLAMA_BASE, .activation = ACTIVATION_GELU_TANH, .head_dim = 256, .norm_offset = 1,
                 .post_norms = true, .tied = true, .query_scalar = 256, .attention_softcap = 50,
                 .logit_softcap = 30, .window = 4096, IDS(2, 1, 0)},
        .names = {LLAMA_NAMES, GEMMA_NORMS},
        .theta_key = "rope_theta",
        .rotary_share = 1,
        .adapt = adapt_gemma2,
    },
    {
        .type = "gemma3_text",
        .lora_targets = "q_proj,v_proj",
        .causal = "Gemma3ForCausalLM",
        .classifier = "Gemma3TextForSequenceClassification",
        .keys = gemma_cap_keys,
        .activation_key = "hidden_activation",
        .refused = gemma_refused,
        .base = {.norm = NORM_RMS,
                 .norm_epsilon = 1e-6,
                 .gated = true,
                 .initializer_range = 0.02,
                 UNSCALED,
                 .activation = ACTIVATION_GELU_TANH,
                 .kv_heads = 4,
                 .head_dim = 256,
                 .max_positions = 131072,
                 .norm_offset = 1,
                 .post_norms = true,
                 .qk_norm = true,
                 .tied = true,
                 .query_scalar = 256,
                 .window = 4096,
                 .rope = {.theta = 1e6},
                 .local_theta = 10000,
                 IDS(2, 1, 0)},
        .names = {LLAMA_NAMES, GEMMA_NORMS, QK_NORMS},
        .theta_key = "rope_theta",
        .local_theta_key = "rope_local_base_freq",
        .rotary_share = 1,
        .adapt = adapt_gemma3,
    },
    {
        .type = "phi3",
        .causal = "Phi3ForCausalLM",
        .classifier = "Phi3ForSequenceClassification",
        .keys = mistral_keys,
        .activation_key = "hidden_act",
        .refused = no_refused,
        .base = {.norm = NORM_RMS,
                 .norm_epsilon = 1e-5,
                 .gated = true,
                 .initializer_range = 0.02,
                 UNSCALED,
                 .activation = ACTIVATION_SILU,
                 .max_positions = 4096,
                 .rope = {.theta = 10000},
                 IDS(1, 32000, 32000)},
        .names = {.base = "model.",
                  .embed = "model.embed_tokens",
                  .final_norm = "model.norm",
                  .head = "lm_head",
                  .norm1 = "model.layers.*.input_layernorm",
                  NORM2,
                  .qkv = "model.layers.*.self_attn.qkv_proj",
                  .out = "model.layers.*.self_attn.o_proj",
                  .gate_up = "model.layers.*.mlp.gate_up_proj",
                  .down = "model.layers.*.mlp.down_proj"},
        .theta_key = "rope_theta",
        .rotary_share_key = "partial_rotary_factor",
        .rotary_share = 1,
        .long_from = 4096,
        .adapt = adapt_mistral,
    },
    {
        .type = "olmo2",
        .causal = "Olmo2ForCausalLM",
        .classifier = "Olmo2ForSequenceClassification",
        .keys = attention_bias_keys,
        .activation_key = "hidden_act",
        .refused = no_refused,
        .base = {.norm = NORM_RMS,
                 .norm_epsilon = 1e-5,
                 .gated = true,
                 .initializer_range = 0.02,
                 UNSCALED,
                 .activation = ACTIVATION_SILU,
                 .max_positions = 2048,
                 .post_norms = true,
                 .qk_norm = true,
                 .qk_norm_whole = true,
                 .rope = {.theta = 10000},
                 IDS(-1, 50279, 1)},
        .names = {.base = "model.",
                  .embed = "model.embed_tokens",
                  .final_norm = "model.norm",
                  .head = "lm_head",
                  .post_norm1 = "model.layers.*.post_attention_layernorm",
                  .post_norm2 = "model.layers.*.post_feedforward_layernorm",
                  QK_NORMS,
                  .q = "model.layers.*.self_attn.q_proj",
                  .k = "model.layers.*.self_attn.k_proj",
                  .v = "model.layers.*.self_attn.v_proj",
                  .out = "model.layers.*.self_attn.o_proj",
                  .gate = "model.layers.*.mlp.gate_proj",
                  .up = "model.layers.*.mlp.up_proj",
                  .down = "model.layers.*.mlp.down_proj"},
        .theta_key = "rope_theta",
        .rotary_share = 1,
    },
    {
        .type = "granite",
        .causal = "GraniteForCausalLM",
        .keys = granite_keys,
        .activation_key = "hidden_act",
        .refused = no_refused,
        .base = {LLAMA_BASE, .activation = ACTIVATION_SILU, .attention_scale = 1, .logit_divisor = 1,
                 IDS(1, 2, -1)},
        .names = {LLAMA_NAMES, NORM2},
        .theta_key = "rope_theta",
        .rotary_share = 1,
        .adapt = adapt_granite,
    },
    {
        .type = "cohere",
        .causal = "CohereForCausalLM",
        .keys = cohere_keys,
        .activation_key = "hidden_act",
        .refused = cohere_refused,
        .base = {COHERE_BASE, IDS(5, 255001, 0)},
        .names = {LLAMA_NAMES},
        .theta_key = "rope_theta",
        .rotary_share = 1,
    },
    {
        .type = "cohere2",
        .causal = "Cohere2ForCausalLM",
        .keys = cohere_keys,
        .activation_key = "hidden_act",
        .refused = cohere_refused,
        .base = {COHERE_BASE, .window = 4096, IDS(5, 255001, 0)},
        .names = {LLAMA_NAMES},
        .theta_key = "rope_theta",
        .rotary_share = 1,
        .adapt = adapt_cohere2,
    },
};

const struct family *family_find(const char *name, enum model_head *head) {
    for (int i = 0; i < COUNT_OF(families); i++) {
        const struct family *f = &families[i];
        if (strcmp(name, f->causal) == 0 || strcmp(name, f->type) == 0) {
            *head = HEAD_LANGUAGE;
            return f;
        }
        if (f->classifier && strcmp(name, f->classifier) == 0) {
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
