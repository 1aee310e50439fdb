/* Rows of labelled responses: single ones that are desirable or not. Of a file of unpaired records they are
 * its responses; of a file of pairs what TRL's unpair_preference_dataset makes of them: the chosen ones of a
 * thousand pairs (what datasets.map takes at a time), then their rejected ones, and so on. */
#ifndef COLLIMATE_DATA_LABELED_H
#define COLLIMATE_DATA_LABELED_H

#include "data/dataset.h"

/* Local. Fails: ERR_DATA where there is neither. */
enum status labeled_rows(const struct dataset *d, int64_t *rows);
/* Local. The response of a row, and whether it is desirable. Fails: as dataset_pair, dataset_response. */
enum status labeled_response(struct dataset *d, int64_t rows, int64_t row, int64_t *id, bool *is_desirable);
/* The row whose response stands behind this row's prompt as well: the one before, of every `block` rows, and
 * the last one for the first. */
int64_t labeled_partner(int64_t rows, int64_t block, int64_t row);
/* Local. Ids of the desirable responses of a file of unpaired records; freed by the caller, after a failure
 * too. */
enum status labeled_keep(struct dataset *d, int64_t **ids, int64_t *n);

#endif
