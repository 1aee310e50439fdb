/* config.json of both layouts, what is refused and how, hostile values; rotary angles from their formulas. */
#include "tests/unit.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "model/pass_internal.h"
#include "util/mem.h"

#define SHAPE                                                                                                \
    "\"vocab_size\":97,\"hidden_size\":32,\"num_hidden_layers\":2,\"num_attention_heads\":4,\"intermediate_" \
    "size\":40"
#define SIX                                                                                                  \
    "\"vocab_size\":97,\"hidden_size\":32,\"num_hidden_layers\":6,\"num_attention_heads\":4,\"intermediate_" \
    "size\":40,\"num_key_value_heads\":2"
#define LLAMA "\"architectures\":[\"LlamaForCausalLM\"]," SHAPE

static enum status parse(const char *json, struct model_config *c) {
    status_clear();
    return model_config_parse(json, strlen(json), "config.json", c);
}

static void refuses(const char *json, const char *part) {
    struct model_config c;
    if (parse(json, &c) != ERR_DATA || !strstr(status_message()->text, part)) {
        FAIL("%s\ngives \"%s\"; expected ERR_DATA with \"%s\"", json, status_message()->text, part);
    }
}

static struct model_config accepts(const char *json) {
    struct model_config c = {0};
    if (parse(json, &c) != OK) {
        FAIL("%s: %s", json, status_message()->text);
    }
    return c;
}

static void test_layouts(void **state) {
    (void)state;
    struct model_config old =
        accepts("{" LLAMA ",\"rope_theta\":500,\"rope_scaling\":{\"type\":\"linear\",\"factor\":2}}");
    struct model_config new =
        accepts("{" LLAMA ",\"rope_parameters\":{\"rope_theta\":500,\"rope_type\":\"linear\","
                "\"factor\":2},\"rope_scaling\":null}");
    assert_true(old.rope.theta == 500 && new.rope.theta == 500);
    assert_true(old.rope.factor == 2 && new.rope.factor == 2);
    assert_int_equal(old.rope.scaling, ROPE_LINEAR);
    assert_int_equal(new.rope.scaling, ROPE_LINEAR);
    assert_int_equal(old.kv_heads, 4);
    assert_int_equal(old.head_dim, 8);
    assert_false(old.tied);
    struct model_config neox =
        accepts("{\"model_type\":\"gpt_neox\"," SHAPE ",\"rotary_pct\":0.5,\"rotary_emb_base\":100}");
    assert_int_equal(neox.rope.rotary_dim, 4);
    assert_true(neox.rope.theta == 100 && neox.parallel_residual && neox.qkv_bias);
    assert_int_equal(accepts("{\"model_type\":\"gpt_neox\"," SHAPE "}").rope.rotary_dim, 2);
    struct model_config ids = accepts("{" LLAMA ",\"eos_token_id\":[5,6],\"bos_token_id\":null}");
    assert_int_equal(ids.end_id, 5);
    assert_int_equal(ids.begin_id, -1);
    struct model_config score = accepts("{\"architectures\":[\"Qwen2ForSequenceClassification\"]," SHAPE
                                        ",\"id2label\":{\"0\":\"LABEL_0\"}}");
    assert_int_equal(score.head, HEAD_SCORE);
}

#define YARN(more) "\"rope_scaling\":{\"rope_type\":\"yarn\",\"factor\":4" more "}"
#define SCALED(type) ",\"rope_scaling\":{\"rope_type\":\"" type "\",\"factor\":4}"

/* As vLLM takes a model's length: the factor times what was trained on, but for llama3, whose
 * max_position_embeddings has it in; dynamic grows with the sequence. */
