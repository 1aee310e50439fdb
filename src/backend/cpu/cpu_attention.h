/* Attention's inside: which keys a tile of queries meets, and the products of tiles.
 *
 * A lane is a query of one head. The heads that share a key head are lanes side by side: lane l of a span is
 * query l / group in the key head's head l % group. A panel is PANEL_COLUMNS lanes, a tile of lanes some
 * panels, a tile of keys KEYS rows of k and v. Scores of a panel are held with the keys as rows, so that
 *
 *     scores (keys x lanes)  = K (keys x d) Q^T (d x lanes)      A: keys packed,   B: Q^T, turned once
 *     out^T  (d x lanes)    += V^T (d x keys) P (keys x lanes)   A: V as it lies,  B: the scores as they lie
 *     dV     (keys x d)     += P (keys x lanes) dO (lanes x d)   A: the scores,    B: dO as it lies
 *
 * and softmax runs down columns, vectors of queries at once, without sums across a vector. dP is made as
 * scores are, dK as dV, dQ^T as out^T. With products of bf16 operands: cpu_dot_attention.h. */
#ifndef COLLIMATE_CPU_ATTENTION_H
#define COLLIMATE_CPU_ATTENTION_H

#include "backend/cpu/cpu_bf16.h"
#include "backend/cpu/cpu_panel.h"
#include "backend/cpu/dot_kernel.h"

enum { WIDTH = PANEL_COLUMNS, KEYS = PANEL_ROWS * (128 / PANEL_ROWS) };
/* Lanes of a tile, at most. Forward's state (Q^T and out^T) of 8 panels with AVX-512 and d = 64 is 128 KiB,
 * backward's (with dO, both ways, and scores) 350 KiB for 4: both in the second-level cache. */
enum { FORWARD_LANES = 8 * WIDTH, BACKWARD_LANES = 4 * WIDTH };
/* Of a panel at any level, and of the products by dot products (cpu_dot_attention.h). */
enum { MOST_WIDTH = DOT_COLUMNS };

/* A head's values in whole vectors. */
static inline int64_t cpu_padded(int64_t head_dim) {
    return (head_dim + LANES - 1) / LANES * LANES;
}

/* Lanes [first, first + count) of a span in one key head. */
struct lane_tile {
    int32_t span, kv_head;
    int64_t first, count;
};
/* Keys [row, row + count) of k and v, at a position among the span's keys; a walk over the tiles that some
 * lane sees. */
struct key_walk {
    const struct attention *a;
    const struct query_span *span;
    bool is_causal;
    int64_t total, seen_first,
        seen_last;        /* keys that the tile's first and last query see, before the window */
    int32_t range, tile;  /* keys of a tile, at most */
    int64_t offset, base; /* in this range; positions before it */
    int64_t row, position, count;
};

/* Which rows of a key tile a panel's lanes see: lane l the rows [low[l], high[l]); none of them sees rows
 * outside [from, to), which are whole blocks of rows. Lanes that do not exist see what the last does. */
struct panel_view {
    int32_t low[MOST_WIDTH], high[MOST_WIDTH];
    int64_t from, to;
    bool is_whole; /* all see all of [from, to) */
};

#define cpu_lanes_of CPU_NAME(cpu_lanes_of)
#define cpu_tile_lanes CPU_NAME(cpu_tile_lanes)
#define cpu_count_tiles CPU_NAME(cpu_count_tiles)
#define cpu_walk_start CPU_NAME(cpu_walk_start)
#define cpu_walk_next CPU_NAME(cpu_walk_next)
#define cpu_view_panel CPU_NAME(cpu_view_panel)
#define cpu_view_dot_panel CPU_NAME(cpu_view_dot_panel)
#define cpu_lane_row CPU_NAME(cpu_lane_row)
#define cpu_turn_lanes CPU_NAME(cpu_turn_lanes)
#define cpu_pack_keys CPU_NAME(cpu_pack_keys)
#define cpu_copy_keys CPU_NAME(cpu_copy_keys)
#define cpu_cap_scores CPU_NAME(cpu_cap_scores)
#define cpu_multiply_scores CPU_NAME(cpu_multiply_scores)
#define cpu_multiply_across CPU_NAME(cpu_multiply_across)
#define cpu_multiply_down CPU_NAME(cpu_multiply_down)

