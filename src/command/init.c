/* init: a config.json -> a randomly initialized model folder. The weights are a function of the configuration
 * and the seed alone, so any number of ranks writes the same bits. */
#include "command/command.h"
#include "command/outputs.h"
#include "model/family.h"
#include "store/model_folder.h"
#include "store/model_source.h"
#include "util/log.h"

static enum status check_settings(const struct settings *s) {
    if (!*s->init.config) {
        return fail(ERR_USAGE, "init.config is not set: give it a config.json or a model folder");
    }
    return *s->output ? OK : fail(ERR_USAGE, "output is not set: the model folder to write");
}

/* The configuration takes the tokenizer's special ids where it has some: a model that never ends a text is
 * no use. */
static enum status open_tokenizer(const struct settings *s, struct model_config *c, struct tokenizer **out) {
    *out = NULL;
    if (!*s->tokenizer) {
        log_root(LOG_WARN, "no tokenizer is set: %s will hold none", s->output);
        return OK;
    }
    TRY(tokenizer_open(s->tokenizer, out));
    if (tokenizer_size(*out) > c->vocabulary) {
        return fail(ERR_USAGE,
                    "%s: vocab_size is %lld, tokenizer %s has %d ids; the model needs at least as many",
                    s->init.config, (long long)c->vocabulary, s->tokenizer, tokenizer_size(*out));
    }
    if (tokenizer_begin(*out) >= 0) {
        c->begin_id = tokenizer_begin(*out);
    }
    if (tokenizer_end(*out) >= 0) {
        c->end_id = tokenizer_end(*out);
    }
    return OK;
}

/* Rank 0 makes the model and writes it. The work is one pass over the arena: sharing it would not pay. */
static enum status make(struct run *run, struct model_config *config, struct tokenizer *tokenizer) {
    const struct settings *s = run->settings;
    struct backend *b = NULL;
    struct model *m = NULL;
    char why[256];
    uint64_t hash = 0;
    enum status st = OK;
    const struct backend_request request = {
        .device = "cpu", .compute = "fp32", .threads = (int)s->threads, .device_index = -1};
    if (run->comm->rank == 0) {
        TRY_TO(agree, backend_open(&request, &b, why));
        TRY_TO(agree, model_open(b, config, &m));
        TRY_TO(agree, arena_initialize(m->base, (uint64_t)s->seed));
        TRY_TO(agree, arena_hash(m->base, &hash));
    }
agree:
    st = comm_agree(run->comm, st);
    if (st == OK) {
        const struct model_save options = {.source = s->init.config,
                                           .tokenizer = tokenizer,
                                           .made_by = OUTPUT_MADE_BY_INIT,
                                           .type = s->save.dtype > 0 ? (enum stored_type)(s->save.dtype - 1)
                                                                     : STORED_F32};
        st = model_folder_save(run->comm, m, s->output, &options);
    }
    if (st == OK && m) {
        log_root(LOG_INFO, "%s: %s, %lld parameters, hash %016llx (fp32)", s->output, config->family->causal,
                 (long long)arena_parameter_count(m->base), (unsigned long long)hash);
    }
    model_close(m);
    backend_close(b);
    return st;
}

enum status command_init(struct run *run) {
    struct model_config config = {0};
    struct tokenizer *tokenizer = NULL;
    enum status st = check_settings(run->settings);
    st = st == OK ? model_source_shape(run->settings->init.config, &config) : st;
    st = st == OK ? open_tokenizer(run->settings, &config, &tokenizer) : st;
    st = comm_agree(run->comm, st);
    if (st == OK && run->dry_run) {
        log_root(LOG_INFO, "%s: %s, %lld layers of width %lld, vocabulary %lld; nothing is written",
                 run->settings->init.config, config.family->causal, (long long)config.layers,
                 (long long)config.width, (long long)config.vocabulary);
    } else if (st == OK) {
        st = make(run, &config, tokenizer);
    }
    tokenizer_close(tokenizer);
    return st;
}
