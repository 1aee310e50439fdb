/* The contract between the model and a device.
 *
 * A back end owns memory and runs operations on it in the order in which they are given; results are valid
 * on the host after backend_read() (which waits) or backend_sync(). Tensor data are addresses of the back
 * end's memory: outside src/backend/ and cuda/ nobody dereferences them (check:cpu turns that into a crash).
 * Pointer arithmetic on them (tensor_rows, tensor_columns) is fine.
 *
 * Implementations: cpu (own kernels, OpenMP), check:cpu (the suspicious one: device addresses cannot be
 * dereferenced, outputs are filled with NaN before an operation, inputs compared after it), plan (runs
 * nothing and holds nothing: --dry-run), cuda (its own shared object), and in the tests a plain
 * double-precision reference in which gradients are checked by finite differences.
 *
 * The front functions backend_*() check shapes, types and aliasing once for all; kernels check nothing.
 * Every matrix is row-major, rows x columns with a row stride in elements. T tokens, d model width, H query
 * heads, K key/value heads, V vocabulary.
 *
 * Types: caps.master (parameters' masters, gradients, optimizer state), caps.compute (activations and the
 * parameters' compute copy; equal to master on the fp32 CPU), caps.readout (statistics, log-probabilities;
 * F32 or F64). Every operation accumulates in fp32 or better. So bf16 changes nothing above this header.
 */
#ifndef COLLIMATE_BACKEND_BACKEND_H
#define COLLIMATE_BACKEND_BACKEND_H

#include <stddef.h>
#include <stdint.h>

#include "util/status.h"

enum { BACKEND_API_VERSION = 4 };

enum dtype { DTYPE_F32, DTYPE_BF16, DTYPE_F64, DTYPE_I32 };
int64_t dtype_size(enum dtype type);
const char *dtype_name(enum dtype type);

struct tensor {
    void *data; /* NULL: no tensor */
    int64_t rows, columns, stride;
    enum dtype type;
};
/* Views: rows [first, first + count) and columns likewise. */
struct tensor tensor_rows(struct tensor t, int64_t first, int64_t count);
struct tensor tensor_columns(struct tensor t, int64_t first, int64_t count);
/* rows x columns, contiguous, at data. */
struct tensor tensor_at(void *data, int64_t rows, int64_t columns, enum dtype type);

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

/* What each query may see. A span is a run of query rows; it sees its key ranges in order. A causal range
 * is aligned at its end with the span: query i of n sees its keys up to count - n + i. A forest segment has
 * one whole range per ancestor and one causal range, itself; a decoding step has one range, its cache. Key
 * positions of a span are its ranges' keys concatenated; with window w > 0 a query sees only the last w keys
 * up to its own (the last key that it sees). Spans cover the query rows in order; a causal range is the last
 * of its span and holds at least as many keys as the span has queries; a query without keys gives zeros. Host
 * memory, read during the call; id is equal only for equal maps (a device may cache). */
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

/* The head: log-softmax(hidden W^T + bias) read at one target per row, in chunks over rows and vocabulary,
 * never rows x V in memory. target -1: no log-probability for the row (0), never the top, no gradient; the
 * other statistics are those of its logits. logits = softcap(hidden W^T + bias), Gemma 2's cap. statistics of
 * a row: log-probability, log-sum-exp, entropy, 1 if no logit exceeds the target's, mean logit. */
enum head_statistic { HEAD_LOGP, HEAD_LSE, HEAD_ENTROPY, HEAD_IS_TOP, HEAD_MEAN_LOGIT, HEAD_STATISTICS };
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

struct backend_caps {
    const char *name;      /* "cpu", "check:cpu", "plan", "cuda" */
    char description[160]; /* for the log: library, instruction set, device */
    enum dtype master, compute, readout;
    bool deterministic; /* same bits for the same operations, whatever the thread count */
    int threads;
    int64_t memory_free, memory_total; /* bytes; 0 unknown */
};

