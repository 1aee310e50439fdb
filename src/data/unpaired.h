/* Rows of labelled responses: single ones that are desirable or not. Of a file of unpaired records they are
 * its responses; of a file of pairs what TRL's unpair_preference_dataset makes of them: the chosen ones of a
 * thousand pairs (what datasets.map takes at a time), then their rejected ones, and so on. */
#ifndef COLLIMATE_DATA_UNPAIRED_H
#define COLLIMATE_DATA_UNPAIRED_H

#include "data/dataset.h"

struct unpaired {
    int64_t *pairs; /* those that have a label; NULL: all, or none */
    int64_t rows;
};
/* Local. Fails: ERR_DATA where there is neither a labelled response nor a labelled pair. */
enum status unpaired_open(struct dataset *d, struct unpaired *out);
void unpaired_close(struct unpaired *u);
/* Local. The response of a row, and whether it is desirable. Fails: as dataset_pair, dataset_response. */
enum status unpaired_response(struct dataset *d, const struct unpaired *u, int64_t row, int64_t *id,
                              bool *is_desirable);
/* The row whose response stands behind this row's prompt as well: the one before, of every `block` rows, and
 * the last one for the first. */
int64_t unpaired_partner(int64_t rows, int64_t block, int64_t row);
/* Local. Ids of the desirable responses of a file of unpaired records; freed by the caller, after a failure
 * too. */
enum status unpaired_keep(struct dataset *d, int64_t **ids, int64_t *n);

#endif
