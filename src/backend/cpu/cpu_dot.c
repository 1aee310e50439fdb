/* Products of bf16 operands on all threads.
 *
 * C is taken in blocks. Their panels of A are packed, over all of k or a span of it, then their panels of B,
 * unless these are kept; then threads take tasks from a queue: a chunk of A's panels, which stay in the
 * second-level cache, times one panel of B. A tile of C begins with what C is to begin with, gets its pieces
 * of k one after another in the first-level cache, and is stored once, so that C may be bf16.
 *
 * At most DOT_NARROW_ROWS rows (a step of decoding) want B at memory speed: each thread takes panels of B,
 * packs those that are not kept for itself, and uses them at once. The tiles are the same, and so are the
 * bits.
 */
#include "backend/cpu/cpu_dot.h"
#include "backend/cpu/cpu_bf16.h"

#include <omp.h>
#include <string.h>

/* Rows up to which a panel of B is packed by the thread that uses it (a choice of speed: no room has this
 * size, unlike PANEL_NARROW_ROWS of the other products). */
enum { DOT_NARROW_ROWS = 48 };
/* k that fp32 sums may stay in C between; a block's packed operands; a chunk of A. */
enum { SPAN = 4096, BLOCK_BYTES = CPU_PACK_BYTES, CHUNK_BYTES = 256 << 10 };
_Static_assert(SPAN *DOT_COLUMNS * sizeof(uint16_t) <= CPU_NARROW_BYTES, "what cpu_scratch_bytes() counts");

/* A block of C in work, and its packed operands over k of [k, k + depth). */
struct area {
    const struct product *p;
    const struct dot_kernel *kernel;
    struct dot_source a, b;
    int64_t row, rows, column, columns, k, depth;
    uint16_t *panels_a, *panels_b;
    const uint16_t *kept; /* the panel of B's first column from its first k on; NULL: B is packed */
    int64_t kept_step;    /* elements from a kept panel to the next */
};

static const uint16_t *panel_of_b(const struct area *area, int64_t panel) {
    return area->kept
               ? area->kept + (area->column / DOT_COLUMNS + panel) * area->kept_step + area->k * DOT_COLUMNS
               : area->panels_b + panel * dot_filled(area->depth) * DOT_COLUMNS;
}

/* What a tile of C begins with: rows x DOT_COLUMNS, dense; columns that do not exist stay zero. */
static void begin_tile(const struct area *area, int64_t row, int64_t rows, int64_t column, int64_t columns,
                       float *tile) {
    const struct product *p = area->p;
    struct tensor c = {.data = p->c, .rows = p->m, .columns = p->n, .stride = p->ldc, .type = p->type_c};
    float room[DOT_COLUMNS];
    const float *bias = NULL;
    memset(tile, 0, (size_t)(rows * DOT_COLUMNS) * sizeof *tile);
    if (area->k == 0 && p->bias) {
        bias = cpu_load(tensor_at((void *)p->bias, 1, p->n, p->type_bias), 0, column, columns, room);
    }
    bool adds = area->k > 0 || p->beta != 0.0f;
    for (int64_t i = 0; i < rows && (adds || bias); i++) {
        float values[DOT_COLUMNS];
        float *to = tile + i * DOT_COLUMNS;
        const float *from = adds ? cpu_load(c, row + i, column, columns, values) : to;
        for (int64_t j = 0; j < columns; j++) {
            to[j] = bias ? from[j] + bias[j] : from[j];
        }
    }
}

static void end_tile(const struct area *area, int64_t row, int64_t rows, int64_t column, int64_t columns,
                     const float *tile) {
    const struct product *p = area->p;
    struct tensor c = {.data = p->c, .rows = p->m, .columns = p->n, .stride = p->ldc, .type = p->type_c};
    for (int64_t i = 0; i < rows; i++) {
        const float *from = tile + i * DOT_COLUMNS;
        if (p->type_c == DTYPE_BF16) {
            cpu_store(c, row + i, column, columns, from);
        } else {
            memcpy(cpu_row(c, row + i) + column, from, (size_t)columns * sizeof *from);
        }
    }
}

