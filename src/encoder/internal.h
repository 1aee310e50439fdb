/* Between the files of the few-shot reward models. */
#ifndef COLLIMATE_ENCODER_INTERNAL_H
#define COLLIMATE_ENCODER_INTERNAL_H

#include "encoder/linear.h"
#include "encoder/network.h"

/* Layers whose bias, where they have one, is the tensor after the weight. */
static inline struct np_linear np_layer(const struct np_model *m, enum np_tensor weight) {
    const struct np_range *r = &m->tensors[weight];
    bool has_bias = weight != NP_HEAD_0 && weight != NP_HEAD_1;
    return (struct np_linear){.inputs = r->columns,
                              .outputs = r->rows,
                              .weight = np_parameter(m, weight),
                              .bias = has_bias ? np_parameter(m, weight + 1) : NULL,
                              .d_weight = np_gradient(m, weight),
                              .d_bias = has_bias ? np_gradient(m, weight + 1) : NULL};
}

#endif