static void test_positions(void **state) {
    (void)state;
    static const struct {
        const char *json;
        int64_t positions;
    } cases[] = {
        {"{" LLAMA ",\"max_position_embeddings\":32}", 32},
        {"{" LLAMA ",\"max_position_embeddings\":32" SCALED("linear") "}", 128},
        {"{" LLAMA ",\"max_position_embeddings\":32" SCALED("dynamic") "}", 0},
        {"{" LLAMA ",\"max_position_embeddings\":32," YARN("") "}", 128},
        {"{" LLAMA ",\"max_position_embeddings\":32," YARN(",\"original_max_position_embeddings\":32") "}",
         128},
        {"{" LLAMA ",\"max_position_embeddings\":128," YARN(",\"original_max_position_embeddings\":32") "}",
         128},
        {"{" LLAMA ",\"max_position_embeddings\":256," YARN(",\"original_max_position_embeddings\":32") "}",
         256},
        {"{" LLAMA ",\"max_position_embeddings\":32," YARN(",\"original_max_position_embeddings\":1e300") "}",
         INT32_MAX},
    };
    for (int i = 0; i < COUNT_OF(cases); i++) {
        struct model_config c = accepts(cases[i].json);
        assert_int_equal(model_positions(&c), cases[i].positions);
    }
}

/* Only GPT-NeoX and Phi turn a part of a head, whatever else config.json says; transformers has it so. */
static void test_share(void **state) {
    (void)state;
    assert_int_equal(accepts("{" LLAMA ",\"partial_rotary_factor\":0.5}").rope.rotary_dim, 8);
    assert_int_equal(
        accepts("{" LLAMA ",\"rope_parameters\":{\"rope_theta\":100,\"partial_rotary_factor\":0.5}}")
            .rope.rotary_dim,
        8);
    assert_int_equal(
        accepts("{\"model_type\":\"phi\"," SHAPE ",\"partial_rotary_factor\":0.25}").rope.rotary_dim, 2);
    assert_int_equal(accepts("{\"model_type\":\"gpt_neox\"," SHAPE
                             ",\"rope_parameters\":{\"rope_theta\":100,\"partial_rotary_factor\":0.5}}")
                         .rope.rotary_dim,
                     4);
}

/* Which layers turn: the list's, or all but every fourth. */
static void test_plain_layers(void **state) {
    (void)state;
    struct model_config c = accepts("{\"model_type\":\"smollm3\"," SHAPE ",\"no_rope_layers\":[0,1]}");
    assert_true(!model_turns(&c, 0) && model_turns(&c, 1));
    c = accepts("{\"model_type\":\"smollm3\"," SHAPE ",\"no_rope_layer_interval\":2}");
    assert_true(model_turns(&c, 0) && !model_turns(&c, 1));
    c = accepts("{\"model_type\":\"smollm3\"," SHAPE "}");
    assert_true(model_turns(&c, 0) && model_turns(&c, 1) && c.tied);
    refuses("{\"model_type\":\"smollm3\"," SHAPE ",\"no_rope_layers\":[0]}", "no_rope_layers");
    refuses("{\"model_type\":\"smollm3\"," SHAPE ",\"no_rope_layers\":[0,\"x\"]}", "no_rope_layers[1]");
    refuses("{\"model_type\":\"smollm3\"," SHAPE ",\"no_rope_layer_interval\":0}", "no_rope_layers");
    refuses("{\"model_type\":\"smollm3\"," SHAPE ",\"use_sliding_window\":true}", "use_sliding_window");
}