/* One panel of A, counted from the block's first, times one of B. */
static void multiply_tile(const struct area *area, int64_t panel_a, int64_t panel_b, const uint16_t *b) {
    const struct dot_kernel *kernel = area->kernel;
    float tile[DOT_MOST_ROWS * DOT_COLUMNS] __attribute__((aligned(64)));
    float sums[DOT_MOST_ROWS * DOT_COLUMNS] __attribute__((aligned(64)));
    int64_t row = area->row + panel_a * kernel->rows, column = area->column + panel_b * DOT_COLUMNS;
    int64_t rows = least(kernel->rows, area->row + area->rows - row);
    int64_t columns = least(DOT_COLUMNS, area->column + area->columns - column);
    const uint16_t *a = area->panels_a + panel_a * kernel->rows * dot_filled(area->depth);
    const float alpha = area->p->alpha;
    begin_tile(area, row, rows, column, columns, tile);
    for (int64_t k = 0; k < area->depth; k += kernel->depth) {
        int64_t pairs = panels_over(least(kernel->depth, area->depth - k), 2 * kernel->group) * kernel->group;
        kernel->multiply(rows, pairs, a + k * kernel->rows, b + k * DOT_COLUMNS, sums);
        for (int64_t i = 0; i < rows * DOT_COLUMNS; i++) {
            tile[i] = alpha * sums[i] + tile[i];
        }
    }
    end_tile(area, row, rows, column, columns, tile);
}

static void begin_thread(const struct area *area) {
    if (area->kernel->begin) {
        area->kernel->begin();
    }
}

static void end_thread(const struct area *area) {
    if (area->kernel->end) {
        area->kernel->end();
    }
}

static void pack_a(const struct area *area, int64_t panel) {
    cpu_dot_pack_a(&area->a, area->kernel, area->row + panel * area->kernel->rows, area->k, area->depth,
                   area->panels_a + panel * area->kernel->rows * dot_filled(area->depth));
}

/* Panels of A in a chunk: as many as the cache takes, fewer where the threads would not find enough tasks. */
static int64_t choose_chunk(const struct area *area, int threads) {
    int64_t panels = panels_over(area->rows, area->kernel->rows),
            tasks = panels_over(area->columns, DOT_COLUMNS);
    int64_t chunk = CHUNK_BYTES / (area->kernel->rows * dot_filled(area->depth) * (int64_t)sizeof(uint16_t));
    chunk = chunk < 1 ? 1 : least(chunk, panels);
    while (chunk > 1 && panels_over(panels, chunk) * tasks < 4 * (int64_t)threads) {
        chunk = panels_over(chunk, 2);
    }
    return chunk;
}

/* One block, called by every thread of a team; barriers at the ends of both loops. has_b: B's panels are
 * those of the block before. */
static void multiply_area(struct area area, bool has_b, int threads) {
    int64_t panels_a = panels_over(area.rows, area.kernel->rows),
            panels_b = panels_over(area.columns, DOT_COLUMNS);
    int64_t chunk = choose_chunk(&area, threads), chunks = panels_over(panels_a, chunk);
    int64_t packed_b = area.kept || has_b ? 0 : panels_b;
#pragma omp for schedule(dynamic, 4)
    for (int64_t i = 0; i < panels_a + packed_b; i++) {
        if (i < panels_a) {
            pack_a(&area, i);
        } else {
            int64_t j = i - panels_a;
            cpu_dot_pack_b(&area.b, area.column + j * DOT_COLUMNS, area.k, area.depth,
                           area.panels_b + j * dot_filled(area.depth) * DOT_COLUMNS);
        }
    }
#pragma omp for schedule(dynamic, 1)
    for (int64_t task = 0; task < chunks * panels_b; task++) {
        int64_t first = task / panels_b * chunk, panel = task % panels_b;
        const uint16_t *b = panel_of_b(&area, panel);
        for (int64_t i = first; i < least(first + chunk, panels_a); i++) {
            multiply_tile(&area, i, panel, b);
        }
    }
}

