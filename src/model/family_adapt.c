#include "model/family_adapt.h"

#include <math.h>
#include <string.h>

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

/* Which layers have a window where layer_types does not say. */
typedef bool layer_has_window(int64_t layer, int64_t of);
static bool from_on(int64_t layer, int64_t first) {
    return layer >= first;
}
static bool every(int64_t layer, int64_t period) {
    return layer % period == 0;
}
static bool but_every(int64_t layer, int64_t period) {
    return (layer + 1) % period != 0;
}

/* Reads sliding_window into c->window and says which layers have it: those of layer_types, else those that
 * `has` names. */
static enum status take_window(const json_t *json, const char *where, struct model_config *c,
                               layer_has_window *has, int64_t of) {
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
    bool any = false;
    for (int64_t l = 0; l < c->layers; l++) {
        if (!listed && has(l, of)) {
            window_set(c, l);
        }
        any = any || model_window(c, l) > 0;
    }
    c->window = any ? c->window : 0;
    return OK;
}

/* The same where every sliding_window_pattern-th layer has none. */
static enum status take_pattern(const json_t *json, const char *where, struct model_config *c,
                                int64_t pattern) {
    TRY(json_take_int(json, "sliding_window_pattern", where, &pattern));
    if (pattern < 1) {
        return fail(ERR_DATA, "%s: sliding_window_pattern is %lld; expected at least 1", where,
                    (long long)pattern);
    }
    return take_window(json, where, c, but_every, pattern);
}

enum status adapt_mistral(const json_t *json, const char *where, struct model_config *c) {
    return take_window(json, where, c, from_on, 0);
}

enum status adapt_qwen(const json_t *json, const char *where, struct model_config *c) {
    bool use = false;
    int64_t first = 28;
    TRY(json_take_bool(json, "use_sliding_window", where, &use));
    TRY(json_take_int(json, "max_window_layers", where, &first));
    if (!use) {
        c->window = 0;
        return OK;
    }
    return take_window(json, where, c, from_on, first);
}

/* no_rope_layers has a 1 for each layer that turns; without it every fourth does not. */
enum status adapt_smollm3(const json_t *json, const char *where, struct model_config *c) {
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

enum status adapt_gemma(const json_t *json, const char *where, struct model_config *c) {
    (void)json;
    (void)where;
    /* Releases say "gelu" and mean the tanh form; transformers reads it so too. */
    if (c->activation == ACTIVATION_GELU) {
        c->activation = ACTIVATION_GELU_TANH;
    }
    c->embedding_scale = sqrt((double)c->width);
    return OK;
}

static enum status take_gemma_scales(const char *where, struct model_config *c) {
    c->embedding_scale = sqrt((double)c->width);
    if (c->query_scalar < 1) {
        return fail(ERR_DATA, "%s: query_pre_attn_scalar is %lld; expected at least 1", where,
                    (long long)c->query_scalar);
    }
    c->attention_scale = 1 / sqrt((double)c->query_scalar);
    return OK;
}

enum status adapt_gemma2(const json_t *json, const char *where, struct model_config *c) {
    TRY(take_gemma_scales(where, c));
    return take_window(json, where, c, every, 2);
}

enum status adapt_gemma3(const json_t *json, const char *where, struct model_config *c) {
    TRY(take_gemma_scales(where, c));
    if (json_is_null(json_object_get(json, "sliding_window"))) {
        return fail(ERR_DATA, "%s: sliding_window is null; which layers turn by rope_local_base_freq?",
                    where);
    }
    return take_pattern(json, where, c, 6);
}

/* Layers without a window do not turn. */
enum status adapt_cohere2(const json_t *json, const char *where, struct model_config *c) {
    TRY(take_pattern(json, where, c, 4));
    for (int64_t l = 0; l < c->layers; l++) {
        c->plain_layers[l / 64] |= (uint64_t)(model_window(c, l) == 0) << (l % 64);
    }
    return OK;
}

enum status adapt_granite(const json_t *json, const char *where, struct model_config *c) {
    (void)json;
    const double scales[] = {c->embedding_scale, c->attention_scale, c->residual_scale, c->logit_divisor};
    for (int i = 0; i < COUNT_OF(scales); i++) {
        if (!(scales[i] > 0 && isfinite(scales[i]))) {
            return fail(ERR_DATA, "%s: a multiplier or logits_scaling is %g; expected a positive number",
                        where, scales[i]);
        }
    }
    c->logit_scale = 1 / c->logit_divisor;
    return OK;
}

enum status adapt_gpt2(const json_t *json, const char *where, struct model_config *c) {
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
