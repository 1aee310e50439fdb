/* What `generate` finds before it begins: prompts, stop set, ids without a token. */
#include <unistd.h>

#include "command/generate/generate.h"
#include "util/json.h"
#include "util/log.h"
#include "util/mem.h"

enum status generate_prompt_span(struct generation *g, int64_t row, int64_t *first, int64_t *count) {
    const struct settings *s = g->session.settings;
    int64_t most = s->truncate.max_length;
    TRY(dataset_prompt(g->data, row, first, count));
    if (s->truncate.keep > 1) {
        return fail(ERR_USAGE, "truncate.keep: a prompt alone keeps its end or its start; set end or start");
    }
    if (most > 0 && *count + s->generate.max_new_tokens > most) {
        int64_t kept = s->truncate.max_prompt > 0 ? s->truncate.max_prompt : (most + 1) / 2;
        if (kept < *count) {
            *first += s->truncate.keep == 1 ? 0 : *count - kept;
            *count = kept;
            g->cut++;
        }
    }
    return OK;
}

int64_t generate_prompt_at(const struct generation *g, int64_t i) {
    return g->chosen ? g->chosen[i] : i;
}

int32_t generate_first_token(const struct generation *g) {
    const struct dataset_facts *facts = dataset_facts(g->data);
    const struct model_config *config = &g->session.model->config;
    int32_t known[] = {facts->begin_id, config->begin_id, facts->end_id, config->end_id};
    for (int i = 0; i < COUNT_OF(known); i++) {
        if (known[i] >= 0) {
            return known[i];
        }
    }
    return -1;
}

/* The data's tokenizer may have more ids than the model; what counts is which of them occur. */
static enum status check_prompt(const struct generation *g, int64_t row, int64_t first, int64_t count) {
    int64_t vocabulary = g->session.model->config.vocabulary;
    int32_t *tokens;
    TRY(NEW_ARRAY(tokens, count));
    enum status st = dataset_prompt_tokens(g->data, first, count, tokens);
    for (int64_t i = 0; i < count && st == OK; i++) {
        if (tokens[i] >= vocabulary) {
            st = fail(ERR_DATA,
                      "%s: prompt %lld holds token id %d, the model's vocabulary is %lld; prepare the data "
                      "with the model's tokenizer",
                      dataset_path(g->data), (long long)row, tokens[i], (long long)vocabulary);
        }
    }
    mem_free(tokens);
    return st;
}

static enum status scan(struct generation *g) {
    bool may_exceed = dataset_facts(g->data)->vocabulary > g->session.model->config.vocabulary;
    struct range part = range_part(g->n, g->session.comm->rank, g->session.comm->size);
    g->longest = 1;
    for (int64_t i = part.first; i < part.last; i++) {
        int64_t row = generate_prompt_at(g, i);
        int64_t first, count;
        TRY(generate_prompt_span(g, row, &first, &count));
        if (count == 0 && generate_first_token(g) < 0) {
            return fail(
                ERR_DATA,
                "%s: prompt %lld is empty, and neither the data nor the model knows a beginning or end "
                "token to start from",
                dataset_path(g->data), (long long)row);
        }
        g->longest = count > g->longest ? (int32_t)count : g->longest;
        TRY(may_exceed ? check_prompt(g, row, first, count) : OK);
    }
    return OK;
}

static enum status add_stop(struct generation *g, int64_t id, const char *path) {
    if (id < 0 || id > INT32_MAX || g->options.n_stops == MOST_STOPS) {
        return fail(ERR_DATA, "%s: eos_token_id holds %lld, or more than %d ids", path, (long long)id,
                    MOST_STOPS);
    }
    g->stops[g->options.n_stops++] = (int32_t)id;
    return OK;
}

/* eos_token_id is a number or a list of them. */
static enum status take_stops(struct generation *g, const json_t *object, const char *path) {
    const json_t *ids = json_object_get(object, "eos_token_id");
    if (json_is_integer(ids)) {
        return add_stop(g, json_integer_value(ids), path);
    }
    if (ids && !json_is_null(ids) && !json_is_array(ids)) {
        return fail(ERR_DATA, "%s: eos_token_id is neither a number nor a list", path);
    }
    for (size_t i = 0; i < json_array_size(ids); i++) {
        const json_t *id = json_array_get(ids, i);
        if (!json_is_integer(id)) {
            return fail(ERR_DATA, "%s: eos_token_id[%zu] is not a number", path, i);
        }
        TRY(add_stop(g, json_integer_value(id), path));
    }
    return OK;
}

/* Those of a file beside the model, if it is there. */
static enum status stops_of(struct generation *g, const char *name) {
    struct text path = {0};
    json_t *object = NULL;
    enum status st;
    TRY_TO(done, text_printf(&path, "%s/%s", g->session.source.data, name));
    if (access(path.data, F_OK) == 0) {
        TRY_TO(done, json_load(path.data, &object));
        st = take_stops(g, object, path.data);
    }
done:
    json_decref(object);
    text_free(&path);
    return st;
}

