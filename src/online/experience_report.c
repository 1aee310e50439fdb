/* What is said of a rollout: a step's numbers, by TRL's names, and its lines on disk. */
#include <math.h>
#include <string.h>

#include "evaluate/metrics.h"
#include "io/file.h"
#include "online/experience.h"
#include "util/log.h"
#include "util/mem.h"

/* Mean, least and most. */
struct spread {
    double n, sum, least, most;
};

static void spread_add(struct spread *s, double value) {
    s->least = s->n > 0 ? fmin(s->least, value) : value;
    s->most = s->n > 0 ? fmax(s->most, value) : value;
    s->sum += value;
    s->n += 1;
}

static enum status put_spread(struct text *line, const char *suffix, const struct spread *s) {
    TRY(metrics_put(line, "completions/mean_", suffix, s->n > 0 ? s->sum / s->n : 0));
    TRY(metrics_put(line, "completions/min_", suffix, s->least));
    return metrics_put(line, "completions/max_", suffix, s->most);
}

static enum status put_lengths(const struct rollout *r, struct text *line) {
    struct spread all = {0}, ended = {0};
    int64_t n = rollout_responses(r);
    for (int64_t k = 0; k < n; k++) {
        double length = (double)(r->first[k + 1] - r->first[k]);
        if (rollout_is_own(r, k)) {
            spread_add(&all, length);
        }
        if (rollout_is_own(r, k) && r->stopped[k]) {
            spread_add(&ended, length);
        }
    }
    TRY(put_spread(line, "length", &all));
    TRY(metrics_put(line, "completions/", "clipped_ratio", 1 - ended.n / all.n));
    return put_spread(line, "terminated_length", &ended);
}

/* A column of rewards, or their sums, of the responses that the policy drew. */
struct own_values {
    double *list, mean;
    int64_t n;
};

/* values: of response k at k * stride. */
static enum status take_own(const struct rollout *r, const double *values, int64_t stride,
                            struct own_values *out) {
    *out = (struct own_values){.n = r->n * r->own};
    TRY(NEW_ARRAY(out->list, out->n));
    for (int64_t k = 0, at = 0; k < rollout_responses(r); k++) {
        if (rollout_is_own(r, k)) {
            out->list[at++] = values[k * stride];
            out->mean += values[k * stride] / (double)out->n;
        }
    }
    return OK;
}

static enum status put_column(const struct experience *e, int column, struct text *line) {
    const struct appraisal *a = &e->appraisal;
    struct own_values own;
    char name[160];
    TRY(take_own(&e->rollout, a->values + column, a->columns, &own));
    snprintf(name, sizeof name, "%.120s/mean", a->names[column]);
    enum status st = metrics_put(line, "rewards/", name, own.mean);
    snprintf(name, sizeof name, "%.120s/std", a->names[column]);
    st = st == OK ? metrics_put(line, "rewards/", name, advantage_deviation(own.list, own.n)) : st;
    mem_free(own.list);
    return st;
}

static enum status put_rewards(const struct experience *e, struct text *line) {
    const struct rollout *r = &e->rollout;
    struct own_values own;
    double deviations = 0;
    for (int c = 0; c < e->appraisal.columns; c++) {
        TRY(put_column(e, c, line));
    }
    TRY(take_own(r, e->appraisal.rewards, 1, &own));
    for (int64_t i = 0; i < r->n; i++) {
        deviations += advantage_deviation(own.list + i * r->own, r->own) / (double)r->n;
    }
    double flat = advantage_flat_groups(own.list, r->n, r->own);
    mem_free(own.list);
    TRY(metrics_put(line, "", "reward", own.mean));
    TRY(metrics_put(line, "", "reward_std", deviations));
    return metrics_put(line, "", "frac_reward_zero_std", flat);
}

