#include "encoder/linear.h"

#include <math.h>
#include <string.h>

#include "encoder/dense.h"
#include "mpi/comm.h"

enum { PARALLEL_ELEMENTS = 1 << 15 }; /* below, starting threads costs more than it saves */
static const double norm_epsilon = 1e-5;

void linear_forward(const struct linear_layer *l, int64_t rows, const double *x, bool relu, double *y) {
    dense_multiply(&(struct dense_product){.transpose_b = true,
                                           .m = rows,
                                           .n = l->outputs,
                                           .k = l->inputs,
                                           .a = x,
                                           .lda = l->inputs,
                                           .b = l->weight,
                                           .ldb = l->stride ? l->stride : l->inputs,
                                           .c = y,
                                           .ldc = l->outputs});
    if (!l->bias && !relu) {
        return;
    }
#pragma omp parallel for if (rows * l->outputs > PARALLEL_ELEMENTS)
    for (int64_t i = 0; i < rows; i++) {
        double *row = y + i * l->outputs;
        for (int64_t j = 0; l->bias && j < l->outputs; j++) {
            row[j] += l->bias[j];
        }
        for (int64_t j = 0; relu && j < l->outputs; j++) {
            row[j] = row[j] > 0 ? row[j] : 0;
        }
    }
}

void linear_backward(const struct linear_layer *l, int64_t rows, const double *x, const double *dy,
                     double *dx) {
    int64_t stride = l->stride ? l->stride : l->inputs;
    dense_multiply(&(struct dense_product){.transpose_a = true,
                                           .m = l->outputs,
                                           .n = l->inputs,
                                           .k = rows,
                                           .a = dy,
                                           .lda = l->outputs,
                                           .b = x,
                                           .ldb = l->inputs,
                                           .beta = 1,
                                           .c = l->d_weight,
                                           .ldc = stride});
    if (l->d_bias) {
        sum_rows(rows, l->outputs, dy, l->d_bias);
    }
    if (dx) {
        dense_multiply(&(struct dense_product){.m = rows,
                                               .n = l->inputs,
                                               .k = l->outputs,
                                               .a = dy,
                                               .lda = l->outputs,
                                               .b = l->weight,
                                               .ldb = stride,
                                               .c = dx,
                                               .ldc = l->inputs});
    }
}

void relu_backward(int64_t n, const double *y, double *dy) {
#pragma omp parallel for if (n > PARALLEL_ELEMENTS)
    for (int64_t i = 0; i < n; i++) {
        dy[i] = y[i] > 0 ? dy[i] : 0;
    }
}

void sum_rows(int64_t rows, int64_t columns, const double *x, double *sums) {
    for (int64_t i = 0; i < rows; i++) {
        for (int64_t j = 0; j < columns; j++) {
            sums[j] += x[i * columns + j];
        }
    }
}

static enum status sum_ranks(const struct batch_norm *n, double *values, int64_t count) {
    return n->comm ? comm_sum_f64(n->comm, values, count) : OK;
}

static void scale_rows(const struct batch_norm *n, int64_t rows, const double *mean, const double *inverse,
                       double *x, double *y) {
#pragma omp parallel for if (rows * n->width > PARALLEL_ELEMENTS)
    for (int64_t i = 0; i < rows; i++) {
        for (int64_t j = 0; j < n->width; j++) {
            int64_t at = i * n->width + j;
            x[at] = (x[at] - mean[j]) * inverse[j];
            double v = n->weight[j] * x[at] + n->bias[j];
            y[at] = v > 0 ? v : 0;
        }
    }
}

/* Two passes over the rows, the mean first: the variance of large values does not cancel. */
enum status batch_norm_train(struct batch_norm *n, int64_t rows, double *x, double *y) {
    double *mean = n->sums;
    double *variance = n->sums + n->width + 1;
    memset(n->sums, 0, (size_t)(2 * n->width + 1) * sizeof *n->sums);
    sum_rows(rows, n->width, x, mean);
    mean[n->width] = (double)rows;
    TRY(sum_ranks(n, mean, n->width + 1));
    n->total = mean[n->width];
    if (n->total == 0) {
        return OK;
    }
    if (n->total < 2) {
        return fail(ERR_USAGE, "few-shot model: batch norm needs at least 2 rows in a batch");
    }
    for (int64_t j = 0; j < n->width; j++) {
        mean[j] /= n->total;
    }
    for (int64_t i = 0; i < rows; i++) {
        for (int64_t j = 0; j < n->width; j++) {
            double v = x[i * n->width + j] - mean[j];
            variance[j] += v * v;
        }
    }
    TRY(sum_ranks(n, variance, n->width));
    for (int64_t j = 0; j < n->width; j++) {
        double unbiased = variance[j] / (n->total - 1);
        n->inverse_std[j] = 1 / sqrt(variance[j] / n->total + norm_epsilon);
        n->running_mean[j] += n->momentum * (mean[j] - n->running_mean[j]);
        n->running_variance[j] += n->momentum * (unbiased - n->running_variance[j]);
    }
    scale_rows(n, rows, mean, n->inverse_std, x, y);
    return OK;
}

void batch_norm_evaluate(const struct batch_norm *n, int64_t rows, double *x, double *y) {
    for (int64_t j = 0; j < n->width; j++) {
        n->inverse_std[j] = 1 / sqrt(n->running_variance[j] + norm_epsilon);
    }
    scale_rows(n, rows, n->running_mean, n->inverse_std, x, y);
}

/* With x the normalized rows, g = dy through the ReLU and N rows:
 *   dx = weight / std * (g - sum(g) / N - x * sum(g x) / N). */
enum status batch_norm_backward(struct batch_norm *n, int64_t rows, const double *x, const double *y,
                                double *dy) {
    double *sum = n->sums;
    double *product = n->sums + n->width;
    memset(n->sums, 0, (size_t)(2 * n->width) * sizeof *n->sums);
    relu_backward(rows * n->width, y, dy);
    for (int64_t i = 0; i < rows; i++) {
        for (int64_t j = 0; j < n->width; j++) {
            sum[j] += dy[i * n->width + j];
            product[j] += dy[i * n->width + j] * x[i * n->width + j];
        }
    }
    for (int64_t j = 0; j < n->width; j++) {
        n->d_bias[j] += sum[j];
        n->d_weight[j] += product[j];
    }
    TRY(sum_ranks(n, n->sums, 2 * n->width));
#pragma omp parallel for if (rows * n->width > PARALLEL_ELEMENTS)
    for (int64_t i = 0; i < rows; i++) {
        for (int64_t j = 0; j < n->width; j++) {
            int64_t at = i * n->width + j;
            dy[at] = n->weight[j] * n->inverse_std[j] *
                     (dy[at] - sum[j] / n->total - x[at] * product[j] / n->total);
        }
    }
    return OK;
}
