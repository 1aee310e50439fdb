/* Element-wise work on any types, row moves by index, sums, and the optimizer.
 *
 * Sums over equal rows (embedding gradients, scatter) use no atomics: the block of the first row with an id
 * looks for the later ones and adds them in their order, a thread per column.
 */
#include "cuda/device.cuh"

/* fp64 holds every other type exactly. */
__device__ static double load(const void *data, enum dtype type, int64_t at) {
    switch (type) {
    case DTYPE_F32:
        return static_cast<double>(static_cast<const float *>(data)[at]);
    case DTYPE_BF16:
        return static_cast<double>(value_of(static_cast<const bf16 *>(data)[at]));
    case DTYPE_F64:
        return static_cast<const double *>(data)[at];
    case DTYPE_I32:
        return static_cast<double>(static_cast<const int32_t *>(data)[at]);
    }
    return NAN;
}

__device__ static void store(void *data, enum dtype type, int64_t at, double value) {
    switch (type) {
    case DTYPE_F32:
        static_cast<float *>(data)[at] = static_cast<float>(value);
        break;
    case DTYPE_BF16:
        put(static_cast<bf16 *>(data) + at, static_cast<float>(value));
        break;
    case DTYPE_F64:
        static_cast<double *>(data)[at] = value;
        break;
    case DTYPE_I32:
        static_cast<int32_t *>(data)[at] = static_cast<int32_t>(value);
        break;
    }
}

/* to = keep * to + factor * from; keep 0: to is not read. */
__global__ void combine(struct tensor to, double keep, struct tensor from, double factor) {
    FOR_EACH_ELEMENT(i, j, to.rows, to.columns) {
        int64_t at = i * to.stride + j;
        double before = keep != 0.0 ? keep * load(to.data, to.type, at) : 0.0;
        store(to.data, to.type, at, before + factor * load(from.data, from.type, i * from.stride + j));
    }
}

enum status cuda_convert(struct backend *b, const struct convert *call) {
    struct tensor to = call->to;
    struct tensor from = call->from;
    const struct cuda *c = cuda_of(b);
    LAUNCH(combine, grid_over(to.rows, to.columns), THREADS, 0, c->stream, to, 0.0, from, 1.0);
    return cuda_launched(c, "convert");
}

enum status cuda_add(struct backend *b, const struct add *call) {
    struct tensor to = call->to;
    struct tensor from = call->from;
    const struct cuda *c = cuda_of(b);
    LAUNCH(combine, grid_over(to.rows, to.columns), THREADS, 0, c->stream, to, 1.0, from, call->alpha);
    return cuda_launched(c, "add");
}

enum { STRIP = 32, LANES = 32 };

/* A block takes 32 columns; lane y adds rows y, y + 32, ... in fp64, then the lanes in order. */
template <typename T>
__global__ void sum_columns(float *to, view<const T> from, int64_t rows, int64_t columns) {
    __shared__ double sums[LANES][STRIP + 1];
    int64_t j = static_cast<int64_t>(blockIdx.x) * STRIP + threadIdx.x;
    double sum = 0.0;
    for (int64_t i = threadIdx.y; i < rows && j < columns; i += LANES) {
        sum += static_cast<double>(value_of(from.row(i)[j]));
    }
    sums[threadIdx.y][threadIdx.x] = sum;
    __syncthreads();
    if (threadIdx.y > 0 || j >= columns) {
        return;
    }
    for (int lane = 1; lane < LANES; lane++) {
        sum += sums[lane][threadIdx.x];
    }
    to[j] += static_cast<float>(sum);
}

enum status cuda_sum_rows(struct backend *b, const struct sum_rows *call) {
    struct tensor to = call->to;
    struct tensor from = call->from;
    const struct cuda *c = cuda_of(b);
    unsigned blocks = blocks_for(from.columns, STRIP);
    float *sums = static_cast<float *>(to.data);
    if (from.type == DTYPE_BF16) {
        LAUNCH(sum_columns, blocks, dim3(STRIP, LANES), 0, c->stream, sums, view_of<const bf16>(from),
               from.rows, from.columns);
    } else {
        LAUNCH(sum_columns, blocks, dim3(STRIP, LANES), 0, c->stream, sums, view_of<const float>(from),
               from.rows, from.columns);
    }
    return cuda_launched(c, "sum_rows");
}

struct fetch {
    const int32_t *ids;
    int64_t rows, columns, limit; /* ids are in [0, limit) */
    float scale;
    bool accumulate;
    int *fault;
    enum cuda_fault kind;
};