/* Old TRL's names of PPO and online DPO. */
static enum status put_objective(const struct experience *e, struct text *line) {
    const struct rollout *r = &e->rollout;
    double own = (double)(r->n * r->own), entropy = 0, scores = 0, ended = 0, margin = 0;
    for (int64_t k = 0; k < rollout_responses(r); k++) {
        double part = rollout_is_own(r, k) ? 1 / own : 0;
        scores += part * e->appraisal.rewards[k];
        ended += r->stopped[k] ? part : 0;
        for (int64_t t = r->first[k]; t < r->first[k + 1]; t++) {
            entropy -= part * r->logps[t];
        }
    }
    for (int64_t i = 0; i < e->rows.n && e->rows.is_paired; i++) {
        const int64_t *pair = &e->rows.response[2 * i];
        margin += (e->appraisal.rewards[pair[0]] - e->appraisal.rewards[pair[1]]) / (double)e->rows.n;
    }
    double coefficient = e->options.kl_in_reward ? e->facts.coefficient : e->options.terms->options.beta;
    double kl = 0 - coefficient * e->facts.kl;
    bool is_shown = e->options.method == ONLINE_NASH_MD; /* as a number of the loss */
    TRY(is_shown ? OK : metrics_put(line, "objective/", "kl", e->facts.kl));
    TRY(metrics_put(line, "objective/", "entropy", entropy));
    TRY(metrics_put(line, "objective/", "non_score_reward", kl));
    TRY(metrics_put(line, "objective/", "rlhf_reward", scores + kl));
    TRY(metrics_put(line, "objective/", "scores", scores));
    TRY(e->rows.is_paired ? metrics_put(line, "objective/", "scores_margin", margin) : OK);
    return metrics_put(line, "val/", "contain_eos_token", ended);
}

/* The first update with new samples has ratios of 1: sampler and trainer are one forward. Where rows are
 * steady (the CPU) that is exact, elsewhere it is said. */
static enum status check_drift(const struct experience *e, double drift) {
    const struct backend *b = e->options.rollout.model->backend;
    if (!e->facts.is_new || e->options.terms->rows != OVER_GROUPS) {
        return OK;
    }
    if (b->caps.steady_rows > 0 && drift != 0) {
        return fail(
            ERR_INTERNAL,
            "update %lld: log-probabilities differ by up to %.3g between drawing and training, which are to "
            "be the same bits on this device",
            (long long)e->step + 1, drift);
    }
    if (e->step == 0) {
        log_root(LOG_INFO,
                 "log-probabilities of the first samples, drawn and trained, differ by at most %.3g", drift);
    }
    return OK;
}

enum status experience_report(void *context, const struct verdict *v, struct text *line) {
    struct experience *e = context;
    struct experience_facts *f = &e->facts;
    TRY(check_drift(e, v->sums.drift));
    bool shows_kl = e->options.terms->rows == OVER_GROUPS && e->options.terms->policy.beta != 0;
    TRY(put_lengths(&e->rollout, line));
    TRY(put_rewards(e, line));
    if (e->appraisal.reference && !shows_kl) { /* else it is a number of the loss */
        TRY(metrics_put(line, "", "kl", f->kl));
        TRY(metrics_put(line, "", "kl_coefficient",
                        e->options.kl_in_reward ? f->coefficient : e->options.terms->options.beta));
    }
    bool has_old_names = e->options.method >= ONLINE_DPO; /* old TRL's methods */
    TRY(has_old_names ? put_objective(e, line) : OK);
    double draw_s = f->is_new ? f->draw_s : 0, judge_s = f->is_new ? f->judge_s : 0;
    f->all_draw_s += draw_s;
    f->all_judge_s += judge_s;
    f->all_s += v->step_s;
    TRY(metrics_put(line, "", "time/generation", draw_s));
    TRY(metrics_put(line, "", "time/reward", judge_s));
    TRY(metrics_put(line, "", "time/update", fmax(0, v->step_s - draw_s - judge_s)));
    return metrics_put(line, "", "time/generation_imbalance", f->is_new ? f->draw_imbalance : 0);
}

void experience_summary(const struct experience *e) {
    const struct experience_facts *f = &e->facts;
    double share = f->all_s > 0 ? 100 / f->all_s : 0;
    if (f->all_s > 0) {
        log_root(
            LOG_INFO,
            "of %.3g s %.0f %% went into drawing, %.0f %% into rewards and references, %.0f %% into updates",
            f->all_s, share * f->all_draw_s, share * f->all_judge_s,
            fmax(0, 100 - share * (f->all_draw_s + f->all_judge_s)));
    }
}

/* Lines. */

static enum status put_numbers(struct text *out, const char *name, const double *values, int64_t n) {
    TRY(text_printf(out, ", \"%s\": [", name));
    for (int64_t i = 0; i < n; i++) {
        TRY(i > 0 ? text_puts(out, ", ") : OK);
        TRY(text_json_number(out, values[i]));
    }
    return text_puts(out, "]");
}

