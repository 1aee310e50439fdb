/* Reward models on embeddings: Bradley-Terry-Luce (BTL), distributional (DPL), and BTL conditioned on a
 * user's context by a neural process (Garnelo et al. 2018), after "few-shot steerable alignment"'s networks.
 *
 * H hidden, D the embeddings' width:
 *
 *   target encoder   D -> H ReLU -> H, of each option
 *   head             [target, z] -> H without bias, batch norm, ReLU -> 1 (DPL: 2), without bias; z for NP
 *   context encoder  each context pair [chosen, rejected]: 2D -> H (mlp: 2D -> H ReLU -> H); self-attention
 *                    over the set with neither residual nor norm nor positions, summed over the set (or the
 *                    mean or sum of the items as they are); H -> H ReLU -> H, or 2H where latent. The empty
 *                    set is the zero vector.
 *   latent           q(z | set) = N(m, s^2), the outputs being m and raw, s = softplus(raw)
 *
 * Parameters and gradients are one host array each, in double; a tensor is a range.
 */
#ifndef COLLIMATE_ENCODER_NETWORK_H
#define COLLIMATE_ENCODER_NETWORK_H

#include <stdbool.h>
#include <stdint.h>

#include "util/status.h"

enum np_kind { NP_BTL, NP_DPL, NP_PROCESS };
enum np_aggregate { NP_ATTENTION, NP_MEAN, NP_SUM };

struct np_shape {
    enum np_kind kind;
    int64_t width, hidden, heads; /* heads divides hidden */
    enum np_aggregate aggregate;
    bool inner_mlp; /* of the context's items; otherwise one linear layer */
    bool latent;
};

enum np_tensor {
    NP_TARGET_0,
    NP_TARGET_0_BIAS,
    NP_TARGET_1,
    NP_TARGET_1_BIAS,
    NP_HEAD_0,
    NP_NORM_WEIGHT,
    NP_NORM_BIAS,
    NP_HEAD_1,
    NP_INNER_0,
    NP_INNER_0_BIAS,
    NP_INNER_1,
    NP_INNER_1_BIAS,
    NP_ATTENTION_IN, /* queries, keys, values: 3H x H */
    NP_ATTENTION_IN_BIAS,
    NP_ATTENTION_OUT,
    NP_ATTENTION_OUT_BIAS,
    NP_OUTER_0,
    NP_OUTER_0_BIAS,
    NP_OUTER_1,
    NP_OUTER_1_BIAS,
    NP_TENSORS
};

struct np_range {
    const char *name; /* in saved files */
    int64_t offset;   /* in the arrays */
    int64_t rows;     /* outputs; 0: the model has no such tensor */
    int64_t columns;  /* inputs; 1 for biases */
};

struct np_model {
    struct np_shape shape;
    struct np_range tensors[NP_TENSORS];
    int64_t count; /* parameters */
    double *parameters, *gradients;
    double *running_mean, *running_variance; /* H each: batch norm's, for evaluation */
};

/* Local. Parameters drawn from seed as PyTorch's layers draw theirs (uniform within 1 / sqrt(inputs);
 * attention's inputs Xavier uniform, its biases 0). Fails: ERR_USAGE for sizes that do not fit each other,
 * ERR_SYSTEM. */
enum status np_model_open(const struct np_shape *shape, uint64_t seed, struct np_model *out);
void np_model_close(struct np_model *m);
/* First element; NULL where the model has no such tensor. */
double *np_parameter(const struct np_model *m, enum np_tensor t);
double *np_gradient(const struct np_model *m, enum np_tensor t);
/* Outputs of an option: 2 for DPL, else 1. */
int64_t np_outputs(const struct np_shape *s);

#endif
