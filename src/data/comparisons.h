/* The labeled pairs of a preference file, grouped by prompt: an index of 16 bytes for each pair, on each
 * rank. */
#ifndef COLLIMATE_DATA_COMPARISONS_H
#define COLLIMATE_DATA_COMPARISONS_H

#include "data/dataset.h"

struct comparison {
    int64_t prompt, row; /* row: of /pairs */
};
struct comparisons {
    int64_t n, n_groups;
    struct comparison *list; /* by prompt, then row */
    int64_t *group_first;    /* n_groups + 1: prompts that have a labeled pair */
};
/* Local. Reads every pair once. Fails: as dataset_pairs and dataset_responses. */
enum status comparisons_open(struct dataset *d, struct comparisons *out);
void comparisons_close(struct comparisons *c);

/* Local. How many pairs have a label. */
enum status labeled_count(struct dataset *d, int64_t *out);
/* Local. The same. Fails: ERR_DATA where there are pairs, but none has one. */
enum status labeled_need(struct dataset *d, int64_t *out);
/* Local. Rows of /pairs that have a label, in order: mem_free. NULL where all have one, and *n is their
 * number. Fails: ERR_DATA where none has one. */
enum status labeled_rows(struct dataset *d, int64_t **rows, int64_t *n);

#endif
