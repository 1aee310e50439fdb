#include "store/adapter_config.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "model/family.h"
#include "util/log.h"
#include "util/mem.h"
#include "util/text.h"

/* Keys that change nothing of what the tensors say, or that are read below. */
static const char *const known[] = {"peft_type",
                                    "task_type",
                                    "base_model_name_or_path",
                                    "revision",
                                    "peft_version",
                                    "auto_mapping",
                                    "r",
                                    "lora_alpha",
                                    "lora_dropout",
                                    "use_rslora",
                                    "target_modules",
                                    "bias",
                                    "rank_pattern",
                                    "alpha_pattern",
                                    "modules_to_save",
                                    "fan_in_fan_out",
                                    "use_dora",
                                    "init_lora_weights",
                                    "inference_mode",
                                    "megatron_core",
                                    "exclude_modules",
                                    "layers_to_transform",
                                    "layers_pattern",
                                    "runtime_config",
                                    "qalora_group_size",
                                    "ensure_weight_tying"};

/* null, false, an empty list or object: the key asks for nothing. */
static bool asks_nothing(const json_t *value) {
    return json_is_null(value) || json_is_false(value) ||
           (json_is_object(value) && json_object_size(value) == 0) ||
           (json_is_array(value) && json_array_size(value) == 0);
}

static enum status refuse(const char *where, const char *what) {
    return fail(ERR_DATA,
                "%s: %s is not supported; supported: LoRA with r, lora_alpha, use_rslora, target_modules, "
                "exclude_modules, layers_to_transform, rank_pattern, alpha_pattern, fan_in_fan_out, "
                "modules_to_save, bias none",
                where, what);
}

/* Initial values that leave the base's weights as they are: the others' tensors belong to a changed base. */
static enum status check_init(const json_t *config, const char *where) {
    static const char *const plain[] = {"gaussian", "orthogonal", "default", "lora_default"};
    const json_t *init = json_object_get(config, "init_lora_weights");
    const char *name = json_string_value(init);
    char what[128];
    if (!name) {
        return OK;
    }
    for (int i = 0; i < COUNT_OF(plain); i++) {
        if (strcmp(name, plain[i]) == 0) {
            return OK;
        }
    }
    snprintf(what, sizeof what, "\"init_lora_weights\": \"%.60s\" (it changes the base's weights)", name);
    return refuse(where, what);
}

static enum status check_keys(const json_t *config, const char *where) {
    const char *key;
    json_t *value;
    char what[128];
    json_object_foreach((json_t *)config, key, value) {
        bool is_known = asks_nothing(value);
        for (int i = 0; i < COUNT_OF(known); i++) {
            is_known = is_known || strcmp(key, known[i]) == 0;
        }
        if (!is_known) {
            snprintf(what, sizeof what, "\"%.80s\"", key);
            return refuse(where, what);
        }
    }
    return OK;
}

static enum status check_config(const json_t *config, const char *where) {
    const char *type = "", *bias = "none", *task = "CAUSAL_LM";
    bool dora = false;
    char what[128];
    if (!json_is_object(config)) {
        return fail(ERR_DATA, "%s: not a JSON object", where);
    }
    TRY(json_take_string(config, "peft_type", where, &type));
    TRY(json_take_string(config, "bias", where, &bias));
    TRY(json_take_string(config, "task_type", where, &task));
    TRY(json_take_bool(config, "use_dora", where, &dora));
    if (strcmp(type, "LORA") != 0) {
        snprintf(what, sizeof what, "\"peft_type\": \"%.60s\"", type);
        return refuse(where, what);
    }
    if (strcmp(bias, "none") != 0) {
        snprintf(what, sizeof what, "\"bias\": \"%.60s\"", bias);
        return refuse(where, what);
    }
    if (strcmp(task, "CAUSAL_LM") != 0 && strcmp(task, "SEQ_CLS") != 0) {
        snprintf(what, sizeof what, "\"task_type\": \"%.60s\"", task);
        return refuse(where, what);
    }
    TRY(dora ? refuse(where, "\"use_dora\"") : OK);
    TRY(check_init(config, where));
    TRY(adapter_layers_check(config, where));
    return check_keys(config, where);
}

enum status adapter_config_read(const char *folder, json_t **out) {
    struct text path = {0};
    *out = NULL;
    enum status st = text_printf(&path, "%s/adapter_config.json", folder);
    st = st == OK ? json_load(path.data, out) : st;
    st = st == OK ? check_config(*out, path.data) : st;
    text_free(&path);
    if (st != OK) {
        json_decref(*out);
        *out = NULL;
    }
    return st;
}

enum model_head adapter_config_head(const json_t *config) {
    const char *task = json_string_value(json_object_get(config, "task_type"));
    return model_head_for(task && strcmp(task, "SEQ_CLS") == 0);
}

