/* Attention in tiles with an online softmax (Milakov and Gimelshein 2018; Dao et al. 2022), forward and
 * backward, in fp32 whatever the tensors' type. No matrix of queries x keys is ever in memory.
 *
 * A span's keys are its ranges' keys laid end to end; a key has a position there. Query i of a span's n sees
 * the positions [seen - window, seen), seen = total - n + i + 1 where the last range is causal, else total.
 *
 * One shape of tile serves all kernels. A block owns OWN rows, EACH of them per warp, and walks over tiles of
 * OTHER rows, one per lane: so a warp has the scores of one owned row in its 32 lanes, and sums over a row
 * are shuffles. Forward and dQ own queries and walk over keys; dK, dV own keys and walk over queries:
 *     P = exp(S - lse), D = rowsum(dO * O), dS = P * (dO V^T - D) * slope * scale
 *     dQ = dS K, dK = dS^T Q, dV = P^T dO
 * A key tile's block alone writes its rows of dK and dV and walks in a fixed order: no atomics, equal bits.
 *
 * The map is on the device: attention_map.cu.
 */
#include "cuda/attention.cuh"

static constexpr int LANES = 32;
static constexpr int WARPS = 4;
static constexpr int OWN = ATTENTION_TILE;
static constexpr int EACH = OWN / WARPS;
static constexpr int OTHER = LANES;
static constexpr int BLOCK = WARPS * LANES;

template <typename T> struct heads_view {
    device_map map;
    view<const T> q, k, v, dout;
    view<float> lse;    /* data NULL: none */
    const float *delta; /* (Tq, heads) */
    int64_t keys;
    int heads, group, head_dim, window; /* group: query heads per key head */
    float scale, softcap;
    enum attention_part part;
    bool adds; /* gradients are added to what is there */
    __device__ bool has(const device_link &link) const {
        return part == PART_ALL || (part == PART_CAUSAL) == (link.is_causal != 0);
    }
    __device__ float score(float product, float *slope) const {
        float x = product * scale;
        *slope = 1.0f;
        if (softcap > 0.0f) {
            float t = tanhf(x / softcap);
            *slope = 1.0f - t * t;
            x = softcap * t;
        }
        return x;
    }
};

/* Rows [first, first + count) of a head, `rows` of them (zeros beyond count), to shared memory with rows of
 * `pitch` floats. */
template <typename T>
__device__ static void load_rows(float *to, int rows, int pitch, view<const T> from, int64_t first, int count,
                                 int64_t column, int head_dim) {
    for (int e = static_cast<int>(threadIdx.x); e < rows * head_dim; e += BLOCK) {
        int r = e / head_dim;
        int d = e - r * head_dim;
        to[r * pitch + d] = r < count ? value_of(from.row(first + r)[column + d]) : 0.0f;
    }
}

/* out[j] = (owned row j of this warp) . (this lane's other row). Others have a pitch of head_dim + 1, so that
 * lanes read different banks. */
__device__ static void dots(const float *own, const float *other, int head_dim, float out[EACH]) {
    const float *x = other + static_cast<int>(threadIdx.x % LANES) * (head_dim + 1);
    const float *y = own + static_cast<int>(threadIdx.x / LANES) * EACH * head_dim;
    for (int j = 0; j < EACH; j++) {
        out[j] = 0.0f;
    }
    for (int d = 0; d < head_dim; d++) {
        for (int j = 0; j < EACH; j++) {
            out[j] += y[j * head_dim + d] * x[d];
        }
    }
}

/* sums of this warp's owned rows = keep * sums + weights (OWN x OTHER) * others; a weight of 0 is a row that
 * is not seen, whose values (a NaN perhaps) do not matter. */
__device__ static void accumulate(float *sums, const float keep[EACH], const float *weights,
                                  const float *other, int head_dim) {
    int row = static_cast<int>(threadIdx.x / LANES) * EACH;
    for (int d = static_cast<int>(threadIdx.x % LANES); d < head_dim; d += LANES) {
        float sum[EACH];
        for (int j = 0; j < EACH; j++) {
            sum[j] = keep[j] * sums[(row + j) * head_dim + d];
        }
        for (int o = 0; o < OTHER; o++) {
            float x = other[o * (head_dim + 1) + d];
            for (int j = 0; j < EACH; j++) {
                float w = weights[(row + j) * OTHER + o];
                sum[j] += w == 0.0f ? 0.0f : w * x;
            }
        }
        for (int j = 0; j < EACH; j++) {
            sums[(row + j) * head_dim + d] = sum[j];
        }
    }
}

