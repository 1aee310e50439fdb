#include "model/config.h"

#include <math.h>
#include <string.h>

#include "model/config_rope.h"
#include "model/family.h"
#include "util/mem.h"

enum { MOST_SIZE = 1 << 24 }; /* of one dimension; products are checked where they are made */

static const struct {
    const char *name;
    enum activation kind;
} activations[] = {
    {"silu", ACTIVATION_SILU},           {"swish", ACTIVATION_SILU},
    {"gelu", ACTIVATION_GELU},           {"gelu_new", ACTIVATION_GELU_TANH},
    {"gelu_fast", ACTIVATION_GELU_TANH}, {"gelu_pytorch_tanh", ACTIVATION_GELU_TANH},
    {"relu", ACTIVATION_RELU},
};

static enum status find_family(const json_t *json, const char *where, struct model_config *c) {
    const json_t *list = json_object_get(json, "architectures");
    const char *name = json_string_value(json_array_get(list, 0));
    if (!name) {
        TRY(json_take_string(json, "model_type", where, &name));
    }
    if (!name) {
        return fail(ERR_DATA, "%s: neither architectures nor model_type; is this a model's config.json?",
                    where);
    }
    enum model_head head = HEAD_LANGUAGE;
    const struct family *f = family_find(name, &head);
    if (!f) {
        struct text known = {0};
        const char *reason = family_refusal(name);
        enum status st = family_list(&known);
        if (st == OK) {
            st = fail(ERR_DATA, "%s: architecture \"%s\" %s; known: %s", where, name,
                      reason ? reason : "is not known", known.data);
        }
        text_free(&known);
        return st;
    }
    *c = f->base;
    c->family = f;
    c->head = head;
    return OK;
}

/* A family that is known, with experts or a second model inside. */
static enum status refuse_more(const json_t *json, const char *where) {
    static const char *const experts[] = {"num_local_experts", "num_experts", "n_routed_experts"};
    for (int i = 0; i < COUNT_OF(experts); i++) {
        int64_t n = 0;
        TRY(json_take_int(json, experts[i], where, &n));
        if (n > 1) {
            return fail(ERR_DATA, "%s: \"%s\" is %lld: a mixture of experts is not supported", where,
                        experts[i], (long long)n);
        }
    }
    return OK;
}

/* One value per key, set where it is missing and needed. */
static enum status take_keys(const json_t *json, const char *where, struct model_config *c) {
    for (const struct config_key *k = c->family->keys; k->name; k++) {
        void *field = (char *)c + k->offset;
        const json_t *value = json_object_get(json, k->name);
        if (k->required && (!value || json_is_null(value))) {
            return fail(ERR_DATA, "%s: \"%s\" is missing", where, k->name);
        }
        if (k->type == KEY_INT) {
            TRY(json_take_int(json, k->name, where, field));
        } else if (k->type == KEY_CAP && value && json_is_null(value)) {
            *(double *)field = 0;
        } else if (k->type != KEY_BOOL) {
            TRY(json_take_number(json, k->name, where, field));
        } else {
            TRY(json_take_bool(json, k->name, where, field));
        }
    }
    return OK;
}

static enum status take_activation(const json_t *json, const char *where, struct model_config *c) {
    const char *name = NULL;
    TRY(json_take_string(json, c->family->activation_key, where, &name));
    if (!name && !json_object_get(json, c->family->activation_key)) {
        TRY(json_take_string(json, "hidden_act", where, &name));
    }
    for (int i = 0; name && i < COUNT_OF(activations); i++) {
        if (strcmp(name, activations[i].name) == 0) {
            c->activation = activations[i].kind;
            return OK;
        }
    }
    return name ? fail(ERR_DATA,
                       "%s: activation \"%s\" is not supported (silu, gelu, gelu_new, "
                       "gelu_pytorch_tanh, relu)",
                       where, name)
                : OK;
}

static enum status refuse(const json_t *json, const char *where, const char *key) {
    const json_t *value = json_object_get(json, key);
    if (value && !json_is_null(value) && !json_is_false(value)) {
        return fail(ERR_DATA, "%s: \"%s\" is asked for and not supported", where, key);
    }
    return OK;
}

/* A token id; a list's first; null: none. */
static enum status take_id(const json_t *json, const char *where, const char *key, int32_t *id) {
    const json_t *value = json_object_get(json, key);
    if (!value) {
        return OK;
    }
    if (json_is_array(value)) {
        value = json_array_get(value, 0);
    }
    if (!value || json_is_null(value)) {
        *id = -1;
        return OK;
    }
    json_int_t number = json_integer_value(value);
    if (!json_is_integer(value) || number < -1 || number > INT32_MAX) {
        return fail(ERR_DATA, "%s: \"%s\" must be a token id", where, key);
    }
    *id = (int32_t)number;
    return OK;
}

