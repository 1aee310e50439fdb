/* Values over exact rows: every row once, sums of numerators and denominators over all ranks. */
#ifndef COLLIMATE_EVALUATE_EVALUATION_H
#define COLLIMATE_EVALUATE_EVALUATION_H

#include "evaluate/sums.h"
#include "score/scorer.h"

/* What rows of one prompt have in common, for ratios_end_row: the hash of the prompt's tokens; of a row
 * without a prompt (at most a begin token) its own number. */
int64_t evaluation_unit(const struct sample *s);

/* Called for each of this rank's rows, where not NULL. sums: the row's own. */
typedef void evaluate_visit(void *context, const struct sample *sample, const struct scored_row *row,
                            const struct sums *sums);

/* Collective. All rows of source (one epoch of its plan). The same bits for any rank count, except for the
 * count of FLOPs and of computed tokens: these depend on how rows are packed. Terms of batch scope take two
 * passes, with all of the rows as one batch. */
enum status evaluate_rows(struct comm *c, struct scorer *scorer, const struct batch_source *source,
                          const struct terms *t, evaluate_visit *visit, void *context, struct sums *out);

/* FLOP and token counts of the scorer's last run, added to sums; passes: 1 forward, 3 with backward. */
void evaluate_count_work(const struct scorer *scorer, double passes, struct sums *sums);

#endif
