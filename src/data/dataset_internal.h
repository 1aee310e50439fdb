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
    RESPONSE_SCORES,
    PAIR_CHOSEN,
    PAIR_REJECTED,
    PAIR_MARGIN,
    PAIR_LABEL,
    PAIR_SOURCE,
    PAIR_SPLIT,
    DATASET_COLUMNS
};

/* name, type, chunk_rows and deflate of each; rows are left to the caller. */
extern const struct array_spec dataset_columns[DATASET_COLUMNS];

/* What a column's contents count for: which of the file's hashes they are part of. */
enum dataset_hash { HASH_TOKENS, HASH_RESPONSES, HASH_PAIRS, DATASET_HASHES };
/* The hashes' attributes. The first is in every file; a view has the last alone. */
extern const char *const dataset_hash_names[DATASET_HASHES];
enum dataset_hash dataset_hash_of(enum dataset_column column);

struct dataset {
    char *path, *base_path;           /* the same where the file is no view */
    struct h5_file *base, *selection; /* selection: NULL where the file is no view */
    struct h5_column *columns[DATASET_COLUMNS];
    struct dataset_facts facts;
    struct dataset_size size;
    uint64_t hash, pairs_hash;
    int objective; /* whose scores the responses have; -1: none */
    enum data_split split;
    int64_t *kept; /* the file's pairs that are in the split; NULL: all */
};

/* NULL: the file has none. */
struct h5_column *dataset_column_of(struct dataset *d, enum dataset_column column);
/* The file that holds the columns of a hash: a view's pairs are its own. */
struct h5_file *dataset_file_of(struct dataset *d, enum dataset_hash which);

/* Local; dataset_split.c. Which objective a view's pairs are of. */
enum status dataset_find_objective(struct dataset *d);
/* The score of a response: the objective's, or the one that has no name. */
enum status dataset_read_score(struct dataset *d, int64_t id, float *out);

#define DATASET_CONTENT "preferences"
#define SELECTION_CONTENT "selection"

#endif
