/* The rule and the values of its parameters; the other voices; the reward model. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "command/generate/generate.h"
#include "store/adapter_folder.h"
#include "util/mem.h"

/* Numbers of a comma-separated list. */
struct numbers {
    double list[MOST_VALUES];
    int n;
};

static enum status read_numbers(const char *key, const char *text, double fallback, bool whole,
                                struct numbers *out) {
    out->n = 0;
    if (!*text) {
        out->list[out->n++] = fallback;
        return OK;
    }
    for (const char *at = text;; at++) {
        char *end;
        double value = strtod(at, &end);
        bool is_fit = !isnan(value) && (!whole || (value >= 0 && value <= 1e9 && value == floor(value)));
        if (end == at || (*end && *end != ',') || !is_fit || out->n == MOST_VALUES) {
            return fail(ERR_USAGE, "%s: \"%s\" is no list of at most %d %snumbers, comma separated", key,
                        text, MOST_VALUES, whole ? "whole " : "");
        }
        out->list[out->n++] = value;
        at = end;
        if (!*at) {
            return OK;
        }
    }
}

static enum status need_voices(const struct settings *s) {
    enum rule_kind kind = (enum rule_kind)s->generate.rule;
    if (kind == RULE_PROXY) {
        TRY(session_need(s->generate.expert, "generate.expert"));
        return session_need(s->generate.antiexpert, "generate.antiexpert");
    }
    if (kind == RULE_LENGTH_CONTROL) {
        TRY(session_need(s->generate.tokens, "generate.tokens"));
    }
    if (kind == RULE_KL_THRESHOLD) {
        TRY(session_need(s->generate.threshold, "generate.threshold"));
    }
    return kind == RULE_NONE ? OK : session_need(s->generate.reference, "generate.reference");
}

enum status generate_read_rule(struct generation *g) {
    const struct settings *s = g->session.settings;
    struct numbers mix, tokens, threshold;
    TRY(need_voices(s));
    TRY(read_numbers("generate.mix", s->generate.mix, s->generate.rule == RULE_KL_THRESHOLD ? 0 : 1, false,
                     &mix));
    TRY(read_numbers("generate.tokens", s->generate.tokens, 0, true, &tokens));
    TRY(read_numbers("generate.threshold", s->generate.threshold, 0, false, &threshold));
    if (mix.n * tokens.n * threshold.n > MOST_VALUES) {
        return fail(ERR_USAGE, "generate.mix and generate.threshold make more than %d rules together",
                    MOST_VALUES);
    }
    for (int i = 0; i < mix.n * tokens.n * threshold.n; i++) {
        struct spoken *spoken = &g->spoken[g->n_spoken++];
        spoken->user = -1;
        spoken->rule = (struct rule){.kind = (enum rule_kind)s->generate.rule,
                                     .threshold = threshold.list[i / mix.n / tokens.n],
                                     .tokens = (int64_t)tokens.list[i / mix.n % tokens.n],
                                     .mix = mix.list[i % mix.n]};
        TRY(exact_open(GENERATE_SUMS, &spoken->sums));
    }
    g->options.rule = g->spoken[0].rule;
    return OK;
}

enum status generate_open_users(struct generation *g) {
    int values = g->n_spoken;
    TRY(contexts_open(&g->session, MOST_VALUES / values, &g->contexts));
    g->options.condition = contexts_condition(&g->contexts);
    enum status st = OK;
    for (int i = values; i < values * g->contexts.n && st == OK; i++) {
        g->spoken[i].rule = g->spoken[i % values].rule;
        st = exact_open(GENERATE_SUMS, &g->spoken[i].sums);
        g->n_spoken++;
    }
    for (int i = 0; i < g->n_spoken && g->contexts.n > 0; i++) {
        g->spoken[i].user = i / values;
    }
    return comm_agree(g->session.comm, st);
}

/* Collective. A voice on the policy's own base where its folder is that base, or adapters; else its own
 * model. */
