/* Products of few rows: a step of decoding, where reading B is what takes the time.
 *
 * All of A is packed once; then each thread takes columns of C, packs the panels of B for them into its own
 * first-level cache, and uses them at once, so that B is read once at memory speed and nobody waits. At most
 * FEW_ROWS rows take B as it lies.
 */
#include "backend/cpu/cpu_lanes.h"

#include <omp.h>

/* As add_part, of rows that have all columns of a panel. */
static void add_rows(const struct product *p, const struct block *block, const vec *tile) {
    bool is_new = block->is_first && p->beta == 0.0f;
    float room[PANEL_COLUMNS] = {0};
    const float *bias = NULL;
    if (block->is_first && p->bias) {
        bias = cpu_load(tensor_at((void *)p->bias, 1, p->n, p->type_bias), 0, block->column, PANEL_COLUMNS,
                        room);
    }
    for (int64_t i = 0; i < block->rows; i++) {
        vec_any *c = (vec_any *)((float *)p->c + (block->row + i) * p->ldc + block->column);
        for (int side = 0; side < 2; side++) {
            vec old = is_new ? (vec){0} : (vec)c[side];
            vec more = bias ? old + *(const vec_any *)(bias + side * LANES) : old;
            c[side] = p->alpha * tile[2 * i + side] + more;
        }
    }
}

/* The part of turn_and_multiply that is whole vectors of pairs; where it ends. */
static inline __attribute__((always_inline)) int64_t
turn_and_multiply_pairs(const int rows, const struct product *p, int64_t depth, const float *restrict a,
                        const void *b, int64_t ahead, vec c[FEW_ROWS][2]) {
    int64_t k = 0;
    for (; k + 2 * LANES <= depth; k += 2 * LANES) {
#pragma GCC unroll 2
        for (int side = 0; side < 2; side++) {
            const void *from = cpu_from(b, DTYPE_BF16, side * LANES * p->ldb);
            vec r[LANES];
            prefetch_lines(true, from, p->ldb, k, ahead);
            turn_pairs(from, p->ldb, LANES, k, r);
#pragma GCC unroll 16
            for (int j = 0; j < LANES; j++) {
                const float *x = a + (k + 2 * j) * PANEL_ROWS;
                vec low = low_of(r[j]);
                vec high = high_of(r[j]);
#pragma GCC unroll 4
                for (int i = 0; i < rows; i++) {
                    c[i][side] += x[i] * low;
                    c[i][side] += x[PANEL_ROWS + i] * high;
                }
            }
        }
    }
    return k;
}

/* As multiply_rows, from B as it lies in memory: LANES of its columns are turned in registers and used there.
 */
static inline __attribute__((always_inline)) void turn_and_multiply(const int rows, const bool is_bf16,
                                                                    const struct product *p, int64_t depth,
                                                                    const float *restrict a, const void *b,
                                                                    int64_t ahead, vec tile[PANEL_ROWS * 2]) {
    vec c[FEW_ROWS][2];
    int64_t k = 0;
#pragma GCC unroll 4
    for (int i = 0; i < rows; i++) {
        c[i][0] = c[i][1] = (vec){0};
    }
    if (is_bf16 && PAIRS_ARE_IN_ORDER) {
        k = turn_and_multiply_pairs(rows, p, depth, a, b, ahead, c);
    }
    for (; k + LANES <= depth; k += LANES) {
#pragma GCC unroll 2
        for (int side = 0; side < 2; side++) {
            const void *from = cpu_from(b, is_bf16 ? DTYPE_BF16 : DTYPE_F32, side * LANES * p->ldb);
            vec r[LANES];
            prefetch_lines(is_bf16, from, p->ldb, k, ahead);
#pragma GCC unroll 16
            for (int i = 0; i < LANES; i++) {
                r[i] = load(is_bf16, from, i * p->ldb + k);
            }
            transpose(r);
#pragma GCC unroll 16
            for (int j = 0; j < LANES; j++) {
#pragma GCC unroll 4
                for (int i = 0; i < rows; i++) {
                    c[i][side] += a[(k + j) * PANEL_ROWS + i] * r[j];
                }
            }
        }
    }
    for (; k < depth; k++) {
        for (int side = 0; side < 2; side++) {
            vec line = {0};
            for (int64_t i = 0; i < LANES; i++) {
                line[i] = value(is_bf16, b, (side * LANES + i) * p->ldb + k);
            }
            for (int i = 0; i < rows; i++) {
                c[i][side] += a[k * PANEL_ROWS + i] * line;
            }
        }
    }
#pragma GCC unroll 4
    for (int i = 0; i < rows; i++) {
        tile[2 * i] = c[i][0];
        tile[2 * i + 1] = c[i][1];
    }
}