/* The keys of a link that some query of a tile sees: offsets [from, to). */
struct visible {
    int64_t from, to;
};
__device__ static visible visible_keys(const device_span &span, const device_link &link,
                                       const query_tile &tile, int window) {
    int64_t lowest = window > 0 ? span.seen(tile.first) - window : 0;
    int64_t end = span.seen(tile.first + tile.count - 1) - link.base;
    int64_t from = lowest - link.base;
    return visible{from > 0 ? from : 0, end < link.count ? end : link.count};
}

/* Shared: q, out (OWN x head_dim), k then v (OTHER x head_dim + 1), p (OWN x OTHER). */
template <typename T> __global__ void __launch_bounds__(BLOCK) attend(heads_view<T> a, view<T> out) {
    DYNAMIC_SHARED(float, shared);
    const query_tile tile = a.map.tiles[blockIdx.x];
    const device_span span = a.map.spans[tile.span];
    int hd = a.head_dim;
    int head = static_cast<int>(blockIdx.y);
    int64_t column = static_cast<int64_t>(head / a.group) * hd;
    int64_t row = span.first + tile.first;
    int warp_row = static_cast<int>(threadIdx.x / LANES) * EACH;
    int lane = static_cast<int>(threadIdx.x % LANES);
    float *q = shared;
    float *sums = q + OWN * hd;
    float *keys = sums + OWN * hd;
    float *p = keys + OTHER * (hd + 1);
    float most[EACH];
    float total[EACH];
    float keep[EACH];
    for (int j = 0; j < EACH; j++) {
        most[j] = -INFINITY;
        total[j] = 0.0f;
    }
    load_rows(q, OWN, hd, a.q, row, tile.count, static_cast<int64_t>(head) * hd, hd);
    for (int e = static_cast<int>(threadIdx.x); e < OWN * hd; e += BLOCK) {
        sums[e] = 0.0f;
    }
    for (int32_t l = span.link_first; l < span.link_first + span.link_count; l++) {
        const device_link link = a.map.links[l];
        if (!a.has(link)) {
            continue;
        }
        visible range = visible_keys(span, link, tile, a.window);
        for (int64_t at = range.from; at < range.to; at += OTHER) {
            int count = static_cast<int>(range.to - at < OTHER ? range.to - at : OTHER);
            float scores[EACH];
            __syncthreads(); /* the last tile's values have been read */
            load_rows(keys, OTHER, hd + 1, a.k, link.first + at, count, column, hd);
            __syncthreads();
            dots(q, keys, hd, scores);
            for (int j = 0; j < EACH; j++) {
                int i = warp_row + j;
                bool is_seen = i < tile.count && lane < count &&
                               span.sees(tile.first + i, link.base + at + lane, a.window);
                float slope;
                float score = is_seen ? a.score(scores[j], &slope) : -INFINITY;
                float now = fmaxf(most[j], largest_in_warp(score));
                float weight = is_seen ? expf(score - now) : 0.0f;
                keep[j] = most[j] == now ? 1.0f : expf(most[j] - now);
                total[j] = total[j] * keep[j] + sum_in_warp(weight);
                most[j] = now;
                p[i * OTHER + lane] = weight;
            }
            __syncthreads(); /* all keys have been read */
            load_rows(keys, OTHER, hd + 1, a.v, link.first + at, count, column, hd);
            __syncthreads();
            accumulate(sums, keep, p, keys, hd);
        }
    }
    __syncthreads(); /* without any key: the zeros */
    for (int j = 0; j < EACH && warp_row + j < tile.count; j++) {
        bool is_blind = total[j] == 0.0f && most[j] == -INFINITY;
        T *to = out.row(row + warp_row + j) + static_cast<int64_t>(head) * hd;
        for (int d = lane; d < hd; d += LANES) {
            put(to + d, is_blind ? 0.0f : sums[(warp_row + j) * hd + d] / total[j]);
        }
        if (lane == 0 && a.lse.data) {
            a.lse.row(row + warp_row + j)[head] = is_blind ? -INFINITY : most[j] + logf(total[j]);
        }
    }
}

