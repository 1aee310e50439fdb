/* Layers on host arrays in double: x is rows x inputs, a weight outputs x inputs, all contiguous unless a
 * leading dimension is given. Local. */
#ifndef COLLIMATE_ENCODER_LINEAR_H
#define COLLIMATE_ENCODER_LINEAR_H

#include <stdbool.h>
#include <stdint.h>

#include "util/status.h"

struct comm;

struct linear_layer {
    int64_t inputs, outputs, stride; /* stride: of the weight's rows; 0: inputs */
    const double *weight, *bias;     /* bias NULL: none */
    double *d_weight, *d_bias;       /* added to */
};
/* y = x W^T + b, negative parts cut off where `relu`. */
void linear_forward(const struct linear_layer *l, int64_t rows, const double *x, bool relu, double *y);
/* From dy: d_weight, d_bias; dx is overwritten, or NULL. */
void linear_backward(const struct linear_layer *l, int64_t rows, const double *x, const double *dy,
                     double *dx);
/* dy becomes 0 where the output y of a ReLU is 0. */
void relu_backward(int64_t n, const double *y, double *dy);
/* sums[c] += the sum of column c. */
void sum_rows(int64_t rows, int64_t columns, const double *x, double *sums);

/* Batch norm over the rows of all ranks (Ioffe and Szegedy 2015), as PyTorch has it: biased variance for the
 * rows, unbiased for the running statistics. */
struct batch_norm {
    struct comm *comm; /* NULL: this rank's rows only */
    int64_t width;
    double momentum; /* how far the running statistics move with a batch */
    const double *weight, *bias;
    double *d_weight, *d_bias; /* added to: this rank's share */
    double *running_mean, *running_variance;
    double *inverse_std; /* width: written by the forward pass in training, read backward */
    double *sums;        /* 2 * width + 1 of scratch */
    double total;        /* rows on all ranks, written by the forward pass */
};
/* Collective. x becomes the normalized rows, y = ReLU(weight * x + bias). The running statistics move, unless
 * no rank has a row: a rank may come with none, as one does that failed. Fails, on all ranks alike: ERR_USAGE
 * for one row in all. */
enum status batch_norm_train(struct batch_norm *n, int64_t rows, double *x, double *y);
/* Local. The same with the running statistics, so that a row does not depend on the rows beside it. */
void batch_norm_evaluate(const struct batch_norm *n, int64_t rows, double *x, double *y);
/* Collective. From d(loss) / dy in dy and what batch_norm_train left in x and y: d(loss) / d(input), in dy.
 */
enum status batch_norm_backward(struct batch_norm *n, int64_t rows, const double *x, const double *y,
                                double *dy);

#endif
