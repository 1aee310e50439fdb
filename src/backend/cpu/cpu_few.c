/* Products of at most FEW_ROWS rows with B^T: a step of decoding, where reading B is what takes the time.
 *
 * B's n lines of k are cut into LINES parts of as many lines, and a panel is a line of each part: a thread
 * reads LINES streams that go straight on from panel to panel, each in pages of its own, which processors
 * fetch ahead by themselves (reading neighboring lines side by side reaches two thirds of that, and less
 * with prefetch instructions: Zen 3). Sixteen bytes of each line are turned in registers and used there. An
 * element of C is the chain of operations that it is everywhere else (cpu_panel.h).
 */
#include "backend/cpu/cpu_lanes.h"

/* Sums go on with WORDS words of the panel's lines. x: of A, k by k. */
static inline __attribute__((always_inline)) void add_words(const int rows, const bool is_bf16,
                                                            const float *restrict x, const turned r[WORDS],
                                                            turned sum[FEW_ROWS]) {
    const int in_a_word = is_bf16 ? 2 : 1;
#pragma GCC unroll 4
    for (int w = 0; w < WORDS; w++) {
        turned low = is_bf16 ? low_words(r[w]) : r[w];
        turned high = high_words(r[w]);
#pragma GCC unroll 4
        for (int i = 0; i < rows; i++) {
            sum[i] += x[w * in_a_word * rows + i] * low;
            if (is_bf16) {
                sum[i] += x[(w * in_a_word + 1) * rows + i] * high;
            }
        }
    }
}

/* Sums of `rows` rows and the panel's LINES lines over `depth` values of k; a: k by k. */
static inline __attribute__((always_inline)) void multiply(const int rows, const bool is_bf16, int64_t depth,
                                                           const float *restrict a, const char *b,
                                                           int64_t stride, turned tile[FEW_ROWS]) {
    const int in_a_word = is_bf16 ? 2 : 1;
    const int64_t size = is_bf16 ? 2 : 4;
    turned sum[FEW_ROWS];
    int64_t k = 0;
#pragma GCC unroll 4
    for (int i = 0; i < rows; i++) {
        sum[i] = (turned){0};
    }
    for (; k + 2 * WORDS * in_a_word <= depth && (!is_bf16 || PAIRS_ARE_IN_ORDER);
         k += 2 * WORDS * in_a_word) {
#pragma GCC unroll 2
        for (int half = 0; half < 2; half++) {
            turned r[WORDS];
            turn_words(LINES, b + k * size + half * 16, stride, r);
            add_words(rows, is_bf16, a + (k + half * WORDS * in_a_word) * rows, r, sum);
        }
    }
    for (; k < depth; k++) {
        turned line;
        for (int l = 0; l < LINES; l++) {
            line[l] = value(is_bf16, b + l * stride, k);
        }
        for (int i = 0; i < rows; i++) {
            sum[i] += a[k * rows + i] * line;
        }
    }
#pragma GCC unroll 4
    for (int i = 0; i < rows; i++) {
        tile[i] = sum[i];
    }
}

static void multiply_rows(int rows, bool is_bf16, int64_t depth, const float *a, const char *b,
                          int64_t stride, turned tile[FEW_ROWS]) {
    if (rows == 1) {
        is_bf16 ? multiply(1, true, depth, a, b, stride, tile)
                : multiply(1, false, depth, a, b, stride, tile);
    } else if (rows == 2) {
        is_bf16 ? multiply(2, true, depth, a, b, stride, tile)
                : multiply(2, false, depth, a, b, stride, tile);
    } else {
        is_bf16 ? multiply(FEW_ROWS, true, depth, a, b, stride, tile)
                : multiply(FEW_ROWS, false, depth, a, b, stride, tile);
    }
}

/* Rows of a packed A: those of the loop that is taken. */
static int padded_rows(int64_t m) {
    return m > 2 ? FEW_ROWS : (int)m;
}

/* A as k by k, rows that do not exist zero. */
static void pack_rows(const struct product *p, int rows, float *to) {
    bool is_bf16 = p->type_a == DTYPE_BF16;
    for (int64_t k = 0; k < p->k; k++) {
        for (int64_t i = 0; i < rows; i++) {
            int64_t from = p->transpose_a ? k * p->lda + i : i * p->lda + k;
            to[k * rows + i] = i < p->m ? value(is_bf16, p->a, from) : 0.0f;
        }
    }
}

/* `columns` columns of C, at most LINES: first, first + apart, …; fewer than LINES are one (apart 0). */
static void multiply_columns(const struct product *p, const float *a, int rows, int64_t first,
                             int64_t columns, int64_t apart) {
    bool is_bf16 = p->type_b == DTYPE_BF16;
    int64_t stride = apart * p->ldb * (is_bf16 ? 2 : 4);
    turned c[FEW_ROWS] = {{0}};
    cpu_begin_columns(p, first, columns, apart, (float *)c, LINES);
    for (int64_t k = 0; k < p->k; k += PANEL_DEPTH) {
        turned tile[FEW_ROWS];
        multiply_rows(rows, is_bf16, least(PANEL_DEPTH, p->k - k), a + k * rows,
                      cpu_from(p->b, p->type_b, first * p->ldb + k), stride, tile);
        cpu_add_sums(p, (int64_t)rows * LINES, (const float *)tile, (float *)c);
    }
    cpu_end_columns(p, first, columns, apart, (const float *)c, LINES);
}

enum status cpu_product_few(struct cpu *cpu, const struct product *p) {
    const int rows = padded_rows(p->m);
    void *scratch = NULL;
    TRY(cpu_scratch(cpu, SCRATCH_PACK, rows * p->k * (int64_t)sizeof(float), &scratch));
    float *a = scratch;
    pack_rows(p, rows, a);
    const int64_t panels = p->n / LINES;
#pragma omp parallel for num_threads(cpu->threads) \
    schedule(dynamic, cpu_panels_in_a_run(panels, cpu->threads)) if (p->n * p->k > CPU_PARALLEL_ELEMENTS)
    for (int64_t panel = 0; panel < panels; panel++) {
        multiply_columns(p, a, rows, panel, LINES, panels);
    }
    for (int64_t j = panels * LINES; j < p->n; j++) {
        multiply_columns(p, a, rows, j, 1, 0);
    }
    return OK;
}