static void test_windows(void **state) {
    (void)state;
    /* Every sixth layer of Gemma 3 and every fourth of Command R7B has none; the latter do not turn. */
    struct model_config g3 = accepts("{\"model_type\":\"gemma3_text\"," SIX "}");
    struct model_config r7 = accepts("{\"model_type\":\"cohere2\"," SIX "}");
    for (int64_t l = 0; l < 6; l++) {
        assert_int_equal(model_window(&g3, l), l == 5 ? 0 : 4096);
        assert_int_equal(model_window(&r7, l), l == 3 ? 0 : 4096);
        assert_true(model_turns(&g3, l) && model_turns(&r7, l) == (l != 3));
    }
    g3 = accepts("{\"model_type\":\"gemma3_text\"," SIX ",\"sliding_window_pattern\":1}");
    assert_int_equal(g3.window, 0);
    refuses("{\"model_type\":\"gemma3_text\"," SIX ",\"sliding_window\":null}", "sliding_window is null");
    refuses("{\"model_type\":\"cohere2\"," SIX ",\"sliding_window_pattern\":0}",
            "sliding_window_pattern is 0");
    struct model_config gemma = accepts("{\"model_type\":\"gemma2\"," SHAPE ",\"sliding_window\":9}");
    assert_int_equal(model_window(&gemma, 0), 9);
    assert_int_equal(model_window(&gemma, 1), 0);
    struct model_config qwen = accepts("{\"model_type\":\"qwen2\"," SHAPE ",\"sliding_window\":9,"
                                       "\"use_sliding_window\":true,\"max_window_layers\":1}");
    assert_int_equal(model_window(&qwen, 0), 0);
    assert_int_equal(model_window(&qwen, 1), 9);
    struct model_config listed =
        accepts("{\"model_type\":\"qwen3\"," SHAPE ",\"sliding_window\":9,\"use_sliding_window\":"
                "true,\"layer_types\":[\"sliding_attention\",\"full_attention\"]}");
    assert_int_equal(model_window(&listed, 0), 9);
    assert_int_equal(model_window(&listed, 1), 0);
    struct model_config mistral =
        accepts("{\"model_type\":\"mistral\"," SHAPE ",\"num_key_value_heads\":2,\"sliding_window\":null}");
    assert_int_equal(model_window(&mistral, 0), 0);
}

#define PHI "{\"model_type\":\"phi3\"," SHAPE
#define LONG(type, n)                                                                      \
    ",\"rope_scaling\":{\"type\":\"" type "\",\"short_factor\":[1,1,2,4],\"long_factor\":" \
    "[1,2,4," n "],\"original_max_position_embeddings\":7}"

/* Where the long factors begin is what stands beside the scaling, then 4096; the names of older files. */
static void test_long(void **state) {
    (void)state;
    struct model_config c = accepts(PHI LONG("su", "8") ",\"max_position_embeddings\":131072}");
    assert_true(c.rope.scaling == ROPE_LONG && model_rope_break(&c) == 4096 && c.rope.factor == 32);
    assert_true(fabs(c.rope.attention_factor - sqrt(1 + log(32) / log(4096))) < 1e-15);
    assert_true(c.rope.long_factors[3] == 8 && c.rope.short_factors[3] == 4);
    assert_int_equal(model_positions(&c), 131072);
    c = accepts(PHI LONG("yarn", "8") ",\"original_max_position_embeddings\":10}");
    assert_int_equal(model_rope_break(&c), 10);
    c = accepts("{" LLAMA LONG("longrope", "8") "}"); /* another family: the scaling's own */
    assert_int_equal(model_rope_break(&c), 7);
    refuses(PHI LONG("longrope", "8,9") "}", "needs 4 numbers in long_factor; there are 5");
    refuses(PHI LONG("longrope", "-1") "}", "long_factor[3] is no positive number");
    refuses(PHI LONG("linear", "8") "}", "is none that a model of phi3 has");
    refuses(PHI LONG("su", "8") ",\"original_max_position_embeddings\":0}",
            "original_max_position_embeddings");
}

/* Layers with a window have a theta of their own, in both layouts; the scaling is of the others. */
static void test_local(void **state) {
    (void)state;
    struct model_config old =
        accepts("{\"model_type\":\"gemma3_text\"," SIX ",\"rope_theta\":500,\"rope_local_base_freq\":50,"
                "\"rope_scaling\":{\"rope_type\":\"linear\",\"factor\":8}}");
    struct model_config new = accepts(
        "{\"model_type\":\"gemma3_text\"," SIX ",\"rope_parameters\":{\"full_attention\":{\"rope_theta\":500,"
        "\"rope_type\":\"linear\",\"factor\":8},\"sliding_attention\":{\"rope_theta\":50}}}");
    struct model_config neither = accepts("{\"model_type\":\"gemma3_text\"," SIX "}");
    assert_memory_equal(&old, &new, sizeof old);
    assert_true(old.rope.theta == 500 && old.rope.factor == 8 && old.local_theta == 50);
    assert_true(neither.rope.theta == 1e6 && neither.local_theta == 10000);
    refuses("{\"model_type\":\"gemma3_text\"," SIX
            ",\"rope_parameters\":{\"sliding_attention\":{\"rope_type\":\"yarn\"}}}",
            "rope type default");
}

