/* Products of bf16 operands by a kernel of dot products (dot_kernel.h has the order of sums): packing,
 * threads, storing.
 */
#ifndef COLLIMATE_CPU_DOT_H
#define COLLIMATE_CPU_DOT_H

#include "backend/cpu/cpu_internal.h"
#include "backend/cpu/dot_kernel.h"
#include "backend/cpu/kept_weights.h"

/* A matrix whose panels are made: op(A) by rows, op(B) by columns. `lines` of them, each of `depth` k. A
 * line's k lie together (k_step 1, line_step apart), or a k's lines (line_step 1). */
struct dot_source {
    const void *data;
    enum dtype type; /* DTYPE_BF16; DTYPE_F32 is rounded */
    int64_t lines, depth, line_step, k_step;
};

#define cpu_dot_pack_a CPU_NAME(cpu_dot_pack_a)
#define cpu_dot_pack_b CPU_NAME(cpu_dot_pack_b)
#define cpu_dot_product CPU_NAME(cpu_dot_product)

/* The panel of kernel->rows lines from `line` on, k in [k0, k0 + depth) filled up to a multiple of
 * DOT_ROUND; lines that do not exist are zero. */
void cpu_dot_pack_a(const struct dot_source *s, const struct dot_kernel *kernel, int64_t line, int64_t k0,
                    int64_t depth, uint16_t *to);
/* The panel of DOT_COLUMNS lines, likewise. */
void cpu_dot_pack_b(const struct dot_source *s, int64_t line, int64_t k0, int64_t depth, uint16_t *to);
/* All threads; cpu->dot is there and p->k is not 0. */
enum status cpu_dot_product(struct cpu *cpu, const struct product *p);

#endif
