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

#include "encoder/linear.h"

/* NETWORK_CONTEXT: the context encoder alone. */
enum network_kind { NETWORK_BTL, NETWORK_DPL, NETWORK_PROCESS, NETWORK_CONTEXT };
enum network_aggregate { AGGREGATE_ATTENTION, AGGREGATE_MEAN, AGGREGATE_SUM };

struct network_shape {
    enum network_kind kind;
    int64_t width, hidden, heads; /* heads divides hidden */
    enum network_aggregate aggregate;
    bool inner_mlp; /* of the context's items; otherwise one linear layer */
    bool latent;
};

enum network_tensor {
    NETWORK_TARGET_0,
    NETWORK_TARGET_0_BIAS,
    NETWORK_TARGET_1,
    NETWORK_TARGET_1_BIAS,
    NETWORK_HEAD_0,
    NETWORK_NORM_WEIGHT,
    NETWORK_NORM_BIAS,
    NETWORK_HEAD_1,
    NETWORK_INNER_0,
    NETWORK_INNER_0_BIAS,
    NETWORK_INNER_1,
    NETWORK_INNER_1_BIAS,
    NETWORK_ATTENTION_IN, /* queries, keys, values: 3H x H */
    NETWORK_ATTENTION_IN_BIAS,
    NETWORK_ATTENTION_OUT,
    NETWORK_ATTENTION_OUT_BIAS,
    NETWORK_OUTER_0,
    NETWORK_OUTER_0_BIAS,
    NETWORK_OUTER_1,
    NETWORK_OUTER_1_BIAS,
    NETWORK_TENSORS
};

struct network_range {
    const char *name; /* in saved files */
    int64_t offset;   /* in the arrays */
    int64_t rows;     /* outputs; 0: the model has no such tensor */
    int64_t columns;  /* inputs; 1 for biases */
};

struct network {
    struct network_shape shape;
    struct network_range tensors[NETWORK_TENSORS];
    int64_t count; /* parameters */
    double *parameters, *gradients;
    double *running_mean, *running_variance; /* H each: batch norm's, for evaluation */
};

/* Local. Parameters drawn from seed as PyTorch's layers draw theirs (uniform within 1 / sqrt(inputs);
 * attention's inputs Xavier uniform, its biases 0). Fails: ERR_USAGE for sizes that do not fit each other,
 * ERR_SYSTEM. */
enum status network_open(const struct network_shape *shape, uint64_t seed, struct network *out);
void network_close(struct network *m);
/* First element; NULL where the model has no such tensor. */
double *network_parameter(const struct network *m, enum network_tensor t);
double *network_gradient(const struct network *m, enum network_tensor t);
/* The layer with that weight; its bias, where it has one, is the tensor after it. */
struct linear_layer network_layer(const struct network *m, enum network_tensor weight);
/* Outputs of an option: 2 for DPL, else 1. */
int64_t network_outputs(const struct network_shape *s);

#endif