struct backend;

/* OPTIONAL, of a device with memory of its own: copies and sums beside the operations. An event is a point in
 * the device's work; none of these waits for one. mark() and follow() belong to the thread that gives
 * operations, the others may come from one other thread at the same time. */
enum { BACKEND_GROUP_KEY_BYTES = 128 };
struct backend_transfers {
    /* Host memory that the device reads and writes by itself. */
    enum status (*host_alloc)(struct backend *b, int64_t bytes, void **out);
    void (*host_free)(struct backend *b, void *data);
    enum status (*event_open)(struct backend *b, void **event);
    void (*event_close)(struct backend *b, void *event);
    /* The event passes when the operations given so far are done. */
    enum status (*mark)(struct backend *b, void *event);
    enum status (*is_passed)(struct backend *b, void *event, bool *out);
    /* Operations given from now on come after the event. */
    enum status (*follow)(struct backend *b, void *event);
    /* A copy to the host that begins when `after` has passed, or one to the device; `done` passes at its end.
     */
    enum status (*fetch)(struct backend *b, void *host, const void *from, int64_t bytes, void *after,
                         void *done);
    enum status (*deliver)(struct backend *b, void *to, const void *host, int64_t bytes, void *done);
    /* Sums by the devices among themselves. group_find: the library is there, and its name; group_key: for
     * one rank, whose key all hand to group_open (which waits for all); group_sum: in place, the same calls
     * in the same order on every rank. */
    enum status (*group_find)(struct backend *b, char name[64]);
    enum status (*group_key)(struct backend *b, unsigned char key[BACKEND_GROUP_KEY_BYTES]);
    enum status (*group_open)(struct backend *b, const unsigned char key[BACKEND_GROUP_KEY_BYTES], int rank,
                              int size);
    void (*group_close)(struct backend *b);
    enum status (*group_sum)(struct backend *b, void *values, int64_t n, enum dtype type, void *after,
                             void *done);
};

