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

/* Lines along k: `depth` values each, of 32. */
static inline __attribute__((always_inline)) void read_lines(const struct dot_source *s, int64_t line,
                                                             int64_t k, int64_t lines, const int64_t depth,
                                                             side out[SIDE]) {
    for (int64_t i = 0; i < SIDE; i++) {
        int64_t at = (line + i) * s->line_step + k;
        out[i] = (side){0};
        if (i >= lines) {
            continue;
        }
        if (s->type == DTYPE_BF16) {
            memcpy(&out[i], (const uint16_t *)s->data + at, (size_t)depth * sizeof(uint16_t));
        } else {
            uint16_t rounded[2 * SIDE];
            floats_to_bf16(rounded, (const float *)s->data + at, depth);
            memcpy(&out[i], rounded, (size_t)depth * sizeof *rounded);
        }
    }
}

/* A row of 16 lines, at one k. */
static inline void read_row(const struct dot_source *s, int64_t at, uint16_t out[SIDE]) {
    if (s->type == DTYPE_BF16) {
        memcpy(out, (const uint16_t *)s->data + at, SIDE * sizeof *out);
    } else {
        floats_to_bf16(out, (const float *)s->data + at, SIDE);
    }
}

/* Two rows of 16 lines each to their pairs: `depth` rows, of 32. */
static inline __attribute__((always_inline)) void read_pairs(const struct dot_source *s, int64_t line,
                                                             int64_t k, const int64_t depth, side out[SIDE]) {
    for (int64_t j = 0; j < SIDE; j++) {
        uint16_t even[SIDE] = {0}, odd[SIDE] = {0};
        int64_t at = line + (k + 2 * j) * s->k_step;
        if (2 * j < depth) {
            read_row(s, at, even);
        }
        if (2 * j + 1 < depth) {
            read_row(s, at + s->k_step, odd);
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
    enum { DEPTH = 2 * SIDE };
    bool is_edge = !is_along_k && s->lines - line < SIDE;
    if (exist <= 0 || depth <= 0) {
        memset(out, 0, SIDE * sizeof *out);
        return;
    }
    if (is_edge) {
        read_edge(s, line, k, exist, least(depth, DEPTH), out);
    } else if (is_along_k && depth >= DEPTH) {
        read_lines(s, line, k, exist, DEPTH, out);
    } else if (is_along_k) {
        read_lines(s, line, k, exist, depth, out);
    } else if (depth >= DEPTH) {
        read_pairs(s, line, k, DEPTH, out);
    } else {
        read_pairs(s, line, k, depth, out);
    }
    if ((is_along_k || is_edge) != by_line) {
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