static enum status put_tokens(struct text *out, const int32_t *tokens, int64_t n) {
    TRY(text_puts(out, ", \"tokens\": ["));
    for (int64_t i = 0; i < n; i++) {
        TRY(text_printf(out, i > 0 ? ", %d" : "%d", tokens[i]));
    }
    return text_puts(out, "]");
}

static enum status put_number(struct text *out, const char *name, double value) {
    TRY(text_printf(out, ", \"%s\": ", name));
    return text_json_number(out, value);
}

static enum status put_text(const struct experience *e, const int32_t *tokens, int64_t n,
                            struct text *scratch, struct text *out) {
    const struct tokenizer *t = e->options.appraiser.tokenizer;
    if (!t) {
        return OK;
    }
    text_clear(scratch);
    TRY(tokenizer_decode_after(t, tokens, n, true, scratch));
    TRY(text_puts(out, ", \"text\": "));
    return text_json(out, scratch->data ? scratch->data : "", scratch->len);
}

/* What the update makes of a response, where that is not the same for all. */
static enum status put_use(const struct experience *e, int64_t k, struct text *out) {
    const struct update_rows *rows = &e->rows;
    const char *use = "none";
    for (int64_t at = 0; at < rows->first[rows->n]; at++) {
        if (rows->response[at] == k) {
            use = !rows->is_paired ? "kept" : at % 2 == 0 ? "chosen" : "rejected";
        }
    }
    return text_printf(out, ", \"use\": \"%s\"", use);
}

static enum status put_line(const struct experience *e, int64_t k, struct text *scratch, struct text *out) {
    const struct rollout *r = &e->rollout;
    const struct appraisal *a = &e->appraisal;
    int64_t at = r->first[k], n = r->first[k + 1] - at;
    TRY(text_printf(out, "{\"row\": %lld, \"sample\": %lld", (long long)r->rows[k / r->samples],
                    (long long)(k % r->samples)));
    TRY(put_tokens(out, r->tokens + at, n));
    TRY(put_numbers(out, "logps", r->logps + at, n));
    TRY(a->reference ? put_numbers(out, "reference_logps", a->reference + at, n) : OK);
    TRY(put_number(out, "reward", a->rewards[k]));
    TRY(text_puts(out, ", \"rewards\": {"));
    for (int c = 0; c < a->columns; c++) {
        TRY(c > 0 ? text_puts(out, ", ") : OK);
        TRY(text_json(out, a->names[c], strlen(a->names[c])));
        TRY(text_puts(out, ": "));
        TRY(text_json_number(out, a->values[k * a->columns + c]));
    }
    TRY(text_puts(out, "}"));
    bool has_advantage = e->advantages && e->options.method != ONLINE_XPO; /* there it marks the other's */
    TRY(has_advantage ? put_number(out, "advantage", e->advantages[k]) : OK);
    TRY(a->before ? put_numbers(out, "values", a->before + at, n) : OK);
    if (e->token_advantages) {
        TRY(put_numbers(out, "advantages", e->token_advantages + at, n));
        TRY(put_numbers(out, "returns", e->token_returns + at, n));
    }
    bool is_choice = e->options.terms->rows != OVER_GROUPS || r->own < r->samples;
    TRY(is_choice ? put_use(e, k, out) : OK);
    TRY(text_printf(out, ", \"stopped\": %s", r->stopped[k] ? "true" : "false"));
    TRY(put_text(e, r->tokens + at, n, scratch, out));
    return text_puts(out, "}\n");
}

enum status experience_keep(const struct experience *e) {
    struct text path = {0}, lines = {0}, scratch = {0};
    enum status st;
    TRY_TO(done, text_printf(&path, "%s/step-%lld.jsonl", e->options.folder, (long long)e->step + 1));
    for (int64_t k = 0; k < rollout_responses(&e->rollout); k++) {
        TRY_TO(done, put_line(e, k, &scratch, &lines));
    }
    TRY_TO(done, folder_make(e->options.folder));
    st = file_write(path.data, lines.data ? lines.data : "", lines.len);
done:
    text_free(&path);
    text_free(&lines);
    text_free(&scratch);
    return st;
}
