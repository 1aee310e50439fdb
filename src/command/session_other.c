/* Models beside a session's own: that ids mean the same in both, and which of them gives the reference. */
#include <string.h>

#include "command/session.h"
#include "store/adapter_folder.h"
#include "store/model_source.h"
#include "util/hash.h"
#include "util/log.h"

enum status session_check_other(const struct session *s, const char *key, const char *folder) {
    struct text source = {0};
    struct tokenizer *t = NULL;
    if (!s->tokenizer) {
        return OK;
    }
    enum status st = model_source_folder(folder, &source);
    st = st == OK ? session_tokenizer_of(source.data, &t) : st;
    if (st != OK) {
        log_root(LOG_WARN, "%s: the tokenizer of %s cannot be read, so that it is not compared: %s", key,
                 folder, status_message()->text);
        status_clear();
        st = OK;
    } else if (t && tokenizer_hash(t) != tokenizer_hash(s->tokenizer)) {
        if (s->settings->allow_other_tokenizer) {
            log_root(LOG_WARN, "%s: %s has another tokenizer than model %s", key, folder, s->settings->model);
        } else {
            st = fail(ERR_USAGE,
                      "%s: %s has another tokenizer than model %s: ids mean other text to it; set "
                      "allow_other_tokenizer=true where they do not",
                      key, folder, s->settings->model);
        }
    }
    tokenizer_close(t);
    text_free(&source);
    return st;
}

/* Local. */
static enum status check_ids(const struct session *s, const struct other_model *other,
                             const struct model *m) {
    int64_t own = s->model->config.vocabulary, size = m->config.vocabulary;
    int64_t known = s->tokenizer ? tokenizer_size(s->tokenizer) : own;
    int64_t drawn = known < own ? known : own;
    if (other->ids == IDS_ALL && size != own) {
        return fail(ERR_USAGE, "%s: %s has a vocabulary of %lld, model %s one of %lld; they must be the same",
                    other->key, other->folder, (long long)size, s->settings->model, (long long)own);
    }
    if (other->ids == IDS_DRAWN && size < drawn) {
        return fail(ERR_USAGE,
                    "%s: %s has a vocabulary of %lld, fewer than the %lld ids that model %s may draw",
                    other->key, other->folder, (long long)size, (long long)drawn, s->settings->model);
    }
    return session_check_other(s, other->key, other->folder);
}

enum status session_open_other(const struct session *s, const struct other_model *other, struct model **out,
                               uint64_t *hash) {
    const struct model_folder_options options = {
        .head = HEAD_LANGUAGE, .value_head = other->value_head, .kind = other->kind};
    struct model *m = NULL;
    *out = NULL;
    TRY(model_folder_open(s->comm, s->backend, other->folder, &options, &m));
    enum status st = session_need_head(m, other->folder, other->head);
    st = st == OK ? check_ids(s, other, m) : st;
    st = st == OK && hash ? model_folder_hash(m, hash) : st;
    st = comm_agree(s->comm, st);
    if (st != OK) {
        model_close(m);
        return st;
    }
    *out = m;
    return OK;
}

enum status session_put_adapter(const struct session *s, const char *key, const char *folder, struct model *m,
                                struct lora **out) {
    struct lora_layout layout = {0};
    json_t *config = NULL;
    enum status st;
    TRY_TO(done, adapter_config_read(folder, &config));
    if (adapter_config_head(config) != HEAD_LANGUAGE) {
        st = fail(ERR_USAGE, "%s: %s is the adapter of a reward model; a language model is needed here", key,
                  folder);
        goto done;
    }
    TRY_TO(done, adapter_config_layout(config, folder, false, &m->config, &layout));
    TRY_TO(done, lora_open(m, &layout, ARENA_FROZEN, 0, out));
    st = adapter_folder_read(folder, *out);
done:
    if (m == s->model) {
        lora_use(m, s->lora);
    }
    lora_layout_free(&layout);
    json_decref(config);
    return st;
}

bool session_adapts_reference(const struct settings *settings) {
    return *settings->reference_adapter && strcmp(settings->reference_adapter, "none") != 0;
}

/* Whether the session's own model gives it, without or with another adapter. */
static bool has_own_reference(const struct session *s) {
    const char *folder = s->settings->reference;
    return !*folder || (s->lora && strcmp(folder, s->settings->model) == 0);
}

/* Local. *hash: of the bare model; becomes that of both. */
static enum status adapt_reference(struct session *s, struct model *m, uint64_t *hash) {
    struct lora *l = m == s->model ? s->reference_lora : NULL;
    uint64_t own;
    TRY(l ? OK : session_put_adapter(s, "reference.adapter", s->settings->reference_adapter, m, &l));
    if (m == s->model) {
        s->reference_lora = l;
    }
    TRY(adapter_hash(l, &own));
    *hash = hash_join(*hash, own);
    return OK;
}

enum status session_open_reference(struct session *s, enum other_ids ids, struct model **out,
                                   uint64_t *hash) {
    const struct other_model other = {.key = "reference",
                                      .folder = s->settings->reference,
                                      .head = HEAD_LANGUAGE,
                                      .ids = ids,
                                      .kind = ARENA_FROZEN};
    bool is_own = has_own_reference(s);
    *out = is_own ? s->model : NULL;
    *hash = s->base_hash;
    TRY(is_own ? OK : session_open_other(s, &other, out, hash));
    enum status st = session_adapts_reference(s->settings) ? adapt_reference(s, *out, hash) : OK;
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
    bool is_new = !*settings->adapter && !session_adapts_reference(settings);
    return is_new || (s->train.reference_model == s->model_hash && s->adapters.dropout == 0);
}
