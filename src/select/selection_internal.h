/* Shared by the files of a selection: what it knows, and its steps in order. */
#ifndef COLLIMATE_SELECT_SELECTION_INTERNAL_H
#define COLLIMATE_SELECT_SELECTION_INTERNAL_H

#include "data/sidecar.h"
#include "select/asked.h"
#include "select/candidates.h"
#include "select/pairs.h"
#include "select/selection.h"

enum { SELECTION_BLOCK = 1024 }; /* pairs that are read at once */

struct selection {
    const struct selection_options *options;
    struct comm *comm;
    struct dataset *data;
    struct sidecar *embeddings; /* NULL: none */
    struct sidecar_key key;
    struct pair_mix mix;
    bool over_prompts;
    struct asked asked;
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

/* Local. Responses of the largest prompt of this rank's part. */
enum status over_prompts_largest(const struct selection *s, int64_t *out);
/* Local. This rank's candidates, with their labels and similarities. */
enum status over_pairs_read(struct selection *s, struct range part);
enum status over_prompts_read(struct selection *s);
/* Collective. Which of them are taken. */
enum status over_pairs_choose(struct selection *s);
enum status over_pairs_choose_balanced(struct selection *s, struct range part);
enum status over_prompts_choose(struct selection *s);
/* Collective. What was taken, over all ranks. Fails: ERR_DATA for nothing, and for missing labels that are
 * needed. */
enum status selection_count(struct selection *s);
/* Collective. The view: pairs and a link to the data. */
enum status selection_write(const struct selection *s);
/* Collective. What annotators read, a line for each pair. */
enum status selection_export(const struct selection *s);
/* Local. The JSON file, by rank 0: `report`, or where it is "" beside a result; nothing beside "". */
enum status selection_put_report(const struct comm *c, const char *report, const char *beside,
                                 const struct text *text);
/* Collective. Log lines and the JSON file. */
enum status selection_report(const struct selection *s);

#endif
