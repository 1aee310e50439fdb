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
    PAIR_CHOSEN,
    PAIR_REJECTED,
    PAIR_MARGIN,
    PAIR_LABEL,
    PAIR_SOURCE,
    DATASET_COLUMNS
};

/* name, type, chunk_rows and deflate of each; rows are left to the caller. */
extern const struct array_spec dataset_columns[DATASET_COLUMNS];

#define DATASET_CONTENT "preferences"
#define SELECTION_CONTENT "selection"

#endif
