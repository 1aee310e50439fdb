/* The context encoder of network.h on the sets of several users. */
#ifndef COLLIMATE_ENCODER_SET_H
#define COLLIMATE_ENCODER_SET_H

#include "encoder/network.h"

/* What a forward pass leaves for the backward pass. U users, k items, H hidden. */
struct np_set {
    int64_t users, items;
    double dropout; /* of attention weights; 0: none */
    uint64_t seed;  /* of the dropout */
    int64_t step, first_user;
    double *input;   /* (U k, 2D): [chosen, rejected] */
    double *inner;   /* (U k, H): after the ReLU of a mlp */
    double *encoded; /* (U k, H) */
    double *qkv;     /* (U k, 3H) */
    double *weights; /* (U, heads, k, k): softmax, before dropout */
    double *kept;    /* (U, heads, k, k): 0 or 1 / (1 - dropout) */
    double *pooled;  /* (U, H): values by the weights, summed over the queries */
    double *summary; /* (U, H): of the set */
    double *outer;   /* (U, H): after the ReLU */
    double *out;     /* (U, H) or (U, 2H) */
    double *d_rows, *d_inner, *d_qkv, *d_pooled, *d_outer, *d_out; /* gradients; d_rows: of encoded */
};

/* Local. Room for sets of at most users x items. */
enum status np_set_open(const struct np_model *m, int64_t users, int64_t items, struct np_set *out);
void np_set_close(struct np_set *s);
/* Local. From s->input, users, items and dropout to s->out. */
void np_set_forward(const struct np_model *m, struct np_set *s);
/* Local. From s->d_out: adds to the model's gradients. */
void np_set_backward(const struct np_model *m, struct np_set *s);

#endif
