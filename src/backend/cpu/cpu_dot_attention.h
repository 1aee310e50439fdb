/* Attention's tiles by a kernel of dot products (dot_kernel.h): what cpu_attention.c and
 * cpu_attention_gradient.c do with a tile of lanes where the back end has one. Operands of all products are
 * bf16, sums fp32. q, k, v and dout are bf16 as they are; P and scale * dS are rounded to it (nearest even),
 * each once. Softmax is fp32, and its sum is that of P before it is rounded. Lanes, views and walks are those
 * of cpu_attention.h; panels have DOT_COLUMNS lanes, and tiles DOT_KEYS keys, at every x86-64 level.
 *
 *     scores (keys x lanes)  = K Q^T       A: K along d         B: Q along d
 *     out^T  (d x lanes)    += V^T P       A: V^T along keys    B: P in pairs of keys, made in registers
 *     dP     (keys x lanes)  = V dO^T      A: V along d         B: dO along d
 *     dQ^T   (d x lanes)    += K^T dS      A: K^T along keys    B: dS
 *     dV     (keys x d)     += P dO        A: P along lanes     B: dO along lanes
 *     dK     (keys x d)     += dS Q        A: dS along lanes    B: Q along lanes
 *
 * The order of sums. A product's element is one call of the kernel, whatever its depth: scores and dP over
 * all of d; what a tile of keys adds to out and dQ over its keys from its first on; what a tile of lanes adds
 * to dK and dV over its lanes. Keys and lanes that are left out have zeros in P and dS. It is added to the
 * sum so far in fp32, which in forward was multiplied by what the tile leaves of it just before, both
 * rounded. At most DOT_FEW_LANES lanes (a step of decoding) are the rows of A, with K and V in B: an element
 * is the same chain with a and b exchanged, and has the same bits.
 */
#ifndef COLLIMATE_CPU_DOT_ATTENTION_H
#define COLLIMATE_CPU_DOT_ATTENTION_H

#include "backend/cpu/cpu_attention.h"
#include "backend/cpu/cpu_dot.h"

enum { DOT_KEYS = 128, DOT_FEW_LANES = 8 };
enum { DOT_FORWARD_LANES = 8 * DOT_COLUMNS, DOT_BACKWARD_LANES = 4 * DOT_COLUMNS };
_Static_assert((int)DOT_KEYS % (int)DOT_ROUND == 0, "a tile's keys are whole groups of either kernel");

#define cpu_dot_forward_bytes CPU_NAME(cpu_dot_forward_bytes)
#define cpu_dot_forward CPU_NAME(cpu_dot_forward)
#define cpu_dot_backward_bytes CPU_NAME(cpu_dot_backward_bytes)
#define cpu_dot_backward CPU_NAME(cpu_dot_backward)
#define cpu_dot_gather CPU_NAME(cpu_dot_gather)
#define cpu_dot_scores CPU_NAME(cpu_dot_scores)
#define cpu_dot_pack_panels CPU_NAME(cpu_dot_pack_panels)
#define cpu_dot_finish_scores CPU_NAME(cpu_dot_finish_scores)
#define cpu_dot_add_across CPU_NAME(cpu_dot_add_across)

/* A tile's out and lse; its dQ and what it adds to dK and dV. By the calling thread, which holds no tiles. */
void cpu_dot_forward(const struct dot_kernel *kernel, const struct attention *a, struct lane_tile tile,
                     char *room);
void cpu_dot_backward(const struct dot_kernel *kernel, const struct attention_backward *call,
                      struct lane_tile tile, char *room, const struct sinks *to);
/* Bytes of their rooms, a multiple of 64. */
int64_t cpu_dot_forward_bytes(const struct dot_kernel *kernel, int head_dim);
int64_t cpu_dot_backward_bytes(const struct dot_kernel *kernel, int head_dim);

/* The next bytes of a room, on a cache line; NULL while it is measured (base NULL). */
static inline void *dot_take(char *base, int64_t *at, int64_t bytes) {
    int64_t begin = *at;
    *at += (bytes + 63) / 64 * 64;
    return base ? base + begin : NULL;
}
/* Pairs that a kernel takes for so much depth. */
static inline int64_t dot_pairs(const struct dot_kernel *kernel, int64_t depth) {
    return panels_over(depth, 2 * kernel->group) * kernel->group;
}
/* n in whole panels of A. */
static inline int64_t dot_in_rows(const struct dot_kernel *kernel, int64_t n) {
    return panels_over(n, kernel->rows) * kernel->rows;
}
static inline void dot_begin(const struct dot_kernel *kernel) {
    if (kernel->begin) {
        kernel->begin();
    }
}
static inline void dot_end(const struct dot_kernel *kernel) {
    if (kernel->end) {
        kernel->end();
    }
}
/* The walk's rows of k or v, a key head's: lines along d, or turned, lines of d along the keys. */
static inline struct dot_source dot_keys(const struct key_walk *w, struct tensor from, int kv_head) {
    return (struct dot_source){.data = cpu_at(from, w->row, (int64_t)kv_head * w->a->head_dim),
                               .type = from.type,
                               .lines = w->count,
                               .depth = w->a->head_dim,
                               .line_step = from.stride,
                               .k_step = 1};
}
static inline struct dot_source dot_turned(struct dot_source s) {
    return (struct dot_source){s.data, s.type, s.depth, s.lines, s.k_step, s.line_step};
}

/* Rows of a head, dense: q or dout of lanes [lane, lane + count) of the tile. */
void cpu_dot_gather(const struct attention *a, struct tensor from, struct lane_tile tile, int64_t lane,
                    int64_t count, uint16_t *to);
/* All panels of A of a source, `depth` values a line: dot_filled(d) of a tile's keys, DOT_KEYS of them
 * turned. */
void cpu_dot_pack_panels(const struct dot_kernel *kernel, const struct dot_source *s, int64_t depth,
                         uint16_t *to);
/* scores (rows of DOT_COLUMNS; kernel->rows more than DOT_KEYS of them) = the view's keys, in panels, times a
 * panel of lanes. */
void cpu_dot_scores(const struct dot_kernel *kernel, const struct panel_view *view, int64_t head_dim,
                    const uint16_t *keys, const uint16_t *lanes, float *scores);
/* Sums to scores: times scale, capped. */
void cpu_dot_finish_scores(const struct attention *a, float *scores, int64_t n);
/* to (d x DOT_COLUMNS) += turned keys times pairs of them, the view's of `count`. */
void cpu_dot_add_across(const struct dot_kernel *kernel, const struct panel_view *view, int64_t count,
                        int64_t head_dim, const uint16_t *turned, const uint32_t *pairs, float *to);

#endif
