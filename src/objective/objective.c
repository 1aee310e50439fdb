#include "objective/objective.h"

#include <math.h>
#include <string.h>

#include "objective/labeled_loss.h"
#include "objective/listwise.h"
#include "objective/logistic.h"
#include "objective/pairwise.h"
#include "util/status.h"

/* The table. */

#define RATIO(name, plus, over) \
    { name, OF_SUMS, plus, SUM_NONE, over, SUM_NONE, ALWAYS }
#define REWARD(name, plus, minus) \
    { name, OF_SUMS, plus, minus, SUM_ROWS, SUM_NONE, WITH_REWARD }
/* plus / over, less minus / also where there are these; no number where a divisor is 0. */
#define MEANS(name, plus, over, minus, also) \
    { name, OF_MEANS, plus, minus, over, also, ALWAYS }
#define EXTREME(name, of) \
    { name, of, SUM_NONE, SUM_NONE, SUM_NONE, SUM_NONE, ALWAYS }
#define LOSS EXTREME("loss", OF_LOSS)
#define NLL(applies) \
    { "nll_loss", OF_SUMS, SUM_NONE, SUM_TARGET_LOGP, SUM_TARGET_TOKENS, SUM_NONE, applies }
#define TOKENS                                                                                   \
    {"entropy", OF_SUMS, SUM_ENTROPY, SUM_NONE, SUM_TARGET_TOKENS, SUM_REJECTED_TOKENS, ALWAYS}, \
        RATIO("mean_token_accuracy", SUM_TARGET_TOP, SUM_TARGET_TOKENS)

static const struct shown of_sequences[] = {LOSS, TOKENS};
static const struct shown of_pairs[] = {
    LOSS,
    NLL(WITH_TARGET),
    REWARD("rewards/chosen", SUM_REWARD_CHOSEN, SUM_NONE),
    REWARD("rewards/rejected", SUM_REWARD_REJECTED, SUM_NONE),
    REWARD("rewards/accuracies", SUM_ACCURATE, SUM_NONE),
    REWARD("rewards/margins", SUM_REWARD_CHOSEN, SUM_REWARD_REJECTED),
    {"log_odds_ratio", OF_SUMS, SUM_LOG_ODDS_RATIO, SUM_NONE, SUM_ROWS, SUM_NONE, WITH_ODDS},
    {"log_odds_chosen", OF_SUMS, SUM_LOG_ODDS, SUM_NONE, SUM_ROWS, SUM_NONE, WITH_ODDS},
    RATIO("logps/chosen", SUM_TARGET_LOGP, SUM_ROWS),
    RATIO("logps/rejected", SUM_REJECTED_LOGP, SUM_ROWS),
    RATIO("logits/chosen", SUM_TARGET_LOGITS, SUM_TARGET_TOKENS),
    RATIO("logits/rejected", SUM_REJECTED_LOGITS, SUM_REJECTED_TOKENS),
    TOKENS,
};
static const struct shown of_labeled[] = {
    LOSS,
    NLL(WITH_TARGET),
    RATIO("kl", SUM_KL, SUM_ROWS),
    MEANS("rewards/chosen", SUM_REWARD_CHOSEN, SUM_DESIRABLE, SUM_NONE, SUM_NONE),
    MEANS("rewards/rejected", SUM_REWARD_REJECTED, SUM_UNDESIRABLE, SUM_NONE, SUM_NONE),
    MEANS("rewards/margins", SUM_REWARD_CHOSEN, SUM_DESIRABLE, SUM_REWARD_REJECTED, SUM_UNDESIRABLE),
    MEANS("logps/chosen", SUM_TARGET_LOGP, SUM_DESIRABLE, SUM_NONE, SUM_NONE),
    MEANS("logps/rejected", SUM_REJECTED_LOGP, SUM_UNDESIRABLE, SUM_NONE, SUM_NONE),
    MEANS("logits/chosen", SUM_TARGET_LOGITS, SUM_TARGET_TOKENS, SUM_NONE, SUM_NONE),
    MEANS("logits/rejected", SUM_REJECTED_LOGITS, SUM_REJECTED_TOKENS, SUM_NONE, SUM_NONE),
    {"entropy", OF_SUMS, SUM_ENTROPY, SUM_NONE, SUM_TARGET_TOKENS, SUM_REJECTED_TOKENS, ALWAYS},
};
static const struct shown of_lists[] = {
    LOSS,
    NLL(ALWAYS),
    RATIO("accuracy", SUM_ACCURATE, SUM_PAIRS),
    RATIO("logps/chosen", SUM_TARGET_LOGP, SUM_ROWS),
    TOKENS,
};
static const struct shown of_prompts[] = {
    LOSS,
    EXTREME("min_reward", OF_LOWEST),
    RATIO("mean_reward", SUM_VALUES, SUM_RESPONSES),
    EXTREME("max_reward", OF_HIGHEST),
    RATIO("accuracy", SUM_ACCURATE, SUM_PAIRS),
    {"margin", OF_SUMS, SUM_REWARD_CHOSEN, SUM_REWARD_REJECTED, SUM_PAIRS, SUM_NONE, ALWAYS},
};
static const struct shown_list sequences = {of_sequences, COUNT_OF(of_sequences)};
static const struct shown_list pairs = {of_pairs, COUNT_OF(of_pairs)};
static const struct shown_list lists = {of_lists, COUNT_OF(of_lists)};
static const struct shown_list labeled = {of_labeled, COUNT_OF(of_labeled)};
static const struct shown_list prompts = {of_prompts, COUNT_OF(of_prompts)};

