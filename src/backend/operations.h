/* The operations of a back end: what a call consists of, one row each, and what a call touches.
 *
 * Every matrix is row-major, rows x columns with a row stride in elements. T tokens, d model width, H query
 * heads, K key/value heads, V vocabulary. Types (compute, master, readout) are those of struct backend_caps.
 */
#ifndef COLLIMATE_BACKEND_OPERATIONS_H
#define COLLIMATE_BACKEND_OPERATIONS_H

#include <stdbool.h>

#include "backend/tensor.h"

/* C = alpha * op(A) op(B) + beta * C (+ bias added to every row). A, B of compute type; C compute, or master
 * type when it is a parameter's gradient. beta is 0 (C is not read) or 1. */
struct gemm {
    struct tensor a, b, c;
    bool transpose_a, transpose_b;
    double alpha, beta;
    struct tensor bias; /* 1 x columns of C, or none */
};

enum norm_kind { NORM_RMS, NORM_LAYER };
/* y = x̂ * (weight + weight_offset) + bias, x̂ = x / rms(x) or (x - mean) / std; per row; epsilon inside the
 * root. rows may be heads: x is then (T * heads, head_dim). Gemma's 1 + w is weight_offset 1. */
struct norm {
    enum norm_kind kind;
    double epsilon, weight_offset;
    struct tensor x, y, weight, bias; /* weight, bias: 1 x columns or none */
    struct tensor
        statistics; /* rows x 2, readout: mean (0 for RMS), 1 / std. Written forward, read backward */
};
struct norm_gradient {
    struct tensor dy;
    struct tensor dx;             /* added to */
    struct tensor dweight, dbias; /* added to, master type; none where frozen or absent */
};
struct norm_backward {
    struct norm norm;
    struct norm_gradient gradient;
};

/* Rotary embedding in place on x (T, heads * head_dim): in each head the first rotary_dim values turn.
 * table (T, rotary_dim), readout type: cos in the first half of a row, sin in the second. interleaved: pairs
 * (2i, 2i+1) (GPT-J), otherwise (i, i + rotary_dim / 2). inverse turns back: the gradient. */
struct rope {
    struct tensor x, table;
    int heads, head_dim, rotary_dim;
    bool interleaved, inverse;
};

enum activation { ACTIVATION_SILU, ACTIVATION_GELU, ACTIVATION_GELU_TANH, ACTIVATION_RELU };
/* y = act(gate) * up, or act(gate) where up is none. */
struct activate {
    enum activation kind;
    struct tensor gate, up, y;
};
struct activate_gradient {
    struct tensor dy;
    struct tensor dgate, dup; /* overwritten; may be gate and up themselves */
};
struct activate_backward {
    struct activate activate;
    struct activate_gradient gradient;
};
/* OPTIONAL of a back end: gemm, then act of its C into activate.y, in one. */
struct gemm_activate {
    struct gemm gemm;
    struct activate activate;
};

/* What each query may see. A span is a run of query rows; it sees its key ranges in order. A causal range
 * is aligned at its end with the span: query i of n sees its keys up to count - n + i. A forest segment has
 * one whole range per ancestor and one causal range, itself; a decoding step two, its prompt and the rest.
 * Key positions of a span are its ranges' keys concatenated; with window w > 0 a query sees only the last w
 * keys up to its own (the last key that it sees). Spans cover the query rows in order; a causal range is the
 * last of its span and holds at least as many keys as the span has queries; a query without keys gives zeros.
 * Host memory, read during the call; id is equal only for equal maps (a device may cache). */
struct key_range {
    int32_t first, count;
    bool causal;
};
struct query_span {
    int32_t first, count;             /* rows of q and out */
    int32_t range_first, range_count; /* in ranges */
};
struct attention_map {
    uint64_t id;
    int32_t span_count, range_count;
    const struct query_span *spans;
    const struct key_range *ranges;
};
/* out = softmax(scale * q k^T) v per head; query head h uses key/value head h / (heads / kv_heads). Tiled
 * with an online softmax: never queries x keys in memory. softcap c > 0: scores become c * tanh(score / c).
 */
