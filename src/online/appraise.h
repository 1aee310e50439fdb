/* What the reference and rewards say of a rollout. */
#ifndef COLLIMATE_ONLINE_APPRAISE_H
#define COLLIMATE_ONLINE_APPRAISE_H

#include "online/rewarder.h"
#include "online/rollout.h"
#include "score/scorer.h"
#include "text/tokenizer.h"

struct reward_model {
    char *name; /* the folder's, without what leads to it */
    double weight;
    struct model *model; /* with a score head */
};
enum { MOST_REWARD_MODELS = 16, MOST_COLUMNS = MOST_REWARD_MODELS + REWARDER_COLUMNS };

/* Borrowed. */
struct appraiser {
    struct comm *comm;
    struct workspace *workspace; /* for passes of the models, one after the other */
    const struct tokenizer *tokenizer;
    struct rewarder *rewarder;
    const struct reward_model *models;
    int n_models;
    /* Local. Fills reference and token_reference of a batch. NULL: there is no reference. */
    enum status (*score_reference)(void *context, struct batch *b);
    void *scores;
    /* Local. Values before each token of a batch's responses, by the policy's value head, at token_first as
     * token_reference. NULL: there are none. */
    enum status (*score_values)(void *context, const struct batch *b, double *out);
    void *valuer;
    /* Local. Appends the data's answer to a prompt. NULL: there are none. */
    enum status (*find_answer)(void *context, int64_t row, struct text *out, bool *found);
    void *answers;
};

/* Zero-initialised; appraisal_free at the end. */
struct appraisal {
    int columns;
    const char *names[MOST_COLUMNS]; /* borrowed */
    double weights[MOST_COLUMNS];
    double *values;    /* responses x columns */
    double *rewards;   /* by response: weighted sums */
    double *reference; /* by token, as rollout.logps; NULL: none */
    double *before;    /* likewise: values before it; NULL: none */
};
void appraisal_free(struct appraisal *a);

/* Collective. b: this rank's rows of the rollout, prompts with all their samples; its reference is filled.
 * Fails: ERR_DATA for a reward that is not finite, naming row and sample. */
enum status appraise(const struct appraiser *by, const struct rollout *r, struct batch *b,
                     struct appraisal *out);

#endif
