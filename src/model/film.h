/* FiLM after the blocks of a decoder (Perez et al. 2018): a block's output h becomes
 *
 *     gamma(z) * h + beta(z),   gamma, beta: a linear layer of z for each block,
 *
 * z being what a tree is under: that of its segment's condition. The parameters are part of a set of adapters
 * (lora.h), so that the base alone has none of it.
 */
#ifndef COLLIMATE_MODEL_FILM_H
#define COLLIMATE_MODEL_FILM_H

#include "model/arena.h"

/* Which blocks, and how gamma and beta begin: with weights from normal(0, deviation) and biases 1 and 0. */
struct film_layout {
    int64_t layers;     /* the first of the model's; 0: no FiLM */
    int64_t width;      /* of z */
    double deviation;   /* 0: weights are 0 */
    double rate;        /* as struct parameter's */
    int32_t conditions; /* in a pass at most, where memory is counted */
};

/* What a pass is under: n vectors. Without one, and where a segment's condition is -1, FiLM changes nothing.
 */
struct condition {
    int32_t n;
    int64_t width;
    const double *z; /* (n, width) */
    double *dz;      /* likewise: backward adds d value / d z; NULL: not asked for */
};

#endif
