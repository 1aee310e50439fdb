/* Adapters of a session: which, on what, and when they are off. */
#include <string.h>
#include <unistd.h>

#include "command/session.h"
#include "steer/steering_folder.h"
#include "store/adapter_folder.h"
#include "util/hash.h"
#include "util/log.h"

static bool asks_for_base(const char *adapter) {
    return !*adapter || strcmp(adapter, "none") == 0;
}

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
    struct text path = {0};
    bool is = text_printf(&path, "%s/adapter_config.json", s->settings->adapter) == OK &&
              access(path.data, F_OK) == 0;
    text_free(&path);
    return *s->settings->adapter && (is || !steering_folder_is(s->settings->adapter));
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

/* Local. reference.adapter on a model, in use from now on. */
static enum status put_adapter(const char *folder, struct model *m, struct lora **out) {
    struct lora_layout layout = {0};
    json_t *config = NULL;
    enum status st;
    TRY_TO(done, adapter_config_read(folder, &config));
    TRY_TO(done, adapter_config_layout(config, folder, false, &m->config, &layout));
    TRY_TO(done, lora_open(m, &layout, ARENA_FROZEN, 0, out));
    st = adapter_folder_read(folder, *out);
done:
    lora_layout_free(&layout);
    json_decref(config);
    return st;
}

/* Whether the session's own model gives it, without or with another adapter. */
static bool has_own_reference(const struct session *s) {
    const char *folder = s->settings->reference;
    return !*folder || (s->lora && strcmp(folder, s->settings->model) == 0);
}

/* Local. *hash: of the bare model; becomes that of both. */
static enum status adapt_reference(struct session *s, struct model *m, uint64_t *hash) {
    bool is_own = m == s->model;
    struct lora *l = is_own ? s->reference_lora : NULL;
    uint64_t own;
    enum status st = l ? OK : put_adapter(s->settings->reference_adapter, m, &l);
    if (is_own) {
        s->reference_lora = l;
        lora_use(m, s->lora);
    }
    TRY(st);
    TRY(adapter_hash(l, &own));
    *hash = hash_join(*hash, own);
    return OK;
}

/* Collective. */
static enum status open_second(struct session *s, struct model **out, uint64_t *hash) {
    const char *folder = s->settings->reference;
    const struct model_folder_options options = {
        .head = HEAD_LANGUAGE, .seed = (uint64_t)s->settings->seed, .kind = ARENA_FROZEN};
    TRY(model_folder_open(s->comm, s->backend, folder, &options, out));
    enum status st = model_folder_hash(*out, hash);
    return st == OK ? session_need_head(*out, folder, HEAD_LANGUAGE) : st;
}

enum status session_open_reference(struct session *s, struct model **out, uint64_t *hash) {
    bool is_own = has_own_reference(s);
    enum status st = OK;
    *out = is_own ? s->model : NULL;
    *hash = s->base_hash;
    st = is_own ? OK : open_second(s, out, hash);
    if (st == OK && !asks_for_base(s->settings->reference_adapter)) {
        st = adapt_reference(s, *out, hash);
    }
    st = comm_agree(s->comm, st);
    if (st != OK && !is_own) {
        model_close(*out);
        *out = NULL;
    }
    return st;
}

void session_turn(struct session *s, bool to_reference) {
    if (s->lora && has_own_reference(s)) {
        lora_use(s->model, to_reference ? s->reference_lora : s->lora);
    }
}

bool session_begins_at_reference(const struct session *s) {
    const struct settings *settings = s->settings;
    if (!has_own_reference(s)) {
        return false;
    }
    if (!s->lora) {
        return true;
    }
    /* New adapters change nothing at first, whatever is dropped of their inputs. */
    bool is_new = !*settings->adapter && asks_for_base(settings->reference_adapter);
    return is_new || (s->train.reference_model == s->model_hash && s->adapters.dropout == 0);
}
