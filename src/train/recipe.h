/* What an update minimizes, row by row: SFT, weighted preference losses with an SFT add-on, or a reward
 * model's loss; and the sums that every number shown to a user comes from.
 *
 *   preference: sum_k w_k * mean over pairs(loss_k) + w_sft * mean over the chosen's tokens(-log p)
 *   reward:     mean over prompts of the mean over the prompt's pairs(loss)
 *
 * Every mean is one numerator and one denominator over the true rows of all ranks: no mean of means.
 */
#ifndef COLLIMATE_TRAIN_RECIPE_H
#define COLLIMATE_TRAIN_RECIPE_H

#include "objective/preference.h"
#include "objective/reward_loss.h"
#include "score/scorer.h"

/* Sums over rows, responses or tokens. "target": the first response of a row (SFT's, or the chosen). */
enum sum {
    SUM_ROWS,
    SUM_LOSS, /* of rows: weighted preference losses, or a sequence's -log p */
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
    SUM_PAIRS,     /* of reward models: compared pairs, which the three above are over */
    SUM_RESPONSES, /* of reward models: responses with a value, and their values */
    SUM_VALUES,
    SUM_ENTROPY,         /* over target and rejected tokens */
    SUM_SEQUENCE_TOKENS, /* prompt + response of every response: TRL's num_tokens */
    SUM_FOREST_TOKENS,   /* what was computed: prompts once */
    SUM_FLOPS,           /* forward and, in training, backward */
    SUM_COUNT
};
struct sums {
    double v[SUM_COUNT];
    double lowest, highest; /* value of a response, where v[SUM_RESPONSES] > 0 */
};

/* What rows are and how they are scored; recipe.c has a row for each in its table. */
enum recipe_kind {
    RECIPE_SFT,        /* log-probabilities of the target */
    RECIPE_PREFERENCE, /* log-probabilities of pairs */
    RECIPE_REWARD,     /* values of a prompt's responses, compared in pairs */
};

enum { RECIPE_TERMS = 8 };
struct recipe {
    enum recipe_kind kind;
    bool sequence_sum;  /* SFT: sum per sequence, mean over sequences; otherwise mean over tokens */
    bool has_reference; /* rewards are computed */
    bool reference_free;
    int n_terms;
    struct recipe_term {
        const struct preference_objective *objective;
        double weight;
    } terms[RECIPE_TERMS];
    double target_weight; /* of the target's token-mean -log p */
    struct preference_options options;
    struct reward_options reward;
};
/* The head that a model needs for it, and what its rows are called. */
enum model_head recipe_head(const struct recipe *r);
const char *recipe_rows(const struct recipe *r);

/* Local. dpo.loss: "sigmoid", "sigmoid+0.1*sft", "0.5*ipo + 0.5*hinge". Sets terms and target_weight.
 * Fails: ERR_USAGE naming the unknown loss and the known ones, or an option that no term reads. */
enum status recipe_parse(const char *losses, struct recipe *out);

/* Local. Whether every term can take the options. Fails: ERR_USAGE; also when a smoothing was given that no
 * term reads. */
enum status recipe_check(const struct recipe *r, bool has_smoothing);

/* What the row's share of the value is divided by. */
struct denominators {
    double rows, target_tokens;
};
/* A row with its scores (as many as the scorer gave it). reference: two sums, or NULL. */
struct scored_row {
    const struct sample *sample; /* read by reward models only */
    const struct response_score *scores;
    const double *reference;
};
/* Adds a row to sums, and gives d value / d score for each response (gradient may be NULL). Returns false
 * when the row's value or gradient is not finite. */
bool recipe_row(const struct recipe *r, const struct scored_row *row, const struct denominators *d,
                double *gradient, struct sums *sums);
/* The value from sums. */
double recipe_value(const struct recipe *r, const struct sums *sums);

#endif
