/* What is written of each response, and of all of them for each value of the rule's parameters. */
#include <math.h>
#include <string.h>

#include "command/generate/generate.h"
#include "util/json.h"
#include "util/log.h"
#include "util/mem.h"

static enum status add_string(struct stop_strings *s, const char *text) {
    size_t n = strlen(text);
    if (n == 0 || s->n == MOST_STRINGS) {
        return fail(ERR_USAGE, "generate.stop: an empty text, or more than %d", MOST_STRINGS);
    }
    s->list[s->n] = mem_strdup(text);
    TRY(mem_ok(s->list[s->n]));
    s->n++;
    s->longest = n > s->longest ? n : s->longest;
    return OK;
}

enum status generate_read_strings(struct generation *g) {
    const char *given = g->session.settings->generate.stop;
    struct stop_strings *s = &g->strings;
    json_t *list = NULL;
    s->tokenizer = g->session.tokenizer;
    if (*given && !s->tokenizer) {
        return fail(ERR_USAGE, "generate.stop is set, but %s has no tokenizer", g->session.settings->model);
    }
    if (*given != '[') {
        return *given ? add_string(s, given) : OK;
    }
    enum status st = json_parse(given, strlen(given), "generate.stop", &list);
    if (st != OK) {
        return fail(ERR_USAGE, "generate.stop: \"%s\" begins as a JSON list and is none", given);
    }
    for (size_t i = 0; i < json_array_size(list) && st == OK; i++) {
        const char *text = json_string_value(json_array_get(list, i));
        st = text ? add_string(s, text) : fail(ERR_USAGE, "generate.stop[%zu] is no text", i);
    }
    json_decref(list);
    return st;
}

/* Where the first of the stop strings begins; NULL: nowhere. */
static const char *find_stop(const struct stop_strings *s, const struct text *t) {
    const char *first = NULL;
    for (int i = 0; i < s->n && t->len > 0; i++) {
        const char *at = memmem(t->data, t->len, s->list[i], strlen(s->list[i]));
        first = at && (!first || at < first) ? at : first;
    }
    return first;
}

/* The end of the text is enough: what came before was looked at before. A token is a byte at least, or none
 * at all, so twice as many as the longest string has bytes are taken. */
bool generate_is_end(void *context, const int32_t *tokens, int32_t count) {
    struct stop_strings *s = context;
    int32_t most = (int32_t)(2 * s->longest + 8), n = count < most ? count : most;
    text_clear(&s->scratch);
    return tokenizer_decode_after(s->tokenizer, tokens + count - n, n, true, &s->scratch) == OK &&
           find_stop(s, &s->scratch);
}

enum status generate_text(struct generation *g, const struct response_tokens *r, struct text *out) {
    text_clear(out);
    TRY(tokenizer_decode_after(g->session.tokenizer, r->tokens, r->count, true, out));
    const char *end = find_stop(&g->strings, out);
    out->len = end ? (size_t)(end - out->data) : out->len;
    return OK;
}

int32_t generate_best(const struct generation *g, const struct answers *a) {
    int32_t best = -1;
    for (int32_t k = 0; g->session.settings->generate.best_of > 0 && k < g->samples; k++) {
        best = best < 0 || a->rewards[k] > a->rewards[best] ? k : best;
    }
    return best;
}

static enum status put_number(struct text *t, const char *name, double value) {
    TRY(text_printf(t, ", \"%s\": ", name));
    return text_json_number(t, value);
}

/* The rule and its parameters, where there is one: `, "rule": {…}`. */
static enum status put_rule(const struct rule *r, struct text *out) {
    static const char *const names[] = {"none", "mix", "length_control", "kl_threshold", "proxy"};
    if (r->kind == RULE_NONE) {
        return OK;
    }
    TRY(text_printf(out, ", \"rule\": {\"name\": \"%s\"", names[r->kind]));
    if (r->kind == RULE_LENGTH_CONTROL) {
        return text_printf(out, ", \"tokens\": %lld}", (long long)r->tokens);
    }
    TRY(r->kind == RULE_KL_THRESHOLD ? put_number(out, "threshold", r->threshold) : OK);
    TRY(put_number(out, "mix", r->mix));
    return text_puts(out, "}");
}

