/* A policy that follows each user: a context encoder (encoder/set.h) makes one vector z of a user's choices,
 * and FiLM (model/film.h) after the policy's blocks does what z says.
 *
 * U users, k choices each, D the embeddings' width, H hidden. Embeddings are standardized by a mean and a
 * scale for each of their D numbers, which are part of the steering. The encoder's parameters stand first in
 * the arena of a set of adapters, FiLM's with its layers: so one gradient sum, one optimizer and one
 * checkpoint serve them and the adapters. The encoder itself runs on the host in double: its parameters are
 * read from the arena when that has changed, its gradients added to the arena's.
 */
#ifndef COLLIMATE_STEER_STEERING_H
#define COLLIMATE_STEER_STEERING_H

#include "encoder/set.h"
#include "model/lora.h"

struct steering_shape {
    int64_t width;         /* D */
    int64_t hidden, heads; /* H, also z's; heads divides it */
    enum network_aggregate aggregate;
    bool inner_mlp;
    bool bounded; /* z is tanh of what the encoder says: more choices that agree make it surer, not larger */
    int64_t layers; /* with FiLM, from the first */
};

/* How it begins and learns. In either beginning the policy is the base to the bit, whatever the context. */
enum steering_start {
    START_ENCODER, /* the encoder's last layer is 0, so that z is; FiLM's weights are random */
    START_FILM,    /* FiLM's weights are 0 (as published): the encoder has no gradient in the first update */
};
struct steering_training {
    enum steering_start start;
    double deviation; /* of FiLM's weights, with START_ENCODER */
    double rate;      /* of encoder and FiLM, times the optimizer's learning rate */
    double dropout;   /* of the context's attention */
    uint64_t seed;
    int32_t users; /* in an update */
};

struct steering {
    struct steering_shape shape;
    struct network encoder;
    char embedder[160];   /* what made the embeddings, in words */
    double *mean, *scale; /* D each: an embedding x becomes (x - mean) * scale */
    struct arena *arena;  /* borrowed; NULL: not bound */
    uint64_t revision;    /* of the arena, when the parameters were read */
    struct set_pass pass; /* of the last encoding */
    int64_t users_cap, items_cap;
    struct condition condition; /* its z, and dz, which is 0 after it */
    double *z;
    double *numbers; /* scratch: as many as the largest tensor has */
};

/* Local. Parameters drawn from the seed, no standardization. */
enum status steering_open(const struct steering_shape *shape, uint64_t seed, struct steering *out);
void steering_close(struct steering *s);
/* Local. Adds the encoder's parameters and FiLM to a set's layout. */
enum status steering_lay_out(const struct steering *s, const struct steering_training *t,
                             struct lora_layout *l);
/* Local. From here on the parameters are the arena's, of a set of that layout. */
void steering_bind(struct steering *s, struct arena *a);
/* Local. The encoder's drawn parameters into the arena, as t begins. */
enum status steering_start(struct steering *s, const struct steering_training *t);
/* Parameters of the encoder in the arena are its first `*elements` elements; returns how many tensors. */
int steering_tensors(const struct steering *s, int64_t *elements);

/* What is dropped of the attention, in training; NULL: nothing. */
struct steering_dropout {
    double rate;
    uint64_t seed;
    int64_t step;
};
/* Local. Users' choices, (users, k, 2, D): embeddings of chosen and rejected; k may be 0. Leaves z in
 * s->condition, and dz as 0. */
enum status steering_encode(struct steering *s, int64_t users, int64_t k, const float *choices,
                            const struct steering_dropout *dropout);
/* Local. From s->condition.dz, which becomes 0: adds the encoder's gradients to the arena's. */
enum status steering_backward(struct steering *s);
/* Local. Mean and scale from rows (n, D): those of the rows; a number that does not vary gets scale 1. */
void steering_standardize(struct steering *s, const float *rows, int64_t n);

#endif
