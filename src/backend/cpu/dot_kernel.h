/* Products of bf16 operands with fp32 sums, by instructions that make dot products of two values of k:
 * kernels, and which of them this processor has. cpu_dot.h packs, deals out to threads and stores. Two
 * neighbours in k, 2i and 2i + 1, are a pair here.
 *
 * The order of sums. An element of C is r, which begins as C (beta 1) or 0, plus the bias. k is cut into
 * pieces of the kernel's depth; a kernel sums a piece from zero, in the order below, to s, and r becomes
 * alpha * s + r, piece after piece, in fp32, both the product and the sum rounded. The last r is stored,
 * rounded once where C is bf16. So the bits of an element depend on its row of op(A), its column of op(B),
 * alpha, r's begin and the kernel alone: not on threads, ranks, the rows beside it, or how many there are.
 * Operands that are fp32 are rounded to bf16 as they are packed (to nearest even).
 *
 * avx512_bf16: VDPBF16PS, s += a[2i+1] b[2i+1], then s += a[2i] b[2i], i = 0, 1, …; each a fused multiply and
 *   add (Intel SDM, volume 2: round to nearest even, denormal operands and results are zero).
 * amx: TDPBF16PS, 16 pairs at once: the even k of 32 in order from zero by fused multiplies and adds, the odd
 *   ones likewise, then s += even + odd, i.e. one rounding for the two sums' sum and one for s's (likewise).
 */
#ifndef COLLIMATE_CPU_DOT_KERNEL_H
#define COLLIMATE_CPU_DOT_KERNEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "backend/backend.h"

/* A panel of B is so many columns, for either kernel: [k / 2][column][2], k filled up with zeros to a
 * multiple of DOT_ROUND. */
enum { DOT_COLUMNS = 32, DOT_ROUND = 32 };
static inline int64_t dot_filled(int64_t depth) {
    return (depth + DOT_ROUND - 1) / DOT_ROUND * DOT_ROUND;
}
/* Of a panel of A, at most. */
enum { DOT_MOST_ROWS = 32 };

struct dot_kernel {
    const char *name;  /* as cpu.products has it */
    const char *words; /* for the log */
    /* A panel of A is so many rows, of which `group` pairs each lie together: [k / 2 / group][row][group][2],
     * k filled up with zeros to a multiple of 2 * group. */
    int64_t rows, group;
    int64_t depth; /* of a piece of k; a multiple of DOT_ROUND */
    /* By each thread, before and after it multiplies; not nested. NULL: nothing to do. */
    void (*begin)(void);
    void (*end)(void);
    /* sums (rows x DOT_COLUMNS, dense) = the first `rows` rows of a panel of A times a panel of B over so
     * many pairs, a multiple of group. Rows of sums behind them, up to the kernel's, may be written too. */
    void (*multiply)(int64_t rows, int64_t pairs, const uint16_t *a, const uint16_t *b, float *sums);
};

/* NULL where the compiler that built this did not have the instructions. */
const struct dot_kernel *dot_avx512(void);
const struct dot_kernel *dot_amx(void);

/* This processor and its kernel, by CPUID and XCR0. */
bool dot_processor_has_avx512_bf16(void);
bool dot_processor_has_amx_bf16(void);
/* Asks the operating system for AMX's registers, which a process must before it uses them. Fails: ERR_SYSTEM.
 */
enum status dot_processor_take_amx(void);

/* The kernel of a kind of products: PRODUCTS_FP32 (also NULL) has none, *out is NULL. Fails: ERR_USAGE for an
 * unknown kind, ERR_SYSTEM for one that is not there, with the reason. */
enum status dot_kernel_find(const char *name, const struct dot_kernel **out);

#endif