/* Whose choices were followed, where there are any: `, "user": "…"`. */
static enum status put_user(const struct generation *g, const struct spoken *s, struct text *out) {
    const char *name = s->user >= 0 ? g->contexts.names[s->user] : "";
    TRY(*name ? text_puts(out, ", \"user\": ") : OK);
    return *name ? text_json(out, name, strlen(name)) : OK;
}

enum number { NUMBER_LOGP, NUMBER_DRAWN, NUMBER_REFERENCE, NUMBER_KL, NUMBER_KL_MC };

static double number_of(const struct token_numbers *n, enum number which) {
    const double values[] = {n->logp, n->drawn_logp, n->reference_logp, n->kl,
                             n->drawn_logp - n->reference_logp};
    return values[which];
}

static double sum_of(const struct response_tokens *r, enum number which) {
    double sum = 0;
    for (int32_t t = 0; t < r->count; t++) {
        sum += number_of(&r->numbers[t], which);
    }
    return sum;
}

static enum status put_list(struct text *out, const char *name, const struct response_tokens *r,
                            enum number which) {
    TRY(text_printf(out, ", \"%s\": [", name));
    for (int32_t t = 0; t < r->count; t++) {
        TRY(t ? text_puts(out, ", ") : OK);
        TRY(text_json_number(out, number_of(&r->numbers[t], which)));
    }
    return text_puts(out, "]");
}

static bool compares(const struct generation *g) {
    return g->voices[VOICE_REFERENCE] || g->options.rule.kind == RULE_PROXY;
}

static enum status put_numbers(const struct generation *g, const struct response_tokens *r,
                               struct text *out) {
    bool per_token = g->session.settings->generate.per_token;
    TRY(put_number(out, "logp", sum_of(r, NUMBER_LOGP)));
    TRY(put_number(out, "drawn_logp", sum_of(r, NUMBER_DRAWN)));
    if (compares(g)) {
        TRY(put_number(out, "reference_logp", sum_of(r, NUMBER_REFERENCE)));
        TRY(put_number(out, "kl", sum_of(r, NUMBER_KL)));
        TRY(put_number(out, "kl_mc", sum_of(r, NUMBER_KL_MC)));
    }
    TRY(per_token ? put_list(out, "token_logp", r, NUMBER_LOGP) : OK);
    TRY(per_token && compares(g) ? put_list(out, "token_reference_logp", r, NUMBER_REFERENCE) : OK);
    return per_token && compares(g) ? put_list(out, "token_kl", r, NUMBER_KL) : OK;
}

static void add_sum(struct spoken *s, enum generate_sum which, double value) {
    exact_add(&s->sums, which, exact_of(&s->sums, isfinite(value) ? value : 0), 1);
}

struct response_sums generate_sums(const struct generation *g, const struct answers *a, int32_t k) {
    const struct response_tokens *r = &a->responses[k];
    bool two = compares(g);
    return (struct response_sums){.tokens = r->count,
                                  .logp = sum_of(r, NUMBER_LOGP),
                                  .kl = two ? sum_of(r, NUMBER_KL) : NAN,
                                  .kl_mc = two ? sum_of(r, NUMBER_KL_MC) : NAN,
                                  .reward = a->rewards ? a->rewards[k] : NAN,
                                  .stopped = r->stopped,
                                  .broken = r->broken};
}

void generate_count(const struct generation *g, struct spoken *s, const struct response_sums *r) {
    s->broken += r->broken;
    s->responses++;
    s->stopped += r->stopped;
    add_sum(s, SUM_TOKENS, r->tokens);
    add_sum(s, SUM_LOGP, r->logp);
    if (compares(g)) {
        add_sum(s, SUM_KL_TOP, r->kl);
        add_sum(s, SUM_KL_MC, r->kl_mc);
    }
    if (g->judge) {
        add_sum(s, SUM_REWARD, r->reward);
        add_sum(s, SUM_REWARD_SQUARES, r->reward * r->reward);
    }
}