static enum status multiply_narrow(struct cpu *cpu, struct area area) {
    int64_t panels_a = panels_over(area.rows, area.kernel->rows),
            panels_b = panels_over(area.columns, DOT_COLUMNS);
    int64_t a = panels_a * area.kernel->rows * dot_filled(area.depth),
            b = DOT_COLUMNS * dot_filled(area.depth);
    void *scratch = NULL;
    TRY(cpu_scratch(cpu, SCRATCH_PACK, (a + (area.kept ? 0 : cpu->threads * b)) * (int64_t)sizeof(uint16_t),
                    &scratch));
    area.panels_a = scratch;
    for (int64_t i = 0; i < panels_a; i++) {
        pack_a(&area, i);
    }
#pragma omp parallel num_threads(cpu->threads) if (area.columns * area.depth > CPU_PARALLEL_ELEMENTS)
    {
        uint16_t *own = (uint16_t *)scratch + a + omp_get_thread_num() * b;
        begin_thread(&area);
#pragma omp for schedule(dynamic, panels_b / (4 * (int64_t)cpu->threads) + 1)
        for (int64_t panel = 0; panel < panels_b; panel++) {
            const uint16_t *at = area.kept ? panel_of_b(&area, panel) : own;
            if (!area.kept) {
                cpu_dot_pack_b(&area.b, panel * DOT_COLUMNS, 0, area.depth, own);
            }
            for (int64_t i = 0; i < panels_a; i++) {
                multiply_tile(&area, i, panel, at);
            }
        }
        end_thread(&area);
    }
    return OK;
}

/* As many lines, of whole panels, as a block's packed operand may have. */
static int64_t block_lines(int64_t n, int64_t panel, int64_t depth) {
    int64_t lines = BLOCK_BYTES / (dot_filled(depth) * (int64_t)sizeof(uint16_t)) / panel * panel;
    return least(panels_over(n, panel) * panel, lines < panel ? panel : lines);
}

static enum status multiply_blocks(struct cpu *cpu, struct area whole) {
    const struct product *p = whole.p;
    int64_t span = p->type_c == DTYPE_F32 && !whole.kept ? least(SPAN, p->k) : p->k;
    int64_t rows = block_lines(p->m, whole.kernel->rows, span);
    int64_t columns = whole.kept ? p->n : block_lines(p->n, DOT_COLUMNS, span);
    int64_t a = rows * dot_filled(span), b = whole.kept ? 0 : columns * dot_filled(span);
    bool is_large = p->m * p->n * p->k > 64 * 64 * 64;
    void *scratch = NULL;
    TRY(cpu_scratch(cpu, SCRATCH_PACK, (a + b) * (int64_t)sizeof(uint16_t), &scratch));
    whole.panels_a = scratch;
    whole.panels_b = whole.panels_a + a;
#pragma omp parallel num_threads(cpu->threads) if (is_large)
    {
        begin_thread(&whole);
        for (int64_t j = 0; j < p->n; j += columns) {
            for (int64_t k = 0; k < p->k; k += span) {
                for (int64_t i = 0; i < p->m; i += rows) {
                    struct area area = whole;
                    area.row = i;
                    area.rows = least(rows, p->m - i);
                    area.column = j;
                    area.columns = least(columns, p->n - j);
                    area.k = k;
                    area.depth = least(span, p->k - k);
                    multiply_area(area, i > 0, cpu->threads);
                }
            }
        }
        end_thread(&whole);
    }
    return OK;
}

/* Where B's panels are kept, and can be read from the place where B begins in its matrix: the first that is
 * needed, and the matrix; else NULL. */
