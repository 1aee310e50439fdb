/* From dpo.loss to what is minimized. */
#include <ctype.h>
#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "objective/objective.h"
#include "util/status.h"
#include "util/text.h"

/* Losses of dpo: SFT, reward models and a policy's own samples have commands of their own. */
static bool is_term(const struct objective *o) {
    return o && o->loss && !(o->reads & READS_ADVANTAGE);
}

/* Names that users of other programs look for, and why they are no row. */
static enum status absent_loss(const char *name) {
    static const struct {
        const char *name, *why;
    } absent[] = {
        {"wpo", "it is a weight of the losses of pairs: dpo.weighting=true"},
    };
    for (int i = 0; i < COUNT_OF(absent); i++) {
        if (strcmp(name, absent[i].name) == 0) {
            return fail(ERR_USAGE, "dpo.loss: %s is not there: %s", name, absent[i].why);
        }
    }
    return OK;
}

static enum status unknown_loss(const char *name) {
    TRY(absent_loss(name));
    struct text known = {0};
    int count;
    const struct objective *table = objective_table(&count);
    for (int i = 0; i < count; i++) {
        TRY(is_term(&table[i]) ? text_printf(&known, "%s, ", table[i].name) : OK);
    }
    TRY(text_puts(&known, "sft"));
    enum status st = fail(ERR_USAGE, "dpo.loss: unknown loss \"%s\"; known: %s", name, known.data);
    text_free(&known);
    return st;
}

static const char *looks_at(enum objective_rows rows) {
    return rows == OVER_PAIRS     ? "compares pairs"
           : rows == OVER_LABELED ? "single labelled responses"
                                  : "the responses of a prompt";
}

static enum status add_term(const struct objective *o, double weight, struct terms *out) {
    if (out->n == MOST_TERMS) {
        return fail(ERR_USAGE, "dpo.loss: more than %d losses", MOST_TERMS);
    }
    if (out->n > 0 && out->rows != o->rows) {
        const struct objective *first = out->list[0].objective;
        bool turned = o->rows == OVER_PAIRS; /* the loss of pairs is named first */
        return fail(ERR_USAGE, "dpo.loss: %s %s, %s %s: not in one sum", (turned ? o : first)->name,
                    looks_at((turned ? o : first)->rows), (turned ? first : o)->name,
                    looks_at((turned ? first : o)->rows));
    }
    if (out->scope != SCOPE_ROW && o->scope != SCOPE_ROW) {
        return fail(ERR_USAGE, "dpo.loss: %s: a second loss that looks at the whole batch", o->name);
    }
    out->rows = o->rows;
    out->reads |= o->reads;
    out->takes |= o->takes;
    out->scope = o->scope == SCOPE_ROW ? out->scope : o->scope;
    out->list[out->n++] = (struct term){o, weight};
    return OK;
}

/* "0.1*sft" without spaces. */
static enum status parse_term(char *term, struct terms *out) {
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
    const struct objective *o = objective_find(term);
    return is_term(o) ? add_term(o, weight, out) : unknown_loss(term);
}

/* A plus sign ends a term unless it belongs to an exponent ("1e+2*ipo"). */
static bool ends_term(const char *text, size_t i, size_t start) {
    return text[i] == '\0' ||
           (text[i] == '+' && i > start &&
            !(strchr("eE", text[i - 1]) && i > start + 1 && isdigit((unsigned char)text[i - 2])));
}

enum status terms_parse(const char *losses, struct terms *out) {
    out->n = 0;
    out->reads = out->takes = 0;
    out->scope = SCOPE_ROW;
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
    if (out->n == 0) {
        out->rows = OVER_PAIRS;
        out->reads = READS_LOGP;
    }
    return OK;
}

const struct option_key *terms_option_keys(int *count) {
    static const struct option_key keys[] = {
        {TAKES_SMOOTHING, "dpo.label_smoothing"},
        {TAKES_MARGIN, "dpo.margin"},
        {TAKES_GAMMA, "dpo.gamma"},
        {TAKES_TAU, "dpo.tau"},
        {TAKES_BETA_SCALE, "dpo.beta_scale"},
        {TAKES_DIVERGENCE, "dpo.divergence"},
        {TAKES_LD_ALPHA, "dpo.ld_alpha"},
        {TAKES_DESIRABLE_WEIGHT, "dpo.desirable_weight"},
        {TAKES_WEIGHTING, "dpo.weighting"},
        {TAKES_TDPO_ALPHA, "dpo.tdpo_alpha"},
        {TAKES_UNDESIRABLE_WEIGHT, "dpo.undesirable_weight"},
    };
    *count = COUNT_OF(keys);
    return keys;
}

