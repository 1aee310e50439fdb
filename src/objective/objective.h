/* What an update minimizes: one table of objectives. Numbers in, numbers out: no sample, no tensor, no rank.
 *
 *   sequences: mean over tokens, or over sequences, of -log p                                        (SFT)
 *   pairs:     sum_k w_k * mean over pairs(loss_k) + w_sft * mean over the chosen's tokens(-log p)
 *   labeled:   sum_k w_k * mean over labelled responses(loss_k) + w_sft * the same on the desirable
 *   lists:     the same over prompts with any number of ranked responses, the best one being the target
 *   prompts:   mean over prompts of the mean over the prompt's pairs(loss)                  (reward models)
 *   groups:    a policy's losses on responses that it sampled itself (policy.h)
 *
 * Every mean is one numerator and one denominator over the true rows of all ranks: no mean of means.
 *
 * A step whose terms see a row at a time (SCOPE_ROW) calls objective_row for each row with slopes and adds up
 * sums. Where a term sees the whole batch (terms.scope SCOPE_BATCH) it takes two passes:
 *   1. forward of all forests; objective_gather for each row into a struct sums (a slot's, pushed into a
 *      sums_tree), one sums_reduce over ranks;
 *   2. forward again, objective_row with denominators.gathered = &reduced.v[SUM_GATHERED], backward.
 * Where a term needs the order of all rows (SCOPE_ORDER), the first pass takes objective_order's two numbers
 * of each row, and gathered holds those of all ranks: their count, the first ones ascending, the second ones.
 */
#ifndef COLLIMATE_OBJECTIVE_OBJECTIVE_H
#define COLLIMATE_OBJECTIVE_OBJECTIVE_H

#include <stdbool.h>

#include "objective/policy.h"
#include "objective/preference.h"
#include "objective/reward_loss.h"

/* Sums over rows, responses or tokens. "target": the response of a row that SFT raises (the only one, the
 * chosen, the best); "rejected": the others of a row that has several. */
enum { GATHERED = 4 }; /* numbers that a term may gather over a batch */
enum sum {
    SUM_ROWS,
    SUM_LOSS, /* of rows: weighted losses, or a sequence's -log p */
    SUM_TARGET_LOGP,
    SUM_TARGET_TOKENS,
    SUM_TARGET_TOP,
    SUM_TARGET_LOGITS,
    SUM_REJECTED_LOGP,
    SUM_REJECTED_TOKENS,
    SUM_REJECTED_LOGITS,
    SUM_REWARD_CHOSEN,
    SUM_REWARD_REJECTED,
    SUM_ACCURATE,
    SUM_PAIRS,     /* of prompts and lists: compared pairs, which the three above are over */
    SUM_RESPONSES, /* of reward models: responses with a value, and their values */
    SUM_VALUES,
    SUM_DESIRABLE,   /* labelled responses: of those that are, rewards are SUM_REWARD_CHOSEN, */
    SUM_UNDESIRABLE, /* of those that are not SUM_REWARD_REJECTED */
    SUM_LOG_ODDS, /* of pairs, where orpo reads them: log odds(chosen) - log odds(rejected), and its log s */
    SUM_LOG_ODDS_RATIO,
    SUM_KL, /* of labelled rows: the batch's distance from the reference that they were compared with */
    SUM_POLICY_LOSS, /* of groups, whose responses are SUM_RESPONSES and tokens the target's: SUM_LOSS without
                      * KL and values */
    SUM_RATIOS,      /* ratios to the policy that drew: of tokens, or of responses; */
    SUM_RATIO,       /* these, their squares, halves of their logarithms' squares, */
    SUM_RATIO_SQUARES,
    SUM_RATIO_KL,
    SUM_CLIPPED, /* those that were clipped, and those below */
    SUM_CLIPPED_LOW,
    SUM_DRIFT, /* distances of tokens' log-probabilities from when they were drawn */
    SUM_PHI,   /* of vespo: weights of responses */
    SUM_VALUE_LOSS,
    SUM_VALUES_CLIPPED,
    SUM_ENTROPY,         /* over target and rejected tokens */
    SUM_SEQUENCE_TOKENS, /* prompt + response of every response that is the row's: TRL's num_tokens */
    SUM_FOREST_TOKENS,   /* what was computed: prompts once */
    SUM_FLOPS,           /* forward and, in training, backward */
    SUM_GATHERED,        /* what the term of batch scope gathers */
    SUM_COUNT = SUM_GATHERED + GATHERED,
    SUM_NONE = SUM_COUNT /* no sum: in what is shown */
};
struct sums {
    double v[SUM_COUNT];
    double lowest, highest; /* value of a response, where v[SUM_RESPONSES] > 0; of groups: least share of a
                             * response's ratios that is clipped below, most that is above */
    double drift;           /* most of SUM_DRIFT's */
};

