/* Pairwise preference losses and their derivatives, in double.
 *
 * Notation: a, b the log-ratios of chosen and rejected, delta = a - b, beta the inverse temperature, e label
 * smoothing, n_c and n_r scored tokens, s the logistic function. Everything is written with softplus(x) =
 * -log s(-x) and s itself (logistic.h), so margins of +-1e4 neither overflow nor turn into NaN.
 */
#include "objective/preference.h"

#include <math.h>
#include <string.h>

#include "objective/logistic.h"
#include "util/status.h"

/* s'(x) = s(x) s(-x); the product keeps its relative precision in both tails. */
static double logistic_slope(double x) {
    return logistic(x) * logistic(-x);
}

static double ratio_chosen(const struct pair_scores *s) {
    return s->chosen - s->reference_chosen;
}

static double ratio_rejected(const struct pair_scores *s) {
    return s->rejected - s->reference_rejected;
}

/* Every rank-like loss depends on beta x difference alone. */
static void from_margin(struct pair_loss *out, double value, double slope, double beta) {
    *out = (struct pair_loss){value, beta * slope, -beta * slope};
}

/* -(1-e) log s(beta delta) - e log s(-beta delta): Rafailov et al. 2023, eq. 7; with e > 0 the conservative
 * DPO of Mitchell's note, as in the authors' code. */
static void loss_sigmoid(const struct pair_scores *s, const struct preference_options *o,
                         struct pair_loss *out) {
    double u = o->beta * (ratio_chosen(s) - ratio_rejected(s)), e = o->label_smoothing;
    from_margin(out, (1 - e) * softplus(-u) + e * softplus(u), e * logistic(u) - (1 - e) * logistic(-u),
                o->beta);
}

/* [-(1-e) log s(u) + e log s(-u)] / (1 - 2e): unbiased when labels are flipped with probability e
 * (Chowdhury et al. 2024, eq. 8). */
static void loss_robust(const struct pair_scores *s, const struct preference_options *o,
                        struct pair_loss *out) {
    double u = o->beta * (ratio_chosen(s) - ratio_rejected(s)), e = o->label_smoothing;
    double scale = 1.0 / (1.0 - 2.0 * e);
    from_margin(out, scale * ((1 - e) * softplus(-u) - e * softplus(u)),
                -scale * ((1 - e) * logistic(-u) + e * logistic(u)), o->beta);
}

/* max(0, 1 - beta delta): SLiC's hinge on DPO's reward. At the kink the slope is 0, as torch's relu has it.
 */
static void loss_hinge(const struct pair_scores *s, const struct preference_options *o,
                       struct pair_loss *out) {
    double gap = 1.0 - o->beta * (ratio_chosen(s) - ratio_rejected(s));
    from_margin(out, gap > 0 ? gap : 0.0, gap > 0 ? -1.0 : 0.0, o->beta);
}

/* (a/n_c - b/n_r - 1/(2 beta))^2: Azar et al. 2023, eq. 17, with the per-token means that its authors told
 * TRL's to use. */
static void loss_ipo(const struct pair_scores *s, const struct preference_options *o, struct pair_loss *out) {
    double n_c = (double)s->chosen_tokens, n_r = (double)s->rejected_tokens;
    double gap = ratio_chosen(s) / n_c - ratio_rejected(s) / n_r - 1.0 / (2.0 * o->beta);
    *out = (struct pair_loss){gap * gap, 2.0 * gap / n_c, -2.0 * gap / n_r};
}

/* The same on sums, as the DPO authors' code has it. */
static void loss_ipo_sum(const struct pair_scores *s, const struct preference_options *o,
                         struct pair_loss *out) {
    double gap = ratio_chosen(s) - ratio_rejected(s) - 1.0 / (2.0 * o->beta);
    *out = (struct pair_loss){gap * gap, 2.0 * gap, -2.0 * gap};
}