/* What kind of model it is, by either name. */
static void test_kinds(void **state) {
    (void)state;
    static const char *const experts[] = {"MixtralForCausalLM",
                                          "Qwen2MoeForCausalLM",
                                          "Qwen3MoeForCausalLM",
                                          "OlmoeForCausalLM",
                                          "GraniteMoeForCausalLM",
                                          "PhiMoEForCausalLM",
                                          "DeepseekV3ForCausalLM",
                                          "GptOssForCausalLM",
                                          "mixtral",
                                          "qwen2_moe",
                                          "qwen3_moe",
                                          "olmoe",
                                          "granitemoe",
                                          "phimoe",
                                          "deepseek_v2",
                                          "gpt_oss",
                                          "DbrxForCausalLM",
                                          "Llama4ForCausalLM"};
    char json[256];
    for (int i = 0; i < COUNT_OF(experts); i++) {
        bool is_type = experts[i][0] >= 'a';
        snprintf(json, sizeof json, is_type ? "{\"model_type\":\"%s\"}" : "{\"architectures\":[\"%s\"]}",
                 experts[i]);
        refuses(json, "is a mixture of experts, which is not supported; known: ");
    }
    refuses("{\"architectures\":[\"T5ForConditionalGeneration\"]}", "an encoder and a decoder");
    refuses("{\"architectures\":[\"Gemma3ForConditionalGeneration\"]}", "images");
    refuses("{\"model_type\":\"qwen2_5_vl\"}", "images");
    refuses("{\"model_type\":\"falcon_mamba\"}", "state-space");
    refuses("{" LLAMA ",\"num_local_experts\":8}", "\"num_local_experts\" is 8: a mixture of experts");
    refuses("{\"model_type\":\"granite\"," SHAPE ",\"logits_scaling\":0}", "logits_scaling is 0");
    refuses("{\"model_type\":\"cohere\"," SHAPE ",\"use_qk_norm\":true}", "use_qk_norm");
}

static void test_refusals(void **state) {
    (void)state;
    refuses("{}", "architectures");
    refuses("[]", "JSON object");
    refuses("{\"architectures\":[\"BertModel\"]}", "BertModel\" is not known; known: LlamaForCausalLM");
    refuses("{\"architectures\":[\"LlamaForCausalLM\"]}", "\"vocab_size\" is missing");
    refuses("{" LLAMA ",\"hidden_act\":\"mish\"}", "mish");
    refuses("{" LLAMA ",\"rope_scaling\":{\"rope_type\":\"longrope\"}}", "longrope");
    refuses("{" LLAMA ",\"rope_scaling\":{\"rope_type\":\"llama3\",\"factor\":8}}", "low_freq_factor");
    refuses("{" LLAMA ",\"rope_scaling\":{\"rope_type\":\"linear\"}}", "factor");
    refuses("{" LLAMA ",\"quantization_config\":{\"bits\":4}}", "quantization_config");
    refuses("{" LLAMA ",\"num_key_value_heads\":3}", "key/value heads");
    refuses("{" LLAMA ",\"num_key_value_heads\":-1}", "key/value heads");
    refuses("{" LLAMA ",\"head_dim\":7}", "rotary");
    refuses("{" LLAMA ",\"rms_norm_eps\":\"small\"}", "rms_norm_eps");
    refuses("{" LLAMA ",\"max_position_embeddings\":0}", "positions");
    refuses("{" LLAMA ",\"eos_token_id\":99999999999}", "eos_token_id");
    refuses("{\"model_type\":\"phi\"," SHAPE ",\"qk_layernorm\":true}", "qk_layernorm");
    refuses("{\"architectures\":[\"LlamaForSequenceClassification\"]," SHAPE "}", "num_labels is 2");
    refuses("{\"architectures\":[\"LlamaForCausalLM\"],\"vocab_size\":97,\"hidden_size\":-32,\"num_hidden_"
            "layers\":2,"
            "\"num_attention_heads\":4,\"intermediate_size\":40}",
            "width is -32");
    refuses("{\"architectures\":[\"LlamaForCausalLM\"],\"vocab_size\":97,\"hidden_size\":32,\"num_hidden_"
            "layers\":9999999,"
            "\"num_attention_heads\":4,\"intermediate_size\":40}",
            "layers is 9999999");
    refuses("{\"model_type\":\"mistral\"," SHAPE
            ",\"num_key_value_heads\":2,\"layer_types\":[\"linear_attention\","
            "\"full_attention\"]}",
            "linear_attention");
    refuses("{" LLAMA, "not valid JSON");
}