static enum status take_labels(const json_t *json, const char *where, const struct model_config *c) {
    int64_t labels = -1;
    if (c->head != HEAD_SCORE) {
        return OK;
    }
    TRY(json_take_int(json, "num_labels", where, &labels));
    const json_t *names = json_object_get(json, "id2label");
    if (json_is_object(names)) {
        labels = (int64_t)json_object_size(names);
    }
    if (labels != 1) {
        return fail(ERR_DATA, "%s: a score head has one label; num_labels is %lld", where,
                    (long long)(labels < 0 ? 2 : labels));
    }
    return OK;
}

static enum status check_range(const char *where, const char *what, int64_t value, int64_t most) {
    if (value < 1 || value > most) {
        return fail(ERR_DATA, "%s: %s is %lld; expected 1 to %lld", where, what, (long long)value,
                    (long long)most);
    }
    return OK;
}

static enum status check_shape(const char *where, struct model_config *c) {
    TRY(check_range(where, "vocabulary size", c->vocabulary, MOST_SIZE));
    TRY(check_range(where, "width", c->width, MOST_SIZE));
    TRY(check_range(where, "number of layers", c->layers, MODEL_MAX_LAYERS));
    TRY(check_range(where, "number of heads", c->heads, 65536));
    TRY(check_range(where, "number of positions", c->max_positions, INT32_MAX));
    c->kv_heads = c->kv_heads ? c->kv_heads : c->heads;
    TRY(check_range(where, "number of key/value heads", c->kv_heads, c->heads));
    if (c->heads % c->kv_heads) {
        return fail(ERR_DATA, "%s: %lld heads do not divide into %lld key/value heads", where,
                    (long long)c->heads, (long long)c->kv_heads);
    }
    if (c->head_dim == 0 && c->width % c->heads) {
        return fail(ERR_DATA, "%s: width %lld does not divide into %lld heads", where, (long long)c->width,
                    (long long)c->heads);
    }
    c->head_dim = c->head_dim ? c->head_dim : c->width / c->heads;
    TRY(check_range(where, "head dimension", c->head_dim, 4096));
    if (!(c->norm_epsilon >= 0) || !(c->initializer_range >= 0) || c->initializer_range > 1e3) {
        return fail(ERR_DATA, "%s: norm epsilon %g or initializer_range %g is out of range", where,
                    c->norm_epsilon, c->initializer_range);
    }
    return OK;
}

static enum status parse_object(const json_t *json, const char *where, struct model_config *c) {
    if (!json_is_object(json)) {
        return fail(ERR_DATA, "%s: expected a JSON object", where);
    }
    TRY(find_family(json, where, c));
    TRY(refuse_more(json, where));
    TRY(refuse(json, where, "quantization_config"));
    TRY(refuse(json, where, "is_encoder_decoder"));
    for (const char *const *key = c->family->refused; *key; key++) {
        TRY(refuse(json, where, *key));
    }
    TRY(take_keys(json, where, c));
    TRY(take_activation(json, where, c));
    TRY(take_labels(json, where, c));
    TRY(take_id(json, where, "bos_token_id", &c->begin_id));
    TRY(take_id(json, where, "eos_token_id", &c->end_id));
    TRY(take_id(json, where, "pad_token_id", &c->pad_id));
    TRY(check_shape(where, c));
    c->attention_scale = c->attention_scale == 0 ? 1 / sqrt((double)c->head_dim) : c->attention_scale;
    if (c->family->adapt) {
        TRY(c->family->adapt(json, where, c));
    }
    TRY(check_range(where, "feed-forward width", c->ffn, MOST_SIZE));
    c->head_bias = c->head_bias && c->head == HEAD_LANGUAGE;
    return config_take_rope(json, where, c);
}

enum status model_config_parse(const char *json, size_t len, const char *where, struct model_config *out) {
    json_t *object;
    struct model_config c;
    TRY(json_parse(json, len, where, &object));
    enum status st = parse_object(object, where, &c);
    json_decref(object);
    if (st == OK) {
        *out = c;
    }
    return st;
}

int model_window(const struct model_config *c, int64_t layer) {
    return c->window_layers[layer / 64] >> (layer % 64) & 1 ? c->window : 0;
}

bool model_turns(const struct model_config *c, int64_t layer) {
    return !(c->plain_layers[layer / 64] >> (layer % 64) & 1);
}