/* 1 - s(beta a) + s(beta b): raise chosen, lower rejected (D'Oosterlinck et al. 2024). */
static void loss_apo_zero(const struct pair_scores *s, const struct preference_options *o,
                          struct pair_loss *out) {
    double u = o->beta * ratio_chosen(s), v = o->beta * ratio_rejected(s);
    *out = (struct pair_loss){logistic(-u) + logistic(v), -o->beta * logistic_slope(u),
                              o->beta * logistic_slope(v)};
}

/* s(beta a) + 1 - s(beta delta): lower both, rejected more. */
static void loss_apo_down(const struct pair_scores *s, const struct preference_options *o,
                          struct pair_loss *out) {
    double u = o->beta * ratio_chosen(s), w = u - o->beta * ratio_rejected(s);
    double slope = o->beta * logistic_slope(w);
    *out = (struct pair_loss){logistic(u) + logistic(-w), o->beta * logistic_slope(u) - slope, slope};
}

/* -log s(beta (a/n_c - b/n_r)): DPO on per-token means. */
static void loss_sigmoid_norm(const struct pair_scores *s, const struct preference_options *o,
                              struct pair_loss *out) {
    double n_c = (double)s->chosen_tokens, n_r = (double)s->rejected_tokens;
    double u = o->beta * (ratio_chosen(s) / n_c - ratio_rejected(s) / n_r);
    double slope = -o->beta * logistic(-u);
    *out = (struct pair_loss){softplus(-u), slope / n_c, -slope / n_r};
}

static const struct preference_objective table[] = {
    {"sigmoid", "dpo cdpo", "-log s(beta (a - b)); with label smoothing conservative DPO", true,
     loss_sigmoid},
    {"ipo", "ipo_mean", "(a/n_c - b/n_r - 1/(2 beta))^2, on means over tokens", false, loss_ipo},
    {"ipo_sum", "", "(a - b - 1/(2 beta))^2, on sums, as in the DPO authors' code", false, loss_ipo_sum},
    {"hinge", "slic", "max(0, 1 - beta (a - b))", false, loss_hinge},
    {"robust", "rdpo", "DPO unbiased under labels flipped with probability label_smoothing", true,
     loss_robust},
    {"apo_zero", "", "1 - s(beta a) + s(beta b): raises chosen, lowers rejected", false, loss_apo_zero},
    {"apo_down", "", "s(beta a) + 1 - s(beta (a - b)): lowers both, rejected more", false, loss_apo_down},
    {"sigmoid_norm", "dpo_norm", "-log s(beta (a/n_c - b/n_r)): DPO on means over tokens", false,
     loss_sigmoid_norm},
};

const struct preference_objective *preference_table(int *count) {
    *count = COUNT_OF(table);
    return table;
}

static bool has_word(const char *words, const char *word) {
    size_t len = strlen(word);
    while (len > 0 && *words) {
        size_t n = strcspn(words, " ");
        if (n == len && memcmp(words, word, n) == 0) {
            return true;
        }
        words += n + strspn(words + n, " ");
    }
    return false;
}

const struct preference_objective *preference_find(const char *name) {
    for (int i = 0; i < COUNT_OF(table); i++) {
        if (strcmp(table[i].name, name) == 0 || has_word(table[i].aliases, name)) {
            return &table[i];
        }
    }
    return NULL;
}

enum status preference_check(const struct preference_objective *p, const struct preference_options *o) {
    if (!(o->beta > 0) || !isfinite(o->beta)) {
        return fail(ERR_USAGE, "beta is %g; it must be a positive number", o->beta);
    }
    if (!p->uses_smoothing && o->label_smoothing != 0) {
        return fail(ERR_USAGE,
                    "label smoothing is %g, but the loss %s does not use it; choose sigmoid or robust",
                    o->label_smoothing, p->name);
    }
    bool is_robust = p->loss == loss_robust; /* divides by 1 - 2e */
    double high = is_robust ? 0.5 : 1.0;
    if (!(o->label_smoothing >= 0) || o->label_smoothing > high ||
        (is_robust && o->label_smoothing == high)) {
        return fail(ERR_USAGE, "label smoothing is %g; the loss %s takes 0 to %g%s", o->label_smoothing,
                    p->name, high, is_robust ? ", less than that" : "");
    }
    return OK;
}
