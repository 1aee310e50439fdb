/* Inside the model room: which parameter plays which role, and what the parts of a pass share. */
#ifndef COLLIMATE_MODEL_INTERNAL_H
#define COLLIMATE_MODEL_INTERNAL_H

#include "model/family.h"
#include "model/model.h"

/* y = x W^T + b: W (out, in). Offsets in the arena; -1: there is none. */
struct linear {
    int64_t weight, bias, out, in;
};
/* A norm's weight and bias, of n elements. */
struct affine {
    int64_t weight, bias, n;
};
struct layer_plan {
    int64_t first; /* arena offset of the layer's first parameter */
    struct affine norm1, norm2, post_norm1, post_norm2, q_norm, k_norm;
    struct linear qkv; /* outputs [q heads][k heads][v heads] */
    struct linear out;
    struct linear up, down; /* up: outputs [gate][up] where gated */
};
struct model_plan {
    int64_t embed, positions; /* (V, d), (max_positions, d) */
    struct layer_plan *layers;
    struct affine final_norm;
    struct linear head; /* the embedding where tied; one output for a score head */
};

/* Views of parameters and of their gradients. */
struct tensor model_view(const struct model *m, int64_t offset, int64_t rows, int64_t columns);
struct tensor model_gradient(const struct model *m, int64_t offset, int64_t rows, int64_t columns);

/* Equal for maps of equal content. */
uint64_t model_map_id(const struct attention_map *map);

#endif
