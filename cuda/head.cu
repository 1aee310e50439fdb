/* The head: logits are made a slab (rows x part of the vocabulary) at a time by cuBLAS, reduced, forgotten.
 *
 * Forward keeps for each row the running maximum, the sums of e^(logit - maximum) and of its square, the sum
 * of logit times that, the sum of logits and the target's logit (an online softmax; Milakov and Gimelshein
 * 2018). Backward makes the slabs again and turns them into the gradient with respect to the raw products,
 * (onehot(target) - softmax) * row_weight * slope, in place in fp32 and into a bf16 slab beside it otherwise,
 * and multiplies that with the weight (dhidden, summed over slabs in fp32) and the hidden rows (dweight).
 */
#include "cuda/device.cuh"

enum { ROWS = 1024, COLUMNS = 8192 }; /* a slab is 32 MiB */

struct running {
    double sum, squares, weighted, total; /* of e, e^2, logit * e, logit; e = e^(logit - largest) */
    float largest, target;
};

/* Of a row block: what kernels need. */
struct slab {
    float *logits;          /* rows x n, dense */
    int64_t rows, n, first; /* first: token of column 0 */
    int64_t vocabulary;
    const int32_t *targets;
    int *fault;
};

template <typename T>
__device__ static float logit(const slab &s, float softcap, const T *bias, int64_t row, int64_t j) {
    float x = s.logits[row * s.n + j] + (bias ? value_of(bias[s.first + j]) : 0.0f);
    return softcap > 0.0f ? softcap * tanhf(x / softcap) : x;
}

__global__ void start_rows(running *r, int64_t rows) {
    int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
    if (i < rows) {
        r[i] = running{0.0, 0.0, 0.0, 0.0, -INFINITY, 0.0f};
    }
}

/* A block per row adds the slab's logits to the row's running sums. */
template <typename T> __global__ void reduce_rows(slab s, float softcap, const T *bias, running *all) {
    int64_t row = blockIdx.x;
    running r = all[row]; /* every thread reads before thread 0 writes: the reductions lie between */
    float most = -INFINITY;
    for (int64_t j = threadIdx.x; j < s.n; j += blockDim.x) {
        most = fmaxf(most, logit(s, softcap, bias, row, j));
    }
    most = fmaxf(r.largest, largest_in_block(most));
    double sum = 0.0;
    double squares = 0.0;
    double weighted = 0.0;
    double total = 0.0;
    for (int64_t j = threadIdx.x; j < s.n; j += blockDim.x) {
        float x = logit(s, softcap, bias, row, j);
        float e = expf(x - most);
        sum += static_cast<double>(e);
        squares += static_cast<double>(e) * static_cast<double>(e);
        weighted += static_cast<double>(e) * static_cast<double>(x);
        total += static_cast<double>(x);
    }
    sum = sum_in_block(sum);
    squares = sum_in_block(squares);
    weighted = sum_in_block(weighted);
    total = sum_in_block(total);
    if (threadIdx.x != 0) {
        return;
    }
    double keep = r.largest == most ? 1.0 : exp(static_cast<double>(r.largest) - static_cast<double>(most));
    int64_t target = s.targets[row];
    r.sum = r.sum * keep + sum;
    r.squares = r.squares * keep * keep + squares;
    r.weighted = r.weighted * keep + weighted;
    r.total += total;
    r.largest = most;
    if (target < -1 || target >= s.vocabulary) {
        *s.fault = FAULT_HEAD;
    } else if (target >= s.first && target < s.first + s.n) {
        r.target = logit(s, softcap, bias, row, target - s.first);
    }
    all[row] = r;
}

__global__ void finish_rows(const running *all, const int32_t *targets, view<float> statistics, int64_t rows,
                            int64_t vocabulary) {
    int64_t row = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
    if (row >= rows) {
        return;
    }
    running r = all[row];
    float *out = statistics.row(row);
    bool has_target = targets[row] >= 0;
    double log_sum = log(r.sum);
    double lse = static_cast<double>(r.largest) + log_sum;
    double to_largest = static_cast<double>(r.target) - static_cast<double>(r.largest);
    out[HEAD_LOGP] = has_target ? static_cast<float>(to_largest - log_sum) : 0.0f;
    out[HEAD_LSE] = static_cast<float>(lse);
    out[HEAD_ENTROPY] = static_cast<float>(lse - r.weighted / r.sum);
    out[HEAD_IS_TOP] = has_target && r.target == r.largest ? 1.0f : 0.0f;
    out[HEAD_MEAN_LOGIT] = static_cast<float>(r.total / static_cast<double>(vocabulary));
    out[HEAD_COLLISION] = static_cast<float>(log(r.squares) - 2 * log_sum);
}