#define PAIR(name, aliases, help, reads, takes, pair)                                                       \
    {                                                                                                       \
        name, aliases, help, OVER_PAIRS, READS_LOGP | (reads), SCOPE_ROW, takes, pairwise_loss, pair, NULL, \
            &pairs, NULL                                                                                    \
    }
/* Against a reference; with `takes` beside what all of these take. */
#define REFERRED(name, aliases, help, takes, pair) \
    PAIR(name, aliases, help, READS_REFERENCE, TAKES_BETA | TAKES_LD_ALPHA | TAKES_WEIGHTING | (takes), pair)
/* The loss depends on the difference of the log-ratios alone, so that another divergence has a meaning. */
#define OF_DIFFERENCE(name, aliases, help, takes, pair) \
    REFERRED(name, aliases, help, TAKES_DIVERGENCE | (takes), pair)
#define OF_ALL(name, scope, help, takes, loss, gather)                              \
    {                                                                               \
        name, "", help, OVER_PAIRS, READS_LOGP | READS_REFERENCE, scope,            \
            TAKES_BETA | TAKES_LD_ALPHA | (takes), loss, NULL, gather, &pairs, NULL \
    }
/* DPO's loss with the divergence of two models at each token. */
#define DIVERGENT(name, aliases, help, takes, loss)                                                  \
    {                                                                                                \
        name, aliases, help, OVER_PAIRS, READS_LOGP | READS_REFERENCE | READS_DIVERGENCE, SCOPE_ROW, \
            TAKES_BETA | (takes), loss, preference_sigmoid, NULL, &pairs, NULL                       \
    }
#define LABELED(name, scope, help, reads, loss, gather)                                                   \
    {                                                                                                     \
        name, "", help, OVER_LABELED, READS_LOGP | READS_REFERENCE | READS_LABELS | (reads), scope,       \
            TAKES_BETA | TAKES_DESIRABLE_WEIGHT | TAKES_UNDESIRABLE_WEIGHT, loss, NULL, gather, &labeled, \
            NULL                                                                                          \
    }
#define LIST(name, help, reads, takes, loss)                                                                 \
    {                                                                                                        \
        name, "", help, OVER_LISTS, READS_LOGP | READS_LABELS | (reads), SCOPE_ROW, takes, loss, NULL, NULL, \
            &lists, NULL                                                                                     \
    }

/* Whether the reference is read follows from the options (policy_terms). */
#define GROUP(name, help, reads, shown)                                                                  \
    {                                                                                                    \
#name, "", help, OVER_GROUPS, READS_LOGP | READS_TOKENS | READS_OLD | READS_ADVANTAGE | (reads), \
            SCOPE_ROW, 0, NULL, NULL, NULL, &policy_shows_##shown, &policy_##name                        \
    }