/* out[i] (+)= scale * table[ids[i]] */
template <typename T> __global__ void fetch_rows(fetch f, view<T> out, view<const T> table) {
    FOR_EACH_ELEMENT(i, j, f.rows, f.columns) {
        int64_t id = f.ids[i];
        if (id < 0 || id >= f.limit) {
            *f.fault = f.kind;
            continue;
        }
        float before = f.accumulate ? value_of(out.row(i)[j]) : 0.0f;
        put(out.row(i) + j, before + f.scale * value_of(table.row(id)[j]));
    }
}

static enum status run_fetch(struct backend *b, const fetch *f, struct tensor out, struct tensor table) {
    const struct cuda *c = cuda_of(b);
    dim3 grid = grid_over(out.rows, out.columns);
    if (out.type == DTYPE_BF16) {
        LAUNCH(fetch_rows, grid, THREADS, 0, c->stream, *f, view_of<bf16>(out), view_of<const bf16>(table));
    } else {
        LAUNCH(fetch_rows, grid, THREADS, 0, c->stream, *f, view_of<float>(out), view_of<const float>(table));
    }
    return cuda_launched(c, f->kind == FAULT_GATHER ? "gather" : "embed");
}

enum status cuda_embed(struct backend *b, const struct embed *call) {
    struct tensor out = call->out;
    struct tensor table = call->table;
    struct tensor ids = call->ids;
    fetch f = {static_cast<const int32_t *>(ids.data), out.rows,         out.columns,       table.rows,
               static_cast<float>(call->scale),        call->accumulate, cuda_of(b)->fault, FAULT_EMBED};
    return run_fetch(b, &f, out, table);
}

enum status cuda_gather(struct backend *b, const struct gather *call) {
    struct tensor to = call->to;
    struct tensor from = call->from;
    struct tensor rows = call->rows;
    fetch f = {static_cast<const int32_t *>(rows.data),
               to.rows,
               to.columns,
               from.rows,
               1.0f,
               false,
               cuda_of(b)->fault,
               FAULT_GATHER};
    return run_fetch(b, &f, to, from);
}

/* Block (i, strip): if row i is the first with its id, to[id] += scale * (all rows with that id, in order).
 */
template <typename To, typename From>
__global__ void scatter_rows(const int32_t *ids, int64_t n, view<To> to, view<const From> from,
                             int64_t columns, int64_t limit, float scale, int *fault) {
    __shared__ unsigned equal[THREADS / 32];
    int64_t i = blockIdx.x;
    int32_t id = ids[i];
    if (id < 0 || id >= limit) { /* the whole block leaves */
        *fault = FAULT_SCATTER;
        return;
    }
    int seen = 0;
    for (int64_t k = threadIdx.x; k < i && !seen; k += blockDim.x) {
        seen = ids[k] == id;
    }
    if (__syncthreads_or(seen)) {
        return;
    }
    int64_t j = static_cast<int64_t>(blockIdx.y) * blockDim.x + threadIdx.x;
    float sum = 0.0f;
    for (int64_t base = i; base < n; base += blockDim.x) {
        int64_t k = base + threadIdx.x;
        unsigned mask = __ballot_sync(0xffffffffu, k < n && ids[k] == id);
        if (threadIdx.x % 32 == 0) {
            equal[threadIdx.x / 32] = mask;
        }
        __syncthreads();
        for (int w = 0; w < THREADS / 32; w++) {
            for (unsigned left = equal[w]; left != 0; left &= left - 1) {
                int64_t row = base + w * 32 + __ffs(static_cast<int>(left)) - 1;
                sum += j < columns ? value_of(from.row(row)[j]) : 0.0f;
            }
        }
        __syncthreads(); /* before the masks are written again */
    }
    if (j < columns) {
        put(to.row(id) + j, value_of(to.row(id)[j]) + scale * sum);
    }
}

template <typename To, typename From>
static void run_scatter(const struct cuda *c, struct tensor to, struct tensor from, struct tensor ids,
                        double scale) {
    dim3 grid(static_cast<unsigned>(from.rows), blocks_for(from.columns, THREADS));
    LAUNCH(scatter_rows, grid, THREADS, 0, c->stream, static_cast<const int32_t *>(ids.data), from.rows,
           view_of<To>(to), view_of<const From>(from), from.columns, to.rows, static_cast<float>(scale),
           c->fault);
}