/* What a row of the table needs to know of a response. */
enum reads {
    READS_LOGP = 1,            /* sums over its scored tokens */
    READS_REFERENCE = 2,       /* the same sum under the reference model */
    READS_TOKENS = 4,          /* log-probabilities of its tokens; slopes per token */
    READS_TOKEN_REFERENCE = 8, /* and under the reference model */
    READS_VALUE = 16,          /* a value: the model has a score head */
    READS_DIVERGENCE = 32,     /* of two models' next-token distributions at its tokens */
    READS_OLD = 64,            /* its tokens' log-probabilities when it was sampled */
    READS_ADVANTAGE = 128,
    READS_LABELS = 256,      /* the data's scores, the order of pairs, or which response is desirable */
    READS_MISMATCHED = 512,  /* of labelled rows: a second response, which belongs to another prompt */
    READS_TOKEN_VALUE = 1024 /* values before its tokens, of a value head beside the language head; returns */
};

/* What a model says of a response, and what is known beside it. What nobody reads is 0 or NULL. */
struct response_score {
    double logp, entropy, mean_logit; /* sums over its scored tokens */
    double collision;                 /* likewise: log of the probability that two draws are the same */
    int64_t tokens, top;              /* scored; of these the arg max */
    double value;                     /* of a score head */
    double reference;                 /* sum under the reference model, where the row has one */
    double label;                     /* the data's score, NaN for none */
    double advantage;
    int64_t first; /* place of its tokens in slopes and in the scorer's tokens */
    const double *token_logp, *token_value, *token_divergence; /* `tokens` numbers each */
    const double *token_reference, *token_old;
    const double *token_advantage, *token_return, *token_old_value; /* NULL: `advantage` is every token's */
};
/* Two responses of a row, by place. */
struct compared {
    int32_t chosen, rejected;
    double margin; /* NaN: none */
};
/* One row of a batch. Pairs: responses are the chosen and the rejected. Labelled: the response, and one that
 * belongs to another prompt where that is read. target: -1 for an undesirable response. */
struct scored_row {
    int64_t row; /* its name, for messages */
    int32_t n, n_pairs, target;
    bool has_reference, is_desirable;
    const struct response_score *responses;
    const struct compared *pairs;
};
/* d value / d score. By response; by token: those of response j at [first, first + tokens). A member is NULL
 * where nobody asks for it. */
struct slope {
    double *logp, *value;
    double *token_logp, *token_value, *token_divergence;
};

/* What the rows of an objective are. */
enum objective_rows { OVER_SEQUENCES, OVER_PAIRS, OVER_LISTS, OVER_PROMPTS, OVER_LABELED, OVER_GROUPS };
enum objective_scope { SCOPE_ROW, SCOPE_BATCH, SCOPE_ORDER };

/* A number that is shown: (v[plus] - v[minus]) / (v[over] + v[also]), or what `of` says; OF_MEANS: v[plus] /
 * v[over] - v[minus] / v[also], and nothing where a side has no rows; OF_VARIANCE: v[plus] / v[over] less the
 * square of v[minus] / v[over]. */
struct shown {
    const char *name;
    enum { OF_SUMS, OF_MEANS, OF_LOSS, OF_LOWEST, OF_HIGHEST, OF_VARIANCE, OF_DRIFT } of;
    enum sum plus, minus, over, also; /* SUM_NONE: no such part */
    /* Where SFT is added; where rewards are known; where orpo is a term; where the KL is in a policy's loss.
     */
    enum { ALWAYS, WITH_TARGET, WITH_REWARD, WITH_ODDS, WITH_KL } applies;
};
struct shown_list {
    const struct shown *list;
    int n;
};

struct terms;
struct objective;
/* A row's value; adds weight times its slopes. gathered: GATHERED numbers over the batch; in scope order the
 * count and the two sorted columns; NULL in scope row. */
typedef double objective_loss(const struct objective *o, const struct terms *t, const struct scored_row *row,
                              const double *gathered, double weight, const struct slope *slope);
/* Adds what a row brings to the batch's GATHERED numbers. */
typedef void objective_gathers(const struct objective *o, const struct terms *t, const struct scored_row *row,
                               double *gathered);

/* Options that a row reads; an error elsewhere. */
enum takes {
    TAKES_BETA = 1,
    TAKES_SMOOTHING = 2,
    TAKES_MARGIN = 4,
    TAKES_GAMMA = 8,
    TAKES_TAU = 16,
    TAKES_BETA_SCALE = 32,
    TAKES_DIVERGENCE = 64,
    TAKES_LD_ALPHA = 128,
    TAKES_DESIRABLE_WEIGHT = 256,
    TAKES_UNDESIRABLE_WEIGHT = 512,
    TAKES_WEIGHTING = 1024,
    TAKES_TDPO_ALPHA = 2048
};