/* Every entry gets checked arguments and returns a status. REQUIRED of every back end. */
struct backend_ops {
    int api_version;
    enum status (*alloc)(struct backend *b, int64_t bytes, void **out); /* 64-byte aligned, not cleared */
    void (*free)(struct backend *b, void *data);
    enum status (*write)(struct backend *b, void *to, const void *host, int64_t bytes);
    enum status (*read)(struct backend *b, void *host, const void *from, int64_t bytes); /* waits */
    enum status (*copy)(struct backend *b, void *to, const void *from, int64_t bytes);
    enum status (*zero)(struct backend *b, void *to, int64_t bytes);
    enum status (*sync)(struct backend *b);
    /* Same shape; equal types: a strided copy. */
    enum status (*convert)(struct backend *b, struct tensor to, struct tensor from);
    enum status (*gemm)(struct backend *b, const struct gemm *g);
    /* OPTIONAL: gemm, then act of its C into a->y, in one; NULL: the two one after the other. */
    enum status (*gemm_activate)(struct backend *b, const struct gemm *g, const struct activate *a);
    /* to += alpha * from, same shape (residuals, gradient sums). */
    enum status (*add)(struct backend *b, struct tensor to, double alpha, struct tensor from);
    /* to (1 x columns, master) += column sums of from: a bias gradient. */
    enum status (*sum_rows)(struct backend *b, struct tensor to, struct tensor from);
    /* out[i] (+)= scale * table[ids[i]]; accumulate for position embeddings. */
    enum status (*embed)(struct backend *b, struct tensor out, struct tensor table, struct tensor ids,
                         double scale, bool accumulate);
    /* dtable[ids[i]] += scale * dout[i], master type; a fixed order for equal ids. */
    enum status (*embed_gradient)(struct backend *b, struct tensor dtable, struct tensor dout,
                                  struct tensor ids, double scale);
    enum status (*norm)(struct backend *b, const struct norm *n);
    enum status (*norm_gradient)(struct backend *b, const struct norm *n, const struct norm_gradient *g);
    enum status (*rope)(struct backend *b, const struct rope *r);
    enum status (*activate)(struct backend *b, const struct activate *a);
    enum status (*activate_gradient)(struct backend *b, const struct activate *a,
                                     const struct activate_gradient *g);
    enum status (*attention)(struct backend *b, const struct attention *a);
    enum status (*attention_gradient)(struct backend *b, const struct attention *a,
                                      const struct attention_gradient *g);
    enum status (*head)(struct backend *b, const struct head *h);
    enum status (*head_gradient)(struct backend *b, const struct head *h, const struct head_gradient *g);
    /* to[i] = from[rows[i]] */
    enum status (*gather)(struct backend *b, struct tensor to, struct tensor from, struct tensor rows);
    /* to[rows[i]] += from[i], a fixed order for equal rows */
    enum status (*scatter_add)(struct backend *b, struct tensor to, struct tensor from, struct tensor rows);
    /* to[i] = mean of from's rows [spans[2i], spans[2i] + spans[2i+1]); to of readout type, spans I32 (n, 2).
     */
    enum status (*pool)(struct backend *b, struct tensor to, struct tensor from, struct tensor spans);
    /* *out (host) = sum of squares in fp64, summed in a fixed order of fixed blocks. Waits. */
    enum status (*sum_squares)(struct backend *b, struct tensor x, double *out);
    enum status (*optimizer)(struct backend *b, const struct optimizer_step *s);
    /* OPTIONAL: the host address of device memory that the host shares (communication sums in place there);
     * NULL entry or result: the caller copies. */
    void *(*host_address)(struct backend *b, void *data);
    const struct backend_transfers *transfers;
    /* OPTIONAL: bytes of the device's memory that were taken since the back end was opened; nothing is given
     * back during a step, so that at its end this is the peak. */
    int64_t (*memory_taken)(struct backend *b);
    void (*destroy)(struct backend *b);
};

struct backend {
    const struct backend_ops *ops;
    struct backend_caps caps;
    void *context;
};

/* What --device and compute ask for. */
struct backend_request {
    const char *device;  /* "auto", "cpu", "cuda", "check:cpu", "plan" */
    const char *compute; /* "fp32", "bf16", "tf32" (fp32 whose products round their operands to 10 bits) */
    int threads;         /* 0: from the affinity mask */
    int device_index; /* this process's number within its node, dealt over its accelerators; -1: the first */
    int device_ranks; /* processes that may share an accelerator; 0: one */
    bool deterministic;
    const char
        *attention; /* of cuda: "auto" (also NULL), "own" kernels, "cudnn" (an error where it is missing) */
};
/* Local. Opens the back end asked for; `auto` takes a plug-in with a score and a device, else the CPU; *why
 * is the reason for the choice (for the log beside caps.description; never empty on success). Fails:
 * ERR_USAGE for an unknown name (names the nearest), ERR_SYSTEM where the device or compute type is not
 * there. The caller ends it with backend_close(). */
enum status backend_open(const struct backend_request *request, struct backend **out, char why[256]);
void backend_close(struct backend *b); /* NULL is fine */
/* Local. The library of the double-precision products (dense.h), and the kernels that this processor takes,
 * in words. */
void backend_cpu_library(char out[160]);
/* Local. The accelerator that `cuda` would open, or why there is none, in words. */
void backend_accelerator(char out[256]);

/* A plug-in (libcollimate_cuda.so) exports `const struct backend_plugin *collimate_backend(void)`. It does
 * not see the program's symbols, so it is handed `record`, the program's status_set(), for its failures: at
 * open and later. score: how much `auto` should want it; 0, only by name. */