static const struct objective table[] = {
    {"sft", "", "-log p of the target, mean over tokens or over sequences", OVER_SEQUENCES, READS_LOGP,
     SCOPE_ROW, 0, NULL, NULL, NULL, &sequences, NULL},
    OF_DIFFERENCE("sigmoid", "dpo cdpo", "-log s(beta (a - b)); with label smoothing conservative DPO",
                  TAKES_SMOOTHING, preference_sigmoid),
    OF_DIFFERENCE("ipo", "ipo_mean", "(a/n_c - b/n_r - 1/(2 beta))^2, on means over tokens", 0,
                  preference_ipo),
    OF_DIFFERENCE("ipo_sum", "", "(a - b - 1/(2 beta))^2, on sums, as in the DPO authors' code", 0,
                  preference_ipo_sum),
    OF_DIFFERENCE("hinge", "", "max(0, 1 - beta (a - b))", 0, preference_hinge),
    OF_DIFFERENCE("robust", "rdpo", "DPO unbiased under labels flipped with probability label_smoothing",
                  TAKES_SMOOTHING, preference_robust),
    REFERRED("apo_zero", "", "1 - s(beta a) + s(beta b): raises chosen, lowers rejected", 0,
             preference_apo_zero),
    REFERRED("apo_down", "", "s(beta a) + 1 - s(beta (a - b)): lowers both, rejected more", 0,
             preference_apo_down),
    OF_DIFFERENCE("sigmoid_norm", "dpo_norm", "-log s(beta (a/n_c - b/n_r)): DPO on means over tokens", 0,
                  preference_sigmoid_norm),
    OF_DIFFERENCE("exo_pair", "", "KL of s(beta (a - b)) from 1 - label_smoothing", TAKES_SMOOTHING,
                  preference_exo_pair),
    REFERRED("nca_pair", "", "-log s(beta a) - (log s(-beta a) + log s(-beta b)) / 2", 0,
             preference_nca_pair),
    REFERRED("bco_pair", "", "-log s(beta a) - log s(-beta b)", 0, preference_bco_pair),
    REFERRED("sppo_hard", "", "(a - 1/(2 beta))^2 + (b + 1/(2 beta))^2", 0, preference_sppo_hard),
    OF_DIFFERENCE("discopop", "", "from -log s(u) to exp(-u) by s(u / tau), u = beta (a - b)", TAKES_TAU,
                  preference_discopop),
    OF_ALL("bco", SCOPE_BATCH, "bco_pair with the batch's mean reward as its zero", 0, pairwise_bco,
           pairwise_gather_bco),
    OF_ALL("beta_dpo", SCOPE_BATCH,
           "DPO with a beta for each pair, and less weight for pairs far off the batch's mean",
           TAKES_BETA_SCALE, pairwise_beta_dpo, pairwise_gather_beta_dpo),
    OF_ALL("aot", SCOPE_ORDER,
           "DPO on quantiles: the batch's sorted log p(chosen) - log p(rejected) against the reference's",
           TAKES_SMOOTHING, pairwise_aot, pairwise_gather_aot),
    OF_ALL("aot_unpaired", SCOPE_ORDER, "DPO on quantiles: the batch's sorted a against its sorted b",
           TAKES_SMOOTHING, pairwise_aot_unpaired, pairwise_gather_aot_unpaired),
    DIVERGENT("tdpo1", "",
              "-log s(beta (a - b + D_c - D_r)), D: summed KL of the reference from the policy at each token",
              0, pairwise_tdpo1),
    DIVERGENT("tdpo2", "tdpo", "-log s(beta (a - b + alpha (D_c - D_r))), D_c held", TAKES_TDPO_ALPHA,
              pairwise_tdpo2),
    PAIR("slic", "", "max(0, margin - log p(chosen) + log p(rejected)): no reference", 0, TAKES_MARGIN,
         preference_slic),
    PAIR("cpo", "", "-log s(beta (log p(chosen) - log p(rejected))): no reference", 0,
         TAKES_BETA | TAKES_SMOOTHING, preference_cpo),
    PAIR("simpo", "", "-log s(beta (c - r) - gamma), means over tokens of log p: no reference", 0,
         TAKES_BETA | TAKES_SMOOTHING | TAKES_GAMMA, preference_simpo),
    PAIR("orpo", "", "-beta log s(log odds(c) - log odds(r)), means over tokens of log p: no reference", 0,
         TAKES_BETA, preference_orpo),
    LIST("rrhf", "sum over ranked pairs of max(0, s_worse - s_better), s = log p / tokens: no reference", 0,
         0, listwise_rrhf),
    LIST("pro",
         "each response against all worse ones, s = log p / tokens times the gap of scores: no reference", 0,
         0, listwise_pro),
    LIST("bt_list", "-log of each response's share among itself and all worse ones, by beta times log-ratios",
         READS_REFERENCE, TAKES_BETA, listwise_bt),
    LABELED("kto", SCOPE_BATCH,
            "labelled responses: 1 - s(beta (a - kl)), 1 - s(beta (kl - b)), kl from mismatched prompts",
            READS_MISMATCHED, labeled_kto, labeled_gather_kto),
    LABELED("apo_zero_unpaired", SCOPE_ROW, "labelled responses: 1 - s(beta a), s(beta b)", 0,
            labeled_apo_zero, NULL),
    {"reward", "", "-log s(r_c - r_r - margin) of a prompt's pairs", OVER_PROMPTS, READS_VALUE, SCOPE_ROW, 0,
     NULL, NULL, NULL, &prompts, NULL},
    {"xpo", "", "log p of responses that the reference wrote (advantage 1), an addend of online.method=xpo",
     OVER_PAIRS, READS_LOGP | READS_ADVANTAGE, SCOPE_ROW, 0, pairwise_xpo, NULL, NULL, &pairs, NULL},
    GROUP(grpo, "clipped ratios; mean over responses of means over tokens", 0, clipped),
    GROUP(bnpo, "clipped ratios; mean over tokens of the update", 0, clipped),
    GROUP(dr_grpo, "clipped ratios; over responses times online.max_new_tokens", 0, clipped),
    GROUP(dapo, "clipped ratios; mean over tokens of the update", 0, clipped),
    GROUP(luspo, "clipped ratios; mean over responses of sums over tokens", 0, clipped),
    GROUP(cispo, "log p weighed by clipped ratios, held; mean over tokens of the update", 0, cispo),
    GROUP(sapo, "a logistic gate in place of the clip; as grpo", 0, sapo),
    GROUP(vespo, "log p weighed by a gamma density of the response's ratio, held; as dapo", 0, vespo),
    GROUP(rloo, "the clipped ratio of whole responses; mean over responses", 0, clipped),
    GROUP(ppo, "clipped ratios and a clipped value loss; mean over tokens of the update", READS_TOKEN_VALUE,
          ppo),
    GROUP(nash_md, "-A log p + beta (log p - log p_ref) log p, the difference held; mean over responses", 0,
          nash_md),
};

