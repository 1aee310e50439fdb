/* Products of few rows: a step of decoding, where reading B is what takes the time.
 *
 * All of A is packed once; then each thread takes columns of C, packs the panels of B for them into its own
 * first-level cache, and uses them at once, so that B is read once at memory speed and nobody waits.
 */
#include "backend/cpu/cpu_panel.h"

#include <omp.h>

static int64_t least(int64_t a, int64_t b) {
    return a < b ? a : b;
}

enum { PANELS_AT_ONCE = 4 };

static void narrow_columns(const struct product *p, int64_t j, const float *a, float *b) {
    int64_t rows = panels_over(p->m, PANEL_ROWS) * PANEL_ROWS;
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
        cpu_pack_columns(p, j, k, depth, b, ahead);
        cpu_multiply_block(p, &block);
    }
}

/* Long runs, since a run's first panel was not prefetched; several a thread, since cores are not alike. */
static int64_t panels_in_a_run(int64_t panels, int threads) {
    int64_t run = panels / (4 * (int64_t)threads);
    return run > PANELS_AT_ONCE ? run : PANELS_AT_ONCE;
}

enum status cpu_product_narrow(struct cpu *cpu, const struct product *p) {
    if (p->m > 0 && p->m <= FEW_ROWS && p->transpose_b) {
        return cpu_product_few(cpu, p);
    }
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