static struct kept_weight *find_kept(struct cpu *cpu, const struct product *p, int64_t *first) {
    struct kept_weight *w = p->type_b == DTYPE_BF16 ? kept_find(&cpu->kept, p->b) : NULL;
    if (!w || p->ldb != w->columns) {
        return NULL;
    }
    int64_t at = ((const char *)p->b - w->data) / (int64_t)sizeof(uint16_t), row = at / w->columns;
    *first = row;
    if (at % w->columns != 0) {
        return NULL;
    }
    if (p->transpose_b) { /* W's rows are columns of panels */
        return row % DOT_COLUMNS == 0 && p->k == w->columns && row + p->n <= w->rows ? w : NULL;
    }
    /* W's rows are k. A kernel may read k up to a multiple of DOT_ROUND: behind W's last row are zeros, to
     * the panel's end and no further. */
    bool ends =
        (p->k % DOT_ROUND == 0 || row + p->k == w->rows) && row + dot_filled(p->k) <= dot_filled(w->rows);
    return row % 2 == 0 && ends && p->n == w->columns && row + p->k <= w->rows ? w : NULL;
}

static enum status lay_out(struct cpu *cpu, struct kept_weight *w, enum kept_way way) {
    bool is_turned = way == KEPT_TRANSPOSED;
    int64_t lines = is_turned ? w->rows : w->columns, depth = is_turned ? w->columns : w->rows;
    struct dot_source s = {.data = w->data,
                           .type = DTYPE_BF16,
                           .lines = lines,
                           .depth = depth,
                           .line_step = is_turned ? w->columns : 1,
                           .k_step = is_turned ? 1 : w->columns};
    if (!w->panels[way]) {
        int64_t bytes = kept_elements(w->rows, w->columns) * (int64_t)sizeof(uint16_t);
        TRY(cpu_large_pages(bytes, "weights laid out for products", (void **)&w->panels[way]));
    }
    uint16_t *panels = w->panels[way];
#pragma omp parallel for schedule(dynamic, 1) \
    num_threads(cpu->threads) if (lines * depth > CPU_PARALLEL_ELEMENTS)
    for (int64_t panel = 0; panel < panels_over(lines, DOT_COLUMNS); panel++) {
        cpu_dot_pack_b(&s, panel * DOT_COLUMNS, 0, depth, panels + panel * DOT_COLUMNS * dot_filled(depth));
    }
    w->is_current[way] = true;
    return OK;
}

static enum status take_kept(struct cpu *cpu, struct area *area) {
    const struct product *p = area->p;
    int64_t first = 0;
    struct kept_weight *w = find_kept(cpu, p, &first);
    enum kept_way way = p->transpose_b ? KEPT_TRANSPOSED : KEPT_STRAIGHT;
    if (!w) {
        return OK;
    }
    TRY(w->is_current[way] ? OK : lay_out(cpu, w, way));
    area->kept_step = dot_filled(p->transpose_b ? w->columns : w->rows) * DOT_COLUMNS;
    area->kept =
        w->panels[way] + (p->transpose_b ? first / DOT_COLUMNS * area->kept_step : first * DOT_COLUMNS);
    return OK;
}

enum status cpu_dot_product(struct cpu *cpu, const struct product *p) {
    struct area area = {
        .p = p,
        .kernel = cpu->dot,
        .rows = p->m,
        .columns = p->n,
        .depth = p->k,
        .a = {.data = p->a,
              .type = p->type_a,
              .lines = p->m,
              .depth = p->k,
              .line_step = p->transpose_a ? 1 : p->lda,
              .k_step = p->transpose_a ? p->lda : 1},
        .b = {.data = p->b,
              .type = p->type_b,
              .lines = p->n,
              .depth = p->k,
              .line_step = p->transpose_b ? p->ldb : 1,
              .k_step = p->transpose_b ? 1 : p->ldb},
    };
    TRY(take_kept(cpu, &area));
    /* A thread's panel of B over all of k is to stay in its caches. */
    bool is_shallow = area.kept || p->k <= SPAN;
    return p->m <= DOT_NARROW_ROWS && is_shallow ? multiply_narrow(cpu, area) : multiply_blocks(cpu, area);
}
