/* Adapters of a session: which, and on what. */
#include "command/session.h"
#include "steer/steering_folder.h"
#include "store/adapter_folder.h"
#include "util/hash.h"
#include "util/log.h"

static enum status make_config(const struct session *s, const struct model_config *config, json_t **out) {
    const struct settings *settings = s->settings;
    const struct adapter_wanted wanted = {
        .rank = settings->lora.rank,
        .alpha = settings->lora.alpha > 0 ? settings->lora.alpha : (double)settings->lora.rank,
        .dropout = settings->lora.dropout,
        .targets = settings->lora.targets,
        .layers = settings->lora.layers,
        .rslora = settings->lora.rslora,
        .gaussian = settings->lora.init == 1,
        .base = settings->model,
    };
    return adapter_config_make(&wanted, config, out);
}

bool session_has_adapters(const struct session *s) {
    return s->adapter_config || s->steers;
}

/* Whether the folder of `adapter` has PEFT's adapters; steering may stand alone. */
static bool reads_adapters(const struct session *s) {
    const char *folder = s->settings->adapter;
    return *folder && (adapter_folder_is(folder) || !steering_folder_is(folder));
}

/* Local. PEFT's part. */
static enum status plan_adapters(struct session *s, const struct model_config *config, bool is_read) {
    const struct settings *settings = s->settings;
    TRY(is_read ? adapter_config_read(settings->adapter, &s->adapter_config)
                : make_config(s, config, &s->adapter_config));
    if (config->head == HEAD_LANGUAGE && adapter_config_head(s->adapter_config) == HEAD_SCORE) {
        return fail(ERR_USAGE, "%s is the adapter of a reward model; a language model is needed here",
                    settings->adapter);
    }
    TRY(adapter_config_layout(s->adapter_config, is_read ? settings->adapter : "lora.targets", !is_read,
                              config, &s->adapters));
    return config->value_head ? lora_layout_save(&s->adapters, VALUE_HEAD) : OK; /* trained whole */
}

enum status session_plan_adapters(struct session *s, const struct model_config *config) {
    bool is_new = s->trains && s->settings->lora.rank > 0, is_read = reads_adapters(s);
    if (session_has_adapters(s)) {
        return OK;
    }
    TRY(is_new || is_read ? plan_adapters(s, config, is_read) : OK);
    return session_plan_steering(s, config);
}

enum status session_adapter_head(const struct session *s, enum model_head *out) {
    json_t *config = NULL;
    *out = s->head;
    if (s->trains || !reads_adapters(s)) {
        return OK;
    }
    TRY(adapter_config_read(s->settings->adapter, &config));
    *out = adapter_config_head(config);
    json_decref(config);
    return OK;
}

/* Local. */
static enum status open_here(struct session *s) {
    const struct settings *settings = s->settings;
    uint64_t hash;
    TRY(lora_open(s->model, &s->adapters, ARENA_TRAINED, s->trains ? s->beside : 0, &s->lora));
    TRY(lora_initialize(s->lora, (uint64_t)settings->seed)); /* also beside what a folder holds */
    TRY(reads_adapters(s) ? adapter_folder_read(settings->adapter, s->lora) : OK);
    TRY(session_open_steering(s));
    TRY(adapter_hash(s->lora, &hash));
    s->model_hash = hash_join(s->base_hash, hash);
    log_root(LOG_INFO, "adapters on %lld modules: %lld parameters beside %lld of %s",
             (long long)s->adapters.n, (long long)arena_parameter_count(lora_arena(s->lora)),
             (long long)arena_parameter_count(s->model->base), settings->model);
    return OK;
}

enum status session_open_adapters(struct session *s) {
    return comm_agree(s->comm, open_here(s));
}
