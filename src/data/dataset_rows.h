/* A rank's rows of a preference file while they are made, block by block, in bounded memory: a stream of
 * io/spool.h for each column. What is held beside the spool's memory does not grow with the rows.
 */
#ifndef COLLIMATE_DATA_DATASET_ROWS_H
#define COLLIMATE_DATA_DATASET_ROWS_H

#include "data/dataset.h"
#include "data/dataset_column.h"

struct spool;

struct dataset_rows {
    struct spool *spool;
    int64_t n_prompts, n_responses, n_pairs, prompt_tokens, response_tokens;
    int32_t vocabulary;
    int n_objectives;
    bool has_chars, has_desirable; /* the blocks have them */
    bool has_worths, has_trained;  /* a block had a number; a 0 */
};

/* The same on all ranks but for beside. */
struct dataset_rows_plan {
    const char *beside; /* the output; NULL: only the first rows can be read, and nothing is written */
    int64_t memory;     /* bytes of rows that stay in it; 0: 192 MiB */
    int64_t piece;      /* of the spool; 0: its own */
    int32_t vocabulary;
    int n_objectives;
    bool has_chars, has_desirable;
};
/* Local. */
enum status dataset_rows_open(const struct dataset_rows_plan *plan, struct dataset_rows *out);
void dataset_rows_close(struct dataset_rows *r);
/* Local. Puts a block's rows behind those that are there; its offsets and indices, which count from the
 * block, are made to count from the rank's first row. Of the arrays that dataset_part may leave out it must
 * have all but response_trained and those that the plan lacks. Fails: ERR_DATA for a token outside the
 * vocabulary; ERR_WRITE. */
enum status dataset_rows_append(struct dataset_rows *r, struct dataset_part *block);
/* Whether a block had rows of a column. */
bool dataset_rows_has(const struct dataset_rows *r, enum dataset_column column);
/* Local. Rows of a column as the blocks had them, counted from the rank's first; of offsets, which have one
 * more, the last is the end. Fails: as spool_read. */
enum status dataset_rows_read(const struct dataset_rows *r, enum dataset_column column, int64_t first,
                              int64_t n, void *out);
/* Collective. As dataset_write. subsets[i]: place in facts->subsets of the rows' subset i. */
enum status dataset_rows_write(struct comm *c, const char *path, const struct dataset_rows *r,
                               const int32_t *subsets, const struct dataset_facts *facts);

#endif
