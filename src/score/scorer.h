/* Scores of samples under a model: samples become a forest, the forest a log-probability for each response,
 * or its value where the model has a score head, read at the last token of prompt + response; and slopes by
 * response and by token go back through it.
 *
 * A language model with a value head gives a value before each scored token as well, from the same pass.
 *
 * A sample is a prompt with any number of children. Sums over tokens run in fp64 in token order, so a
 * response's sum does not depend on what else is in the forest (its terms may, by the rounding of products of
 * other shapes).
 */
#ifndef COLLIMATE_SCORE_SCORER_H
#define COLLIMATE_SCORE_SCORER_H

#include "data/batch.h"
#include "model/model.h"
#include "objective/objective.h"

struct scorer {
    struct model *model;
    struct workspace *workspace;
    struct pass *pass;
    struct forest forest;
    /* Of the last run. */
    int64_t n_samples;
    const struct sample *samples; /* borrowed */
    struct token_scores tokens;   /* by readout; a response's are at [first, first + tokens) */
    double *values;               /* by readout, where the model has a score head: one a response */
    struct response_score *scores;
    int64_t *first; /* sample i has scores [first[i], first[i + 1]) */
    struct compared *pairs;
    int64_t *first_pair; /* likewise */
    /* By response and by readout: where rows put their slopes, and what goes backward. */
    double *logp_slopes, *value_slopes, *token_slopes, *token_value_slopes, *divergence_slopes, *weights;
    /* Set after opening where objectives read the divergence of two models: the reference's, on a workspace
     * of its own, that runs over the same samples. Borrowed; both keep activations. */
    struct scorer *reference;
    double *divergence;                /* by readout */
    const struct condition *condition; /* of scorer_condition() */
    bool per_token; /* set after opening where objectives read tokens: there are slopes by token */
    int64_t cap_token_values, cap_readouts, cap_scores, cap_pairs, cap_samples;
};

/* Local. workspace is borrowed; only one scorer at a time may run on it. */
enum status scorer_open(struct model *m, struct workspace *w, enum pass_keep keep, struct scorer *out);
void scorer_close(struct scorer *s);

/* From now on adapters' inputs are dropped as pass_drop() says. */
void scorer_drop(struct scorer *s, uint64_t seed, int64_t step);

/* From now on samples are under the condition of their user; c is borrowed, NULL: under none. */
void scorer_condition(struct scorer *s, const struct condition *c);

/* Local. Forward and readout. scores are owned by s and valid until the next run.
 * Fails: ERR_DATA naming the row of a token outside the vocabulary. */
enum status scorer_run(struct scorer *s, const struct sample *samples, int64_t n);
/* Local. Row i of a batch, of whose cut the scorer has run last: the model's numbers beside the data's and
 * the reference's. Valid until the next run. */
struct scored_row scorer_row(struct scorer *s, const struct batch *b, const struct forest_cut *cut,
                             int64_t i);
/* Local. Where the slopes of sample i of the last run go. */
struct slope scorer_slope(const struct scorer *s, int64_t i);
/* Local. Adds sum over the last run's slopes of slope * d score / d parameter into the model's gradients.
 * Every row has put its slopes. */
enum status scorer_backward(struct scorer *s, pass_on_final *on_final, void *context);
/* FLOPs of the last run's forward pass (backward: twice that), recomputation not counted. */
double scorer_flops(const struct scorer *s);

#endif