/* Names with commas between them as a JSON array. */
static json_t *list_of(const char *names) {
    json_t *list = json_array();
    for (const char *at = names; list && *at;) {
        size_t n = strcspn(at, ",");
        while (n > 0 && *at == ' ') {
            at++;
            n--;
        }
        if (n > 0 && json_array_append_new(list, json_stringn(at, n)) != 0) {
            json_decref(list);
            return NULL;
        }
        at += n + (at[n] == ',');
    }
    return list;
}

enum status adapter_config_make(const struct adapter_wanted *w, const struct model_config *model,
                                json_t **out) {
    bool is_auto = strcmp(w->targets, "auto") == 0, scores = model->head == HEAD_SCORE;
    const char *targets = is_auto ? model->family->lora_targets : w->targets;
    if (!targets) {
        return fail(ERR_USAGE,
                    "lora.targets: PEFT has no default for %s; set names, as q_proj,v_proj, or all-linear",
                    model->family->type);
    }
    bool all = strcmp(targets, "all-linear") == 0;
    json_t *list = all ? json_string(targets) : list_of(targets);
    json_t *saved = scores ? json_pack("[s,s]", "classifier", "score") : json_null();
    json_t *init = w->gaussian ? json_string("gaussian") : json_true();
    *out = json_pack("{s:s, s:s, s:s, s:I, s:f, s:f, s:b, s:o, s:s, s:{}, s:{}, s:o, s:b, s:b, s:o, s:b}",
                     "peft_type", "LORA", "task_type", scores ? "SEQ_CLS" : "CAUSAL_LM",
                     "base_model_name_or_path", w->base, "r", (json_int_t)w->rank, "lora_alpha", w->alpha,
                     "lora_dropout", w->dropout, "use_rslora", w->rslora, "target_modules", list, "bias",
                     "none", "rank_pattern", "alpha_pattern", "modules_to_save", saved, "fan_in_fan_out",
                     model->family->stored_transposed, "use_dora", 0, "init_lora_weights", init,
                     "inference_mode", 1);
    TRY(*out ? OK : fail(ERR_SYSTEM, "out of memory: adapter_config.json"));
    return adapter_layers_ask(*out, w->layers, model->layers);
}

/* What a layout is made from. */
struct reading {
    const json_t *config;
    const char *where;
    bool is_strict;
    const struct model *model; /* of the plan back end */
    struct lora_layout *out;
    int64_t rank;
    double alpha;
    bool rslora;
};

static bool is_name(const char *module, const char *name) {
    size_t n = strlen(module), m = strlen(name);
    return strcmp(module, name) == 0 || (n > m && module[n - m - 1] == '.' && text_ends(module, name));
}

/* Whether target_modules or exclude_modules names a module. */
static enum status is_listed(const json_t *list, const char *module, enum lora_role role, bool *out) {
    const char *text = json_string_value(list);
    *out = false;
    if (text && strcmp(text, "all-linear") == 0) {
        *out = role == LORA_PRODUCT;
        return OK;
    }
    if (text) {
        return adapter_pattern_matches(text, false, module, out);
    }
    for (size_t i = 0; i < json_array_size(list) && !*out; i++) {
        const char *name = json_string_value(json_array_get(list, i));
        *out = name && is_name(module, name);
    }
    return OK;
}

/* The number of a pattern's first key that fits, if one does. */
static enum status take_pattern(const struct reading *r, const char *key, const char *module,
                                const json_t **out) {
    const char *regex;
    json_t *value;
    json_object_foreach(json_object_get(r->config, key), regex, value) {
        bool fits = false;
        TRY(adapter_pattern_matches(regex, true, module, &fits));
        if (fits && !json_is_number(value)) {
            return fail(ERR_DATA, "%s: \"%s\": \"%s\" is no number", r->where, key, regex);
        }
        if (fits) {
            *out = value;
            return OK;
        }
    }
    return OK;
}

static enum status add_module(const struct reading *r, const char *module) {
    const json_t *rank_there = NULL, *alpha_there = NULL;
    TRY(take_pattern(r, "rank_pattern", module, &rank_there));
    TRY(take_pattern(r, "alpha_pattern", module, &alpha_there));
    int64_t rank = rank_there ? (int64_t)json_number_value(rank_there) : r->rank;
    double alpha = alpha_there ? json_number_value(alpha_there) : r->alpha;
    if (rank < 1 || rank > (1 << 20)) {
        return fail(ERR_DATA, "%s: rank %lld of %s", r->where, (long long)rank, module);
    }
    return lora_layout_add(r->out, module, rank, alpha / (r->rslora ? sqrt((double)rank) : (double)rank));
}

/* PEFT: a module whose name ends with one of the list. SEQ_CLS saves the score head by itself. */
static enum status is_saved(const struct reading *r, const char *module, bool *out) {
    const json_t *list = json_object_get(r->config, "modules_to_save");
    *out = adapter_config_head(r->config) == HEAD_SCORE && strcmp(module, "score") == 0;
    for (size_t i = 0; i < json_array_size(list); i++) {
        const char *name = json_string_value(json_array_get(list, i));
        *out = *out || (name && *name && text_ends(module, name));
    }
    return OK;
}

