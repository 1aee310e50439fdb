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
 * operations.h lists the operations; workspace.h deals out memory.
 *
 * Types: caps.master (parameters' masters, gradients, optimizer state), caps.compute (activations and the
 * parameters' compute copy; equal to master on the fp32 CPU), caps.readout (statistics, log-probabilities;
 * F32 or F64). Every operation accumulates in fp32 or better. So bf16 changes nothing above this header.
 */
#ifndef COLLIMATE_BACKEND_BACKEND_H
#define COLLIMATE_BACKEND_BACKEND_H

#include <stddef.h>
#include <stdint.h>

#include "backend/operations.h"
#include "util/status.h"

enum { BACKEND_API_VERSION = 9 };

struct backend_caps {
    const char *name;      /* "cpu", "check:cpu", "plan", "cuda" */
    char description[160]; /* for the log: library, instruction set, device */
    enum dtype master, compute, readout;
    bool deterministic;   /* same bits for the same operations, whatever the thread count */
    bool steady_rows;     /* of finite values: a row's bits depend on nothing beside it, nor on how many */
    bool keeps_weights;   /* keep_weights() has an effect: a matrix's copies take backend_kept_bytes() */
    const char *products; /* of the CPU: the kind that was asked for; NULL elsewhere */
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

enum { BACKEND_STAMPS = 2048 };

/* Every entry gets checked arguments and returns a status. REQUIRED of every back end. */
#define BACKEND_ENTRY(name, type) enum status (*name)(struct backend * b, const type *call);
struct backend_ops {
    int api_version;
    enum status (*alloc)(struct backend *b, int64_t bytes, void **out); /* 64-byte aligned, not cleared */
    void (*free)(struct backend *b, void *data);
    enum status (*write)(struct backend *b, void *to, const void *host, int64_t bytes);
    enum status (*read)(struct backend *b, void *host, const void *from, int64_t bytes); /* waits */
    enum status (*copy)(struct backend *b, void *to, const void *from, int64_t bytes);
    enum status (*zero)(struct backend *b, void *to, int64_t bytes);
    enum status (*sync)(struct backend *b);
    /* OPTIONAL: the host address of device memory that the host shares (communication sums in place there);
     * NULL entry or result: the caller copies. */
    void *(*host_address)(struct backend *b, void *data);
    const struct backend_transfers *transfers;
    /* OPTIONAL: what the operations keep for themselves at most, in bytes, beside the memory that is asked
     * for; of a model of this width, vocabulary and head_dim. NULL: nothing. */
    int64_t (*scratch_bytes)(const struct backend *b, int64_t width, int64_t vocabulary, int head_dim);
    /* OPTIONAL: bytes of the device's memory that were taken since the back end was opened; nothing is given
     * back during a step, so that at its end this is the peak. */
    int64_t (*memory_taken)(struct backend *b);
    /* OPTIONAL, of a device that runs behind the host: a moment in its work, when the operations given so far
     * are done, kept under an index below BACKEND_STAMPS; taken again it is another. The time between two:
     * waits for them. */
    enum status (*stamp)(struct backend *b, int index);
    enum status (*stamp_seconds)(struct backend *b, int from, int to, double *seconds);
    /* OPTIONAL: `weights` (contiguous, of compute type) are read by many products before they change, and
     * change only when weights_changed() says so: products may keep them laid out in their own way. From the
     * place where any of them lies; drop_weights() before the memory is given back. */
    enum status (*keep_weights)(struct backend *b, struct tensor weights);
    void (*weights_changed)(struct backend *b, const void *data, int64_t bytes);
    void (*drop_weights)(struct backend *b, const void *data, int64_t bytes);
    void (*destroy)(struct backend *b);
    /* A function per row of operations.h: enum status (*gemm)(struct backend *, const struct gemm *), … */
    OPERATIONS(BACKEND_ENTRY)
    OPTIONAL_OPERATIONS(BACKEND_ENTRY)
    CPU_OPERATIONS(BACKEND_ENTRY)
};
#undef BACKEND_ENTRY

struct operation_times;

struct backend {
    const struct backend_ops *ops;
    struct backend_caps caps;
    void *context;
    struct operation_times *times; /* operation_times.h; NULL: nobody asked */
};

/* Kinds of products of bf16 operands on the CPU, as cpu.products names them: made fp32, or by instructions.
 */
#define PRODUCTS_FP32 "fp32"
#define PRODUCTS_AVX512 "avx512_bf16"
#define PRODUCTS_AMX "amx"

/* What --device and compute ask for. */
struct backend_request {
    const char *device;  /* "auto", "cpu", "cuda", "check:cpu", "plan" */
    const char *compute; /* "fp32", "bf16", "tf32" (fp32 whose products round their operands to 10 bits) */
    int threads;         /* 0: from the affinity mask */
    int device_index; /* this process's number within its node, dealt over its accelerators; -1: the first */
    int device_ranks; /* processes that may share an accelerator; 0: one */
    bool deterministic;
    const char *products; /* of the CPU, with bf16: a kind of products; NULL: PRODUCTS_FP32 */
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
/* Local. Whether this processor, its operating system and this build have a kind of products, and nobody
 * asked for the kernels of older processors (COLLIMATE_CPU_LEVEL). */
bool backend_cpu_offers_products(const char *kind);
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

/* The front door: what operations.h lists, checked; small calls as arguments. */
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
/* Fails: ERR_INTERNAL where the back end has it not. */
enum status backend_read_logits(struct backend *b, const struct read_logits *call);
bool backend_reads_logits(const struct backend *b);
enum status backend_gather(struct backend *b, struct tensor to, struct tensor from, struct tensor rows);
enum status backend_scatter_add(struct backend *b, struct tensor to, struct tensor from, struct tensor rows);
enum status backend_pool(struct backend *b, struct tensor to, struct tensor from, struct tensor spans);
enum status backend_film(struct backend *b, const struct film *f);
enum status backend_film_gradient(struct backend *b, const struct film *f, const struct film_gradient *g);
enum status backend_sum_squares(struct backend *b, struct tensor x, double *out);
enum status backend_optimizer(struct backend *b, const struct optimizer_step *s);
int64_t backend_memory_taken(struct backend *b); /* 0: the back end works in host memory */
int64_t backend_scratch_bytes(const struct backend *b, int64_t width, int64_t vocabulary, int head_dim);
/* Weights that stay as they are for many products; without an effect where the back end keeps nothing. What
 * one way of reading rows x columns of them (W, or its transpose) takes beside them, in bytes. */
enum status backend_keep_weights(struct backend *b, struct tensor weights);
void backend_weights_changed(struct backend *b, struct tensor where);
void backend_drop_weights(struct backend *b, struct tensor where);
int64_t backend_kept_bytes(const struct backend *b, int64_t rows, int64_t columns);
void *backend_host_address(struct backend *b, void *data);

/* Reads a contiguous F32, BF16 or F64 tensor into host doubles, or writes host doubles to one. */
enum status backend_read_doubles(struct backend *b, double *host, struct tensor from);
enum status backend_write_doubles(struct backend *b, struct tensor to, const double *host);

#endif