enum status cuda_embed_gradient(struct backend *b, const struct embed_gradient *call) {
    struct tensor dtable = call->dtable;
    struct tensor dout = call->dout;
    struct tensor ids = call->ids;
    const struct cuda *c = cuda_of(b);
    dout.type == DTYPE_BF16 ? run_scatter<float, bf16>(c, dtable, dout, ids, call->scale)
                            : run_scatter<float, float>(c, dtable, dout, ids, call->scale);
    return cuda_launched(c, "embed_gradient");
}

enum status cuda_scatter_add(struct backend *b, const struct scatter_add *call) {
    struct tensor to = call->to;
    struct tensor from = call->from;
    struct tensor rows = call->rows;
    const struct cuda *c = cuda_of(b);
    from.type == DTYPE_BF16 ? run_scatter<bf16, bf16>(c, to, from, rows, 1.0)
                            : run_scatter<float, float>(c, to, from, rows, 1.0);
    return cuda_launched(c, "scatter_add");
}

template <typename T> struct modulation {
    view<T> y; /* or the gradient that is scaled in its place */
    view<const T> x, scale, shift;
    int64_t rows, columns, n;
    const int32_t *conditions;
    int *fault;
};

/* y = scale[c] * x + shift[c]; x itself without a condition. */
template <typename T> __global__ void modulate(modulation<T> m) {
    FOR_EACH_ELEMENT(i, j, m.rows, m.columns) {
        int64_t c = m.conditions[i];
        float value = value_of(m.x.row(i)[j]);
        if (c < -1 || c >= m.n) {
            *m.fault = FAULT_FILM;
        } else if (c >= 0) {
            value = fmaf(value_of(m.scale.row(c)[j]), value, value_of(m.shift.row(c)[j]));
        }
        put(m.y.row(i) + j, value);
    }
}

template <typename T> static modulation<T> modulation_of(const struct cuda *c, const struct film *f,
                                                         struct tensor y) {
    return {view_of<T>(y),
            view_of<const T>(f->x),
            view_of<const T>(f->scale),
            view_of<const T>(f->shift),
            f->x.rows,
            f->x.columns,
            f->scale.rows,
            static_cast<const int32_t *>(f->conditions.data),
            c->fault};
}

enum status cuda_film(struct backend *b, const struct film *call) {
    const struct cuda *c = cuda_of(b);
    dim3 grid = grid_over(call->x.rows, call->x.columns);
    if (call->x.type == DTYPE_BF16) {
        LAUNCH(modulate, grid, THREADS, 0, c->stream, modulation_of<bf16>(c, call, call->y));
    } else {
        LAUNCH(modulate, grid, THREADS, 0, c->stream, modulation_of<float>(c, call, call->y));
    }
    return cuda_launched(c, "film");
}

/* A block sums 32 columns of one condition: lane y takes rows y, y + 32, ... in fp64, then the lanes in
 * order. */
template <typename T> __global__ void sum_modulated(modulation<T> m, view<T> dscale, view<T> dshift) {
    __shared__ double scales[LANES][STRIP + 1], shifts[LANES][STRIP + 1];
    int64_t j = static_cast<int64_t>(blockIdx.x) * STRIP + threadIdx.x;
    int64_t c = blockIdx.y;
    double scale = 0.0, shift = 0.0;
    for (int64_t i = threadIdx.y; i < m.rows && j < m.columns; i += LANES) {
        if (m.conditions[i] == c) {
            double slope = static_cast<double>(value_of(m.y.row(i)[j]));
            scale += slope * static_cast<double>(value_of(m.x.row(i)[j]));
            shift += slope;
        }
    }
    scales[threadIdx.y][threadIdx.x] = scale;
    shifts[threadIdx.y][threadIdx.x] = shift;
    __syncthreads();
    if (threadIdx.y > 0 || j >= m.columns) {
        return;
    }
    for (int lane = 1; lane < LANES; lane++) {
        scale += scales[lane][threadIdx.x];
        shift += shifts[lane][threadIdx.x];
    }
    put(dscale.row(c) + j, static_cast<float>(scale));
    put(dshift.row(c) + j, static_cast<float>(shift));
}

/* y *= scale[c] */
template <typename T> __global__ void unmodulate(modulation<T> m) {
    FOR_EACH_ELEMENT(i, j, m.rows, m.columns) {
        int64_t c = m.conditions[i];
        if (c < -1 || c >= m.n) {
            *m.fault = FAULT_FILM;
        } else if (c >= 0) {
            T *at = m.y.row(i) + j;
            put(at, value_of(*at) * value_of(m.scale.row(c)[j]));
        }
    }
}

