/* Selecting pairs: what `select` writes, and what `dpo` does first where select.strategy is set.
 *
 * Over pairs the file's rows are candidates; over prompts each prompt with at least two responses gives one
 * pair of its own. Labels: the file's where it has the pair labeled; else by score, equal scores being
 * dropped; else none. Everything is a function of the data, the embeddings and the seed: the same file for
 * any rank count.
 */
#ifndef COLLIMATE_SELECT_SELECTION_H
#define COLLIMATE_SELECT_SELECTION_H

#include "command/command.h"
#include "data/dataset.h"
#include "data/sidecar.h"
#include "select/pairs.h"
#include "util/text.h"

struct selection_request {
    const char *data, *embeddings; /* embeddings "": none, for random */
    const char *output;            /* the view; "": only reported */
    const char *report;            /* JSON; "": beside the output */
    bool needs_labels;             /* fail where a selected pair has none */
};
/* Collective. The strategy and its options are the settings' select.*. */
enum status selection_run(struct run *run, const struct selection_request *request);
/* Local. Whether a strategy looks at embeddings: all but random alone. */
enum status selection_needs_embeddings(const char *strategy, bool *out);

/* Shared by selection.c and selection_report.c. */

enum selection_drop {
    DROP_EQUAL_SCORES,
    DROP_FEW_RESPONSES, /* prompts with less than two */
    SELECTION_DROPS
};

/* Candidates of this rank: pairs of the file, or one pair of each prompt, in the file's order. */
struct candidate {
    int64_t chosen, rejected, source;
    double similarity;
    float margin;
    int8_t label;
    bool is_dropped, is_taken;
};

struct selection {
    struct run *run;
    const struct selection_request *request;
    struct dataset *data;
    struct sidecar *embeddings; /* NULL: none */
    struct sidecar_key key;
    struct pair_mix mix;
    bool over_prompts;
    struct candidate *candidates;
    int64_t n, before; /* here, and on lower ranks; dropped ones included */
    int64_t capacity;
    double *all; /* over prompts: similarities of every pair of responses */
    int64_t n_all, all_capacity;
    int64_t dropped[SELECTION_DROPS]; /* over all ranks after the choice */
    int64_t clusters, iterations;     /* balanced */
    double objective;                 /* of the last iteration */
    int64_t *quota;
    int64_t taken, total, unlabeled; /* over all ranks */
};

/* Collective. Log lines and the JSON file. */
enum status selection_report(const struct selection *s);

#endif