static inline __attribute__((always_inline)) void multiply_few(const bool is_bf16, const struct product *p,
                                                               const struct block *block, const void *b,
                                                               int64_t ahead, vec tile[PANEL_ROWS * 2]) {
    if (block->rows == 1) {
        turn_and_multiply(1, is_bf16, p, block->depth, block->a, b, ahead, tile);
    } else if (block->rows == 2) {
        turn_and_multiply(2, is_bf16, p, block->depth, block->a, b, ahead, tile);
    } else {
        turn_and_multiply(FEW_ROWS, is_bf16, p, block->depth, block->a, b, ahead, tile);
    }
}

static void multiply_few_rows(const struct product *p, const struct block *block, int64_t k0, int64_t ahead) {
    const void *b = cpu_from(p->b, p->type_b, block->column * p->ldb + k0);
    vec tile[PANEL_ROWS * 2];
    if (p->type_b == DTYPE_BF16) {
        multiply_few(true, p, block, b, ahead, tile);
    } else {
        multiply_few(false, p, block, b, ahead, tile);
    }
    add_rows(p, block, tile);
}

enum { PANELS_AT_ONCE = 4 };

static void narrow_columns(const struct product *p, int64_t j, const float *a, float *b) {
    int64_t rows = panels_over(p->m, PANEL_ROWS) * PANEL_ROWS;
    bool is_few = p->m <= FEW_ROWS && p->transpose_b && p->n - j >= PANEL_COLUMNS;
    for (int64_t k = 0; k < p->k; k += PANEL_DEPTH) {
        int64_t depth = least(PANEL_DEPTH, p->k - k);
        int64_t ahead = k + depth < p->k ? depth : PANEL_COLUMNS * p->ldb - k;
        const struct block block = {.rows = p->m,
                                    .column = j,
                                    .columns = least(PANEL_COLUMNS, p->n - j),
                                    .depth = depth,
                                    .a = a + rows * k,
                                    .b = b,
                                    .is_first = k == 0};
        if (is_few) {
            multiply_few_rows(p, &block, k, ahead);
        } else {
            cpu_pack_columns(p, j, k, depth, b, ahead);
            cpu_multiply_block(p, &block);
        }
    }
}

/* Long runs, since a run's first panel was not prefetched; several a thread, since cores are not alike. */
static int64_t panels_in_a_run(int64_t panels, int threads) {
    int64_t run = panels / (4 * (int64_t)threads);
    return run > PANELS_AT_ONCE ? run : PANELS_AT_ONCE;
}

enum status cpu_product_narrow(struct cpu *cpu, const struct product *p) {
    int64_t rows = panels_over(p->m, PANEL_ROWS) * PANEL_ROWS;
    int64_t floats = (rows * p->k + 15) / 16 * 16;
    void *scratch = NULL;
    TRY(cpu_scratch(cpu, SCRATCH_PACK,
                    (floats + (int64_t)cpu->threads * PANEL_COLUMNS * PANEL_DEPTH) * (int64_t)sizeof(float),
                    &scratch));
    float *a = scratch;
    for (int64_t k = 0; k < p->k; k += PANEL_DEPTH) {
        int64_t depth = least(PANEL_DEPTH, p->k - k);
        for (int64_t i = 0; i < p->m; i += PANEL_ROWS) {
            cpu_pack_rows(p, i, k, depth, a + rows * k + i * depth);
        }
    }
    int64_t panels = panels_over(p->n, PANEL_COLUMNS);
#pragma omp parallel for num_threads(cpu->threads) \
    schedule(dynamic, panels_in_a_run(panels, cpu->threads)) if (p->n * p->k > CPU_PARALLEL_ELEMENTS)
    for (int64_t panel = 0; panel < panels; panel++) {
        float *b = a + floats + (int64_t)omp_get_thread_num() * PANEL_COLUMNS * PANEL_DEPTH;
        narrow_columns(p, panel * PANEL_COLUMNS, a, b);
    }
    return OK;
}
