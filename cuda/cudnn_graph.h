/* Attention over a batch of runs of rows as a graph of cuDNN, forward and backward. Plain C without a device,
 * so that graphs can be put before the library on a machine that has none.
 *
 * A run is queries [q, q + m) and keys [k, k + n) of matrices with a row per token and its heads side by
 * side; ragged offsets (in elements) say where each run begins, lengths how far it goes. Softmax statistics
 * (the log-sum-exp) are padded: (batch, heads, queries), fp32, a run's queries first. Source: the patterns
 * that NVIDIA's cudnn-frontend 1.x hands to the library, which its engines recognize.
 */
#ifndef COLLIMATE_CUDA_CUDNN_GRAPH_H
#define COLLIMATE_CUDA_CUDNN_GRAPH_H

#include <stdbool.h>

#include "cuda/cudnn_api.h"

/* Earlier versions lack ragged groups of query heads (9.6) or have a wrong backward pass (9.10.0, 9.10.1). */
enum { FUSED_LEAST_VERSION = 91002 };

/* Which keys of its run a query i sees, of m queries and n keys. */
enum fused_mask {
    FUSED_ALL,
    FUSED_CAUSAL,      /* keys up to i; m = n */
    FUSED_CAUSAL_TAIL, /* keys up to n - m + i */
};

/* Matrices of a graph; the last five are backward's. */
enum fused_matrix {
    FUSED_Q,
    FUSED_K,
    FUSED_V,
    FUSED_OUT,
    FUSED_DOUT,
    FUSED_DQ,
    FUSED_DK,
    FUSED_DV,
    FUSED_MATRICES
};
static inline bool fused_follows_keys(int matrix) {
    return matrix == FUSED_K || matrix == FUSED_V || matrix == FUSED_DK || matrix == FUSED_DV;
}

/* Everything that a plan depends on; 64-bit fields only, so that equal shapes are equal bytes. */
struct fused_shape {
    int64_t is_backward, mask;
    int64_t batch, heads, kv_heads, head_dim;
    int64_t queries, keys;           /* most of a run */
    int64_t strides[FUSED_MATRICES]; /* elements from row to row; 0: no such matrix */
};

enum { FUSED_DESCRIPTORS = 160 };
struct fused_plan {
    cudnn_descriptor plan;
    int64_t workspace_bytes;
    int engines; /* that the library named for the graph */
    int count;   /* of owned */
    cudnn_descriptor owned[FUSED_DESCRIPTORS];
};

/* Where a graph's tensors are. */
struct fused_data {
    void *matrices[FUSED_MATRICES];
    void *offsets[FUSED_MATRICES]; /* batch + 1, int32, elements */
    void *query_lengths, *key_lengths;
    void *statistics;         /* written forward, read backward */
    void *dq_sums, *products; /* backward: (batch, heads, queries, head_dim), (batch, heads, queries), fp32 */
    float scale;              /* host */
};

/* Local. A plan for shape on the handle's device. Where handle is NULL, no plan: only the engines that the
 * library names for the device that `device` describes (cuDNN's JSON). Returns cuDNN's status;
 * STATUS_NOT_SUPPORTED: no engine takes the shape. Whatever it returns, the caller ends `out` with
 * fused_plan_close(). */
int fused_plan_open(const struct cudnn_library *l, cudnn_handle handle, const char *device,
                    const struct fused_shape *shape, struct fused_plan *out);
void fused_plan_close(const struct cudnn_library *l, struct fused_plan *plan);
/* Local. Gives the graph to the handle's stream. */
int fused_plan_run(const struct cudnn_library *l, cudnn_handle handle, const struct fused_plan *plan,
                   const struct fused_data *data, void *workspace);

#endif