/* Which layers have a window is said by layer_types: what is meant without it differs between families. */
static int print_window(const struct model_config *c, json_t *o) {
    bool has_kinds = c->window > 0 || c->family->local_theta_key; /* a layer without one differs in more */
    int64_t size = c->window > 0 ? c->window : c->family->base.window;
    int bad = config_set_missing(o, "sliding_window", has_kinds ? json_integer(size) : json_null());
    bad |= config_set_missing(o, "use_sliding_window", json_boolean(c->window > 0));
    if (!has_kinds) {
        return bad;
    }
    json_t *types = json_array();
    for (int64_t l = 0; l < c->layers; l++) {
        const char *type = model_window(c, l) > 0 ? "sliding_attention" : "full_attention";
        bad |= json_array_append_new(types, json_string(type));
    }
    return bad | config_set_missing(o, "layer_types", types);
}

/* In SmolLM3's list a 1 says that the layer turns. */
static int print_plain_layers(const struct model_config *c, json_t *o) {
    int bad = 0;
    json_t *list = json_array();
    for (int64_t l = 0; l < c->layers; l++) {
        bad |= json_array_append_new(list, json_integer(model_turns(c, l)));
    }
    return bad | json_object_set_new(o, "no_rope_layers", list);
}

static int print_keys(const struct model_config *c, json_t *o) {
    int bad = 0;
    for (const struct config_key *k = c->family->keys; k->name; k++) {
        const void *field = (const char *)c + k->offset;
        bool is_off = k->type == KEY_CAP && *(const double *)field == 0;
        json_t *value = is_off                ? json_null()
                        : k->type == KEY_INT  ? json_integer(*(const int64_t *)field)
                        : k->type == KEY_BOOL ? json_boolean(*(const bool *)field)
                                              : json_real(*(const double *)field);
        bad |= json_object_set_new(o, k->name, value);
    }
    return bad;
}

static int print_head(const struct model_config *c, json_t *o) {
    const struct family *f = c->family;
    bool scores = c->head == HEAD_SCORE;
    int bad = json_object_set_new(o, "architectures", json_pack("[s]", scores ? f->classifier : f->causal));
    bad |= json_object_set_new(o, "model_type", json_string(f->type));
    if (scores) {
        bad |= json_object_set_new(o, "num_labels", json_integer(1));
        bad |= json_object_set_new(o, "id2label", json_pack("{s:s}", "0", "LABEL_0"));
        bad |= json_object_set_new(o, "label2id", json_pack("{s:i}", "LABEL_0", 0));
    }
    const char *names[] = {"bos_token_id", "eos_token_id", "pad_token_id"};
    const int32_t ids[] = {c->begin_id, c->end_id, c->pad_id};
    for (int i = 0; i < COUNT_OF(names); i++) {
        int32_t old = -1;
        bool same =
            json_object_get(o, names[i]) && take_id(o, "config.json", names[i], &old) == OK && old == ids[i];
        if (!same) { /* a list that begins with the same id stays */
            bad |= json_object_set_new(o, names[i], ids[i] < 0 ? json_null() : json_integer(ids[i]));
        }
    }
    return bad;
}

enum status model_config_print(const struct model_config *c, const json_t *source, const char *dtype,
                               struct text *out) {
    json_t *o = source ? json_deep_copy(source) : json_object();
    int bad = 0;
    for (int i = 0; i < COUNT_OF(activations); i++) {
        if (activations[i].kind == c->activation) {
            bad |= config_set_missing(o, c->family->activation_key, json_string(activations[i].name));
            break;
        }
    }
    bad |= print_head(c, o) | print_keys(c, o);
    if (c->family->rotary_share > 0) {
        bad |= config_print_rope(c, o);
    }
    if (c->family->base.window > 0 || c->window > 0) {
        bad |= print_window(c, o);
    }
    if (c->rope_choice) {
        bad |= print_plain_layers(c, o);
    }
    bad |= json_object_set_new(o, "torch_dtype", json_string(dtype));
    bad |= json_object_set_new(o, "dtype", json_string(dtype));
    char *printed = bad ? NULL : json_dumps(o, JSON_INDENT(2) | JSON_SORT_KEYS);
    json_decref(o);
    if (!printed) {
        return fail(ERR_SYSTEM, "out of memory: printing a config.json");
    }
    enum status st = text_printf(out, "%s\n", printed);
    mem_free(printed);
    return st;
}

double model_flops_layers(const struct model_config *c) {
    double q = (double)(c->heads * c->head_dim), kv = (double)(c->kv_heads * c->head_dim);
    double attention = (double)c->width * (2 * q + 2 * kv);
    double mlp = (double)c->width * (double)c->ffn * (c->gated ? 3 : 2);
    return 2 * (double)c->layers * (attention + mlp);
}

double model_flops_head(const struct model_config *c) {
    return 2 * (double)c->width * (double)(c->head == HEAD_SCORE ? 1 : c->vocabulary);
}

double model_flops_attention(const struct model_config *c) {
    return 4 * (double)(c->heads * c->head_dim) * (double)c->layers;
}