template <typename T> static void run_film_gradient(const struct cuda *c, const struct film_backward *call) {
    const struct film_gradient *g = &call->gradient;
    modulation<T> m = modulation_of<T>(c, &call->film, g->d);
    dim3 strips(blocks_for(m.columns, STRIP), static_cast<unsigned>(m.n));
    LAUNCH(sum_modulated, strips, dim3(STRIP, LANES), 0, c->stream, m, view_of<T>(g->dscale),
           view_of<T>(g->dshift));
    LAUNCH(unmodulate, grid_over(m.rows, m.columns), THREADS, 0, c->stream, m);
}

enum status cuda_film_gradient(struct backend *b, const struct film_backward *call) {
    const struct cuda *c = cuda_of(b);
    call->gradient.d.type == DTYPE_BF16 ? run_film_gradient<bf16>(c, call) : run_film_gradient<float>(c, call);
    return cuda_launched(c, "film_gradient");
}

/* A thread per element of `to`; its rows are added in order. */
template <typename T>
__global__ void pool_rows(struct tensor to, view<const T> from, const int32_t *spans, int64_t limit,
                          int *fault) {
    FOR_EACH_ELEMENT(i, j, to.rows, to.columns) {
        int64_t first = spans[2 * i];
        int64_t count = spans[2 * i + 1];
        if (first < 0 || count < 1 || count > limit - first) {
            *fault = FAULT_POOL;
            continue;
        }
        double sum = 0.0;
        for (int64_t r = first; r < first + count; r++) {
            sum += static_cast<double>(value_of(from.row(r)[j]));
        }
        store(to.data, to.type, i * to.stride + j, sum / static_cast<double>(count));
    }
}

enum status cuda_pool(struct backend *b, const struct pool *call) {
    struct tensor to = call->to;
    struct tensor from = call->from;
    struct tensor spans = call->spans;
    const struct cuda *c = cuda_of(b);
    const int32_t *span = static_cast<const int32_t *>(spans.data);
    dim3 grid = grid_over(to.rows, to.columns);
    if (from.type == DTYPE_BF16) {
        LAUNCH(pool_rows, grid, THREADS, 0, c->stream, to, view_of<const bf16>(from), span, from.rows,
               c->fault);
    } else {
        LAUNCH(pool_rows, grid, THREADS, 0, c->stream, to, view_of<const float>(from), span, from.rows,
               c->fault);
    }
    return cuda_launched(c, "pool");
}

enum { SQUARES_BLOCK = 16384 };

__global__ void square_blocks(const void *x, enum dtype type, int64_t n, double *sums) {
    int64_t first = static_cast<int64_t>(blockIdx.x) * SQUARES_BLOCK;
    int64_t end = first + SQUARES_BLOCK < n ? first + SQUARES_BLOCK : n;
    double sum = 0.0;
    for (int64_t i = first + threadIdx.x; i < end; i += blockDim.x) {
        double value = load(x, type, i);
        sum += value * value;
    }
    sum = sum_in_block(sum);
    if (threadIdx.x == 0) {
        sums[blockIdx.x] = sum;
    }
}

/* One block; the total replaces the first sum. */
__global__ void add_sums(double *sums, int64_t n) {
    double sum = 0.0;
    for (int64_t i = threadIdx.x; i < n; i += blockDim.x) {
        sum += sums[i];
    }
    sum = sum_in_block(sum);
    if (threadIdx.x == 0) {
        sums[0] = sum;
    }
}

enum status cuda_sum_squares(struct backend *b, const struct sum_squares *call) {
    struct tensor x = call->x;
    struct cuda *c = cuda_of(b);
    int64_t n = x.rows * x.columns;
    unsigned blocks = blocks_for(n, SQUARES_BLOCK);
    void *scratch = nullptr;
    TRY(cuda_scratch(c, SCRATCH_SUMS, static_cast<int64_t>(blocks) * static_cast<int64_t>(sizeof(double)),
                     &scratch));
    double *sums = static_cast<double *>(scratch);
    LAUNCH(square_blocks, blocks, THREADS, 0, c->stream, x.data, x.type, n, sums);
    LAUNCH(add_sums, 1, THREADS, 0, c->stream, sums, blocks);
    TRY(cuda_launched(c, "sum_squares"));
    return cuda_read(b, call->out, sums, static_cast<int64_t>(sizeof *call->out));
}
