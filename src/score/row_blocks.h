/* Rows in fixed blocks of consecutive ones, each cut into forests by micro_tokens: what is computed together
 * depends on the data alone, so that results have the same bits for any rank count. Ranks take the blocks in
 * turn (work.h).
 */
#ifndef COLLIMATE_SCORE_ROW_BLOCKS_H
#define COLLIMATE_SCORE_ROW_BLOCKS_H

#include "data/rows.h"
#include "data/sample.h"
#include "score/work.h"

struct row_blocks {
    void *context;
    const struct rows *rows;
    int64_t micro_tokens;
    const char *label, *unit, *phase; /* as work.h's */
    /* Local. A forest's rows, in order. */
    enum status (*forest)(void *context, const struct sample *samples, int64_t n);
    /* Collective, after a round in which every rank's forests went well: in order of ranks they are in that
     * of rows. NULL: nothing is to be done. */
    enum status (*write)(void *context);
};
/* Local. Tokens at most of a forest. */
int64_t row_blocks_tokens(const struct rows *r, int64_t micro_tokens);
/* Collective. Fails: as what it calls. */
enum status row_blocks_run(struct comm *c, const struct row_blocks *b);

#endif
