/* RMSNorm and LayerNorm: a block per row; sums over rows by strips of columns.
 *
 * With s = 1 / sqrt(mean((x - m)^2) + epsilon) (m = 0 for RMS), xhat = (x - m) s, u = dy * (weight + offset):
 *     dx = s (u - mean(u) [layer norm only] - xhat mean(u xhat))
 *     dweight = sum over rows of dy xhat, dbias = sum over rows of dy
 * Ba et al. 2016; Zhang and Sennrich 2019.
 */
#include "cuda/device.cuh"

template <typename T> struct norm_view {
    view<const T> x;
    const T *weight, *bias; /* or NULL */
    view<float> statistics;
    int64_t columns;
    float epsilon, offset;
    bool is_layer;
    __device__ float factor(int64_t j) const {
        return weight ? value_of(weight[j]) + offset : 1.0f;
    }
};

template <typename T> static norm_view<T> norm_of(const struct norm *n) {
    return norm_view<T>{view_of<const T>(n->x),
                        static_cast<const T *>(n->weight.data),
                        static_cast<const T *>(n->bias.data),
                        view_of<float>(n->statistics),
                        n->x.columns,
                        static_cast<float>(n->epsilon),
                        static_cast<float>(n->weight_offset),
                        n->kind == NORM_LAYER};
}

/* Threads for a row: whole warps, a few elements each. */
static unsigned row_threads(int64_t columns) {
    return columns >= 1024 ? 256 : columns >= 256 ? 128 : 32;
}

template <typename T> __global__ void norm_forward(norm_view<T> n, view<T> y_rows) {
    const T *x = n.x.row(blockIdx.x);
    T *y = y_rows.row(blockIdx.x);
    float count = static_cast<float>(n.columns);
    float mean = 0.0f;
    if (n.is_layer) {
        float sum = 0.0f;
        for (int64_t j = threadIdx.x; j < n.columns; j += blockDim.x) {
            sum += value_of(x[j]);
        }
        mean = sum_in_block(sum) / count;
    }
    float squares = 0.0f;
    for (int64_t j = threadIdx.x; j < n.columns; j += blockDim.x) {
        float d = value_of(x[j]) - mean;
        squares += d * d;
    }
    float scale = 1.0f / sqrtf(sum_in_block(squares) / count + n.epsilon);
    for (int64_t j = threadIdx.x; j < n.columns; j += blockDim.x) {
        float bias = n.bias ? value_of(n.bias[j]) : 0.0f;
        put(y + j, (value_of(x[j]) - mean) * scale * n.factor(j) + bias);
    }
    if (threadIdx.x == 0) {
        n.statistics.row(blockIdx.x)[0] = mean;
        n.statistics.row(blockIdx.x)[1] = scale;
    }
}

template <typename T> __global__ void norm_backward(norm_view<T> n, view<const T> dy_rows, view<T> dx_rows) {
    const T *x = n.x.row(blockIdx.x);
    const T *dy = dy_rows.row(blockIdx.x);
    T *dx = dx_rows.row(blockIdx.x);
    float mean = n.statistics.row(blockIdx.x)[0];
    float scale = n.statistics.row(blockIdx.x)[1];
    float sum_u = 0.0f;
    float sum_u_hat = 0.0f;
    for (int64_t j = threadIdx.x; j < n.columns; j += blockDim.x) {
        float u = value_of(dy[j]) * n.factor(j);
        sum_u += u;
        sum_u_hat += u * (value_of(x[j]) - mean) * scale;
    }
    float count = static_cast<float>(n.columns);
    float mean_u = sum_in_block(sum_u) / count;
    float mean_u_hat = sum_in_block(sum_u_hat) / count;
    if (!n.is_layer) {
        mean_u = 0.0f;
    }
    for (int64_t j = threadIdx.x; j < n.columns; j += blockDim.x) {
        float hat = (value_of(x[j]) - mean) * scale;
        float u = value_of(dy[j]) * n.factor(j);
        put(dx + j, value_of(dx[j]) + scale * (u - mean_u - hat * mean_u_hat));
    }
}

enum { STRIP = 32, LANES = 32 };

/* A block takes a strip of 32 columns; lane y adds rows y, y + 32, ... in fp64, then the lanes in order. */
template <typename T>
__global__ void norm_parameters(norm_view<T> n, view<const T> dy_rows, int64_t rows, float *dweight,
                                float *dbias) {
    __shared__ double weights[LANES][STRIP + 1];
    __shared__ double biases[LANES][STRIP + 1];
    int64_t j = static_cast<int64_t>(blockIdx.x) * STRIP + threadIdx.x;
    double weight = 0.0;
    double bias = 0.0;
    for (int64_t i = threadIdx.y; i < rows && j < n.columns; i += LANES) {
        float dy = value_of(dy_rows.row(i)[j]);
        const float *moments = n.statistics.row(i);
        weight += static_cast<double>(dy * ((value_of(n.x.row(i)[j]) - moments[0]) * moments[1]));
        bias += static_cast<double>(dy);
    }
    weights[threadIdx.y][threadIdx.x] = weight;
    biases[threadIdx.y][threadIdx.x] = bias;
    __syncthreads();
    if (threadIdx.y > 0 || j >= n.columns) {
        return;
    }
    for (int lane = 1; lane < LANES; lane++) {
        weight += weights[lane][threadIdx.x];
        bias += biases[lane][threadIdx.x];
    }
    if (dweight) {
        dweight[j] += static_cast<float>(weight);
    }
    if (dbias) {
        dbias[j] += static_cast<float>(bias);
    }
}

template <typename T> static enum status run_forward(const struct cuda *c, const struct norm *n) {
    LAUNCH(norm_forward<T>, static_cast<unsigned>(n->x.rows), row_threads(n->x.columns), 0, c->stream,
           norm_of<T>(n), view_of<T>(n->y));
    return cuda_launched(c, "norm");
}

template <typename T>
static enum status run_backward(const struct cuda *c, const struct norm *n, const struct norm_gradient *g) {
    LAUNCH(norm_backward<T>, static_cast<unsigned>(n->x.rows), row_threads(n->x.columns), 0, c->stream,
           norm_of<T>(n), view_of<const T>(g->dy), view_of<T>(g->dx));
    if (g->dweight.data || g->dbias.data) {
        LAUNCH(norm_parameters<T>, blocks_for(n->x.columns, STRIP), dim3(STRIP, LANES), 0, c->stream,
               norm_of<T>(n), view_of<const T>(g->dy), n->x.rows, static_cast<float *>(g->dweight.data),
               static_cast<float *>(g->dbias.data));
    }
    return cuda_launched(c, "norm_gradient");
}

enum status cuda_norm(struct backend *b, const struct norm *n) {
    const struct cuda *c = cuda_of(b);
    return n->x.type == DTYPE_BF16 ? run_forward<bf16>(c, n) : run_forward<float>(c, n);
}

enum status cuda_norm_gradient(struct backend *b, const struct norm_backward *call) {
    const struct norm *n = &call->norm;
    const struct norm_gradient *g = &call->gradient;
    const struct cuda *c = cuda_of(b);
    return n->x.type == DTYPE_BF16 ? run_backward<bf16>(c, n, g) : run_backward<float>(c, n, g);
}