/* robust divides by 1 - 2e, exo_pair takes the logarithm of e. */
static enum status check_smoothing(const struct objective *o, double e) {
    double high = o->pair == preference_robust ? 0.5 : 1.0;
    if (!(e >= 0) || e > high || (high < 1 && e == high)) {
        return fail(ERR_USAGE, "label smoothing is %g; the loss %s takes 0 to %g%s", e, o->name, high,
                    high < 1 ? ", less than that" : "");
    }
    return o->pair == preference_exo_pair && (e == 0 || e == 1)
               ? fail(ERR_USAGE,
                      "label smoothing is %g; the loss exo_pair takes more than 0 (dpo.label_smoothing=1e-3)",
                      e)
               : OK;
}

/* min: that or more; above: more than that; to at most. */
static enum status check_range(const char *what, double value, double min, bool above, double most) {
    return !(above ? value > min : value >= min) || !(value <= most)
               ? fail(ERR_USAGE, "%s is %g; it must be %s", what, value,
                      above ? "a positive number" : "0 or a positive number")
               : OK;
}

static enum status check_options(const struct objective *o, const struct preference_options *p) {
    const double most = DBL_MAX;
    TRY(o->takes & TAKES_BETA ? check_range("beta", p->beta, 0, true, most) : OK);
    TRY(o->takes & TAKES_SMOOTHING ? check_smoothing(o, p->label_smoothing) : OK);
    TRY(o->takes & TAKES_MARGIN ? check_range("margin", p->margin, 0, false, most) : OK);
    TRY(o->takes & TAKES_GAMMA ? check_range("gamma", p->gamma, 0, false, most) : OK);
    TRY(o->takes & TAKES_BETA_SCALE ? check_range("beta_scale", p->beta_scale, 0, false, most) : OK);
    TRY(o->takes & TAKES_TDPO_ALPHA ? check_range("tdpo_alpha", p->tdpo_alpha, 0, false, most) : OK);
    bool weighs = o->takes & TAKES_DESIRABLE_WEIGHT;
    TRY(weighs ? check_range("desirable_weight", p->desirable_weight, 0, false, most) : OK);
    TRY(weighs ? check_range("undesirable_weight", p->undesirable_weight, 0, false, most) : OK);
    return o->takes & TAKES_TAU && !(p->tau > 0 && p->tau <= 1)
               ? fail(ERR_USAGE, "tau is %g; it must be above 0 and at most 1", p->tau)
               : OK;
}

/* An option that is read by none, or not by all where it must be. */
static enum status useless_option(const struct option_key *option, const char *losses) {
    struct text readers = {0};
    int count, n = 0;
    const struct objective *table = objective_table(&count);
    for (int i = 0; i < count; i++) {
        if (is_term(&table[i]) && (table[i].takes & option->takes)) {
            TRY(text_printf(&readers, "%s%s", n++ > 0 ? ", " : "", table[i].name));
        }
    }
    enum status st =
        fail(ERR_USAGE, "%s has no effect with %s dpo.loss; read by: %s", option->key, losses, readers.data);
    text_free(&readers);
    return st;
}

static enum status check_given(const struct terms *t, unsigned given) {
    int count;
    const struct option_key *keys = terms_option_keys(&count);
    unsigned by_all = t->takes;
    for (int k = 0; k < t->n; k++) {
        by_all &= t->list[k].objective->takes;
    }
    for (int i = 0; i < count; i++) {
        bool for_all = keys[i].takes & (TAKES_DIVERGENCE | TAKES_LD_ALPHA | TAKES_WEIGHTING);
        if (given & ~t->takes & keys[i].takes) {
            return useless_option(&keys[i], "this");
        }
        if (for_all && (given & ~by_all & keys[i].takes)) {
            return useless_option(&keys[i], "a part of this");
        }
    }
    return OK;
}

enum status terms_check(struct terms *t, unsigned given) {
    for (int k = 0; k < t->n; k++) {
        TRY(check_options(t->list[k].objective, &t->options));
    }
    TRY(check_given(t, given));
    if (t->options.tail_discount != 0) {
        t->reads |= READS_TOKENS | READS_TOKEN_REFERENCE;
    }
    return OK;
}

void terms_one(const char *name, struct terms *out) {
    const struct objective *o = objective_find(name);
    out->rows = o->rows;
    out->reads = o->reads;
    out->takes = o->takes;
    out->scope = o->scope;
    out->n = 1;
    out->list[0] = (struct term){o, 1};
}
