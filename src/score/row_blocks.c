#include "score/row_blocks.h"

#include "data/batch.h"

enum { BLOCK_ROWS = 32 };

static int64_t rows_before(void *context, int64_t block) {
    const struct row_blocks *b = context;
    return block * BLOCK_ROWS < b->rows->n ? block * BLOCK_ROWS : b->rows->n;
}

static enum status run_block(const struct row_blocks *b, int64_t block) {
    struct range rows = range_block((struct range){0, b->rows->n}, block * BLOCK_ROWS, BLOCK_ROWS);
    int64_t n = rows.last - rows.first, ends[BLOCK_ROWS];
    int32_t cost[BLOCK_ROWS];
    struct sample *samples = NULL;
    TRY(view_read_range(b->rows->view, rows, &samples, NULL));
    for (int64_t i = 0; i < n; i++) {
        cost[i] = (int32_t)sample_tokens(&samples[i]);
    }
    int64_t runs = batch_cut(cost, n, b->micro_tokens, ends);
    enum status st = OK;
    for (int64_t k = 0, at = 0; k < runs && st == OK; at = ends[k++]) {
        st = b->forest(b->context, samples + at, ends[k] - at);
    }
    samples_free(samples);
    return st;
}

static enum status run_blocks(void *context, const int64_t *blocks, int64_t n) {
    for (int64_t i = 0; i < n; i++) {
        TRY(run_block(context, blocks[i]));
    }
    return OK;
}

static enum status write_round(void *context) {
    const struct row_blocks *b = context;
    return b->write ? b->write(b->context) : OK;
}

int64_t row_blocks_tokens(const struct rows *r, int64_t micro_tokens) {
    return rows_forest_tokens(r, BLOCK_ROWS, micro_tokens);
}

enum status row_blocks_run(struct comm *c, const struct row_blocks *b) {
    struct row_blocks own = *b;
    struct work work = {
        .context = &own,
        .label = b->label,
        .unit = b->unit,
        .phase = b->phase,
        .n = (b->rows->n + BLOCK_ROWS - 1) / BLOCK_ROWS,
        .round = c->size,
        .done_before = rows_before,
        .compute = run_blocks,
        .write = write_round,
    };
    return work_run(c, &work);
}
