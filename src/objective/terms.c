/* From dpo.loss to what is minimized. */
#include <ctype.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "objective/objective.h"
#include "util/status.h"
#include "util/text.h"

/* Losses of dpo: SFT and reward models are commands of their own. */
static bool is_term(const struct objective *o) {
    return o && o->loss;
}

static enum status unknown_loss(const char *name) {
    struct text known = {0};
    int count;
    const struct objective *table = objective_table(&count);
    for (int i = 0; i < count; i++) {
        TRY(is_term(&table[i]) ? text_printf(&known, "%s, ", table[i].name) : OK);
    }
    TRY(text_puts(&known, "sft (as an add-on)"));
    enum status st = fail(ERR_USAGE, "dpo.loss: unknown loss \"%s\"; known: %s", name, known.data);
    text_free(&known);
    return st;
}

static enum status add_term(const struct objective *o, double weight, struct terms *out) {
    if (out->n == MOST_TERMS) {
        return fail(ERR_USAGE, "dpo.loss: more than %d losses", MOST_TERMS);
    }
    if (out->n > 0 && out->rows != o->rows) {
        return fail(ERR_USAGE, "dpo.loss: %s compares pairs, %s the responses of a prompt: not in one sum",
                    out->rows == OVER_PAIRS ? out->list[0].objective->name : o->name,
                    out->rows == OVER_PAIRS ? o->name : out->list[0].objective->name);
    }
    if (out->scope == SCOPE_BATCH && o->scope == SCOPE_BATCH) {
        return fail(ERR_USAGE, "dpo.loss: %s: a second loss that looks at the whole batch", o->name);
    }
    out->rows = o->rows;
    out->reads |= o->reads;
    out->scope = o->scope == SCOPE_BATCH ? SCOPE_BATCH : out->scope;
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
    out->reads = 0;
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
        return fail(ERR_USAGE, "dpo.loss: \"%s\" holds no preference loss; use `collimate sft` for SFT alone",
                    losses);
    }
    return OK;
}

/* The options of one loss; smoothing is 0 where it takes none. */
static enum status check_options(const struct objective *o, const struct preference_options *options) {
    double e = options->label_smoothing;
    if ((o->reads & READS_REFERENCE) && (!(options->beta > 0) || !isfinite(options->beta))) {
        return fail(ERR_USAGE, "beta is %g; it must be a positive number", options->beta);
    }
    bool is_robust = o->pair == preference_robust; /* divides by 1 - 2e */
    double high = is_robust ? 0.5 : 1.0;
    if (!(e >= 0) || e > high || (is_robust && e == high)) {
        return fail(ERR_USAGE, "label smoothing is %g; the loss %s takes 0 to %g%s", e, o->name, high,
                    is_robust ? ", less than that" : "");
    }
    return (o->takes & TAKES_MARGIN) && !(options->margin >= 0 && isfinite(options->margin))
               ? fail(ERR_USAGE, "margin is %g; it must be 0 or a positive number", options->margin)
               : OK;
}

enum status terms_check(const struct terms *t, unsigned given) {
    unsigned takes = 0;
    for (int k = 0; k < t->n; k++) {
        const struct objective *o = t->list[k].objective;
        struct preference_options options = t->options;
        options.label_smoothing = o->takes & TAKES_SMOOTHING ? options.label_smoothing : 0;
        TRY(check_options(o, &options));
        takes |= o->takes;
    }
    if (given & ~takes & TAKES_SMOOTHING) {
        return fail(ERR_USAGE,
                    "dpo.label_smoothing has no effect with this dpo.loss; sigmoid and robust read "
                    "it");
    }
    return given & ~takes & TAKES_MARGIN
               ? fail(ERR_USAGE, "dpo.margin has no effect with this dpo.loss; slic reads it")
               : OK;
}

void terms_one(const char *name, struct terms *out) {
    const struct objective *o = objective_find(name);
    out->rows = o->rows;
    out->reads = o->reads;
    out->scope = o->scope;
    out->n = 1;
    out->list[0] = (struct term){o, 1};
}
