/* The columns of a preference file, for its writer and its reader. */
#ifndef COLLIMATE_DATA_DATASET_INTERNAL_H
#define COLLIMATE_DATA_DATASET_INTERNAL_H

#include "data/dataset.h"
#include "data/dataset_column.h"
#include "io/h5.h"

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
/* Local. Fails: ERR_DATA for the first token outside the vocabulary. */
enum status dataset_check_tokens(const int32_t *tokens, int64_t n, int32_t vocabulary, const char *what);
/* The score of a response: the objective's, or the one that has no name. */
enum status dataset_read_score(struct dataset *d, int64_t id, float *out);

/* Where this rank's rows begin in the whole file, how many there are, and how many are this rank's. */
struct column_place {
    int64_t before, total, own;
};

/* The columns of a preference file on their way into it, with indices and offsets that count from the file's
 * start. A column whose rows are offsets has one more than its place says, on the last rank: the end. */
struct file_columns {
    struct column_place prompts, responses, pairs, prompt_tokens, response_tokens;
    int64_t has_chars, has_worths, has_trained, has_desirable; /* on any rank; else those are not written */
    const void *data[DATASET_COLUMNS];                         /* this rank's rows, */
    const struct h5_rows *rows; /* or, where not NULL, how they are read (DATASET_COLUMNS) */
};
/* Collective. Places and has_… of all ranks from each rank's own. */
enum status file_columns_settle(struct comm *c, struct file_columns *f);
/* Collective. As dataset_write. */
enum status file_columns_write(struct comm *c, const char *path, const struct file_columns *columns,
                               const struct dataset_facts *facts);

#define DATASET_CONTENT "preferences"
#define SELECTION_CONTENT "selection"

#endif
