/* Models beside a session's own: that ids mean the same in both, before and when they are opened, and which
 * of them gives the reference. */
#include <string.h>

#include "command/session.h"
#include "store/adapter_folder.h"
#include "store/model_source.h"
#include "util/hash.h"
#include "util/log.h"

struct other_model session_reference_of(const char *folder, enum other_ids ids) {
    return (struct other_model){
        .key = "reference", .folder = folder, .head = HEAD_LANGUAGE, .ids = ids, .kind = ARENA_FROZEN};
}

struct other_model session_judge_of(const char *folder) {
    return (struct other_model){
        .key = "reward_model", .folder = folder, .head = HEAD_SCORE, .ids = IDS_DRAWN, .kind = ARENA_FROZEN};
}

/* Whether the folder's tokenizer was compared before, and went through. */
static bool is_compared(const struct session *s, const char *folder) {
    bool is_known = false;
    for (int i = 0; i < s->compared.n && !is_known; i++) {
        is_known = strcmp(s->compared.list[i], folder) == 0;
    }
    return is_known;
}

/* Local. The folder's tokenizer is the session's, where both have one. Where it is not and that is allowed,
 * this is said once; what is refused is refused at each look. */
static enum status compare_tokenizers(struct session *s, const struct other_model *other) {
    struct text source = {0};
    struct tokenizer *t = NULL;
    if (!s->tokenizer || is_compared(s, other->folder)) {
        return OK;
    }
    enum status st = model_source_folder(other->folder, &source);
    st = st == OK ? session_tokenizer_of(source.data, &t) : st;
    if (st != OK) {
        log_root(LOG_WARN, "%s: the tokenizer of %s cannot be read, so that it is not compared: %s",
                 other->key, other->folder, status_message()->text);
        status_clear();
        st = OK;
    } else if (t && tokenizer_hash(t) != tokenizer_hash(s->tokenizer)) {
        if (s->settings->allow_other_tokenizer) {
            log_root(LOG_WARN, "%s: %s has another tokenizer than model %s", other->key, other->folder,
                     s->settings->model);
        } else {
            st = fail(ERR_USAGE,
                      "%s: %s has another tokenizer than model %s: ids mean other text to it; set "
                      "allow_other_tokenizer=true where they do not",
                      other->key, other->folder, s->settings->model);
        }
    }
    tokenizer_close(t);
    text_free(&source);
    return st == OK ? names_add(&s->compared, other->folder, strlen(other->folder)) : st;
}

static enum status check_rows(const struct session *s, const struct other_model *other, const struct rows *r,
                              int64_t vocabulary) {
    if (!r->view || r->largest_id < vocabulary) {
        return OK;
    }
    return fail(ERR_DATA,
                "%s: %s has a vocabulary of %lld, but %s holds token id %lld; set %s to a model that has the "
                "ids of model %s",
                other->key, other->folder, (long long)vocabulary, dataset_path(r->data),
                (long long)r->largest_id, other->key, s->settings->model);
}

/* Local. own, config: of the session's model and of the other one. One size of vocabulary has the rows' ids,
 * which the session's model has. */
static enum status check_ids(struct session *s, const struct model_config *own,
                             const struct other_model *other, const struct model_config *config) {
    int64_t own_size = own->vocabulary, other_size = config->vocabulary;
    int64_t known = s->tokenizer ? tokenizer_size(s->tokenizer) : own_size;
    int64_t drawn = known < own_size ? known : own_size;
    if (other->ids == IDS_ALL && other_size != own_size) {
        return fail(ERR_USAGE, "%s: %s has a vocabulary of %lld, model %s one of %lld; they must be the same",
                    other->key, other->folder, (long long)other_size, s->settings->model,
                    (long long)own_size);
    }
    if (other->ids == IDS_DRAWN && other_size < drawn) {
        return fail(ERR_USAGE,
                    "%s: %s has a vocabulary of %lld, fewer than the %lld ids that model %s may draw",
                    other->key, other->folder, (long long)other_size, (long long)drawn, s->settings->model);
    }
    if (other->ids != IDS_ALL) {
        TRY(check_rows(s, other, &s->train, other_size));
        TRY(check_rows(s, other, &s->eval, other_size));
    }
    return compare_tokenizers(s, other);
}

/* Local. */
static enum status config_of(const struct session *s, const char *folder, struct model_config *out) {
    return s->run->dry_run ? model_source_find(folder, out)
                           : model_folder_check(folder, HEAD_LANGUAGE, out); /* a folder's own head stays */
}

enum status session_look_other(struct session *s, const struct model_config *own,
                               const struct other_model *other) {
    struct model_config config;
    TRY(config_of(s, other->folder, &config));
    TRY(session_need_config_head(&config, other->folder, other->head));
    return check_ids(s, own, other, &config);
}

enum status session_open_other(struct session *s, const struct other_model *other, struct model **out,
                               uint64_t *hash) {
    const struct model_folder_options options = {
        .head = HEAD_LANGUAGE, .value_head = other->value_head, .kind = other->kind};
    struct model *m = NULL;
    *out = NULL;
    TRY(model_folder_open(s->comm, s->backend, other->folder, &options, &m));
    enum status st = session_need_head(m, other->folder, other->head);
    st = st == OK ? check_ids(s, &s->model->config, other, &m->config) : st;
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

enum status session_look_reference(struct session *s, const struct model_config *own, enum other_ids ids) {
    const struct other_model other = session_reference_of(s->settings->reference, ids);
    return has_own_reference(s) ? OK : session_look_other(s, own, &other);
}

enum status session_open_reference(struct session *s, enum other_ids ids, struct model **out,
                                   uint64_t *hash) {
    const struct other_model other = session_reference_of(s->settings->reference, ids);
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