static enum status refuse_module(const struct reading *r, const char *module, const char *why) {
    return fail(ERR_DATA, "%s: %s: %s", r->where, module, why);
}

static enum status take_parameter(const struct reading *r, const struct parameter *p) {
    enum lora_role role = lora_role(r->model, p);
    char module[LORA_NAME];
    const char *dot = strrchr(p->name, '.');
    bool is_weight = dot && strcmp(dot, ".weight") == 0, saved, target, excluded, in_layers;
    snprintf(module, sizeof module, "%.*s", (int)(dot ? dot - p->name : 0), p->name);
    TRY(is_saved(r, module, &saved));
    TRY(is_listed(json_object_get(r->config, "target_modules"), module, role, &target));
    TRY(is_listed(json_object_get(r->config, "exclude_modules"), module, role, &excluded));
    TRY(adapter_layers_hold(r->config, module, &in_layers));
    target = target && !excluded && is_weight && in_layers;
    if (saved && role == LORA_PRODUCT) {
        return refuse_module(r, module, "modules_to_save takes embeddings, norms and heads only");
    }
    const struct model_config *c = &r->model->config;
    if (saved && c->tied && c->head == HEAD_LANGUAGE && role != LORA_NONE) {
        return refuse_module(r, module, "cannot be saved whole: the head is tied to the embedding");
    }
    if (target && role != LORA_PRODUCT) {
        return refuse_module(r, module, "adapters of embeddings, norms and the head are not supported");
    }
    TRY(target ? add_module(r, module) : OK);
    return saved ? lora_layout_save(r->out, p->name) : OK;
}

/* Whether a module of the model has this name. */
static bool has_module(const struct model *m, const char *name) {
    for (int i = 0; i < m->base->n; i++) {
        const struct parameter *p = &m->base->parameters[i];
        char module[LORA_NAME];
        const char *dot = strrchr(p->name, '.');
        snprintf(module, sizeof module, "%.*s", (int)(dot ? dot - p->name : 0), p->name);
        if (is_name(module, name)) {
            return true;
        }
    }
    return false;
}

/* Names in the list that fit no module of the model. */
static enum status check_names(const struct reading *r) {
    const struct family *family = r->model->config.family;
    const json_t *list = json_object_get(r->config, "target_modules");
    const char *known_name = family->names.qkv ? family->names.qkv : family->names.q;
    for (size_t i = 0; i < json_array_size(list); i++) {
        const char *name = json_string_value(json_array_get(list, i));
        if (name && has_module(r->model, name)) {
            continue;
        }
        if (r->is_strict) {
            return fail(ERR_USAGE, "%s: no module of a %s is named %s; they are named as %s", r->where,
                        family->causal, name ? name : "?", known_name);
        }
        log_root(LOG_WARN, "%s: no module of a %s is named %s", r->where, family->causal, name ? name : "?");
    }
    return r->out->n > 0 ? OK
                         : fail(ERR_DATA, "%s: no module of a %s fits target_modules; they are named as %s",
                                r->where, family->causal, known_name);
}

static enum status read_modules(struct reading *r) {
    int64_t rank = 8;
    r->alpha = 8;
    TRY(json_take_int(r->config, "r", r->where, &rank));
    TRY(json_take_number(r->config, "lora_alpha", r->where, &r->alpha));
    TRY(json_take_bool(r->config, "use_rslora", r->where, &r->rslora));
    TRY(json_take_number(r->config, "lora_dropout", r->where, &r->out->dropout));
    const char *init = json_string_value(json_object_get(r->config, "init_lora_weights"));
    r->out->gaussian = init && strcmp(init, "gaussian") == 0;
    r->rank = rank;
    if (r->out->dropout < 0 || r->out->dropout >= 1) {
        return fail(ERR_DATA, "%s: lora_dropout is %g; expected 0 to below 1", r->where, r->out->dropout);
    }
    for (int i = 0; i < r->model->base->n; i++) {
        TRY(take_parameter(r, &r->model->base->parameters[i]));
    }
    return check_names(r);
}

enum status adapter_config_layout(const json_t *config, const char *where, bool is_strict,
                                  const struct model_config *model, struct lora_layout *out) {
    const struct backend_request request = {.device = "plan", .device_index = -1}; /* counts, holds nothing */
    struct backend *plan;
    struct model *m = NULL;
    char why[256];
    *out = (struct lora_layout){0};
    TRY(backend_open(&request, &plan, why));
    enum status st = model_open(plan, model, &m);
    if (st == OK) {
        struct reading r = {.config = config, .where = where, .is_strict = is_strict, .model = m, .out = out};
        st = read_modules(&r);
    }
    model_close(m);
    backend_close(plan);
    if (st != OK) {
        lora_layout_free(out);
    }
    return st;
}
