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

#endif