/* What is printed is read back the same. */
static void test_printing(void **state) {
    (void)state;
    static const char *const configs[] = {
        "{" LLAMA ",\"rope_scaling\":{\"rope_type\":\"yarn\",\"factor\":4,\"beta_fast\":20}}",
        "{\"model_type\":\"gemma2\"," SHAPE ",\"sliding_window\":9,\"attn_logit_softcapping\":null}",
        "{\"model_type\":\"gpt2\",\"vocab_size\":97,\"n_embd\":32,\"n_layer\":2,\"n_head\":4}",
        "{\"model_type\":\"smollm3\"," SHAPE ",\"no_rope_layers\":[0,1]}",
        PHI LONG("su", "8") ",\"sliding_window\":9}",
        PHI ",\"partial_rotary_factor\":0.5}",
        "{" LLAMA LONG("longrope", "8") "}",
        "{\"model_type\":\"granite\"," SHAPE ",\"logits_scaling\":3,\"embedding_multiplier\":12}",
        "{\"model_type\":\"olmo2\"," SHAPE "}",
        "{\"model_type\":\"cohere\"," SHAPE ",\"logit_scale\":0.25}",
        "{\"model_type\":\"cohere2\"," SIX "}",
        "{\"model_type\":\"cohere2\"," SIX ",\"sliding_window\":null}",
        "{\"model_type\":\"gemma3_text\"," SIX ",\"rope_local_base_freq\":50}",
        "{\"model_type\":\"gemma3_text\"," SIX ",\"sliding_window_pattern\":1}",
        "{\"model_type\":\"qwen2\"," SHAPE
        ",\"sliding_window\":9,\"use_sliding_window\":true,\"max_window_layers\":1}",
        "{\"model_type\":\"qwen2\"," SHAPE
        ",\"sliding_window\":9,\"use_sliding_window\":true,\"max_window_layers\":0}",
        "{\"model_type\":\"qwen2\"," SHAPE
        ",\"sliding_window\":9,\"use_sliding_window\":true,\"max_window_layers\":2}",
        "{\"model_type\":\"gemma2\"," SHAPE
        ",\"sliding_window\":9,\"layer_types\":[\"sliding_attention\",\"sliding_attention\"]}",
        "{\"model_type\":\"gemma2\"," SHAPE
        ",\"sliding_window\":9,\"layer_types\":[\"full_attention\",\"full_attention\"]}",
        "{\"model_type\":\"gpt2\",\"vocab_size\":97,\"n_embd\":32,\"n_layer\":2,\"n_head\":4,"
        "\"scale_attn_weights\":false}",
        /* 44 x (30 / 44) is less than 30 in double precision */
        "{\"model_type\":\"gpt_neox\",\"vocab_size\":97,\"hidden_size\":44,\"num_hidden_layers\":2,"
        "\"num_attention_heads\":1,\"intermediate_size\":40,\"rotary_pct\":0.69}",
        "{" LLAMA ",\"rope_scaling\":{\"rope_type\":\"yarn\",\"factor\":2,"
        "\"original_max_position_embeddings\":1e300}}",
        "{" LLAMA ",\"rope_scaling\":{\"rope_type\":\"yarn\",\"factor\":2,"
        "\"original_max_position_embeddings\":0.5}}",
    };
    for (int i = 0; i < COUNT_OF(configs); i++) {
        for (int with_source = 0; with_source < 2; with_source++) {
            struct model_config first = accepts(configs[i]);
            struct text out = {0};
            json_t *source = NULL;
            assert_int_equal(json_parse(configs[i], strlen(configs[i]), "source", &source), OK);
            assert_int_equal(model_config_print(&first, with_source ? source : NULL, "float32", &out), OK);
            struct model_config again = accepts(out.data);
            assert_memory_equal(&first, &again, sizeof first);
            json_decref(source);
            text_free(&out);
        }
    }
}