struct backend_plugin {
    int api_version;
    int score;
    int (*devices)(void); /* that this process sees; 0 also where the driver is missing */
    enum status (*open)(const struct backend_request *request, void (*record)(const struct message *failure),
                        struct backend **out, char why[256]);
};

/* The front door: same names and arguments as the table, checked. */
enum status backend_alloc(struct backend *b, int64_t bytes, void **out);
void backend_free(struct backend *b, void *data);
enum status backend_write(struct backend *b, void *to, const void *host, int64_t bytes);
enum status backend_read(struct backend *b, void *host, const void *from, int64_t bytes);
enum status backend_copy(struct backend *b, void *to, const void *from, int64_t bytes);
enum status backend_zero(struct backend *b, void *to, int64_t bytes);
enum status backend_zero_tensor(struct backend *b, struct tensor t); /* contiguous */
enum status backend_sync(struct backend *b);
enum status backend_convert(struct backend *b, struct tensor to, struct tensor from);
enum status backend_gemm(struct backend *b, const struct gemm *g);
/* y = act(C), C = the product, where a->gate is C and a->up none; else the product, then the activation. */
enum status backend_gemm_activate(struct backend *b, const struct gemm *g, const struct activate *a);
enum status backend_add(struct backend *b, struct tensor to, double alpha, struct tensor from);
enum status backend_sum_rows(struct backend *b, struct tensor to, struct tensor from);
enum status backend_embed(struct backend *b, struct tensor out, struct tensor table, struct tensor ids,
                          double scale, bool accumulate);
enum status backend_embed_gradient(struct backend *b, struct tensor dtable, struct tensor dout,
                                   struct tensor ids, double scale);
enum status backend_norm(struct backend *b, const struct norm *n);
enum status backend_norm_gradient(struct backend *b, const struct norm *n, const struct norm_gradient *g);
enum status backend_rope(struct backend *b, const struct rope *r);
enum status backend_activate(struct backend *b, const struct activate *a);
enum status backend_activate_gradient(struct backend *b, const struct activate *a,
                                      const struct activate_gradient *g);
enum status backend_attention(struct backend *b, const struct attention *a);
enum status backend_attention_gradient(struct backend *b, const struct attention *a,
                                       const struct attention_gradient *g);
enum status backend_head(struct backend *b, const struct head *h);
enum status backend_head_gradient(struct backend *b, const struct head *h, const struct head_gradient *g);
enum status backend_gather(struct backend *b, struct tensor to, struct tensor from, struct tensor rows);
enum status backend_scatter_add(struct backend *b, struct tensor to, struct tensor from, struct tensor rows);
enum status backend_pool(struct backend *b, struct tensor to, struct tensor from, struct tensor spans);
enum status backend_sum_squares(struct backend *b, struct tensor x, double *out);
enum status backend_optimizer(struct backend *b, const struct optimizer_step *s);
int64_t backend_memory_taken(struct backend *b); /* 0: the back end works in host memory */
void *backend_host_address(struct backend *b, void *data);

/* Reads a contiguous F32, BF16 or F64 tensor into host doubles, or writes host doubles to one. */
enum status backend_read_doubles(struct backend *b, double *host, struct tensor from);
enum status backend_write_doubles(struct backend *b, struct tensor to, const double *host);

/* A bump allocator on device memory, so that nothing is allocated inside a step. */
struct workspace {
    struct backend *backend;
    char *base;
    int64_t capacity, used, peak;
};
/* Local. One allocation; grows never. workspace_take fails with ERR_SYSTEM naming `what`, what was asked and
 * the key (train.micro_tokens) that lowers it. Not cleared. */
enum status workspace_open(struct backend *b, int64_t bytes, struct workspace *out);
void workspace_close(struct workspace *w);
enum status workspace_take(struct workspace *w, int64_t rows, int64_t columns, enum dtype type,
                           const char *what, struct tensor *out);
int64_t workspace_mark(const struct workspace *w);
void workspace_release(struct workspace *w, int64_t mark);

#endif