/* delta = rowsum(dout * out) per head; a warp each. */
template <typename T>
__global__ void row_products(float *delta, view<const T> dout, view<const T> out, int64_t rows, int heads,
                             int hd) {
    int64_t at = (static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x) / LANES;
    if (at >= rows * heads) {
        return; /* whole warps leave */
    }
    int64_t row = at / heads;
    int64_t column = (at - row * heads) * hd;
    float sum = 0.0f;
    for (int d = static_cast<int>(threadIdx.x % LANES); d < hd; d += LANES) {
        sum += value_of(dout.row(row)[column + d]) * value_of(out.row(row)[column + d]);
    }
    sum = sum_in_warp(sum);
    if (threadIdx.x % LANES == 0) {
        delta[at] = sum;
    }
}

/* Shared: q, dout, dq (OWN x head_dim), k, v (OTHER x head_dim + 1), ds (OWN x OTHER). */
template <typename T> __global__ void __launch_bounds__(BLOCK) attend_dq(heads_view<T> a, view<T> dq_rows) {
    DYNAMIC_SHARED(float, shared);
    const query_tile tile = a.map.tiles[blockIdx.x];
    const device_span span = a.map.spans[tile.span];
    int hd = a.head_dim;
    int head = static_cast<int>(blockIdx.y);
    int64_t own_column = static_cast<int64_t>(head) * hd;
    int64_t column = static_cast<int64_t>(head / a.group) * hd;
    int64_t row = span.first + tile.first;
    int warp_row = static_cast<int>(threadIdx.x / LANES) * EACH;
    int lane = static_cast<int>(threadIdx.x % LANES);
    float *q = shared;
    float *dout = q + OWN * hd;
    float *dq = dout + OWN * hd;
    float *k = dq + OWN * hd;
    float *v = k + OTHER * (hd + 1);
    float *ds = v + OTHER * (hd + 1);
    const float keep[EACH] = {1.0f, 1.0f, 1.0f, 1.0f};
    float lse[EACH];
    float delta[EACH];
    for (int j = 0; j < EACH; j++) {
        bool is_row = warp_row + j < tile.count;
        lse[j] = is_row ? a.lse.row(row + warp_row + j)[head] : 0.0f;
        delta[j] = is_row ? a.delta[(row + warp_row + j) * a.heads + head] : 0.0f;
    }
    load_rows(q, OWN, hd, a.q, row, tile.count, own_column, hd);
    load_rows(dout, OWN, hd, a.dout, row, tile.count, own_column, hd);
    for (int e = static_cast<int>(threadIdx.x); e < OWN * hd; e += BLOCK) {
        dq[e] = 0.0f;
    }
    for (int32_t l = span.link_first; l < span.link_first + span.link_count; l++) {
        const device_link link = a.map.links[l];
        if (!a.has(link)) {
            continue;
        }
        visible range = visible_keys(span, link, tile, a.window);
        for (int64_t at = range.from; at < range.to; at += OTHER) {
            int count = static_cast<int>(range.to - at < OTHER ? range.to - at : OTHER);
            float scores[EACH];
            float dp[EACH];
            __syncthreads(); /* the last tile has been read */
            load_rows(k, OTHER, hd + 1, a.k, link.first + at, count, column, hd);
            load_rows(v, OTHER, hd + 1, a.v, link.first + at, count, column, hd);
            __syncthreads();
            dots(q, k, hd, scores);
            dots(dout, v, hd, dp);
            for (int j = 0; j < EACH; j++) {
                int i = warp_row + j;
                bool is_seen = i < tile.count && lane < count &&
                               span.sees(tile.first + i, link.base + at + lane, a.window);
                float slope;
                float score = a.score(scores[j], &slope);
                ds[i * OTHER + lane] =
                    is_seen ? expf(score - lse[j]) * (dp[j] - delta[j]) * slope * a.scale : 0.0f;
            }
            __syncwarp(); /* a warp reads only its own rows of ds */
            accumulate(dq, keep, ds, k, hd);
        }
    }
    __syncthreads();
    for (int j = 0; j < EACH && warp_row + j < tile.count; j++) {
        T *to = dq_rows.row(row + warp_row + j) + own_column;
        for (int d = lane; d < hd; d += LANES) {
            put(to + d, (a.adds ? value_of(to[d]) : 0.0f) + dq[(warp_row + j) * hd + d]);
        }
    }
}