/* One row of the table: position, length of the sequence. */
static void angles(const struct model_config *c, int32_t position, int32_t length, double row[64]) {
    struct rope_cache cache = {0};
    assert_int_equal(rope_table(&cache, c, &position, &length, 1, row), OK);
    rope_cache_free(&cache);
}

static void test_rope(void **state) {
    (void)state;
    double row[64];
    struct model_config c = accepts("{" LLAMA ",\"rope_theta\":100}");
    angles(&c, 5, 6, row);
    for (int i = 0; i < 4; i++) { /* head_dim 8: angle = position * theta^(-2i/8) */
        assert_true(fabs(row[i] - cos(5 * pow(100, -i / 4.0))) < 1e-14);
        assert_true(fabs(row[4 + i] - sin(5 * pow(100, -i / 4.0))) < 1e-14);
    }
    /* Dynamic: as default up to max_positions, then theta grows: theta (f n / m - (f - 1))^(d / (d - 2)). */
    struct model_config d = accepts("{" LLAMA ",\"rope_theta\":100,\"max_position_embeddings\":10,"
                                    "\"rope_scaling\":{\"rope_type\":\"dynamic\",\"factor\":3}}");
    double plain[64];
    angles(&d, 5, 10, plain);
    assert_memory_equal(plain, row, 8 * sizeof *row);
    angles(&d, 5, 25, row);
    double theta = 100 * pow(3 * 2.5 - 2, 8.0 / 6);
    for (int i = 0; i < 4; i++) {
        assert_true(fabs(row[i] - cos(5 * pow(theta, -i / 4.0))) < 1e-14);
    }
    /* Longrope: the factors of sequences up to the original positions, and of longer ones; times a constant.
     */
    struct model_config s = accepts(PHI LONG("longrope", "8") ",\"original_max_position_embeddings\":10,"
                                                              "\"max_position_embeddings\":40}");
    double grow = sqrt(1 + log(4) / log(10));
    angles(&s, 3, 10, row);
    assert_true(fabs(row[3] - grow * cos(3 * pow(10000, -0.75) / 4)) < 1e-14);
    angles(&s, 3, 11, row);
    assert_true(fabs(row[3] - grow * cos(3 * pow(10000, -0.75) / 8)) < 1e-14);
    /* Llama 3: a fast pair is kept, a slow one divided. */
    struct model_config l =
        accepts("{" LLAMA ",\"rope_theta\":1e6,\"rope_scaling\":{\"rope_type\":\"llama3\",\"factor\":8,"
                "\"low_freq_factor\":1,\"high_freq_factor\":4,"
                "\"original_max_position_embeddings\":100}}");
    angles(&l, 3, 4, row);
    assert_true(fabs(row[4] - sin(3.0)) < 1e-14);
    assert_true(fabs(row[7] - sin(3 * pow(1e6, -0.75) / 8)) < 1e-14);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_long),         cmocka_unit_test(test_local),   cmocka_unit_test(test_kinds),
        cmocka_unit_test(test_plain_layers), cmocka_unit_test(test_layouts), cmocka_unit_test(test_positions),
        cmocka_unit_test(test_share),        cmocka_unit_test(test_windows), cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_printing),     cmocka_unit_test(test_rope),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
