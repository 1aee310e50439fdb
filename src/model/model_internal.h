/* Inside the model room: which parameter plays which role, and what the parts of a pass share. */
#ifndef COLLIMATE_MODEL_INTERNAL_H
#define COLLIMATE_MODEL_INTERNAL_H

#include "model/family.h"
#include "model/model.h"

/* y = x W^T + b: W (out, in). */
struct linear {
    struct place weight, bias;
    int64_t out, in;
};
/* A norm's weight and bias, of n elements. */
struct affine {
    struct place weight, bias;
    int64_t n;
};
struct layer_plan {
    int64_t first; /* offset in the trained arena of the layer's first parameter there */
    struct affine norm1, norm2, post_norm1, post_norm2, q_norm, k_norm;
    struct linear qkv; /* outputs [q heads][k heads][v heads] */
    struct linear out;
    struct linear up, down; /* up: outputs [gate][up] where gated */
};
struct model_plan {
    struct place embed, positions; /* (V, d), (max_positions, d) */
    struct layer_plan *layers;
    int64_t tail; /* as a layer's first, of what comes after the layers */
    struct affine final_norm;
    struct linear head; /* the embedding where tied; one output for a score head */
};

/* Equal for maps of equal content. */
uint64_t model_map_id(const struct attention_map *map);

#endif