const struct objective *objective_table(int *count) {
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

const struct objective *objective_find(const char *name) {
    for (int i = 0; i < COUNT_OF(table); i++) {
        if (strcmp(table[i].name, name) == 0 || has_word(table[i].aliases, name)) {
            return &table[i];
        }
    }
    return NULL;
}

/* Rows. */

static void add_target(const struct response_score *r, struct sums *sums) {
    sums->v[SUM_TARGET_LOGP] += r->logp;
    sums->v[SUM_TARGET_TOKENS] += (double)r->tokens;
    sums->v[SUM_TARGET_TOP] += (double)r->top;
    sums->v[SUM_TARGET_LOGITS] += r->mean_logit;
    sums->v[SUM_ENTROPY] += r->entropy;
}

static void add_rejected(const struct response_score *r, struct sums *sums) {
    sums->v[SUM_REJECTED_LOGP] += r->logp;
    sums->v[SUM_REJECTED_TOKENS] += (double)r->tokens;
    sums->v[SUM_REJECTED_LOGITS] += r->mean_logit;
    sums->v[SUM_ENTROPY] += r->entropy;
}

static void add_responses(const struct terms *t, const struct scored_row *row, struct sums *sums) {
    if (t->rows == OVER_LABELED) { /* the second one is not the row's */
        (row->is_desirable ? add_target : add_rejected)(&row->responses[0], sums);
        return;
    }
    for (int32_t i = 0; i < row->n; i++) {
        (i == row->target ? add_target : add_rejected)(&row->responses[i], sums);
    }
}

bool terms_have(const struct terms *t, preference_loss *pair) {
    bool found = false;
    for (int k = 0; k < t->n; k++) {
        found = found || t->list[k].objective->pair == pair;
    }
    return found;
}

static bool compares_means(const struct terms *t) {
    return terms_have(t, preference_simpo) || terms_have(t, preference_orpo);
}

bool terms_have_rewards(const struct terms *t) {
    return t->has_reference || compares_means(t) || terms_have(t, preference_cpo);
}

static double compared_of(const struct terms *t, const struct scored_row *row, int side) {
    const struct response_score *r = &row->responses[side];
    if (row->has_reference) {
        /* TDPO's rewards, as its authors show them. */
        return r->logp - r->reference + (t->reads & READS_DIVERGENCE ? pairwise_divergence(r) : 0);
    }
    return compares_means(t) && r->tokens > 0 ? r->logp / (double)r->tokens : r->logp;
}

static void add_odds(const struct scored_row *row, struct sums *sums) {
    const struct response_score *r = row->responses;
    const struct pair_scores s = {.chosen = r[0].logp,
                                  .rejected = r[1].logp,
                                  .chosen_tokens = r[0].tokens > 0 ? r[0].tokens : 1,
                                  .rejected_tokens = r[1].tokens > 0 ? r[1].tokens : 1};
    double odds = preference_log_odds(&s);
    sums->v[SUM_LOG_ODDS] += odds;
    sums->v[SUM_LOG_ODDS_RATIO] -= softplus(-odds);
}

/* Rewards are beta times the log-ratios whatever the loss, with the true reference also where the loss does
 * without one; a tie is no success (TRL, DPO reference). */
static void add_rewards(const struct terms *t, const struct scored_row *row, struct sums *sums) {
    double chosen = t->options.beta * compared_of(t, row, 0);
    double rejected = t->options.beta * compared_of(t, row, 1);
    sums->v[SUM_REWARD_CHOSEN] += chosen;
    sums->v[SUM_REWARD_REJECTED] += rejected;
    sums->v[SUM_ACCURATE] += chosen > rejected;
}

static void add_order(const struct scored_row *row, struct sums *sums) {
    for (struct ranked at = {0}; listwise_next(row, &at);) {
        sums->v[SUM_PAIRS] += 1;
        sums->v[SUM_ACCURATE] +=
            listwise_score(&row->responses[at.better]) > listwise_score(&row->responses[at.worse]);
    }
}

/* The weighted losses of a row. */
static double row_loss(const struct terms *t, const struct scored_row *row, const struct denominators *d,
                       const struct slope *slope) {
    double value = 0;
    for (int k = 0; k < t->n; k++) {
        const struct objective *o = t->list[k].objective;
        const double *gathered = o->scope == SCOPE_ROW ? NULL : d->gathered;
        value += t->list[k].weight * o->loss(o, t, row, gathered, t->list[k].weight, slope);
    }
    return value;
}

static int64_t token_end(const struct response_score *r) {
    return r->first + r->tokens;
}

static void zero_slopes(const struct scored_row *row, const struct slope *s) {
    double *by_token[] = {s->token_logp, s->token_value, s->token_divergence};
    for (int32_t i = 0; i < row->n; i++) {
        const struct response_score *r = &row->responses[i];
        for (int k = 0; k < COUNT_OF(by_token); k++) {
            for (int64_t t = r->first; by_token[k] && t < token_end(r); t++) {
                by_token[k][t] = 0;
            }
        }
        if (s->logp) {
            s->logp[i] = 0;
        }
        if (s->value) {
            s->value[i] = 0;
        }
    }
}

/* Slopes of the row's loss become slopes of the mean over rows. Returns whether all were finite. */
static bool scale_slopes(const struct scored_row *row, const struct slope *s, double rows) {
    double *by_token[] = {s->token_logp, s->token_value, s->token_divergence};
    bool is_finite = true;
    for (int32_t i = 0; i < row->n; i++) {
        const struct response_score *r = &row->responses[i];
        for (int k = 0; k < COUNT_OF(by_token); k++) {
            for (int64_t t = r->first; by_token[k] && t < token_end(r); t++) {
                is_finite = is_finite && isfinite(by_token[k][t]);
                by_token[k][t] /= rows;
            }
        }
        if (s->logp) {
            is_finite = is_finite && isfinite(s->logp[i]);
            s->logp[i] /= rows;
        }
    }
    return is_finite;
}

/* The target's tokens are averaged over the whole batch. */
static void raise_target(const struct scored_row *row, const struct denominators *d, double weight,
                         const struct slope *slope) {
    if (slope->logp && weight != 0 && d->target_tokens > 0 && row->n > 0 && row->target >= 0) {
        slope->logp[row->target] -= weight / d->target_tokens;
    }
}

static bool sequence_row(const struct terms *t, const struct scored_row *row, const struct denominators *d,
                         const struct slope *slope, struct sums *sums) {
    double logp = row->responses[0].logp;
    if (slope->logp) {
        slope->logp[0] = (t->sequence_sum ? -1 : 0) / d->rows;
    }
    raise_target(row, d, t->sequence_sum ? 0 : 1, slope);
    sums->v[SUM_LOSS] -= logp;
    add_responses(t, row, sums);
    return isfinite(logp);
}

/* Rows whose terms are losses of log-probabilities. */
static bool terms_row(const struct terms *t, const struct scored_row *row, const struct denominators *d,
                      const struct slope *slope, struct sums *sums) {
    double value = row_loss(t, row, d, slope);
    bool is_finite = scale_slopes(row, slope, d->rows);
    raise_target(row, d, t->target_weight, slope);
    sums->v[SUM_LOSS] += value;
    add_responses(t, row, sums);
    bool has_target = row->n > 0 && row->target >= 0;
    return is_finite && isfinite(value) && (!has_target || isfinite(row->responses[row->target].logp));
}

static bool pair_row(const struct terms *t, const struct scored_row *row, const struct denominators *d,
                     const struct slope *slope, struct sums *sums) {
    double unread[2] = {0, 0};
    struct slope own = *slope;
    own.logp = own.logp ? own.logp : unread;
    bool is_finite = terms_row(t, row, d, &own, sums);
    if (row->has_reference || terms_have_rewards(t)) {
        add_rewards(t, row, sums);
    }
    if (terms_have(t, preference_orpo)) {
        add_odds(row, sums);
    }
    return is_finite;
}

static bool labeled_row(const struct terms *t, const struct scored_row *row, const struct denominators *d,
                        const struct slope *slope, struct sums *sums) {
    double unread[2] = {0, 0};
    struct slope own = *slope;
    own.logp = own.logp ? own.logp : unread;
    bool is_finite = terms_row(t, row, d, &own, sums);
    double reward = t->options.beta * (row->responses[0].logp - row->responses[0].reference);
    sums->v[row->is_desirable ? SUM_DESIRABLE : SUM_UNDESIRABLE] += 1;
    sums->v[row->is_desirable ? SUM_REWARD_CHOSEN : SUM_REWARD_REJECTED] += reward;
    sums->v[SUM_KL] += t->scope == SCOPE_BATCH ? labeled_kl(d->gathered) : 0;
    return is_finite;
}

static bool list_row(const struct terms *t, const struct scored_row *row, const struct denominators *d,
                     const struct slope *slope, struct sums *sums) {
    add_order(row, sums);
    return terms_row(t, row, d, slope, sums);
}

static void add_value(double value, struct sums *sums) {
    bool is_first = sums->v[SUM_RESPONSES] == 0;
    sums->lowest = is_first ? value : fmin(sums->lowest, value);
    sums->highest = is_first ? value : fmax(sums->highest, value);
    sums->v[SUM_RESPONSES] += 1;
    sums->v[SUM_VALUES] += value;
}

static bool prompt_row(const struct terms *t, const struct scored_row *row, const struct denominators *d,
                       const struct slope *slope, struct sums *sums) {
    double value = 0;
    double share = row->n_pairs > 0 ? 1.0 / row->n_pairs : 0;
    for (int32_t i = 0; i < row->n; i++) {
        add_value(row->responses[i].value, sums);
    }
    for (int32_t i = 0; i < row->n_pairs; i++) {
        const struct compared *p = &row->pairs[i];
        double chosen = row->responses[p->chosen].value;
        double rejected = row->responses[p->rejected].value;
        struct reward_loss loss;
        reward_loss(chosen, rejected, p->margin, &t->reward, &loss);
        value += share * loss.value;
        if (slope->value) {
            slope->value[p->chosen] += share * loss.d_chosen / d->rows;
            slope->value[p->rejected] += share * loss.d_rejected / d->rows;
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

static double sequence_value(const struct terms *t, const struct sums *sums) {
    return t->sequence_sum ? mean_loss(sums) : mean_nll(sums);
}

static double terms_value(const struct terms *t, const struct sums *sums) {
    return mean_loss(sums) + (t->target_weight != 0 ? t->target_weight * mean_nll(sums) : 0);
}

static bool group_row(const struct terms *t, const struct scored_row *row, const struct denominators *d,
                      const struct slope *slope, struct sums *sums) {
    for (int32_t i = 0; i < row->n; i++) {
        add_target(&row->responses[i], sums);
    }
    return policy_row(t, row, d, slope, sums);
}

static double group_value(const struct terms *t, const struct sums *sums) {
    (void)t;
    return sums->v[SUM_LOSS] / (sums->v[SUM_RESPONSES] > 0 ? sums->v[SUM_RESPONSES] : 1);
}

static const struct {
    const char *name;
    const struct shown_list *shown;
    bool (*row)(const struct terms *t, const struct scored_row *row, const struct denominators *d,
                const struct slope *slope, struct sums *sums);
    double (*value)(const struct terms *t, const struct sums *sums);
} kinds[] = {
    [OVER_SEQUENCES] = {"sequences", &sequences, sequence_row, sequence_value},
    [OVER_PAIRS] = {"pairs", &pairs, pair_row, terms_value},
    [OVER_LISTS] = {"prompts", &lists, list_row, terms_value},
    [OVER_PROMPTS] = {"prompts", &prompts, prompt_row, terms_value},
    [OVER_LABELED] = {"responses", &labeled, labeled_row, terms_value},
    [OVER_GROUPS] = {"prompts", &policy_shows_clipped, group_row, group_value},
};

const char *terms_rows(const struct terms *t) {
    return kinds[t->rows].name;
}

const struct shown_list *terms_shown(const struct terms *t, int term) {
    return term < t->n ? t->list[term].objective->shown : kinds[t->rows].shown;
}

void objective_gather(const struct terms *t, const struct scored_row *row, struct sums *sums) {
    for (int k = 0; k < t->n; k++) {
        const struct objective *o = t->list[k].objective;
        if (o->scope == SCOPE_BATCH) {
            o->gather(o, t, row, &sums->v[SUM_GATHERED]);
        }
    }
}

void objective_order(const struct terms *t, const struct scored_row *row, double pair[2]) {
    for (int k = 0; k < t->n; k++) {
        const struct objective *o = t->list[k].objective;
        if (o->scope == SCOPE_ORDER) {
            o->gather(o, t, row, pair);
        }
    }
}

bool objective_row(const struct terms *t, const struct scored_row *row, const struct denominators *d,
                   const struct slope *slope, struct sums *sums) {
    const struct slope none = {0};
    const struct slope *to = slope ? slope : &none;
    zero_slopes(row, to);
    sums->v[SUM_ROWS] += 1;
    return kinds[t->rows].row(t, row, d, to, sums);
}

double objective_value(const struct terms *t, const struct sums *sums) {
    return kinds[t->rows].value(t, sums);
}
