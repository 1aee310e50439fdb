/* Selecting pairs: what `select` writes, and what `dpo` does first where select.strategy is set.
 *
 * Over pairs the file's rows are candidates; over prompts each prompt with at least two responses gives one
 * pair of its own, and those are taken first whose pair tells most (select/pairs.h). Responses to a prompt
 * with the same tokens count as one. Labels: the file's where it has the pair labeled; else by score, equal
 * scores being dropped; else none: then the pairs are for annotators (data/question.h). Everything is a
 * function of the data, the embeddings and the seed: the same file for any rank count.
 */
#ifndef COLLIMATE_SELECT_SELECTION_H
#define COLLIMATE_SELECT_SELECTION_H

#include "backend/backend.h"
#include "data/dataset.h"
#include "mpi/comm.h"
#include "select/kmeans.h"

enum selection_scope { SCOPE_AUTO, SCOPE_PAIRS, SCOPE_PROMPTS }; /* auto: prompts where one has over two */

/* All is borrowed. */
struct selection_options {
    struct comm *comm;
    struct backend *backend;       /* a CPU's, for clusters; NULL where selection_looks says none */
    enum data_split split;         /* of the data's pairs */
    const char *data, *embeddings; /* embeddings "": none, for random */
    const char *output;            /* the view; "": only reported */
    const char *report;            /* JSON; "": beside the output */
    const char *compare;           /* other views, comma separated: how many pairs they share; "": none */
    const char *exclude;           /* exports, answers and views, comma separated, whose pairs are left out */
    const char *export;            /* JSON Lines for annotators (data/question.h); "": none */
    const struct tokenizer *tokenizer; /* the data's, where there is an export */
    const char *command;               /* the command line, for the view's provenance */
    const char *strategy;              /* as pair_mix_parse reads it */
    enum selection_scope scope;
    bool needs_labels; /* pairs without one are dropped */
    double fraction;   /* of the candidates */
    bool has_fraction; /* asked for: otherwise every prompt that gave a pair is taken */
    int64_t count;     /* in place of the fraction, 0: not */
    int64_t clusters;  /* balanced; 0: the root of half the pairs */
    enum kmeans_seeding seeding;
    int64_t seed;
    bool trust_data;           /* it is not compared with its hashes */
    struct dataset_seen *seen; /* by the job before; NULL */
};
/* Collective. Fails: ERR_USAGE for a strategy that does not go with the scope, the embeddings or the count;
 * ERR_DATA where no pair is left. */
enum status selection_run(const struct selection_options *options);

/* What a strategy looks at. */
struct selection_looks {
    bool embeddings; /* all but random alone */
    bool clusters;   /* balanced: a back end is needed */
};
/* Local. Fails: ERR_USAGE, as pair_mix_parse. */
enum status selection_look(const char *strategy, struct selection_looks *out);

#endif
