/* Scores of samples under a model: samples become a forest, the forest a log-probability for each response,
 * or its value where the model has a score head, read at the last token of prompt + response.
 *
 * SFT: a prompt with one child; preferences: a prompt with two; reward models: any number. Sums over tokens
 * run in fp64 in token order, so a response's sum does not depend on what else is in the forest (its terms
 * may, by the rounding of products of other shapes).
 */
#ifndef COLLIMATE_SCORE_SCORER_H
#define COLLIMATE_SCORE_SCORER_H

#include "data/view.h"
#include "model/model.h"

/* Sums over a response's scored tokens, or its value. */
struct response_score {
    double value; /* of a score head; nothing else is set then */
    double logp, entropy, mean_logit;
    int64_t tokens, top; /* scored; of these the arg max */
    int64_t first;       /* of its tokens in scorer.tokens */
};

struct scorer {
    struct model *model;
    struct workspace *workspace;
    struct pass *pass;
    struct forest forest;
    struct token_scores tokens; /* by readout, of the last run */
    double *weights;            /* d value / d readout, by readout */
    struct response_score *scores;
    int64_t *first; /* of the last run: sample i has scores [first[i], first[i + 1]), unused ones zero */
    int64_t cap_readouts, cap_scores, cap_first;
    int64_t n_samples;
    const struct sample *samples; /* of the last run, borrowed */
};

enum { SCORER_RESPONSES = 2 }; /* places at least, of a sample: first[i] is twice i but for larger samples */

/* Local. workspace is borrowed; only one scorer at a time may run on it. */
enum status scorer_open(struct model *m, struct workspace *w, enum pass_keep keep, struct scorer *out);
void scorer_close(struct scorer *s);

/* Local. Forward and readout. scores are owned by s and valid until the next run.
 * Fails: ERR_DATA naming the row of a token outside the vocabulary. */
enum status scorer_run(struct scorer *s, const struct sample *samples, int64_t n);
/* Local. Adds sum over responses of gradient[first[i] + j] * d score / d parameter into the model's
 * gradients. */
enum status scorer_backward(struct scorer *s, const double *gradient, pass_on_final *on_final, void *context);
/* FLOPs of the last run's forward pass (backward: twice that), recomputation not counted. */
double scorer_flops(const struct scorer *s);

#endif