/* Queries [from, to) of the span that may see one of the keys [first, first + count) of a link. */
__device__ static visible visible_queries(const device_span &span, const device_link &link, int64_t first,
                                          int64_t end, int window) {
    int64_t lowest = link.base + (first > link.first ? first - link.first : 0);
    int64_t last = link.base + (end < link.first + link.count ? end - link.first : link.count) - 1;
    if (!span.is_causal) {
        bool is_seen = window <= 0 || last >= span.total - window;
        return visible{0, is_seen ? span.count : 0};
    }
    int64_t offset = span.total - span.count; /* query i sees positions up to offset + i */
    int64_t from = lowest - offset;
    int64_t to = window > 0 ? last + window - offset : span.count;
    return visible{from > 0 ? from : 0, to < span.count ? to : span.count};
}

/* Shared: k, v, dk, dv (OWN x head_dim), q, dout (OTHER x head_dim + 1), p, ds (OWN x OTHER). */
template <typename T>
__global__ void __launch_bounds__(BLOCK) attend_dkv(heads_view<T> a, view<T> dk_rows, view<T> dv_rows) {
    DYNAMIC_SHARED(float, shared);
    int hd = a.head_dim;
    int64_t row = static_cast<int64_t>(blockIdx.x) * OWN;
    int own_count = static_cast<int>(a.keys - row < OWN ? a.keys - row : OWN);
    int64_t own_column = static_cast<int64_t>(blockIdx.y) * hd;
    int warp_row = static_cast<int>(threadIdx.x / LANES) * EACH;
    int lane = static_cast<int>(threadIdx.x % LANES);
    float *k = shared;
    float *v = k + OWN * hd;
    float *dk = v + OWN * hd;
    float *dv = dk + OWN * hd;
    float *q = dv + OWN * hd;
    float *dout = q + OTHER * (hd + 1);
    float *p = dout + OTHER * (hd + 1);
    float *ds = p + OWN * OTHER;
    const float keep[EACH] = {1.0f, 1.0f, 1.0f, 1.0f};
    load_rows(k, OWN, hd, a.k, row, own_count, own_column, hd);
    load_rows(v, OWN, hd, a.v, row, own_count, own_column, hd);
    for (int e = static_cast<int>(threadIdx.x); e < OWN * hd; e += BLOCK) {
        dk[e] = 0.0f;
        dv[e] = 0.0f;
    }
    int32_t entry_end = a.map.entry_first[blockIdx.x + 1];
    for (int32_t entry = a.map.entry_first[blockIdx.x]; entry < entry_end; entry++) {
        const device_link link = a.map.links[a.map.entries[entry]];
        if (!a.has(link)) {
            continue;
        }
        const device_span span = a.map.spans[link.span];
        visible range = visible_queries(span, link, row, row + own_count, a.window);
        for (int g = 0; g < a.group; g++) {
            int head = static_cast<int>(blockIdx.y) * a.group + g;
            for (int64_t at = range.from; at < range.to; at += OTHER) {
                int count = static_cast<int>(range.to - at < OTHER ? range.to - at : OTHER);
                int64_t first = span.first + at;
                float scores[EACH];
                float dp[EACH];
                __syncthreads(); /* the last tile has been read */
                load_rows(q, OTHER, hd + 1, a.q, first, count, static_cast<int64_t>(head) * hd, hd);
                load_rows(dout, OTHER, hd + 1, a.dout, first, count, static_cast<int64_t>(head) * hd, hd);
                float lse = lane < count ? a.lse.row(first + lane)[head] : 0.0f;
                float delta = lane < count ? a.delta[(first + lane) * a.heads + head] : 0.0f;
                __syncthreads();
                dots(k, q, hd, scores);
                dots(v, dout, hd, dp);
                for (int j = 0; j < EACH; j++) {
                    int64_t key = row + warp_row + j - link.first; /* in the link */
                    bool is_seen = warp_row + j < own_count && key >= 0 && key < link.count && lane < count &&
                                   span.sees(at + lane, link.base + key, a.window);
                    float slope;
                    float score = a.score(scores[j], &slope);
                    float weight = is_seen ? expf(score - lse) : 0.0f;
                    p[(warp_row + j) * OTHER + lane] = weight;
                    ds[(warp_row + j) * OTHER + lane] =
                        is_seen ? weight * (dp[j] - delta) * slope * a.scale : 0.0f;
                }
                __syncwarp(); /* a warp reads only its own rows of p and ds */
                accumulate(dv, keep, p, dout, hd);
                accumulate(dk, keep, ds, q, hd);
            }
        }
    }
    __syncthreads();
    for (int j = 0; j < EACH && warp_row + j < own_count; j++) {
        T *to_k = dk_rows.row(row + warp_row + j) + own_column;
        T *to_v = dv_rows.row(row + warp_row + j) + own_column;
        for (int d = lane; d < hd; d += LANES) {
            put(to_k + d, (a.adds ? value_of(to_k[d]) : 0.0f) + dk[(warp_row + j) * hd + d]);
            put(to_v + d, (a.adds ? value_of(to_v[d]) : 0.0f) + dv[(warp_row + j) * hd + d]);
        }
    }
}