static int64_t least(int64_t a, int64_t b) {
    return a < b ? a : b;
}

/* Raw products of hidden rows [row, row + s->rows) and tokens [s->first, s->first + s->n), without bias. */
static enum status make_slab(struct cuda *c, const struct head *h, int64_t row, const slab *s) {
    struct gemm g = {};
    g.a = tensor_rows(h->hidden, row, s->rows);
    g.b = tensor_rows(h->weight, s->first, s->n);
    g.c = tensor_at(s->logits, s->rows, s->n, DTYPE_F32);
    g.transpose_b = true;
    g.alpha = 1.0;
    return cuda_product(c, &g);
}

static slab slab_at(const struct cuda *c, const struct head *h, float *logits, int64_t row) {
    slab s = {};
    s.logits = logits;
    s.rows = least(ROWS, h->hidden.rows - row);
    s.vocabulary = h->weight.rows;
    s.targets = static_cast<const int32_t *>(h->targets.data) + row;
    s.fault = c->fault;
    return s;
}

template <typename T> static enum status run_head(struct cuda *c, const struct head *h) {
    int64_t vocabulary = h->weight.rows;
    int64_t slab_bytes = ROWS * least(vocabulary, COLUMNS) * static_cast<int64_t>(sizeof(float));
    void *scratch = nullptr;
    TRY(cuda_scratch(c, SCRATCH_SLAB, slab_bytes + ROWS * static_cast<int64_t>(sizeof(running)), &scratch));
    running *all = reinterpret_cast<running *>(static_cast<char *>(scratch) + slab_bytes);
    for (int64_t row = 0; row < h->hidden.rows; row += ROWS) {
        slab s = slab_at(c, h, static_cast<float *>(scratch), row);
        LAUNCH(start_rows, blocks_for(s.rows, THREADS), THREADS, 0, c->stream, all, s.rows);
        for (s.first = 0; s.first < vocabulary; s.first += COLUMNS) {
            s.n = least(COLUMNS, vocabulary - s.first);
            TRY(make_slab(c, h, row, &s));
            LAUNCH(reduce_rows, static_cast<unsigned>(s.rows), THREADS, 0, c->stream, s,
                   static_cast<float>(h->softcap), static_cast<const T *>(h->bias.data), all);
        }
        LAUNCH(finish_rows, blocks_for(s.rows, THREADS), THREADS, 0, c->stream, all, s.targets,
               view_of<float>(tensor_rows(h->statistics, row, s.rows)), s.rows, vocabulary);
        TRY(cuda_launched(c, "head"));
    }
    return OK;
}

/* Slab to gradient; dz may be the logits themselves. A row without target or weight gets zeros. */
template <typename T>
__global__ void slab_gradient(slab s, float softcap, const T *bias, view<const float> statistics,
                              const float *row_weight, T *dz) {
    FOR_EACH_ELEMENT(i, j, s.rows, s.n) {
        int64_t target = s.targets[i];
        float weight = row_weight[i];
        float gradient = 0.0f;
        if (target < -1 || target >= s.vocabulary) {
            *s.fault = FAULT_HEAD;
        } else if (target >= 0 && weight != 0.0f) {
            float x = logit(s, softcap, bias, i, j);
            float ratio = softcap > 0.0f ? x / softcap : 0.0f;
            float one = s.first + j == target ? 1.0f : 0.0f;
            float slope = 1.0f - ratio * ratio;
            gradient = weight * (one - expf(x - statistics.row(i)[HEAD_LSE])) * slope;
        }
        put(dz + i * s.n + j, gradient);
    }
}

struct head_scratch {
    float *logits;
    void *dz;              /* rows x n of compute type */
    struct tensor dhidden; /* fp32, ROWS x d, or none where dhidden itself is fp32 */
};