static enum status put_line(struct generation *g, const struct answers *a, int32_t k, struct text *scratch) {
    const struct response_tokens *r = &a->responses[k];
    struct text *out = &g->text;
    TRY(text_printf(out, "{\"row\": %lld", (long long)a->row));
    TRY(g->samples > 1 ? text_printf(out, ", \"sample\": %d", k) : OK);
    TRY(put_user(g, a->spoken, out));
    TRY(put_rule(&a->spoken->rule, out));
    TRY(text_puts(out, ", \"tokens\": ["));
    for (int32_t t = 0; t < r->count; t++) {
        TRY(text_printf(out, "%s%d", t ? ", " : "", r->tokens[t]));
    }
    TRY(text_puts(out, "]"));
    if (g->session.tokenizer) {
        TRY(generate_text(g, r, scratch));
        TRY(text_puts(out, ", \"text\": "));
        TRY(text_json(out, scratch->data ? scratch->data : "", scratch->len));
    }
    TRY(put_numbers(g, r, out));
    TRY(a->rewards ? put_number(out, "reward", a->rewards[k]) : OK);
    return text_puts(out, r->broken ? ", \"broken\": true}\n" : "}\n");
}

enum status generate_lines(struct generation *g, const struct answers *a, struct text *scratch) {
    int32_t best = generate_best(g, a);
    for (int32_t k = 0; k < g->samples; k++) {
        if (best < 0 || k == best) {
            TRY(g->session.settings->generate.format == 1 ? generate_alpaca_line(g, a, k, scratch)
                                                          : put_line(g, a, k, scratch));
            const struct response_sums sums = generate_sums(g, a, k);
            generate_count(g, a->spoken, &sums);
        }
    }
    return OK;
}

/* One value's means as a line. */
static enum status put_report(const struct generation *g, const struct spoken *s, const int64_t counts[3],
                              const double *sums, struct text *out) {
    double n = counts[0] > 0 ? (double)counts[0] : 1;
    TRY(text_printf(out, "{\"responses\": %lld", (long long)counts[0]));
    TRY(put_user(g, s, out));
    TRY(put_rule(&s->rule, out));
    TRY(put_number(out, "tokens", sums[SUM_TOKENS] / n));
    TRY(put_number(out, "logp", sums[SUM_LOGP] / n));
    if (compares(g)) {
        TRY(put_number(out, "kl", sums[SUM_KL_TOP] / n));
        TRY(put_number(out, "kl_mc", sums[SUM_KL_MC] / n));
    }
    if (g->judge) {
        double mean = sums[SUM_REWARD] / n, variance = sums[SUM_REWARD_SQUARES] / n - mean * mean;
        TRY(put_number(out, "reward", mean));
        TRY(put_number(out, "reward_deviation", sqrt(variance > 0 ? variance : 0)));
    }
    return text_puts(out, "}\n");
}

static enum status write_report(struct generation *g, const struct text *lines) {
    struct ordered_file *file;
    struct comm *c = g->session.comm;
    TRY(ordered_open(c, g->session.settings->generate.report, &file));
    enum status st = ordered_append(file, OK, lines->data, c->rank == 0 ? lines->len : 0);
    if (st != OK) {
        ordered_abandon(file);
        return st;
    }
    return ordered_finish(file);
}

enum status generate_report(struct generation *g, int64_t counts[3]) {
    struct comm *c = g->session.comm;
    struct text lines = {0};
    int64_t broken = 0;
    enum status st = OK;
    for (int i = 0; i < g->n_spoken && st == OK; i++) {
        struct spoken *s = &g->spoken[i];
        double sums[GENERATE_SUMS];
        int64_t own[] = {s->responses, s->stopped, s->broken};
        size_t begins = lines.len;
        TRY_TO(done, exact_reduce(c, &s->sums, sums));
        TRY_TO(done, comm_sum_i64(c, own, COUNT_OF(own)));
        st = put_report(g, s, own, sums, &lines);
        counts[0] += own[0];
        counts[1] += (int64_t)sums[SUM_TOKENS];
        counts[2] += own[1];
        broken += own[2];
        if (st == OK && (g->n_spoken > 1 || compares(g) || g->judge)) {
            log_root(LOG_INFO, "%.*s", (int)(lines.len - begins - 1), lines.data + begins);
        }
    }
    TRY_TO(done, comm_agree(c, st));
    TRY_TO(done, *g->session.settings->generate.report ? write_report(g, &lines) : OK);
    if (broken > 0) {
        st = fail(ERR_DATA,
                  "%lld of %lld responses ended where the logits were no distribution (NaN or infinite): the "
                  "weights are broken; their lines say \"broken\", all others are whole",
                  (long long)broken, (long long)counts[0]);
    }
done:
    text_free(&lines);
    return st;
}