/* Asks for `floats` of shared memory per block for a kernel. */
static enum status need_shared(const struct cuda *c, const void *kernel, int head_dim, int64_t floats) {
    int64_t bytes = floats * static_cast<int64_t>(sizeof(float));
    if (bytes > c->shared_limit) {
        return cuda_fail(
            c, ERR_SYSTEM,
            "cuda: attention with heads of %d needs %lld bytes of shared memory per block and the "
            "device has %d",
            head_dim, static_cast<long long>(bytes), c->shared_limit);
    }
    CUDA_TRY(
        c, "attention",
        cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(bytes)));
    return OK;
}

template <typename T> static heads_view<T> heads_of(const struct cuda *c, const struct attention *a) {
    heads_view<T> h = {};
    h.map = c->map;
    h.q = view_of<const T>(a->q);
    h.k = view_of<const T>(a->k);
    h.v = view_of<const T>(a->v);
    h.lse = view_of<float>(a->lse);
    h.keys = a->k.rows;
    h.heads = a->heads;
    h.group = a->heads / a->kv_heads;
    h.head_dim = a->head_dim;
    h.window = a->window;
    h.scale = static_cast<float>(a->scale);
    h.softcap = static_cast<float>(a->softcap);
    return h;
}

static int64_t floats_of(int own, int other, int weights, int head_dim) {
    return static_cast<int64_t>(own) * OWN * head_dim + static_cast<int64_t>(other) * OTHER * (head_dim + 1) +
           static_cast<int64_t>(weights) * OWN * OTHER;
}

template <typename T>
static enum status run_forward(const struct cuda *c, const struct attention *a, enum attention_part part) {
    heads_view<T> h = heads_of<T>(c, a);
    h.part = part;
    int64_t floats = floats_of(2, 1, 1, a->head_dim);
    TRY(need_shared(c, reinterpret_cast<const void *>(attend<T>), a->head_dim, floats));
    if (c->map.tile_count > 0) {
        dim3 grid(static_cast<unsigned>(c->map.tile_count), static_cast<unsigned>(a->heads));
        LAUNCH(attend<T>, grid, BLOCK, static_cast<size_t>(floats) * sizeof(float), c->stream, h,
               view_of<T>(a->out));
    }
    return cuda_launched(c, "attention");
}

/* What one launch of the gradients needs beside the attention itself. */
struct gradient_part {
    enum attention_part part;
    bool adds;
    float *delta; /* (Tq, heads) scratch */
};