/* Query heads of a key head. */
static inline int cpu_group_of(const struct attention *a) {
    return a->heads / a->kv_heads;
}
/* The row and the column of q, out, dout and dq where a lane of a tile begins. */
static inline int64_t cpu_lane_column(const struct attention *a, struct lane_tile tile, int64_t lane) {
    int group = cpu_group_of(a);
    return ((int64_t)tile.kv_head * group + (tile.first + lane) % group) * a->head_dim;
}
int64_t cpu_lane_row(const struct attention *a, struct lane_tile tile, int64_t lane);

/* A span's lanes in even tiles, of at most so many lanes, of whole panels, so that no tile is left with a few
 * lanes. */
int64_t cpu_tile_lanes(int64_t lanes, int64_t most, int64_t width);
int64_t cpu_count_tiles(const struct attention *a, int64_t most, int64_t width);

struct key_walk cpu_walk_start(const struct attention *a, struct lane_tile tile, int32_t keys);
/* false at the end. */
bool cpu_walk_next(struct key_walk *w);
/* Of the panel that begins at a lane of the tile: WIDTH lanes, blocks of PANEL_ROWS keys; DOT_COLUMNS lanes,
 * blocks of `rows` keys, the last one up to the tile's end. */
void cpu_view_panel(const struct key_walk *w, struct lane_tile tile, int64_t lane, struct panel_view *out);
void cpu_view_dot_panel(const struct key_walk *w, struct lane_tile tile, int64_t lane, int64_t rows,
                        struct panel_view *out);

/* to (d x WIDTH) = a panel of q or dout, turned; lanes that do not exist are zero. room: d floats. */
void cpu_turn_lanes(const struct attention *a, struct tensor from, struct lane_tile tile, int64_t lane,
                    float *to, float *room);
/* The walk's rows of k or v, a key head's: as panels of a product's A, and as fp32 rows `stride` apart,
 * filled up with zeros. */
void cpu_pack_keys(const struct key_walk *w, struct tensor from, int kv_head, float *to);
void cpu_copy_keys(const struct key_walk *w, struct tensor from, int kv_head, float *to, int64_t stride);
/* c * tanh(score / c) of n scores. */
void cpu_cap_scores(double cap, float *scores, int64_t n);

/* Where sums of one head go as fp32: the tensor itself, or a thread's memory of which cpu_store() makes the
 * tensor's rows. */
struct sink {
    struct tensor to;
    int64_t first, column; /* the row that data begins at; the head's columns */
    int64_t stride;
    float *data;
};
/* One key head's. */
struct sinks {
    struct sink dk, dv;
};

#define cpu_forward_bytes CPU_NAME(cpu_forward_bytes)
#define cpu_backward_bytes CPU_NAME(cpu_backward_bytes)
/* What a thread's tiles take inside, beside lists that grow with the spans; by a kernel of dot products or
 * (NULL) in fp32. */
int64_t cpu_forward_bytes(const struct dot_kernel *dot, int head_dim);
int64_t cpu_backward_bytes(const struct dot_kernel *dot, int head_dim);

/* c (rows of `ldc`) of a tile product of `depth`; a, b and c are fp32. */
struct tile_product {
    int64_t rows, columns, depth;
    const float *a, *b;
    float *c;
    int64_t lda, ldb, ldc;
    float alpha;
};
/* c = alpha a b: a packed in panels, rows a multiple of PANEL_ROWS; at most WIDTH columns, of which whole
 * vectors are written. */
void cpu_multiply_scores(const struct tile_product *p);
/* Columns of c that it writes. */
static inline int64_t cpu_written(int64_t columns) {
    return columns > LANES ? WIDTH : LANES;
}
/* c += alpha a^T b, a (depth x rows); columns as above. */
void cpu_multiply_across(const struct tile_product *p);
/* c += alpha a b: a (rows x depth) has whole blocks of PANEL_ROWS rows, BACKWARD_LANES apart (lda is not
 * read), b whole vectors of columns. */
void cpu_multiply_down(const struct tile_product *p);

#endif
