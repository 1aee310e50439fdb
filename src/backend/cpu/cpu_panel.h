/* The inner part of a matrix product: panels and the loop over them.
 *
 * A panel of A is PANEL_ROWS rows laid out k by k (k x PANEL_ROWS), a panel of B is PANEL_COLUMNS columns
 * laid out k by k; both are padded with zeros. The product of two panels stays in registers: PANEL_ROWS x 2
 * vectors of sums, two vectors of B, one broadcast value of A (Goto and van de Geijn 2008). An element of C
 * is the same chain of operations wherever it lies, so it depends neither on threads nor on its neighbours.
 *
 *              k ->                     B's panel: PANEL_COLUMNS wide, k by k
 *        A's panel                      b00 b01 .. | b10 b11 .. | ...
 *        PANEL_ROWS tall       .-----------------.
 *        a00 a10 .. | a01 ..   |  C: in registers |   for each k: broadcast a value of A, multiply-add two
 *                              '-----------------'   vectors of B: PANEL_ROWS x 2 independent chains
 *
 * Packing costs m k + k n loads and stores for 2 m n k operations, makes both streams contiguous whatever the
 * operands' strides and transposition, and pads odd edges with zeros, so that the loop has no other case.
 */
#ifndef COLLIMATE_CPU_PANEL_H
#define COLLIMATE_CPU_PANEL_H

#include "backend/cpu/cpu_internal.h"

#if defined(__AVX512F__)
enum { LANES = 16, PANEL_ROWS = 14 }; /* 28 + 2 + 1 of 32 registers */
#elif defined(__AVX__)
enum { LANES = 8, PANEL_ROWS = 6 }; /* 12 + 2 + 1 of 16 registers */
#else
enum { LANES = 4, PANEL_ROWS = 4 };
#endif
enum { PANEL_COLUMNS = 2 * LANES };
/* Depth of a panel: a panel of B (32 KiB with AVX-512) stays in the first-level cache. */
enum { PANEL_DEPTH = 256 };

#define cpu_pack_rows CPU_NAME(cpu_pack_rows)
#define cpu_pack_columns CPU_NAME(cpu_pack_columns)
#define cpu_multiply_block CPU_NAME(cpu_multiply_block)
#define cpu_product_narrow CPU_NAME(cpu_product_narrow)
#define cpu_add_tile CPU_NAME(cpu_add_tile)
#define cpu_add_sums CPU_NAME(cpu_add_sums)
#define cpu_begin_columns CPU_NAME(cpu_begin_columns)
#define cpu_end_columns CPU_NAME(cpu_end_columns)
#define cpu_product_few CPU_NAME(cpu_product_few)

/* One panel of op(A): rows [row, row + PANEL_ROWS) that exist, k in [k0, k0 + depth). */
void cpu_pack_rows(const struct product *p, int64_t row, int64_t k0, int64_t depth, float *to);
/* One panel of op(B): columns [column, column + PANEL_COLUMNS) that exist. */
void cpu_pack_columns(const struct product *p, int64_t column, int64_t k0, int64_t depth, float *to);

/* Part [row, row + rows) x [column, column + columns) of C from packed panels of one depth; row and column
 * begin a panel. a, b: the first panels needed; is_first: nothing was added to C for smaller k. */
struct block {
    int64_t row, rows, column, columns, depth;
    const float *a, *b;
    bool is_first;
};
void cpu_multiply_block(const struct product *p, const struct block *block);

/* What sums become in C (cpu_sum.c). A tile of PANEL_ROWS x PANEL_COLUMNS sums at (row, column): what of it
 * is inside the block. */
void cpu_add_tile(const struct product *p, const struct block *block, const float *tile, int64_t row,
                  int64_t column);
/* n values of C side by side that begin_columns() took. */
void cpu_add_sums(const struct product *p, int64_t n, const float *sums, float *c);

/* At most PANEL_NARROW_ROWS rows (cpu_narrow.c: a thread's room for C has as many), with the bits of the
 * other way; C is fp32, and k is not 0. */
enum { PANEL_NARROW_ROWS = 48, FEW_ROWS = 4 };
enum status cpu_product_narrow(struct cpu *cpu, const struct product *p);
/* Columns first, first + apart, … of a C that is fp32, taken together into c (rows `ldc` apart): what they
 * begin from, old values and bias as add_tile has them; and back, summed. */
void cpu_begin_columns(const struct product *p, int64_t first, int64_t columns, int64_t apart, float *c,
                       int64_t ldc);
void cpu_end_columns(const struct product *p, int64_t first, int64_t columns, int64_t apart, const float *c,
                     int64_t ldc);
/* Panels that a thread takes at once: long runs, since a stream has to begin anew in each; several a thread,
 * since cores are not alike. */
static inline int64_t cpu_panels_in_a_run(int64_t panels, int threads) {
    int64_t run = panels / (8 * (int64_t)threads);
    return run > 1 ? run : 1;
}
/* As cpu_product_narrow, of at most FEW_ROWS rows and B^T (cpu_few.c). */
enum status cpu_product_few(struct cpu *cpu, const struct product *p);

#endif