static enum status take_scratch(struct cuda *c, const struct head *h, struct head_scratch *out) {
    int64_t count = ROWS * least(h->weight.rows, COLUMNS);
    void *logits = nullptr;
    TRY(cuda_scratch(c, SCRATCH_SLAB, count * static_cast<int64_t>(sizeof(float)), &logits));
    out->logits = static_cast<float *>(logits);
    out->dz = logits;
    out->dhidden = tensor{};
    if (h->hidden.type == DTYPE_BF16) {
        int64_t d = h->hidden.columns;
        void *sums = nullptr;
        TRY(cuda_scratch(c, SCRATCH_DZ, count * static_cast<int64_t>(sizeof(bf16)), &out->dz));
        TRY(cuda_scratch(c, SCRATCH_DHIDDEN, ROWS * d * static_cast<int64_t>(sizeof(float)), &sums));
        out->dhidden = tensor_at(sums, ROWS, d, DTYPE_F32);
    }
    return OK;
}

/* The two products and the bias of one slab of gradients. */
static enum status slab_products(struct backend *b, const struct head *h, const struct head_gradient *g,
                                 const slab *s, int64_t row, struct tensor dz, struct tensor dhidden) {
    struct cuda *c = cuda_of(b);
    struct gemm to_hidden = {};
    to_hidden.a = dz;
    to_hidden.b = tensor_rows(h->weight, s->first, s->n);
    to_hidden.c = dhidden;
    to_hidden.alpha = 1.0;
    to_hidden.beta = s->first == 0 ? 0.0 : 1.0;
    TRY(cuda_product(c, &to_hidden));
    if (g->dweight.data) {
        struct gemm to_weight = {};
        to_weight.a = dz;
        to_weight.b = tensor_rows(h->hidden, row, s->rows);
        to_weight.c = tensor_rows(g->dweight, s->first, s->n);
        to_weight.transpose_a = true;
        to_weight.alpha = 1.0;
        to_weight.beta = 1.0;
        TRY(cuda_product(c, &to_weight));
    }
    const struct sum_rows sums = {tensor_columns(g->dbias, s->first, s->n), dz};
    return g->dbias.data ? cuda_sum_rows(b, &sums) : OK;
}

template <typename T>
static enum status run_gradient(struct backend *b, const struct head *h, const struct head_gradient *g) {
    struct cuda *c = cuda_of(b);
    struct head_scratch scratch = {};
    TRY(take_scratch(c, h, &scratch));
    for (int64_t row = 0; row < h->hidden.rows; row += ROWS) {
        slab s = slab_at(c, h, scratch.logits, row);
        struct tensor target = tensor_rows(g->dhidden, row, s.rows);
        struct tensor sums = scratch.dhidden.data ? tensor_rows(scratch.dhidden, 0, s.rows) : target;
        for (s.first = 0; s.first < s.vocabulary; s.first += COLUMNS) {
            s.n = least(COLUMNS, s.vocabulary - s.first);
            TRY(make_slab(c, h, row, &s));
            LAUNCH(slab_gradient, grid_over(s.rows, s.n), THREADS, 0, c->stream, s,
                   static_cast<float>(h->softcap), static_cast<const T *>(h->bias.data),
                   view_of<const float>(tensor_rows(h->statistics, row, s.rows)),
                   static_cast<const float *>(g->row_weight.data) + row, static_cast<T *>(scratch.dz));
            TRY(cuda_launched(c, "head_gradient"));
            TRY(slab_products(b, h, g, &s, row, tensor_at(scratch.dz, s.rows, s.n, h->hidden.type), sums));
        }
        if (scratch.dhidden.data) {
            const struct convert copy = {target, sums};
            TRY(cuda_convert(b, &copy));
        }
    }
    return OK;
}

/* The slab, its gradient and the rows' in fp32 where compute is bf16; attention keeps nothing. */
int64_t cuda_scratch_bytes(const struct backend *b, int64_t width, int64_t vocabulary, int) {
    bool is_bf16 = b->caps.compute == DTYPE_BF16;
    int64_t count = ROWS * least(vocabulary, COLUMNS);
    int64_t more = is_bf16 ? count * static_cast<int64_t>(sizeof(bf16)) + ROWS * width * 4 : 0;
    return count * static_cast<int64_t>(sizeof(float)) + more;
}

enum status cuda_head(struct backend *b, const struct head *h) {
    return h->hidden.type == DTYPE_BF16 ? run_head<bf16>(cuda_of(b), h) : run_head<float>(cuda_of(b), h);
}

enum status cuda_head_gradient(struct backend *b, const struct head_backward *call) {
    const struct head *h = &call->head;
    const struct head_gradient *g = &call->gradient;
    return h->hidden.type == DTYPE_BF16 ? run_gradient<bf16>(b, h, g) : run_gradient<float>(b, h, g);
}