template <typename T>
static enum status run_backward(const struct cuda *c, const struct attention *a,
                                const struct attention_gradient *g, const struct gradient_part *p) {
    heads_view<T> h = heads_of<T>(c, a);
    h.dout = view_of<const T>(g->dout);
    h.delta = p->delta;
    h.part = p->part;
    h.adds = p->adds;
    int64_t dq_floats = floats_of(3, 2, 1, a->head_dim);
    int64_t dkv_floats = floats_of(4, 2, 2, a->head_dim);
    TRY(need_shared(c, reinterpret_cast<const void *>(attend_dq<T>), a->head_dim, dq_floats));
    TRY(need_shared(c, reinterpret_cast<const void *>(attend_dkv<T>), a->head_dim, dkv_floats));
    if (c->map.tile_count > 0) {
        LAUNCH(row_products<T>, blocks_for(a->q.rows * a->heads, WARPS), BLOCK, 0, c->stream, p->delta,
               h.dout, view_of<const T>(a->out), a->q.rows, a->heads, a->head_dim);
        dim3 grid(static_cast<unsigned>(c->map.tile_count), static_cast<unsigned>(a->heads));
        LAUNCH(attend_dq<T>, grid, BLOCK, static_cast<size_t>(dq_floats) * sizeof(float), c->stream, h,
               view_of<T>(g->dq));
    }
    if (c->map.key_tiles > 0) {
        dim3 grid(static_cast<unsigned>(c->map.key_tiles), static_cast<unsigned>(a->kv_heads));
        LAUNCH(attend_dkv<T>, grid, BLOCK, static_cast<size_t>(dkv_floats) * sizeof(float), c->stream, h,
               view_of<T>(g->dk), view_of<T>(g->dv));
    }
    return cuda_launched(c, "attention_gradient");
}

enum status cuda_attention_tiled(struct backend *b, const struct attention *a, enum attention_part part) {
    const struct cuda *c = cuda_of(b);
    TRY(cuda_use_map(b, a->map, a->k.rows));
    return a->q.type == DTYPE_BF16 ? run_forward<bf16>(c, a, part) : run_forward<float>(c, a, part);
}

enum status cuda_attention_tiled_gradient(struct backend *b, const struct attention *a,
                                          const struct attention_gradient *g, enum attention_part part,
                                          bool adds) {
    struct cuda *c = cuda_of(b);
    void *delta = nullptr;
    TRY(cuda_use_map(b, a->map, a->k.rows));
    TRY(cuda_scratch(c, SCRATCH_DELTA, a->q.rows * a->heads * static_cast<int64_t>(sizeof(float)), &delta));
    struct gradient_part p = {part, adds, static_cast<float *>(delta)};
    return a->q.type == DTYPE_BF16 ? run_backward<bf16>(c, a, g, &p) : run_backward<float>(c, a, g, &p);
}

template <typename T>
__global__ void merge_parts(view<T> out, view<float> lse, view<const T> part_out, view<const float> part_lse,
                            int64_t rows, int heads, int hd) {
    int64_t at = (static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x) / LANES;
    if (at >= rows * heads) {
        return; /* whole warps leave */
    }
    int64_t row = at / heads;
    int64_t head = at - row * heads;
    merge_row(out.row(row) + head * hd, lse.row(row) + head, part_out.row(row) + head * hd,
              part_lse.row(row)[head], hd);
}

template <typename T>
static void run_merge(const struct cuda *c, int heads, struct tensor out, struct tensor lse,
                      struct tensor part_out, struct tensor part_lse) {
    LAUNCH(merge_parts<T>, blocks_for(out.rows * heads, WARPS), BLOCK, 0, c->stream, view_of<T>(out),
           view_of<float>(lse), view_of<const T>(part_out), view_of<const float>(part_lse), out.rows, heads,
           static_cast<int>(out.columns / heads));
}

enum status cuda_attention_merge(struct backend *b, int heads, struct tensor out, struct tensor lse,
                                 struct tensor part_out, struct tensor part_lse) {
    const struct cuda *c = cuda_of(b);
    if (out.rows > 0) {
        out.type == DTYPE_BF16 ? run_merge<bf16>(c, heads, out, lse, part_out, part_lse)
                               : run_merge<float>(c, heads, out, lse, part_out, part_lse);
    }
    return cuda_launched(c, "attention");
}

enum status cuda_attention(struct backend *b, const struct attention *a) {
    bool done = false;
    TRY(cuda_fused_attention(b, a, &done));
    return done ? OK : cuda_attention_tiled(b, a, PART_ALL);
}

enum status cuda_attention_gradient(struct backend *b, const struct attention_backward *call) {
    const struct attention *a = &call->attention;
    const struct attention_gradient *g = &call->gradient;
    bool done = false;
    TRY(cuda_fused_attention_gradient(b, a, g, &done));
    return done ? OK : cuda_attention_tiled_gradient(b, a, g, PART_ALL, false);
}
