/* Matrix products on all threads.
 *
 * C is taken in blocks; for each block and each piece of k the threads first pack the panels of A and B that
 * it needs into shared memory, then take tiles of C from a queue. An element of C is summed over the same
 * pieces of k in the same order whichever tile it is in, so its bits depend on neither the thread count nor
 * the number of rows beside it, which a library's own threading does not promise: a token has the same
 * probability where it is decoded, scored and trained.
 */
#include "backend/cpu/cpu_bf16.h"
#include "backend/cpu/cpu_dot.h"
#include "backend/cpu/cpu_panel.h"

/* A block of C and its packed operands: 4 MiB each at most, in the last-level cache. */
enum { BLOCK_ROWS = PANEL_ROWS * 288, BLOCK_COLUMNS = PANEL_COLUMNS * 128 };
/* A tile of C: its panels of A (344 KiB) stay in the second-level cache while panels of B stream by. Fewer
 * rows where the threads would not find enough tiles. */
enum { TILE_ROWS = PANEL_ROWS * 24, LEAST_ROWS = PANEL_ROWS * 3, TILE_COLUMNS = PANEL_COLUMNS * 4 };

/* Of operands without depth; C is fp32. */
static void clear(const struct product *p) {
    float *c = p->c;
    for (int64_t i = 0; i < p->m; i++) {
        for (int64_t j = 0; j < p->n; j++) {
            float room;
            float old = p->beta == 0.0f ? 0.0f : c[i * p->ldc + j];
            struct tensor bias = tensor_at((void *)p->bias, 1, p->n, p->type_bias);
            c[i * p->ldc + j] = old + (p->bias ? *cpu_load(bias, 0, j, 1, &room) : 0.0f);
        }
    }
}

int64_t cpu_pack_floats(int64_t m, int64_t n, int64_t k) {
    int64_t depth = least(k, PANEL_DEPTH);
    return (panels_over(m, PANEL_ROWS) * PANEL_ROWS + panels_over(n, PANEL_COLUMNS) * PANEL_COLUMNS) * depth;
}

void cpu_product_serial(const struct product *p, float *pack) {
    float *a = pack;
    int64_t depth = least(p->k, PANEL_DEPTH);
    float *b = pack + panels_over(p->m, PANEL_ROWS) * PANEL_ROWS * depth;
    if (p->k == 0) {
        clear(p);
    }
    for (int64_t k = 0; k < p->k; k += PANEL_DEPTH) {
        depth = least(PANEL_DEPTH, p->k - k);
        for (int64_t i = 0; i < p->m; i += PANEL_ROWS) {
            cpu_pack_rows(p, i, k, depth, a + i * depth);
        }
        for (int64_t j = 0; j < p->n; j += PANEL_COLUMNS) {
            cpu_pack_columns(p, j, k, depth, b + j * depth);
        }
        cpu_multiply_block(
            p, &(struct block){
                   .rows = p->m, .columns = p->n, .depth = depth, .a = a, .b = b, .is_first = k == 0});
    }
}

/* The part of C that is in work, and its packed operands. */
struct area {
    int64_t row, rows, column, columns, k, depth;
    int64_t tile_rows;
    float *a, *b;
};

/* Panel i of both operands, A's first. */
static void pack_panel(const struct product *p, const struct area *area, int64_t i) {
    int64_t panels_a = panels_over(area->rows, PANEL_ROWS);
    if (i < panels_a) {
        cpu_pack_rows(p, area->row + i * PANEL_ROWS, area->k, area->depth,
                      area->a + i * PANEL_ROWS * area->depth);
    } else {
        int64_t j = i - panels_a;
        cpu_pack_columns(p, area->column + j * PANEL_COLUMNS, area->k, area->depth,
                         area->b + j * PANEL_COLUMNS * area->depth);
    }
}

static void multiply_tile(const struct product *p, const struct area *area, int64_t tile) {
    int64_t tiles_n = panels_over(area->columns, TILE_COLUMNS);
    int64_t i = tile / tiles_n * area->tile_rows;
    int64_t j = tile % tiles_n * TILE_COLUMNS;
    cpu_multiply_block(p, &(struct block){.row = area->row + i,
                                          .rows = least(area->tile_rows, area->rows - i),
                                          .column = area->column + j,
                                          .columns = least(TILE_COLUMNS, area->columns - j),
                                          .depth = area->depth,
                                          .a = area->a + i * area->depth,
                                          .b = area->b + j * area->depth,
                                          .is_first = area->k == 0});
}

static int64_t choose_tile_rows(int threads, int64_t rows, int64_t columns) {
    int64_t tile_rows = TILE_ROWS;
    int64_t tiles_n = panels_over(columns, TILE_COLUMNS);
    while (tile_rows > LEAST_ROWS && panels_over(rows, tile_rows) * tiles_n < 4 * threads) {
        tile_rows /= 2;
    }
    return tile_rows;
}

