/* What a training run will hold on a rank and how long its steps will take, from its options and its data's
 * counts: nothing is held or computed but a short product on every rank. */
#ifndef COLLIMATE_TRAIN_ESTIMATE_H
#define COLLIMATE_TRAIN_ESTIMATE_H

#include "data/batch.h"
#include "data/rows.h"
#include "model/model.h"
#include "train/optimizer.h"

struct estimate_options {
    struct comm *comm;
    struct backend *backend;
    struct model_config config; /* of the model that is to be trained, with its head and adapters */
    struct optimizer_options optimizer;
    bool is_sharded; /* the optimizer's state is, over the ranks */
    enum pass_keep keep;
    enum pass_keep reference_keep;       /* of its pass */
    bool has_follower;                   /* a second model is run over every batch: a reference, */
    bool follows;                        /* whose parameters change */
    int64_t others;                      /* bytes of further models; */
    int64_t held;                        /* of host memory beside the batches; */
    int64_t drawing;                     /* of what takes the workspace while the pass has given it back */
    const struct rows *rows, *eval_rows; /* of the two sources */
    const struct batch_source *source, *eval_source; /* eval_source NULL: none */
    int64_t eval_tokens; /* of the largest forest of eval_rows; 0: as eval_source packs them */
};

/* Bytes, where nothing else is said. */
struct estimate {
    int64_t parameters, state_arenas, partial_arenas; /* counts; parameters: those that are trained */
    int64_t frozen;                                   /* parameters of the base beside adapters; 0: none */
    int64_t base;                                     /* their bytes */
    int64_t saved; /* bytes that training the whole model would take in the place of base and adapters */
    int64_t forest_tokens; /* of the largest forest of any update, at most */
    int64_t baseline, model, reference, gradients, optimizer, partial, pass, evaluation_pass, batches, inside;
    int64_t kept; /* weights laid out for products */
    int64_t others, drawing;
    int64_t total;       /* of the above, with the larger of the two passes */
    double peak_flops;   /* of products over all ranks, measured, per second */
    double step_flops;   /* of an update, over all ranks */
    double step_seconds; /* at this share of the product rate: */
};
#define ESTIMATE_EFFICIENCY 0.6

/* Collective. All of it. */
enum status estimate_training(const struct estimate_options *o, struct estimate *out);
/* Collective. Its part about memory only. */
enum status estimate_memory(const struct estimate_options *o, struct estimate *out);
/* Local. Bytes of gradients and optimizer state on this rank; reads no rows, source or steps. */
enum status estimate_state_bytes(const struct estimate_options *o, int64_t *out);

/* Local. Elements of a model's arena, without adapters. */
enum status estimate_elements(const struct model_config *config, int64_t *out);

/* Local, the same on every rank. Of the memory only forest_tokens and the two passes: what the run opens its
 * workspace with. */
enum status estimate_passes(const struct estimate_options *o, struct estimate *out);
/* The larger of the two passes and of what takes their place. */
int64_t estimate_pass(const struct estimate *e);

#endif