/* A row of the table. */
struct objective {
    const char *name, *aliases, *help; /* aliases: words with spaces between */
    enum objective_rows rows;
    unsigned reads; /* enum reads */
    enum objective_scope scope;
    unsigned takes; /* enum takes */
    objective_loss *loss;
    preference_loss *pair;     /* of pairs: what loss calls */
    objective_gathers *gather; /* SCOPE_BATCH: adds to the batch's numbers; SCOPE_ORDER: sets the row's two */
    const struct shown_list *shown;
    const struct policy_rule *policy; /* of groups */
};
/* NULL if unknown. Takes names and aliases. */
const struct objective *objective_find(const char *name);
/* What policies' rows show. */
extern const struct shown_list policy_shows_clipped, policy_shows_cispo, policy_shows_sapo,
    policy_shows_vespo, policy_shows_ppo, policy_shows_nash_md;
/* All rows, for help and tests. */
const struct objective *objective_table(int *count);

/* What is minimized: a weighted sum of rows of the table that have the same rows, and SFT on the target. */
enum { MOST_TERMS = 8 };
struct terms {
    enum objective_rows rows;
    enum objective_scope scope; /* of the widest term */
    unsigned reads, takes;      /* of all terms together */
    bool sequence_sum;          /* sequences: sum per sequence, mean over sequences; otherwise over tokens */
    bool has_reference;         /* rewards are computed */
    bool reference_free;        /* losses see a reference of 0 */
    int n;
    struct term {
        const struct objective *objective;
        double weight;
    } list[MOST_TERMS];
    double target_weight; /* of the target's token-mean -log p */
    struct preference_options options;
    struct reward_options reward;
    struct policy_options policy;
};
/* Local. dpo.loss: "sigmoid", "sigmoid+0.1*sft", "0.5*ipo + 0.5*hinge", "100*rrhf+sft"; "sft" alone is over
 * pairs, with no term. Sets rows, scope, reads, takes, the list and target_weight. Fails: ERR_USAGE naming
 * the unknown loss and the known ones, or two that do not go together. */
enum status terms_parse(const char *losses, struct terms *out);
/* The keys of options that not all rows take; beta has a meaning in rewards as well. */
struct option_key {
    enum takes takes;
    const char *key;
};
const struct option_key *terms_option_keys(int *count);
/* Local. Whether every term can take the options; adds to reads what the options have read. Fails: ERR_USAGE;
 * also when an option was given that no term takes, or one of the pair as a whole (divergence, ld_alpha) that
 * not all take. given: those that were, by `takes`. */
enum status terms_check(struct terms *t, unsigned given);
/* Local. One row of the table, by name, as SFT and reward models have it. */
void terms_one(const char *name, struct terms *out);
/* What a term shows; without terms, what rows of its kind show. */
const struct shown_list *terms_shown(const struct terms *t, int term);
/* Whether there are rewards: against a reference, or, as TRL shows them without one, beta times what cpo,
 * simpo and orpo compare: a log-probability, or its mean over tokens. */
bool terms_have_rewards(const struct terms *t);
/* Whether this loss of a pair is one of the terms. */
bool terms_have(const struct terms *t, preference_loss *pair);
/* What the rows are called: "sequences", "pairs", "prompts". */
const char *terms_rows(const struct terms *t);

/* What the row's share of the value is divided by (of groups: rows are responses, target tokens all that are
 * scored of them); and the batch's gathered numbers, NULL for scope row. */
struct denominators {
    double rows, target_tokens;
    const double *gathered;
};
/* Adds what the term of batch scope gathers to sums->v[SUM_GATHERED…]. */
void objective_gather(const struct terms *t, const struct scored_row *row, struct sums *sums);
/* The row's two numbers for the term of scope order. */
void objective_order(const struct terms *t, const struct scored_row *row, double pair[2]);
/* Adds a row to sums, and gives d value / d score of its responses (slope may be NULL, and its members):
 * slopes by response are set, slopes by token are added to. Returns false when the row's value or a slope is
 * not finite. */
bool objective_row(const struct terms *t, const struct scored_row *row, const struct denominators *d,
                   const struct slope *slope, struct sums *sums);
/* The value from sums. */
double objective_value(const struct terms *t, const struct sums *sums);

/* The numbers that terms show, in order: calls show for each that applies until one fails. */
enum status objective_show(const struct terms *t, const struct sums *sums,
                           enum status (*show)(void *context, const char *name, double value), void *context);

#endif
