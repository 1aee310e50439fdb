#include "train/recipe.h"

#include <ctype.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "util/text.h"

static enum status unknown_loss(const char *name) {
    struct text known = {0};
    int count;
    const struct preference_objective *table = preference_table(&count);
    for (int i = 0; i < count; i++) {
        TRY(text_printf(&known, "%s, ", table[i].name));
    }
    TRY(text_puts(&known, "sft (as an add-on)"));
    enum status st = fail(ERR_USAGE, "dpo.loss: unknown loss \"%s\"; known: %s", name, known.data);
    text_free(&known);
    return st;
}

/* "0.1*sft" without spaces. */
static enum status parse_term(char *term, struct recipe *out) {
    double weight = 1;
    char *star = strchr(term, '*');
    if (star) {
        char *end;
        weight = strtod(term, &end);
        if (end != star || !isfinite(weight)) {
            return fail(ERR_USAGE, "dpo.loss: \"%s\": expected WEIGHT*LOSS", term);
        }
        term = star + 1;
    }
    if (strcmp(term, "sft") == 0) {
        out->target_weight += weight;
        return OK;
    }
    const struct preference_objective *objective = preference_find(term);
    if (!objective) {
        return unknown_loss(term);
    }
    if (out->n_terms == RECIPE_TERMS) {
        return fail(ERR_USAGE, "dpo.loss: more than %d losses", RECIPE_TERMS);
    }
    out->terms[out->n_terms++] = (struct recipe_term){objective, weight};
    return OK;
}

/* A plus sign ends a term unless it belongs to an exponent ("1e+2*ipo"). */
static bool ends_term(const char *text, size_t i, size_t start) {
    return text[i] == '\0' ||
           (text[i] == '+' && i > start &&
            !(strchr("eE", text[i - 1]) && i > start + 1 && isdigit((unsigned char)text[i - 2])));
}

enum status recipe_parse(const char *losses, struct recipe *out) {
    out->n_terms = 0;
    out->target_weight = 0;
    char text[256];
    size_t n = 0;
    for (const char *p = losses; *p; p++) {
        if (isspace((unsigned char)*p)) {
            continue;
        }
        if (n + 1 == sizeof text) {
            return fail(ERR_USAGE, "dpo.loss: longer than %zu characters", sizeof text - 1);
        }
        text[n++] = *p;
    }
    text[n] = '\0';
    size_t start = 0;
    for (size_t i = 0; i <= n; i++) {
        if (!ends_term(text, i, start)) {
            continue;
        }
        text[i] = '\0';
        if (i == start) {
            return fail(ERR_USAGE, "dpo.loss: \"%s\": a loss is missing", losses);
        }
        TRY(parse_term(text + start, out));
        start = i + 1;
    }
    if (out->n_terms == 0) {
        return fail(ERR_USAGE, "dpo.loss: \"%s\" holds no preference loss; use `collimate sft` for SFT alone",
                    losses);
    }
    return OK;
}

enum status recipe_check(const struct recipe *r, bool has_smoothing) {
    bool is_read = false;
    for (int k = 0; k < r->n_terms; k++) {
        const struct preference_objective *o = r->terms[k].objective;
        struct preference_options options = r->options;
        options.label_smoothing = o->uses_smoothing ? options.label_smoothing : 0;
        TRY(preference_check(o, &options));
        is_read = is_read || o->uses_smoothing;
    }
    if (has_smoothing && !is_read) {
        return fail(ERR_USAGE,
                    "dpo.label_smoothing has no effect with this dpo.loss; sigmoid and robust read "
                    "it");
    }
    return OK;
}

static void add_response_sums(const struct response_score *scores, bool pairs, struct sums *sums) {
    const struct response_score *target = &scores[0];
    sums->v[SUM_TARGET_LOGP] += target->logp;
    sums->v[SUM_TARGET_TOKENS] += (double)target->tokens;
    sums->v[SUM_TARGET_TOP] += (double)target->top;
    sums->v[SUM_TARGET_LOGITS] += target->mean_logit;
    sums->v[SUM_ENTROPY] += target->entropy;
    if (pairs) {
        const struct response_score *rejected = &scores[1];
        sums->v[SUM_REJECTED_LOGP] += rejected->logp;
        sums->v[SUM_REJECTED_TOKENS] += (double)rejected->tokens;
        sums->v[SUM_REJECTED_LOGITS] += rejected->mean_logit;
        sums->v[SUM_ENTROPY] += rejected->entropy;
    }
}

/* Rewards are beta times the log-ratios whatever the loss, with the true reference also where the loss does
 * without one; a tie is no success (TRL, DPO reference). */
static void add_rewards(const struct recipe *r, const struct response_score *scores, const double *reference,
                        struct sums *sums) {
    double chosen = r->options.beta * (scores[0].logp - reference[0]);
    double rejected = r->options.beta * (scores[1].logp - reference[1]);
    sums->v[SUM_REWARD_CHOSEN] += chosen;
    sums->v[SUM_REWARD_REJECTED] += rejected;
    sums->v[SUM_ACCURATE] += chosen > rejected;
}

static double pair_row(const struct recipe *r, const struct response_score *scores, const double *reference,
                       double gradient[2]) {
    struct pair_scores s = {.chosen = scores[0].logp,
                            .rejected = scores[1].logp,
                            .chosen_tokens = scores[0].tokens > 0 ? scores[0].tokens : 1,
                            .rejected_tokens = scores[1].tokens > 0 ? scores[1].tokens : 1};
    if (reference && !r->reference_free) {
        s.reference_chosen = reference[0];
        s.reference_rejected = reference[1];
    }
    double value = 0;
    for (int k = 0; k < r->n_terms; k++) {
        struct pair_loss loss;
        r->terms[k].objective->loss(&s, &r->options, &loss);
        value += r->terms[k].weight * loss.value;
        gradient[0] += r->terms[k].weight * loss.d_chosen;
        gradient[1] += r->terms[k].weight * loss.d_rejected;
    }
    return value;
}