/* One block of C, called by every thread of a team; barriers at the ends of both loops. */
static void multiply_area(const struct product *p, struct area area) {
    for (; area.k < p->k; area.k += PANEL_DEPTH) {
        area.depth = least(PANEL_DEPTH, p->k - area.k);
        int64_t panels = panels_over(area.rows, PANEL_ROWS) + panels_over(area.columns, PANEL_COLUMNS);
        int64_t tiles = panels_over(area.rows, area.tile_rows) * panels_over(area.columns, TILE_COLUMNS);
#pragma omp for schedule(dynamic, 4)
        for (int64_t panel = 0; panel < panels; panel++) {
            pack_panel(p, &area, panel);
        }
#pragma omp for schedule(dynamic, 1)
        for (int64_t tile = 0; tile < tiles; tile++) {
            multiply_tile(p, &area, tile);
        }
    }
}

/* As p, of C's part [row, row + m) x [column, column + n), into fp32 sums. */
static struct product part_of(const struct product *p, int64_t row, int64_t m, int64_t column, int64_t n,
                              float *sums) {
    struct product part = *p;
    part.m = m;
    part.n = n;
    part.a = cpu_from(p->a, p->type_a, p->transpose_a ? row : row * p->lda);
    part.b = cpu_from(p->b, p->type_b, p->transpose_b ? column * p->ldb : column);
    part.bias = p->bias ? cpu_from(p->bias, p->type_bias, column) : NULL;
    part.c = sums;
    part.ldc = n;
    part.type_c = DTYPE_F32;
    return part;
}

/* C is bf16: a part at a time is summed in fp32, and each element rounded once. */
static enum status product_to_bf16(struct cpu *cpu, const struct product *p) {
    enum { PART_ROWS = PANEL_ROWS * 72, PART_COLUMNS = PANEL_COLUMNS * 32 };
    struct tensor c = tensor_at(p->c, p->m, p->n, p->type_c);
    int64_t rows = least(p->m, PART_ROWS);
    int64_t columns = rows == 0 ? p->n : least(p->n, PART_ROWS * PART_COLUMNS / rows);
    void *scratch = NULL;
    c.stride = p->ldc;
    TRY(cpu_scratch(cpu, SCRATCH_OUT, rows * columns * (int64_t)sizeof(float), &scratch));
    float *sums = scratch;
    for (int64_t j = 0; j < p->n; j += columns) {
        int64_t n = least(columns, p->n - j);
        for (int64_t i = 0; i < p->m; i += rows) {
            int64_t m = least(rows, p->m - i);
            struct product part = part_of(p, i, m, j, n, sums);
            for (int64_t r = 0; p->beta != 0.0f && r < m; r++) {
                (void)cpu_load(c, i + r, j, n, sums + r * n);
            }
            TRY(cpu_product(cpu, &part));
#pragma omp parallel for num_threads(cpu->threads) if (m * n > CPU_PARALLEL_ELEMENTS)
            for (int64_t r = 0; r < m; r++) {
                cpu_store(c, i + r, j, n, sums + r * n);
            }
        }
    }
    return OK;
}

enum status cpu_product(struct cpu *cpu, const struct product *p) {
    if (cpu->dot && p->k > 0) {
        return cpu_dot_product(cpu, p);
    }
    if (p->type_c == DTYPE_BF16) {
        return product_to_bf16(cpu, p);
    }
    if (p->k == 0) {
        clear(p);
        return OK;
    }
    if (p->m <= PANEL_NARROW_ROWS) {
        return cpu_product_narrow(cpu, p);
    }
    int64_t rows = least(p->m, BLOCK_ROWS);
    int64_t columns = least(p->n, BLOCK_COLUMNS);
    void *scratch = NULL;
    TRY(cpu_scratch(cpu, SCRATCH_PACK, cpu_pack_floats(rows, columns, p->k) * (int64_t)sizeof(float),
                    &scratch));
    float *a = scratch;
    float *b = a + panels_over(rows, PANEL_ROWS) * PANEL_ROWS * least(p->k, PANEL_DEPTH);
    int64_t tile_rows = choose_tile_rows(cpu->threads, rows, columns);
    bool is_large = p->m * p->n * p->k > 64 * 64 * 64;
#pragma omp parallel num_threads(cpu->threads) if (is_large)
    for (int64_t j = 0; j < p->n; j += BLOCK_COLUMNS) {
        for (int64_t i = 0; i < p->m; i += BLOCK_ROWS) {
            multiply_area(p, (struct area){.row = i,
                                           .rows = least(rows, p->m - i),
                                           .column = j,
                                           .columns = least(columns, p->n - j),
                                           .tile_rows = tile_rows,
                                           .a = a,
                                           .b = b});
        }
    }
    return OK;
}

enum status CPU_OPERATION(gemm)(struct backend *b, const struct gemm *g) {
    struct product p = {
        .m = g->c.rows,
        .n = g->c.columns,
        .k = g->transpose_a ? g->a.rows : g->a.columns,
        .transpose_a = g->transpose_a,
        .transpose_b = g->transpose_b,
        .alpha = (float)g->alpha,
        .beta = (float)g->beta,
        .a = g->a.data,
        .b = g->b.data,
        .c = g->c.data,
        .lda = g->a.stride,
        .ldb = g->b.stride,
        .ldc = g->c.stride,
        .bias = g->bias.data,
        .type_a = g->a.type,
        .type_b = g->b.type,
        .type_c = g->c.type,
        .type_bias = g->bias.type,
    };
    return cpu_product(cpu_of(b), &p);
}
