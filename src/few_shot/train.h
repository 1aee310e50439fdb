/* Training and evaluation of few-shot reward models, data-parallel by the users of a batch: batch norm's
 * statistics and the gradients are sums over the ranks, so any rank count gives the same numbers to rounding.
 */
#ifndef COLLIMATE_FEW_SHOT_TRAIN_H
#define COLLIMATE_FEW_SHOT_TRAIN_H

#include "encoder/adam.h"
#include "few_shot/tasks.h"

struct few_shot_options {
    int64_t batch, targets;           /* users in an update; pairs of a user */
    int64_t context_min, context_max; /* k is drawn uniformly between them for each batch */
    int64_t samples, eval_samples;    /* of the latent */
    double beta_kl, dropout;
    enum few_shot_objective objective;
    struct adam_options adam;
    uint64_t seed, task_seed; /* of context, noise, dropout; of the users */
};

struct few_shot_trainer {
    struct comm *comm;
    struct network *model;
    const struct few_shot_options *options;
    struct tasks train, test;
    struct few_shot_pass pass;
    struct users users;
    struct adam adam;
};
/* Collective in meaning: the same arguments on all ranks; all borrowed. comm NULL: alone. Local otherwise. */
enum status few_shot_trainer_open(struct comm *comm, struct network *m, const struct world *w,
                                  const struct few_shot_options *options, struct few_shot_trainer *out);
void few_shot_trainer_close(struct few_shot_trainer *t);

/* Updates that one pass over the training pairs makes: pairs / batch, the rest left out. */
int64_t few_shot_steps_per_pass(const struct world *w, const struct few_shot_options *options);
/* Collective. One update; *value: the loss's terms over all ranks, before the update. Whatever one rank fails
 * with, all go through the same collectives and end with its message and code, without an update. */
enum status few_shot_step(struct few_shot_trainer *t, struct few_shot_value *value);
/* Collective. The norm's running statistics, which evaluation goes by, become plain averages over so many
 * more training batches without dropout, whose contexts are of each size of [least, most] by turns;
 * parameters stay. As few_shot_step leaves them, they are those of the last ten batches or so (PyTorch's
 * momentum), and follow the sizes of context that these happened to have. (Wu and Johnson 2021, "Rethinking
 * Batch in BatchNorm", section 3.) */
enum status few_shot_average_norm(struct few_shot_trainer *t, int64_t batches, int64_t least, int64_t most);

/* Accuracies of a user's targets, averaged over the users. A tie counts as "a preferred", with samples of the
 * latent the accuracy is averaged over them. */
enum few_shot_measure {
    MEASURE_ALL,          /* all targets */
    MEASURE_SEEN,         /* the context's pairs */
    MEASURE_UNSEEN,       /* all others; all where contexts are of another set */
    MEASURE_PAPER_UNSEEN, /* targets k to N - 1: what was published; some of them are context */
    MEASURES
};
struct few_shot_accuracy {
    double users, mean[MEASURES], error[MEASURES]; /* error: of the mean; NAN where undefined */
};
/* Collective. The first floor(pairs / batch) * batch users of the test split, the same at every k, with
 * `context` pairs each. out: labels + 1 of them, all users last. */
enum status few_shot_evaluate(struct few_shot_trainer *t, int64_t context, struct few_shot_accuracy *out);

#endif
