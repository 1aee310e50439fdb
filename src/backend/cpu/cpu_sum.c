/* What a product's sums become in C: alpha s + C, both rounded, by every way that a product takes. Compiled
 * without contraction: fused in one place and not in another, an element's bits would depend on the rows
 * beside it.
 */
#include "backend/cpu/cpu_lanes.h"

/* A whole tile to its place in C, without bias. */
static void add_whole(const struct product *p, bool is_new, const vec *tile, float *c) {
#pragma GCC unroll 16
    for (int i = 0; i < PANEL_ROWS; i++) {
        vec_any *to = (vec_any *)(c + i * p->ldc);
        vec low = is_new ? (vec){0} : (vec)to[0];
        vec high = is_new ? (vec){0} : (vec)to[1];
        to[0] = p->alpha * tile[2 * i] + low;
        to[1] = p->alpha * tile[2 * i + 1] + high;
    }
}

/* The part of a tile that is inside C, and the bias. */
static void add_part(const struct product *p, const struct block *block, const float *tile, int64_t row,
                     int64_t column) {
    int64_t rows = least(PANEL_ROWS, block->row + block->rows - row);
    int64_t columns = least(PANEL_COLUMNS, block->column + block->columns - column);
    bool is_new = block->is_first && p->beta == 0.0f;
    float room[PANEL_COLUMNS];
    const float *bias = NULL;
    if (block->is_first && p->bias) {
        bias = cpu_load(tensor_at((void *)p->bias, 1, p->n, p->type_bias), 0, column, columns, room);
    }
    for (int64_t i = 0; i < rows; i++) {
        float *restrict c = (float *)p->c + (row + i) * p->ldc + column;
        const float *restrict t = tile + i * PANEL_COLUMNS;
        for (int64_t j = 0; j < columns; j++) {
            float old = is_new ? 0.0f : c[j];
            c[j] = p->alpha * t[j] + (bias ? old + bias[j] : old);
        }
    }
}

void cpu_add_tile(const struct product *p, const struct block *block, const float *tile, int64_t row,
                  int64_t column) {
    bool has_bias = block->is_first && p->bias;
    bool is_whole = block->row + block->rows - row >= PANEL_ROWS &&
                    block->column + block->columns - column >= PANEL_COLUMNS;
    if (is_whole && !has_bias) {
        add_whole(p, block->is_first && p->beta == 0.0f, (const vec *)(const void *)tile,
                  (float *)p->c + row * p->ldc + column);
    } else {
        add_part(p, block, tile, row, column);
    }
}

void cpu_add_sums(const struct product *p, int64_t n, const float *sums, float *c) {
    for (int64_t i = 0; i < n; i++) {
        c[i] = p->alpha * sums[i] + c[i];
    }
}

void cpu_begin_columns(const struct product *p, int64_t first, int64_t columns, int64_t apart, float *c,
                       int64_t ldc) {
    for (int64_t i = 0; i < p->m; i++) {
        const float *old = (const float *)p->c + i * p->ldc + first;
        for (int64_t l = 0; l < columns; l++) {
            float x = p->beta == 0.0f ? 0.0f : old[l * apart];
            c[i * ldc + l] = p->bias ? x + value(p->type_bias == DTYPE_BF16, p->bias, first + l * apart) : x;
        }
    }
}

void cpu_end_columns(const struct product *p, int64_t first, int64_t columns, int64_t apart, const float *c,
                     int64_t ldc) {
    for (int64_t i = 0; i < p->m; i++) {
        float *to = (float *)p->c + i * p->ldc + first;
        for (int64_t l = 0; l < columns; l++) {
            to[l * apart] = c[i * ldc + l];
        }
    }
}