struct attention {
    const struct attention_map *map;
    int heads, kv_heads, head_dim;
    int window;
    double scale, softcap;
    struct tensor q, k, v, out; /* (Tq, H*hd), (Tk, K*hd), (Tk, K*hd), (Tq, H*hd) */
    struct tensor lse;          /* (Tq, H), readout type: written forward (may be none if never backward) */
};
struct attention_gradient {
    struct tensor dout;
    struct tensor dq;     /* overwritten */
    struct tensor dk, dv; /* overwritten (zero where no query looks) */
};
struct attention_backward {
    struct attention attention;
    struct attention_gradient gradient;
};

/* The head: log-softmax(hidden W^T + bias) read at one target per row, in chunks over rows and vocabulary,
 * never rows x V in memory. target -1: no log-probability for the row (0), never the top, no gradient; the
 * other statistics are those of its logits. logits = softcap(hidden W^T + bias), Gemma 2's cap. statistics of
 * a row: log-probability, log-sum-exp, entropy, 1 if no logit exceeds the target's, mean logit, logarithm of
 * the probability that two draws are the same. */
enum head_statistic {
    HEAD_LOGP,
    HEAD_LSE,
    HEAD_ENTROPY,
    HEAD_IS_TOP,
    HEAD_MEAN_LOGIT,
    HEAD_COLLISION,
    HEAD_STATISTICS
};
struct head {
    struct tensor hidden, weight, bias; /* (n, d), (V, d), (1, V) or none */
    struct tensor targets;              /* 1 x n, I32 */
    double softcap;                     /* 0: none */
    struct tensor statistics;           /* n x HEAD_STATISTICS, readout type */
};
/* Gradient of sum_i row_weight[i] * logp[i]; logits are recomputed by chunk. */
struct head_gradient {
    struct tensor row_weight;     /* 1 x n, readout type */
    struct tensor dhidden;        /* overwritten */
    struct tensor dweight, dbias; /* added to, master type, or none */
};
struct head_backward {
    struct head head;
    struct head_gradient gradient;
};

/* The head's numbers of rows of logits that are there: softcap(logits) in place, then a row's statistics as
 * the head makes them, to the bit where the rows are the head's own products. OPTIONAL, of the CPU. */
struct read_logits {
    struct tensor logits;     /* (n, V), readout type, contiguous */
    struct tensor targets;    /* as the head's */
    struct tensor statistics; /* likewise */
    double softcap;
};

enum optimizer_kind { OPTIMIZER_SGD, OPTIMIZER_RMSPROP, OPTIMIZER_ADAM, OPTIMIZER_ADAMW };
/* One update of a range of the arena, PyTorch semantics (torch.optim 2.x); 1 x n tensors of master type.
 * gradient_scale multiplies gradients first (clipping). bias_correction1, 2: 1 - beta^t, given by the caller.
 * State starts at zero: first is Adam's mean of gradients or the momentum buffer (SGD, RMSprop; unused
 * without momentum), second the mean of squares (Adam; RMSprop, with alpha). copy: the compute copy of the
 * range, rewritten where its type differs from master; else none. */
struct optimizer_step {
    enum optimizer_kind kind;
    double learning_rate, beta1, beta2, epsilon, weight_decay, momentum, alpha;
    double bias_correction1, bias_correction2, gradient_scale;
    struct tensor parameters, gradients, first, second; /* first, second: state, none if unused */
    struct tensor copy;
};

/* to = from, same shape; equal types: a strided copy. */
struct convert {
    struct tensor to, from;
};
/* to += alpha * from, same shape (residuals, gradient sums). */
struct add {
    struct tensor to, from;
    double alpha;
};
/* to (1 x columns, master) += column sums of from: a bias gradient. */
struct sum_rows {
    struct tensor to, from;
};
/* *out (host) = sum of squares in fp64, summed in a fixed order of fixed blocks. Waits. */
struct sum_squares {
    struct tensor x;
    double *out;
};
/* out[i] (+)= scale * table[ids[i]]; accumulate for position embeddings. */
struct embed {
    struct tensor out, table, ids;
    double scale;
    bool accumulate;
};
/* dtable[ids[i]] += scale * dout[i], master type; a fixed order for equal ids. */
struct embed_gradient {
    struct tensor dtable, dout, ids;
    double scale;
};
/* to[i] = from[rows[i]] */
struct gather {
    struct tensor to, from, rows;
};
/* to[rows[i]] += from[i], a fixed order for equal rows */
struct scatter_add {
    struct tensor to, from, rows;
};
/* y = scale[c] * x + shift[c] in each row, c = conditions[i] the row's; -1: y = x. FiLM (Perez et al. 2018).
 */
