/* Products of few rows: a step of decoding, where reading B is what takes the time.
 *
 * All of A is packed once; then each thread takes columns of C, packs the panels of B for them into its own
 * caches, and uses them at once, so that B is read once at memory speed and nobody waits. The columns of a
 * panel of B^T are far apart, as in cpu_few.c, and each group of LINES of them is read for PIECE_DEPTH values
 * of k at once.
 */
#include "backend/cpu/cpu_lanes.h"

#include <omp.h>

enum { GROUPS = PANEL_COLUMNS / LINES, PIECE_DEPTH = 4 * PANEL_DEPTH };
_Static_assert(GROUPS *LINES == PANEL_COLUMNS, "a panel is whole groups");

/* A thread's room: a piece of a panel, and the panel's part of C. */
struct narrow_room {
    float b[PIECE_DEPTH * PANEL_COLUMNS];
    float c[PANEL_NARROW_ROWS * PANEL_COLUMNS];
};
_Static_assert(sizeof(struct narrow_room) <= CPU_NARROW_BYTES, "what cpu_scratch_bytes() counts");

/* LINES lines `stride` values apart to LINES values of each k, a panel's width apart. */
static inline __attribute__((always_inline)) void pack_group(const bool is_bf16, const void *from,
                                                             int64_t stride, int64_t depth, float *to) {
    int64_t k = pack_whole(is_bf16, LINES, from, stride, depth, to, PANEL_COLUMNS);
    for (; k < depth; k++) {
        for (int l = 0; l < LINES; l++) {
            to[k * PANEL_COLUMNS + l] = value(is_bf16, from, l * stride + k);
        }
    }
}

/* The columns first + g + l apart, g < GROUPS, l < LINES. */
static void far_columns(const struct product *p, const float *a, int64_t first, int64_t apart,
                        struct narrow_room *room) {
    const int64_t rows = panels_over(p->m, PANEL_ROWS) * PANEL_ROWS;
    const bool is_bf16 = p->type_b == DTYPE_BF16;
    const int64_t stride = apart * p->ldb;
    struct product here = *p;
    here.c = room->c;
    here.ldc = PANEL_COLUMNS;
    here.bias = NULL;
    here.beta = 1.0f;
    for (int64_t g = 0; g < GROUPS; g++) {
        cpu_begin_columns(p, first + g, LINES, apart, room->c + g * LINES, PANEL_COLUMNS);
    }
    for (int64_t piece = 0; piece < p->k; piece += PIECE_DEPTH) {
        int64_t end = least(piece + PIECE_DEPTH, p->k);
        for (int64_t g = 0; g < GROUPS; g++) {
            const void *from = cpu_from(p->b, p->type_b, (first + g) * p->ldb + piece);
            if (is_bf16) {
                pack_group(true, from, stride, end - piece, room->b + g * LINES);
            } else {
                pack_group(false, from, stride, end - piece, room->b + g * LINES);
            }
        }
        for (int64_t k = piece; k < end; k += PANEL_DEPTH) {
            cpu_multiply_block(&here, &(struct block){.rows = p->m,
                                                      .columns = PANEL_COLUMNS,
                                                      .depth = least(PANEL_DEPTH, end - k),
                                                      .a = a + rows * k,
                                                      .b = room->b + (k - piece) * PANEL_COLUMNS});
        }
    }
    for (int64_t g = 0; g < GROUPS; g++) {
        cpu_end_columns(p, first + g, LINES, apart, room->c + g * LINES, PANEL_COLUMNS);
    }
}

/* PANEL_COLUMNS columns side by side, or those that are left. */
static void near_columns(const struct product *p, const float *a, int64_t column, float *b) {
    int64_t rows = panels_over(p->m, PANEL_ROWS) * PANEL_ROWS;
    for (int64_t k = 0; k < p->k; k += PANEL_DEPTH) {
        int64_t depth = least(PANEL_DEPTH, p->k - k);
        cpu_pack_columns(p, column, k, depth, b);
        cpu_multiply_block(p, &(struct block){.rows = p->m,
                                              .column = column,
                                              .columns = least(PANEL_COLUMNS, p->n - column),
                                              .depth = depth,
                                              .a = a + rows * k,
                                              .b = b,
                                              .is_first = k == 0});
    }
}

enum status cpu_product_narrow(struct cpu *cpu, const struct product *p) {
    if (p->m > 0 && p->m <= FEW_ROWS && p->transpose_b) {
        return cpu_product_few(cpu, p);
    }
    int64_t rows = panels_over(p->m, PANEL_ROWS) * PANEL_ROWS;
    int64_t floats = (rows * p->k + 15) / 16 * 16;
    void *scratch = NULL;
    TRY(cpu_scratch(cpu, SCRATCH_PACK,
                    floats * (int64_t)sizeof(float) +
                        (int64_t)cpu->threads * (int64_t)sizeof(struct narrow_room),
                    &scratch));
    float *a = scratch;
    struct narrow_room *rooms = (struct narrow_room *)(void *)(a + floats);
    for (int64_t k = 0; k < p->k; k += PANEL_DEPTH) {
        int64_t depth = least(PANEL_DEPTH, p->k - k);
        for (int64_t i = 0; i < p->m; i += PANEL_ROWS) {
            cpu_pack_rows(p, i, k, depth, a + rows * k + i * depth);
        }
    }
    const int64_t far = p->transpose_b ? p->n / PANEL_COLUMNS : 0;
    const int64_t panels = panels_over(p->n, PANEL_COLUMNS);
#pragma omp parallel for num_threads(cpu->threads) \
    schedule(dynamic, cpu_panels_in_a_run(panels, cpu->threads)) if (p->n * p->k > CPU_PARALLEL_ELEMENTS)
    for (int64_t panel = 0; panel < panels; panel++) {
        struct narrow_room *room = &rooms[omp_get_thread_num()];
        if (panel < far) {
            far_columns(p, a, panel * GROUPS, far * GROUPS, room);
        } else {
            near_columns(p, a, panel * PANEL_COLUMNS, room->b);
        }
    }
    return OK;
}
