/* A world: pairs of rows of one table of embeddings, and for each label (an objective, or a kind of user) a
 * choice for every pair. */
#ifndef COLLIMATE_FEW_SHOT_WORLD_H
#define COLLIMATE_FEW_SHOT_WORLD_H

#include "data/dataset.h"
#include "mpi/comm.h"

struct world {
    int64_t rows, width; /* of values */
    float *values;       /* (rows, width) */
    int64_t pairs, labels;
    int64_t *a, *b;   /* rows of a pair's options */
    int64_t *first;   /* its row in the first of the files; of made-up users: the pair's number */
    uint8_t *choices; /* (labels, pairs): 0 a preferred, 1 b */
    int64_t n_train, n_test;
    int64_t *train, *test; /* pair ids, ascending */
    /* Pairs that contexts are drawn from, where these are not the targets' own: n is 0 for both otherwise. */
    int64_t n_shown_train, n_shown_test;
    int64_t *shown_train, *shown_test;
};
void world_free(struct world *w);
/* Local. Of all that is in it. */
uint64_t world_hash(const struct world *w);

struct world_options {
    int64_t rows, seed; /* of the world of two users: its pairs */
    /* Of that world: targets are pairs on which the users differ, and contexts come from a set of as many
     * pairs of the split, of which a share does. Else all pairs are targets, and contexts are among them. */
    bool contexts_apart;
    double context_conflicting; /* the share */
    const char *data;           /* preference files, separated by commas: a label each */
    const char
        *context_data; /* likewise, of the same responses: the pairs of contexts; NULL or "": those of data */
    const char *embeddings;
    uint64_t split_seed;   /* of the test split and of a pair's order */
    double holdout;        /* share of the prompts that are the test split; of files without splits */
    enum data_split split; /* of the pairs that are the test split; SPLIT_ALL: test */
    bool trust_data;       /* files are not compared with their hashes */
};
/* Local. The two users of data/synth_pairs.h, each of whom is a label. */
enum status world_of_two_users(const struct world_options *o, struct world *out);
/* Collective. The preference files, over the same responses, and the values of `embeddings`: pairs that every
 * file has (others are counted in *dropped). Where the files have splits, those are train and test. Fails:
 * ERR_DATA for files of different responses, and for splits that only some have, or that say otherwise. */
enum status world_of_files(struct comm *c, const struct world_options *o, struct world *out,
                           int64_t *dropped);

#endif