struct film {
    struct tensor x, y;         /* (T, d) */
    struct tensor scale, shift; /* (n, d) */
    struct tensor conditions;   /* 1 x T, I32 */
};
/* Sums over a condition's rows, in double and in the order of rows; 0 for one without rows. */
struct film_gradient {
    struct tensor d;              /* of y; becomes that of x */
    struct tensor dscale, dshift; /* (n, d), overwritten */
};
struct film_backward {
    struct film film;
    struct film_gradient gradient;
};
/* to[i] = mean of from's rows [spans[2i], spans[2i] + spans[2i+1]); to of readout type, spans I32 (n, 2). */
struct pool {
    struct tensor to, from, spans;
};

/* Every operation: a name, and what a call of it consists of. Back ends have a function per row,
 * enum status X_name(struct backend *, const type *), this room a describe_name() (describe.c) and a front
 * function that checks (backend.c); tables, check:cpu, plan and the profile are made from the rows. */
#define OPERATIONS(X)                                \
    X(convert, struct convert)                       \
    X(gemm, struct gemm)                             \
    X(add, struct add)                               \
    X(sum_rows, struct sum_rows)                     \
    X(embed, struct embed)                           \
    X(embed_gradient, struct embed_gradient)         \
    X(norm, struct norm)                             \
    X(norm_gradient, struct norm_backward)           \
    X(rope, struct rope)                             \
    X(activate, struct activate)                     \
    X(activate_gradient, struct activate_backward)   \
    X(attention, struct attention)                   \
    X(attention_gradient, struct attention_backward) \
    X(head, struct head)                             \
    X(head_gradient, struct head_backward)           \
    X(gather, struct gather)                         \
    X(scatter_add, struct scatter_add)               \
    X(pool, struct pool)                             \
    X(film, struct film)                             \
    X(film_gradient, struct film_backward)           \
    X(sum_squares, struct sum_squares)               \
    X(optimizer, struct optimizer_step)
/* Those that a back end may leave out: the front takes others in their place. */
#define OPTIONAL_OPERATIONS(X) X(gemm_activate, struct gemm_activate)
/* Of those, what only the CPU has. */
#define CPU_OPERATIONS(X) X(read_logits, struct read_logits)

#define OPERATION_NUMBER(name, type) OPERATION_##name,
enum operation_row {
    OPERATIONS(OPERATION_NUMBER) OPTIONAL_OPERATIONS(OPERATION_NUMBER) CPU_OPERATIONS(OPERATION_NUMBER)
        OPERATION_COUNT
};
#undef OPERATION_NUMBER

/* What an operation does with a tensor. */
enum use_kind {
    USE_READ,   /* must not change */
    USE_UPDATE, /* read and written */
    USE_SOME,   /* the rows that an index tensor names are read and written */
    USE_WRITE   /* overwritten */
};
/* What the numbers of an I32 tensor are: rows of another tensor, or (first row, count) of it. */
enum index_kind { INDEX_NONE, INDEX_ROWS, INDEX_SPANS };
struct described_tensor {
    const char *name;
    struct tensor *tensor; /* in the call */
    enum use_kind use;
    enum index_kind index;
    int64_t low, high; /* an index tensor's numbers lie in [low, high) */
};
/* What a call touches and does. flops: multiplications and additions of matrix products and of attention's;
 * 0 for operations whose time is their memory's. bytes: of the tensors' rows that are read plus those that
 * are written, each once, though a kernel may read them again. */
enum { DESCRIBED_TENSORS = 12 };
struct described {
    int n;
    struct described_tensor tensors[DESCRIBED_TENSORS]; /* none of them is no tensor */
    double flops, bytes;
};
#define OPERATION_DESCRIBE(name, type) void describe_##name(type *call, struct described *out);
OPERATIONS(OPERATION_DESCRIBE)
OPTIONAL_OPERATIONS(OPERATION_DESCRIBE)
CPU_OPERATIONS(OPERATION_DESCRIBE)
#undef OPERATION_DESCRIBE
/* Of an enum operation_row. */
const char *operation_name(int operation);

#endif
