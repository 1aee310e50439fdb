/* Inside the model room: which parameter plays which role, and what the parts of a pass share. */
#ifndef COLLIMATE_MODEL_INTERNAL_H
#define COLLIMATE_MODEL_INTERNAL_H

#include "model/family.h"
#include "model/model.h"

/* Of outputs [first, first + count) of a product: lora.h. */
struct adapter {
    int64_t first, count, rank;
    double scale, dropout;
    struct place a, b; /* (rank, in), (count, rank) */
    uint64_t stream;   /* of its dropout: a hash of its module's name */
};
enum { LINEAR_ADAPTERS = 3 }; /* q, k, v of one product */
/* y = x W^T + b: W (out, in). */
struct linear {
    struct place weight, bias;
    int64_t out, in;
    int n_adapters;
    struct adapter adapters[LINEAR_ADAPTERS];
};
/* A norm's weight and bias, of n elements. */
struct affine {
    struct place weight, bias;
    int64_t n;
};
/* gamma's and beta's weights, one under the other (2 d, width), and biases. */
struct film_plan {
    struct place weight, bias;
    int64_t width;
};
struct layer_plan {
    int64_t first; /* offset in the trained arena of the layer's first parameter there */
    struct affine norm1, norm2, post_norm1, post_norm2, q_norm, k_norm;
    struct linear qkv; /* outputs [q heads][k heads][v heads] */
    struct linear out;
    struct linear up, down; /* up: outputs [gate][up] where gated */
    struct film_plan film;  /* after the block; none in a bare plan */
};
struct model_plan {
    struct place embed, positions; /* (V, d), (max_positions, d) */
    struct layer_plan *layers;
    int64_t tail; /* as a layer's first, of what comes after the layers */
    struct affine final_norm;
    struct linear head; /* the embedding where tied; one output for a score head */
    struct place value; /* 1 x width, beside a language head */
};

/* Local. FiLM's parameters of a layer of a model of this width. */
enum status film_add(struct arena *a, const struct film_layout *f, int64_t layer, int64_t width,
                     struct film_plan *out);
/* Local. Closes m's sets. */
void lora_close_all(struct model *m);
void model_plan_free(struct model_plan *plan); /* NULL is fine */

/* Equal for maps of equal content. */
uint64_t model_map_id(const struct attention_map *map);

#endif
