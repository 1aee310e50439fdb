/* Panels of pairs: blocks of 16 lines x 16 pairs of k, read as they lie, turned in registers where the panel
 * has them the other way, and written. */
#include "backend/cpu/cpu_bf16.h"
#include "backend/cpu/cpu_dot.h"
#include "backend/cpu/cpu_turn.h"

#include <string.h>

enum { SIDE = 16 };
typedef uint32_t side __attribute__((vector_size(SIDE * 4)));

/* r[i][j] becomes r[j][i]. */
static inline __attribute__((always_inline)) void turn(side r[SIDE]) {
    TURN_STAGE(16, 1, r, side, side)
    TURN_STAGE(16, 2, r, side, side)
    TURN_STAGE(16, 4, r, side, side)
    TURN_STAGE(16, 8, r, side, side)
}

static inline uint16_t bits_at(const struct dot_source *s, int64_t i) {
    return s->type == DTYPE_BF16 ? ((const uint16_t *)s->data)[i] : bf16_bits(((const float *)s->data)[i]);
}

/* What exists of a block at the edges, pair by pair: out[line][pair]. */
static void read_edge(const struct dot_source *s, int64_t line, int64_t k, int64_t lines, int64_t depth,
                      side out[SIDE]) {
    uint32_t block[SIDE][SIDE] = {0};
    for (int64_t i = 0; i < lines; i++) {
        for (int64_t j = 0; j < depth; j++) {
            uint32_t bits = bits_at(s, (line + i) * s->line_step + (k + j) * s->k_step);
            block[i][j / 2] |= bits << (j % 2 * 16);
        }
    }
    memcpy(out, block, sizeof block);
}

/* Whole lines along k: 32 values each. */
static inline void read_lines(const struct dot_source *s, int64_t line, int64_t k, int64_t lines,
                              side out[SIDE]) {
    for (int64_t i = 0; i < SIDE; i++) {
        int64_t at = (line + i) * s->line_step + k;
        if (i >= lines) {
            out[i] = (side){0};
        } else if (s->type == DTYPE_BF16) {
            memcpy(&out[i], (const uint16_t *)s->data + at, sizeof out[i]);
        } else {
            uint16_t rounded[2 * SIDE];
            floats_to_bf16(rounded, (const float *)s->data + at, 2L * SIDE);
            memcpy(&out[i], rounded, sizeof out[i]);
        }
    }
}

/* Two rows of 16 lines each to their pairs. */
static inline void read_pairs(const struct dot_source *s, int64_t line, int64_t k, side out[SIDE]) {
    for (int64_t j = 0; j < SIDE; j++) {
        uint16_t even[SIDE], odd[SIDE];
        int64_t at = line + (k + 2 * j) * s->k_step;
        if (s->type == DTYPE_BF16) {
            memcpy(even, (const uint16_t *)s->data + at, sizeof even);
            memcpy(odd, (const uint16_t *)s->data + at + s->k_step, sizeof odd);
        } else {
            floats_to_bf16(even, (const float *)s->data + at, SIDE);
            floats_to_bf16(odd, (const float *)s->data + at + s->k_step, SIDE);
        }
        uint32_t both[SIDE];
        for (int i = 0; i < SIDE; i++) {
            both[i] = (uint32_t)even[i] | (uint32_t)odd[i] << 16;
        }
        memcpy(&out[j], both, sizeof both);
    }
}

/* Lines [line, line + 16) and k in [k, k + 32) as far as they exist, by line or by pair. `lines`: of those,
 * how many are wanted. */
static inline void read_block(const struct dot_source *s, int64_t line, int64_t k, int64_t lines,
                              int64_t depth, bool by_line, side out[SIDE]) {
    bool is_along_k = s->k_step == 1;
    int64_t exist = s->lines - line < lines ? s->lines - line : lines;
    bool is_whole = depth >= 2L * SIDE && (is_along_k || s->lines - line >= SIDE);
    if (exist <= 0 || depth <= 0) {
        memset(out, 0, SIDE * sizeof *out);
        return;
    }
    if (!is_whole) {
        read_edge(s, line, k, exist, depth < 2L * SIDE ? depth : 2L * SIDE, out);
    } else if (is_along_k) {
        read_lines(s, line, k, exist, out);
    } else {
        read_pairs(s, line, k, out);
    }
    if ((is_along_k || !is_whole) != by_line) {
        turn(out);
    }
}

void cpu_dot_pack_a(const struct dot_source *s, const struct dot_kernel *kernel, int64_t line, int64_t k0,
                    int64_t depth, uint16_t *to) {
    int64_t rows = kernel->rows;
    bool by_line = kernel->group == SIDE;
    for (int64_t k = 0; k < dot_filled(depth); k += 2L * SIDE) {
        for (int64_t i = 0; i < rows; i += SIDE) {
            side block[SIDE];
            int64_t lines = rows - i < SIDE ? rows - i : SIDE;
            read_block(s, line + i, k0 + k, lines, depth - k, by_line, block);
            uint16_t *at = to + k * rows + (by_line ? i * 2 * SIDE : 2 * i);
            for (int64_t j = 0; j < SIDE; j++) { /* a line's 16 pairs, or a pair's lines */
                memcpy(at + j * 2 * (by_line ? SIDE : rows), &block[j], (size_t)lines * sizeof(uint32_t));
            }
        }
    }
}

void cpu_dot_pack_b(const struct dot_source *s, int64_t line, int64_t k0, int64_t depth, uint16_t *to) {
    for (int64_t k = 0; k < dot_filled(depth); k += 2L * SIDE) {
        for (int64_t i = 0; i < DOT_COLUMNS; i += SIDE) {
            side block[SIDE];
            read_block(s, line + i, k0 + k, SIDE, depth - k, false, block);
            uint16_t *at = to + k * DOT_COLUMNS + 2 * i;
            for (int64_t j = 0; j < SIDE; j++) {
                memcpy(at + j * 2 * DOT_COLUMNS, &block[j], sizeof block[j]);
            }
        }
    }
}
