/* Attention over a map in parts that different kernels compute, merged by log-sum-exp.
 *
 * A map's ranges are of two kinds: whole ones (a segment's ancestors, a cache) and causal ones (a segment
 * itself). Softmax over their union follows from the parts: with O_i, L_i a part's output and log-sum-exp,
 *     L = log sum_i e^L_i,   O = sum_i e^(L_i - L) O_i
 * (Dao et al. 2022, section 3.1). Backward needs no merge: each part's gradients are
 *     P = exp(S - L), D = rowsum(dO * O), dS = P * (dO V^T - D) * slope * scale
 * with the union's L and O, and add up.
 */
#ifndef COLLIMATE_CUDA_ATTENTION_CUH
#define COLLIMATE_CUDA_ATTENTION_CUH

#include "cuda/device.cuh"

enum { ATTENTION_TILE = 16 }; /* rows of a query tile, and of a key tile */

struct device_span {
    int64_t total; /* keys */
    int32_t first, count;
    int32_t link_first, link_count;
    int32_t is_causal;
    __device__ int64_t seen(int64_t i) const {
        return is_causal ? total - count + i + 1 : total;
    }
    __device__ bool sees(int64_t i, int64_t position, int window) const {
        int64_t end = seen(i);
        return position < end && (window <= 0 || position >= end - window);
    }
};
struct device_link {
    int64_t base; /* position of its first key */
    int32_t first, count, span;
    int32_t is_causal;
};
/* Queries [first, first + count) of a span, at most ATTENTION_TILE. */
struct query_tile {
    int32_t span, first, count;
};
/* Local. Puts the map where c->map names it, unless it is there; keys: rows of k. */
enum status cuda_use_map(struct backend *b, const struct attention_map *map, int64_t keys);

/* Adds a part to the union so far: a warp for one row and head. Every lane reads both log-sum-exps before
 * lane 0 writes. */
template <typename T>
__device__ inline void merge_row(T *out, float *lse, const T *part_out, float part_lse, int head_dim) {
    int lane = static_cast<int>(threadIdx.x % 32);
    float mine = *lse;
    float most = fmaxf(mine, part_lse);
    __syncwarp();
    if (most == -INFINITY) {
        return; /* no keys in either: zeros already */
    }
    float both = most + logf(expf(mine - most) + expf(part_lse - most));
    float keep = expf(mine - both);
    float take = expf(part_lse - both);
    for (int d = lane; d < head_dim; d += 32) {
        put(out + d, keep * value_of(out[d]) + take * value_of(part_out[d]));
    }
    if (lane == 0) {
        *lse = both;
    }
}

enum attention_part { PART_ALL, PART_WHOLE, PART_CAUSAL };

/* The own kernels, for any map, window, softcap, head size and type. Forward: a->out and a->lse are those of
 * the part; a query that sees no key of it gets zeros and -infinity. */
enum status cuda_attention_tiled(struct backend *b, const struct attention *a, enum attention_part part);
/* Backward: a->out, a->lse are the union's. dq, dk, dv are overwritten, or added to where `adds`. */
enum status cuda_attention_tiled_gradient(struct backend *b, const struct attention *a,
                                          const struct attention_gradient *g, enum attention_part part,
                                          bool adds);
/* out, lse = out, lse merged with part_out, part_lse, row by row and head by head. */
enum status cuda_attention_merge(struct backend *b, int heads, struct tensor out, struct tensor lse,
                                 struct tensor part_out, struct tensor part_lse);

/* cuDNN's fused attention (fused.cu). Opens the library as asked for ("auto", "own", "cudnn"); `words` says
 * who computes attention. */
enum status cuda_fused_open(struct cuda *c, const char *asked, bool is_bf16, char words[160]);
void cuda_fused_close(struct cuda *c);
/* *done is false, and nothing has been given to the device, where the library does not serve this shape. */
enum status cuda_fused_attention(struct backend *b, const struct attention *a, bool *done);
enum status cuda_fused_attention_gradient(struct backend *b, const struct attention *a,
                                          const struct attention_gradient *g, bool *done);

#endif