/* Where generation_config.json and config.json name different end ids, transformers goes by the first. */
static void say_disagreement(const struct generation *g) {
    int32_t end = g->session.model->config.end_id;
    for (int32_t i = 0; i < g->options.n_stops; i++) {
        if (g->stops[i] == end) {
            return;
        }
    }
    if (end >= 0 && g->options.n_stops > 0) {
        log_root(LOG_WARN,
                 "%s: responses end at id %d%s of generation_config.json, as in transformers; config.json's "
                 "end token %d is none of them",
                 g->session.source.data, g->stops[0], g->options.n_stops > 1 ? " and the others" : "", end);
    }
}

/* The stop set: generation_config.json, else config.json, else the tokenizer's end token. */
static enum status read_stops(struct generation *g) {
    const struct session *s = &g->session;
    g->options.stops = g->stops;
    if (!s->settings->generate.stop_at_end) {
        return OK;
    }
    TRY(stops_of(g, "generation_config.json"));
    say_disagreement(g);
    TRY(g->options.n_stops == 0 ? stops_of(g, "config.json") : OK);
    if (g->options.n_stops == 0 &&
        s->model->config.end_id >= 0) { /* what the family has where it is silent */
        TRY(add_stop(g, s->model->config.end_id, "config.json"));
    }
    if (g->options.n_stops == 0 && s->tokenizer && tokenizer_end(s->tokenizer) >= 0) {
        TRY(add_stop(g, tokenizer_end(s->tokenizer), "tokenizer"));
    }
    return OK;
}

static enum status check_fit(const struct generation *g) {
    const struct model_config *config = &g->session.model->config;
    int64_t most = g->longest + g->session.settings->generate.max_new_tokens;
    int64_t positions = model_positions(config);
    if (config->learned_positions && most > config->max_positions) {
        return fail(ERR_USAGE,
                    "the longest prompt has %d tokens; with generate.max_new_tokens %lld that is more than "
                    "the model's %lld positions; set truncate.max_length=%lld or fewer new tokens",
                    g->longest, (long long)g->session.settings->generate.max_new_tokens,
                    (long long)config->max_positions, (long long)config->max_positions);
    }
    if (positions > 0 && most > positions) {
        log_root(LOG_WARN, "prompts and responses of up to %lld tokens go beyond the model's %lld positions",
                 (long long)most, (long long)positions);
    }
    return OK;
}

/* A model's vocabulary is often padded to a round number: no text has those ids, so none is drawn. */
static enum status bar_unknown(struct generation *g) {
    const struct session *s = &g->session;
    int64_t n = s->model->config.vocabulary, count = 0;
    TRY(NEW_ARRAY(g->barred, n));
    for (int64_t id = 0; id < n && s->tokenizer; id++) {
        g->barred[id] = !tokenizer_has(s->tokenizer, id);
        count += g->barred[id];
    }
    if (count == n) {
        return fail(ERR_DATA, "%s: its tokenizer has none of the model's %lld ids", s->source.data,
                    (long long)n);
    }
    if (count > 0) {
        log_root(LOG_INFO, "%lld of the model's %lld ids have no token; they are not drawn", (long long)count,
                 (long long)n);
        g->options.barred = g->barred;
    }
    return OK;
}

enum status generate_look(struct generation *g) {
    struct session *s = &g->session;
    const struct settings *settings = s->settings;
    TRY(comm_agree(s->comm, dataset_split_prompts(g->data, &g->chosen, &g->n)));
    if (settings->generate.limit > 0 && settings->generate.limit < g->n) {
        g->n = settings->generate.limit;
    }
    g->options.sampling = (struct sampling){.temperature = settings->generate.temperature,
                                            .top_k = settings->generate.top_k,
                                            .top_p = settings->generate.top_p,
                                            .min_p = settings->generate.min_p};
    g->options.repetition_penalty = settings->generate.repetition_penalty;
    g->samples =
        (int32_t)(settings->generate.best_of > 0 ? settings->generate.best_of : settings->generate.samples);
    g->options.seed = (uint64_t)settings->seed;
    g->options.max_new_tokens = (int32_t)settings->generate.max_new_tokens;
    g->options.sequences = (int32_t)settings->generate.batch;
    enum status st = scan(g);
    if (st == OK) {
        st = read_stops(g);
    }
    st = st == OK ? generate_read_strings(g) : st;
    st = st == OK ? bar_unknown(g) : st;
    TRY(comm_agree(s->comm, st));
    int64_t longest = g->longest;
    TRY(comm_max_i64(s->comm, &longest, 1));
    g->longest = g->options.max_prompt = (int32_t)longest;
    TRY(comm_sum_i64(s->comm, &g->cut, 1));
    TRY(comm_agree(s->comm, check_fit(g)));
    if (!s->tokenizer) {
        log_root(LOG_WARN, "%s has no tokenizer: the output holds tokens without their text",
                 settings->model);
    }
    log_root(LOG_INFO, "data %s: %lld prompts, the longest of %d tokens, %lld cut", dataset_path(g->data),
             (long long)g->n, g->longest, (long long)g->cut);
    g->cut = 0;
    return OK;
}
