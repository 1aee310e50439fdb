/* The CPU back end's inside.
 *
 * The files cpu_*.c are compiled once per instruction set (CMakeLists.txt: base, v3 with AVX2 and FMA, v4
 * with AVX-512, after the x86-64 psABI levels); each compilation gives its functions a suffix and exports one
 * table of operations, and cpu.c takes the best table that this processor can run. So kernels are plain C
 * loops that the compiler vectorises, OpenMP regions included, and there is no dispatch inside.
 *
 * Threads: one OpenMP pool, asked for with num_threads(cpu->threads). Every loop is cut into pieces that do
 * not depend on the thread count, and a piece is summed in a fixed order, so results have the same bits for
 * any thread count.
 */
#ifndef COLLIMATE_CPU_INTERNAL_H
#define COLLIMATE_CPU_INTERNAL_H

#include "backend/backend_internal.h"
#include "backend/cpu/kept_weights.h"

#ifndef CPU_ISA
#define CPU_ISA base
#endif
#define CPU_PASTE(name, isa) name##_##isa
#define CPU_EXPAND(name, isa) CPU_PASTE(name, isa)
#define CPU_NAME(name) CPU_EXPAND(name, CPU_ISA)

/* Memory that an operation needs inside; each kind has one buffer, grown when asked and kept. */
enum cpu_scratch {
    SCRATCH_PACK,      /* a product's panels */
    SCRATCH_HEAD,      /* a slab of logits */
    SCRATCH_ATTENTION, /* tiles of scores */
    SCRATCH_SUMS,
    SCRATCH_ROWS, /* rows as fp32, where they are not */
    SCRATCH_OUT,  /* a product's sums, where C is not fp32 */
    SCRATCH_KINDS
};

struct dot_kernel;
struct cpu {
    int threads;
    const struct dot_kernel *dot; /* products of bf16 operands; NULL: they are made fp32 */
    struct kept_weights kept;
    void *scratch[SCRATCH_KINDS];
    int64_t scratch_bytes[SCRATCH_KINDS];
};

static inline struct cpu *cpu_of(const struct backend *b) {
    return b->context;
}
/* At least `bytes`, 64-byte aligned, not cleared. */
enum status cpu_scratch(struct cpu *cpu, enum cpu_scratch kind, int64_t bytes, void **out);
/* 64-byte aligned, not cleared, on large pages where there are some; the caller's, ends with mem_free(). */
enum status cpu_large_pages(int64_t bytes, const char *what, void **out);

static inline int64_t least(int64_t a, int64_t b) {
    return a < b ? a : b;
}
/* Panels of `size` lines that n lines take. */
static inline int64_t panels_over(int64_t n, int64_t size) {
    return (n + size - 1) / size;
}

/* Of fp32 tensors: masters, gradients, statistics. */
static inline float *cpu_row(struct tensor t, int64_t i) {
    return (float *)t.data + i * t.stride;
}
/* Value `column` of row i, whatever its type. */
static inline void *cpu_at(struct tensor t, int64_t i, int64_t column) {
    return (char *)t.data + (i * t.stride + column) * (t.type == DTYPE_BF16 ? 2 : 4);
}
/* Of memory that holds values of a type: from value i on. */
static inline const void *cpu_from(const void *data, enum dtype type, int64_t i) {
    return (const char *)data + i * (type == DTYPE_BF16 ? 2 : 4);
}

/* A slab of logits: 8 MiB, in the last-level cache. A product's packed blocks take about as much as here. */
enum { CPU_SLAB_ROWS = 512, CPU_SLAB_COLUMNS = 4096, CPU_PACK_BYTES = 4 << 20 };
/* A thread's own room in products of few rows, at most: panels of B in cpu_dot.c (bf16), and in cpu_narrow.c
 * with the panel's part of C. */
enum { CPU_NARROW_BYTES = 256 << 10 };

/* Elements below which a loop is not worth waking other threads: about 10 microseconds of streaming. */
enum { CPU_PARALLEL_ELEMENTS = 16384 };
/* Column sums are cut into strips of this many columns (four cache lines of fp32). */
enum { CPU_STRIP = 64 };

/* C = alpha op(A) op(B) + beta C (+ bias in every row); row-major with leading dimensions; beta 0 or 1.
 * Operands are fp32, where nothing else is said, or bf16; packing makes fp32 of them, or bf16 where the back
 * end has a kernel for it (cpu_dot.h). Sums are fp32. */
struct product {
    int64_t m, n, k;
    bool transpose_a, transpose_b;
    float alpha, beta;
    const void *a, *b;
    void *c;
    int64_t lda, ldb, ldc;
    const void *bias; /* n, or NULL */
    enum dtype type_a, type_b, type_c, type_bias;
};
#define cpu_product CPU_NAME(cpu_product)
#define cpu_product_serial CPU_NAME(cpu_product_serial)
#define cpu_pack_floats CPU_NAME(cpu_pack_floats)
/* All threads. */
enum status cpu_product(struct cpu *cpu, const struct product *p);
/* The calling thread alone, for tiles inside a parallel loop; C and bias are fp32; pack: cpu_pack_floats(m,
 * n, k) floats. */
void cpu_product_serial(const struct product *p, float *pack);
int64_t cpu_pack_floats(int64_t m, int64_t n, int64_t k);

/* cpu_NAME of this instruction set, for each operation. */
#define CPU_OPERATION(name) CPU_NAME(cpu_##name)
#define CPU_PROTOTYPE(name, type) enum status CPU_OPERATION(name)(struct backend *, const type *);
OPERATIONS(CPU_PROTOTYPE)
CPU_OPERATIONS(CPU_PROTOTYPE)
#undef CPU_PROTOTYPE

/* The table of this instruction set (cpu_table.c); memory entries are cpu.c's, the same for all. */
#define cpu_table CPU_NAME(cpu_table)
extern const struct backend_ops cpu_table;

enum status cpu_alloc(struct backend *b, int64_t bytes, void **out);
void cpu_free(struct backend *b, void *data);
enum status cpu_write(struct backend *b, void *to, const void *host, int64_t bytes);
enum status cpu_read(struct backend *b, void *host, const void *from, int64_t bytes);
enum status cpu_copy(struct backend *b, void *to, const void *from, int64_t bytes);
enum status cpu_zero(struct backend *b, void *to, int64_t bytes);
enum status cpu_sync(struct backend *b);
enum status cpu_keep_weights(struct backend *b, struct tensor weights);
void cpu_weights_changed(struct backend *b, const void *data, int64_t bytes);
void cpu_drop_weights(struct backend *b, const void *data, int64_t bytes);
void *cpu_host_address(struct backend *b, void *data);
int64_t cpu_scratch_bytes(const struct backend *b, int64_t width, int64_t vocabulary);
void cpu_destroy(struct backend *b);

#endif
