/* What `generate` finds before it begins: prompts, stop set, ids without a token. */
#include "command/generate/generate.h"
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
    return stops_first_token(&g->session, g->data);
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

static int64_t most_tokens(const struct generation *g) {
    return g->longest + g->session.settings->generate.max_new_tokens;
}

static enum status need_positions(const struct generation *g, const char *whose, int64_t positions) {
    return most_tokens(g) <= positions
               ? OK
               : fail(ERR_USAGE,
                      "the longest prompt has %d tokens; with generate.max_new_tokens %lld that is more than "
                      "the %s's %lld positions; set truncate.max_length=%lld or fewer new tokens",
                      g->longest, (long long)g->session.settings->generate.max_new_tokens, whose,
                      (long long)positions, (long long)positions);
}

/* A decoder may go beyond what a model has seen, where its positions are no table; a scorer, which judges,
 * does not. */
static enum status check_fit(const struct generation *g) {
    const struct model_config *config = &g->session.model->config;
    int64_t positions = model_positions(config);
    int64_t judged = g->judge ? model_positions(&g->judge->config) : 0;
    TRY(config->learned_positions ? need_positions(g, "model", config->max_positions) : OK);
    TRY(judged > 0 ? need_positions(g, "reward model", judged) : OK);
    if (positions > 0 && most_tokens(g) > positions) {
        log_root(LOG_WARN, "prompts and responses of up to %lld tokens go beyond the model's %lld positions",
                 (long long)most_tokens(g), (long long)positions);
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
        st = settings->generate.stop_at_end ? stops_read(s, &g->stops) : OK;
    }
    st = st == OK ? generate_read_strings(g) : st;
    st = st == OK ? stops_bar(s, &g->barred) : st;
    g->options.stops = g->stops.ids;
    g->options.n_stops = g->stops.n;
    g->options.barred = g->barred;
    st = st == OK ? generate_open_alpaca(g) : st;
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
