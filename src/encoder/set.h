/* The context encoder of network.h on the sets of several users. */
#ifndef COLLIMATE_ENCODER_SET_H
#define COLLIMATE_ENCODER_SET_H

#include "encoder/network.h"

/* What a forward pass leaves for the backward pass. U users, k items, H hidden. */
struct set_pass {
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
enum status set_pass_open(const struct network *m, int64_t users, int64_t items, struct set_pass *out);
void set_pass_close(struct set_pass *s);
/* Local. From s->input, users, items and dropout to s->out. */
void set_pass_forward(const struct network *m, struct set_pass *s);
/* Local. From s->d_out: adds to the model's gradients. */
void set_pass_backward(const struct network *m, struct set_pass *s);

#endif
