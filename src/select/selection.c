#include "select/selection.h"

#include "select/selection_internal.h"
#include "util/log.h"
#include "util/mem.h"

enum status selection_look(const char *strategy, struct selection_looks *out) {
    struct pair_mix mix;
    TRY(pair_mix_parse(strategy, &mix));
    *out = (struct selection_looks){.embeddings = mix.n > 1 || mix.parts[0].strategy != PAIRS_RANDOM,
                                    .clusters = mix.n == 1 && mix.parts[0].strategy == PAIRS_BALANCED};
    return OK;
}

static enum status check_strategies(const struct selection *s) {
    for (int i = 0; i < s->mix.n; i++) {
        enum pair_strategy strategy = s->mix.parts[i].strategy;
        if (strategy == PAIRS_CENTROID && !s->over_prompts) {
            return fail(ERR_USAGE, "select.strategy: centroid chooses among a prompt's responses; set "
                                   "select.scope=prompts");
        }
        if (strategy == PAIRS_BALANCED && (s->over_prompts || s->mix.n > 1)) {
            return fail(ERR_USAGE, "select.strategy: balanced chooses among pairs, and alone; set "
                                   "select.scope=pairs");
        }
    }
    if (!s->over_prompts && dataset_size(s->data).pairs == 0) {
        return fail(ERR_DATA, "%s: no pairs to select from; set select.scope=prompts", dataset_path(s->data));
    }
    return OK;
}

static enum status open_all(struct selection *s) {
    const struct selection_options *o = s->options;
    struct selection_looks looks;
    int64_t largest;
    TRY(pair_mix_parse(o->strategy, &s->mix));
    TRY(selection_look(o->strategy, &looks));
    if (looks.embeddings && !*o->embeddings) {
        return fail(ERR_USAGE, "embeddings is not set; give embeddings=FILE from `collimate embed`");
    }
    TRY(dataset_open_split(s->comm, o->data, o->split, &s->data));
    TRY(dataset_verify_once(s->comm, s->data, o->trust_data, o->seen));
    if (*o->embeddings) {
        enum status st = sidecar_open_values(o->embeddings, dataset_hash(s->data),
                                             dataset_size(s->data).responses, &s->embeddings, &s->key);
        TRY(comm_agree(s->comm, st));
    }
    TRY(asked_read(s->comm, o->exclude, s->data, &s->asked));
    TRY(comm_agree(s->comm, over_prompts_largest(s, &largest)));
    TRY(comm_max_i64(s->comm, &largest, 1));
    bool is_split = o->split != SPLIT_ALL;
    if (is_split && o->scope == SCOPE_PROMPTS) {
        return fail(ERR_USAGE, "select.scope=prompts makes pairs of its own, which are in no split; set "
                               "select.scope=pairs, or split=all");
    }
    bool is_dealt = dataset_size(s->data).has_splits; /* its pairs are an objective's, and no others */
    s->over_prompts = o->scope == SCOPE_PROMPTS || (o->scope == SCOPE_AUTO && largest > 2 && !is_dealt);
    return check_strategies(s);
}

static enum status choose(struct selection *s) {
    struct comm *c = s->comm;
    int64_t total;
    struct range part = vectors_range(dataset_size(s->data).pairs, c->rank, c->size);
    TRY(comm_agree(c, s->over_prompts ? over_prompts_read(s) : over_pairs_read(s, part)));
    TRY(comm_scan_i64(c, s->n, &s->before, &total));
    if (s->over_prompts) {
        return over_prompts_choose(s);
    }
    return s->mix.parts[0].strategy == PAIRS_BALANCED ? over_pairs_choose_balanced(s, part)
                                                      : over_pairs_choose(s);
}

static void selection_close(struct selection *s) {
    if (s->embeddings && sidecar_close(s->embeddings) != OK) {
        log_any(LOG_WARN, "%s: cannot be closed", s->options->embeddings);
    }
    if (s->data) {
        dataset_close(s->data);
    }
    asked_free(&s->asked);
    mem_free(s->candidates);
    mem_free(s->all);
    mem_free(s->quota);
}

enum status selection_run(const struct selection_options *options) {
    struct selection s = {.options = options, .comm = options->comm};
    enum status st = open_all(&s);
    st = st == OK ? choose(&s) : st;
    st = st == OK ? selection_count(&s) : st;
    if (st == OK && *options->output) {
        st = selection_write(&s);
    }
    if (st == OK && *options->export) {
        st = selection_export(&s);
    }
    if (st == OK) {
        st = selection_report(&s);
    }
    selection_close(&s);
    return st;
}
