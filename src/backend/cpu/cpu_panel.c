#include "backend/cpu/cpu_panel.h"
#include "backend/cpu/cpu_lanes.h"

#include <string.h>

/* `lines` lines of k, `stride` apart, to `width` values for each k, `pitch` apart; values of lines that do
 * not exist are zero. width <= LANES. Whole vectors are written, over what the next k then writes; the last
 * one keeps to its width. */
static inline __attribute__((always_inline)) void pack_transposed(const bool is_bf16, const void *from,
                                                                  int64_t stride, int64_t lines,
                                                                  int64_t depth, float *to, int64_t pitch,
                                                                  int64_t width) {
    int64_t k = 0;
    for (; k + LANES <= depth; k += LANES) {
        vec r[LANES];
#pragma GCC unroll 16
        for (int i = 0; i < LANES; i++) {
            r[i] = i < lines ? load(is_bf16, from, i * stride + k) : (vec){0};
        }
        transpose(r);
#pragma GCC unroll 16
        for (int i = 0; i < LANES - 1; i++) {
            *(vec_any *)(to + (k + i) * pitch) = r[i];
        }
        memcpy(to + (k + LANES - 1) * pitch, &r[LANES - 1], (size_t)width * sizeof(float));
    }
    for (; k < depth; k++) {
        vec line = {0};
        for (int64_t i = 0; i < lines; i++) {
            line[i] = value(is_bf16, from, i * stride + k);
        }
        memcpy(to + k * pitch, &line, (size_t)width * sizeof(float));
    }
}

/* depth lines of `width` values, `stride` apart, to lines of `pitch`, filled up with zeros. */
static inline __attribute__((always_inline)) void pack_straight(const bool is_bf16, const void *from,
                                                                int64_t stride, int64_t width, int64_t depth,
                                                                float *to, int64_t pitch) {
    for (int64_t k = 0; k < depth; k++) {
        float *y = to + k * pitch;
        for (int64_t j = 0; j < width; j++) {
            y[j] = value(is_bf16, from, k * stride + j);
        }
        for (int64_t j = width; j < pitch; j++) {
            y[j] = 0.0f;
        }
    }
}

/* Whole panels of A^T: a vector at a time, of which the next line overwrites what is too much. */
static inline __attribute__((always_inline)) void
pack_straight_rows(const bool is_bf16, const void *from, int64_t stride, int64_t depth, float *to) {
    for (int64_t k = 0; k < depth - 1; k++) {
        *(vec_any *)(to + k * PANEL_ROWS) = load(is_bf16, from, k * stride);
    }
    vec last = load(is_bf16, from, (depth - 1) * stride);
    memcpy(to + (depth - 1) * PANEL_ROWS, &last, PANEL_ROWS * sizeof(float));
}

static inline __attribute__((always_inline)) void
pack_rows(const bool is_bf16, const struct product *p, int64_t row, int64_t k0, int64_t depth, float *to) {
    int64_t rows = least(PANEL_ROWS, p->m - row);
    if (p->transpose_a) {
        const void *from = cpu_from(p->a, p->type_a, k0 * p->lda + row);
        if (p->m - row >= LANES) {
            pack_straight_rows(is_bf16, from, p->lda, depth, to);
        } else {
            pack_straight(is_bf16, from, p->lda, rows, depth, to, PANEL_ROWS);
        }
        return;
    }
    const void *from = cpu_from(p->a, p->type_a, row * p->lda + k0);
    int64_t k = rows == PANEL_ROWS ? pack_whole(is_bf16, PANEL_ROWS, from, p->lda, depth, to, PANEL_ROWS) : 0;
    pack_transposed(is_bf16, cpu_from(from, p->type_a, k), p->lda, rows, depth - k, to + k * PANEL_ROWS,
                    PANEL_ROWS, PANEL_ROWS);
}

void cpu_pack_rows(const struct product *p, int64_t row, int64_t k0, int64_t depth, float *to) {
    if (p->type_a == DTYPE_BF16) {
        pack_rows(true, p, row, k0, depth, to);
    } else {
        pack_rows(false, p, row, k0, depth, to);
    }
}

