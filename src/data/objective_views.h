/* The pairs of several objectives as views of the file that holds their responses: one for each objective,
 * and one in which each pair stands once for every objective (the mixture).
 *
 * As UltraFeedback's pairs are made for few-shot steerable alignment: the pairs that the prompts give, in the
 * order of the prompts' texts where records were merged by them, else of the records; where a share of
 * conflicting pairs is asked for (pairs of which not all objectives prefer the same side), n of them being
 * there, n * share conflicting and n * (1 - share) agreeing ones, drawn where not all are taken; all put in
 * an order drawn by pandas' sample(frac=1, random_state=42); and dealt to train, validation and test with .8,
 * .1, .1 by numpy.random.seed(42) and choice. Every rank holds the table of pairs, and the prompts' texts
 * while it orders them.
 */
#ifndef COLLIMATE_DATA_OBJECTIVE_VIEWS_H
#define COLLIMATE_DATA_OBJECTIVE_VIEWS_H

#include "data/prepare_records.h"

#define MIXTURE_NAME "mixture"

struct objective_views_options {
    struct comm *comm;
    const char *output; /* the file of the responses; views stand beside it */
    const struct names *names;
    double conflicting; /* share; below 0: all pairs as they are */
    uint32_t seed;
    int64_t draws_before; /* of the splits' stream, that other sets have taken */
    bool splits;          /* the views have them */
    bool by_prompt;       /* records were merged */
    const char *command;
    bool is_dry; /* nothing is written */
};

/* What was made of the pairs; the same on all ranks. */
struct objective_views {
    int64_t judged, conflicting; /* pairs that all objectives judge, and of those conflicting ones */
    int64_t kept, kept_conflicting;
    int64_t splits[SPLITS]; /* kept pairs */
};

/* Local. Name of an objective's view (NULL: the mixture's): output without .h5, .NAME.h5. */
enum status objective_view_path(const char *output, const char *name, struct text *out);
/* Local. Names that a file and a view can have; freed in any case. Fails: ERR_USAGE. */
enum status objective_names_read(const char *list, struct names *out);
/* Collective. After dataset_write of `prepared`. Fails: ERR_DATA where no pair is left. */
enum status objective_views_write(const struct objective_views_options *o, const struct prepared *prepared,
                                  struct objective_views *out);

#endif
