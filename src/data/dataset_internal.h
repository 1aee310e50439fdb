/* The columns of a preference file, for its writer and its reader. */
#ifndef COLLIMATE_DATA_DATASET_INTERNAL_H
#define COLLIMATE_DATA_DATASET_INTERNAL_H

#include "data/dataset.h"
#include "io/h5.h"

enum dataset_column {
    PROMPT_TOKENS,
    PROMPT_OFFSETS,
    PROMPT_RESPONSES,
    RESPONSE_TOKENS,
    RESPONSE_OFFSETS,
    RESPONSE_PROMPT,
    RESPONSE_SCORE,
    RESPONSE_LENGTH,
    RESPONSE_CHARS,
    RESPONSE_WORTH,
    RESPONSE_TRAINED,
    PROMPT_SUBSET,
    RESPONSE_DESIRABLE,
    PAIR_CHOSEN,
    PAIR_REJECTED,
    PAIR_MARGIN,
    PAIR_LABEL,
    PAIR_SOURCE,
    DATASET_COLUMNS
};

/* name, type, chunk_rows and deflate of each; rows are left to the caller. */
extern const struct array_spec dataset_columns[DATASET_COLUMNS];

/* What a column's contents count for: which of the file's hashes they are part of. */
enum dataset_hash { HASH_TOKENS, HASH_RESPONSES, HASH_PAIRS, DATASET_HASHES };
/* The hashes' attributes. The first is in every file; a view has the last alone. */
extern const char *const dataset_hash_names[DATASET_HASHES];
enum dataset_hash dataset_hash_of(enum dataset_column column);

/* NULL: the file has none. */
struct h5_column *dataset_column_of(struct dataset *d, enum dataset_column column);
/* The file that holds the columns of a hash: a view's pairs are its own. */
struct h5_file *dataset_file_of(struct dataset *d, enum dataset_hash which);

#define DATASET_CONTENT "preferences"
#define SELECTION_CONTENT "selection"

#endif