static inline __attribute__((always_inline)) void pack_columns(const bool is_bf16, const struct product *p,
                                                               int64_t column, int64_t k0, int64_t depth,
                                                               float *to) {
    int64_t columns = least(PANEL_COLUMNS, p->n - column);
    if (!p->transpose_b) {
        const void *from = cpu_from(p->b, p->type_b, k0 * p->ldb + column);
        if (columns == PANEL_COLUMNS) {
            pack_straight(is_bf16, from, p->ldb, PANEL_COLUMNS, depth, to, PANEL_COLUMNS);
        } else {
            pack_straight(is_bf16, from, p->ldb, columns, depth, to, PANEL_COLUMNS);
        }
        return;
    }
    const void *whole = cpu_from(p->b, p->type_b, column * p->ldb + k0);
    int64_t k = columns == PANEL_COLUMNS
                    ? pack_whole(is_bf16, PANEL_COLUMNS, whole, p->ldb, depth, to, PANEL_COLUMNS)
                    : 0;
    for (int64_t first = 0; first < PANEL_COLUMNS; first += LANES) {
        int64_t lines = least(LANES, columns - first);
        const void *from = cpu_from(p->b, p->type_b, (column + first) * p->ldb + k0 + k);
        pack_transposed(is_bf16, from, p->ldb, lines < 0 ? 0 : lines, depth - k,
                        to + k * PANEL_COLUMNS + first, PANEL_COLUMNS, LANES);
    }
}

void cpu_pack_columns(const struct product *p, int64_t column, int64_t k0, int64_t depth, float *to) {
    if (p->type_b == DTYPE_BF16) {
        pack_columns(true, p, column, k0, depth, to);
    } else {
        pack_columns(false, p, column, k0, depth, to);
    }
}

/* The first `rows` of tile (PANEL_ROWS x PANEL_COLUMNS) = sum over k of a[k] b[k]^T. */
static inline __attribute__((always_inline)) void multiply_rows(const int rows, int64_t depth,
                                                                const float *restrict a,
                                                                const float *restrict b,
                                                                vec tile[PANEL_ROWS * 2]) {
    vec c[PANEL_ROWS][2];
#pragma GCC unroll 16
    for (int i = 0; i < rows; i++) {
        c[i][0] = c[i][1] = (vec){0};
    }
    for (int64_t k = 0; k < depth; k++) {
        vec b0 = *(const vec_any *)(b + k * PANEL_COLUMNS);
        vec b1 = *(const vec_any *)(b + k * PANEL_COLUMNS + LANES);
#pragma GCC unroll 16
        for (int i = 0; i < rows; i++) {
            float x = a[k * PANEL_ROWS + i];
            c[i][0] += x * b0;
            c[i][1] += x * b1;
        }
    }
#pragma GCC unroll 16
    for (int i = 0; i < rows; i++) {
        tile[2 * i] = c[i][0];
        tile[2 * i + 1] = c[i][1];
    }
}

/* At least the first `rows`: a step of decoding has few, and a row is the same chain of operations in each.
 */
static void multiply_panels(int64_t rows, int64_t depth, const float *restrict a, const float *restrict b,
                            vec tile[PANEL_ROWS * 2]) {
    if (rows == 1) {
        multiply_rows(1, depth, a, b, tile);
    } else if (rows == 2) {
        multiply_rows(2, depth, a, b, tile);
    } else if (rows <= 4) {
        multiply_rows(4, depth, a, b, tile);
    } else {
        multiply_rows(PANEL_ROWS, depth, a, b, tile);
    }
}

void cpu_multiply_block(const struct product *p, const struct block *block) {
    for (int64_t j = 0; j < block->columns; j += PANEL_COLUMNS) {
        const float *b = block->b + j * block->depth;
        for (int64_t i = 0; i < block->rows; i += PANEL_ROWS) {
            vec tile[PANEL_ROWS * 2];
            bool is_whole = block->rows - i >= PANEL_ROWS && block->columns - j >= PANEL_COLUMNS;
            float *c = (float *)p->c + (block->row + i) * p->ldc + block->column + j;
            for (int64_t r = 0; is_whole && r < PANEL_ROWS; r++) {
                __builtin_prefetch(c + r * p->ldc, 1);
                __builtin_prefetch(c + r * p->ldc + LANES, 1);
            }
            multiply_panels(block->rows - i, block->depth, block->a + i * block->depth, b, tile);
            cpu_add_tile(p, block, (const float *)tile, block->row + i, block->column + j);
        }
    }
}