/* SFT and preferences: the target's tokens may be averaged over the whole batch. */
static bool finish_tokens(const struct denominators *d, double target_weight, const double g[2],
                          double *gradient) {
    if (gradient) {
        gradient[0] = g[0] / d->rows;
        gradient[1] = g[1] / d->rows;
        if (target_weight != 0 && d->target_tokens > 0) {
            gradient[0] -= target_weight / d->target_tokens;
        }
    }
    return isfinite(g[0]) && isfinite(g[1]);
}

static bool sft_row(const struct recipe *r, const struct scored_row *row, const struct denominators *d,
                    double *gradient, struct sums *sums) {
    const double g[2] = {r->sequence_sum ? -1 : 0, 0};
    sums->v[SUM_LOSS] -= row->scores[0].logp;
    add_response_sums(row->scores, false, sums);
    return finish_tokens(d, r->sequence_sum ? 0 : 1, g, gradient) && isfinite(row->scores[0].logp);
}

static bool preference_row(const struct recipe *r, const struct scored_row *row, const struct denominators *d,
                           double *gradient, struct sums *sums) {
    double g[2] = {0, 0};
    double value = pair_row(r, row->scores, row->reference, g);
    sums->v[SUM_LOSS] += value;
    add_response_sums(row->scores, true, sums);
    if (row->reference) {
        add_rewards(r, row->scores, row->reference, sums);
    }
    return finish_tokens(d, r->target_weight, g, gradient) && isfinite(value) &&
           isfinite(row->scores[0].logp);
}

static void add_value(double value, struct sums *sums) {
    bool is_first = sums->v[SUM_RESPONSES] == 0;
    sums->lowest = is_first ? value : fmin(sums->lowest, value);
    sums->highest = is_first ? value : fmax(sums->highest, value);
    sums->v[SUM_RESPONSES] += 1;
    sums->v[SUM_VALUES] += value;
}

static bool reward_row(const struct recipe *r, const struct scored_row *row, const struct denominators *d,
                       double *gradient, struct sums *sums) {
    const struct sample *s = row->sample;
    double value = 0;
    double share = s->n_pairs > 0 ? 1.0 / s->n_pairs : 0;
    for (int32_t i = 0; i < s->n_responses; i++) {
        add_value(row->scores[i].value, sums);
        if (gradient) {
            gradient[i] = 0;
        }
    }
    for (int32_t i = 0; i < s->n_pairs; i++) {
        const struct sample_pair *p = &s->pairs[i];
        double chosen = row->scores[p->chosen].value;
        double rejected = row->scores[p->rejected].value;
        struct reward_loss loss;
        reward_loss(chosen, rejected, p->margin, &r->reward, &loss);
        value += share * loss.value;
        if (gradient) {
            gradient[p->chosen] += share * loss.d_chosen / d->rows;
            gradient[p->rejected] += share * loss.d_rejected / d->rows;
        }
        sums->v[SUM_PAIRS] += 1;
        sums->v[SUM_REWARD_CHOSEN] += chosen;
        sums->v[SUM_REWARD_REJECTED] += rejected;
        sums->v[SUM_ACCURATE] += chosen > rejected; /* a tie is no success */
    }
    sums->v[SUM_LOSS] += value;
    return isfinite(value); /* slopes are bounded where it is */
}

static double mean_loss(const struct sums *sums) {
    return sums->v[SUM_LOSS] / (sums->v[SUM_ROWS] > 0 ? sums->v[SUM_ROWS] : 1);
}

static double mean_nll(const struct sums *sums) {
    return -sums->v[SUM_TARGET_LOGP] / (sums->v[SUM_TARGET_TOKENS] > 0 ? sums->v[SUM_TARGET_TOKENS] : 1);
}

static double sft_value(const struct recipe *r, const struct sums *sums) {
    return r->sequence_sum ? mean_loss(sums) : mean_nll(sums);
}

static double preference_value(const struct recipe *r, const struct sums *sums) {
    return mean_loss(sums) + (r->target_weight != 0 ? r->target_weight * mean_nll(sums) : 0);
}

static double reward_value(const struct recipe *r, const struct sums *sums) {
    (void)r;
    return mean_loss(sums);
}

static const struct {
    const char *rows;
    enum model_head head;
    bool (*row)(const struct recipe *r, const struct scored_row *row, const struct denominators *d,
                double *gradient, struct sums *sums);
    double (*value)(const struct recipe *r, const struct sums *sums);
} kinds[] = {
    [RECIPE_SFT] = {"sequences", HEAD_LANGUAGE, sft_row, sft_value},
    [RECIPE_PREFERENCE] = {"pairs", HEAD_LANGUAGE, preference_row, preference_value},
    [RECIPE_REWARD] = {"prompts", HEAD_SCORE, reward_row, reward_value},
};

enum model_head recipe_head(const struct recipe *r) {
    return kinds[r->kind].head;
}

const char *recipe_rows(const struct recipe *r) {
    return kinds[r->kind].rows;
}

bool recipe_row(const struct recipe *r, const struct scored_row *row, const struct denominators *d,
                double *gradient, struct sums *sums) {
    sums->v[SUM_ROWS] += 1;
    return kinds[r->kind].row(r, row, d, gradient, sums);
}

double recipe_value(const struct recipe *r, const struct sums *sums) {
    return kinds[r->kind].value(r, sums);
}