static enum status open_voice(struct generation *g, enum voice_kind v, const char *key, const char *folder) {
    struct session *s = &g->session;
    bool is_base = strcmp(folder, s->settings->model) == 0, is_set = adapter_folder_is(folder);
    struct lora *set = NULL;
    if (!is_base && !is_set) {
        const struct other_model voice = {
            .key = key, .folder = folder, .head = HEAD_LANGUAGE, .ids = IDS_ALL, .kind = ARENA_FROZEN};
        return session_open_other(s, &voice, &g->voices[v], NULL);
    }
    g->voices[v] = s->model;
    g->options.has_adapters = true;
    g->options.adapters[VOICE_POLICY] = s->lora;
    enum status st = is_set ? session_put_adapter(s, key, folder, s->model, &set) : OK;
    g->options.adapters[v] = set;
    return comm_agree(s->comm, st);
}

enum status generate_open_voices(struct generation *g) {
    const struct settings *s = g->session.settings;
    const struct {
        const char *key, *folder;
    } voices[VOICES] = {[VOICE_REFERENCE] = {"generate.reference", s->generate.reference},
                        [VOICE_EXPERT] = {"generate.expert", s->generate.expert},
                        [VOICE_ANTIEXPERT] = {"generate.antiexpert", s->generate.antiexpert}};
    for (int v = VOICE_REFERENCE; v < VOICES; v++) {
        for (int u = VOICE_REFERENCE; u < v && *voices[v].folder; u++) { /* one that is there already */
            bool is_same = strcmp(voices[u].folder, voices[v].folder) == 0;
            g->options.adapters[v] = is_same ? g->options.adapters[u] : g->options.adapters[v];
            g->voices[v] = is_same && !g->voices[v] ? g->voices[u] : g->voices[v];
        }
        if (*voices[v].folder && !g->voices[v]) {
            TRY(open_voice(g, (enum voice_kind)v, voices[v].key, voices[v].folder));
        }
    }
    const struct other_model judge = session_judge_of(s->reward_model);
    return *s->reward_model ? session_open_other(&g->session, &judge, &g->judge, NULL) : OK;
}

/* The workspace holds a prompt with all its samples at once. */
static enum status need_scorer(struct generation *g) {
    int64_t tokens = g->longest + (int64_t)g->samples * g->options.max_new_tokens, bytes;
    int n;
    if (g->scorer.pass) {
        return OK;
    }
    TRY(to_int(tokens, "tokens of a prompt and its responses", &n));
    TRY(pass_bytes(&g->judge->config, &g->judge->backend->caps, KEEP_NOTHING, n, g->samples, &bytes));
    TRY(workspace_open(g->judge->backend, bytes, &g->judge_workspace));
    return scorer_open(g->judge, &g->judge_workspace, KEEP_NOTHING, &g->scorer);
}

enum status generate_judge(struct generation *g, const struct answers *a) {
    struct sample_response *responses;
    TRY(need_scorer(g));
    TRY(NEW_ARRAY(responses, g->samples));
    for (int32_t k = 0; k < g->samples; k++) {
        responses[k].tokens = a->responses[k].tokens;
        responses[k].count = a->responses[k].count;
    }
    const struct sample sample = {.row = a->row,
                                  .n_responses = g->samples,
                                  .prompt = a->prompt->tokens,
                                  .prompt_count = a->prompt->count,
                                  .responses = responses};
    enum status st = scorer_run(&g->scorer, &sample, 1);
    for (int32_t k = 0; k < g->samples && st == OK; k++) {
        a->rewards[k] = g->scorer.scores[k].value;
    }
    mem_free(responses);
    return st;
}

void generate_close_voices(struct generation *g) {
    for (int v = VOICE_REFERENCE; v < VOICES; v++) {
        for (int u = v + 1; u < VOICES; u++) {
            g->voices[u] = g->voices[u] == g->voices[v] ? NULL : g->voices[u];
        }
        model_close(g->voices[v] != g->session.model ? g->voices[v] : NULL);
    }
    scorer_close(&g->scorer);
    workspace_close(&g->judge_workspace);
    model_close(g->judge);
    for (int i = 0; i < g->n_spoken; i++) {
        exact_close(&g->spoken[i].sums);
    }
}
