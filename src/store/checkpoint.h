/* Checkpoints of a training run: parameters, optimizer state, and the facts that the numbers depend on.
 *
 * A checkpoint holds arenas, not ranks' parts, so another rank count goes on from it. Facts are names with
 * values (keys of the configuration, hashes of model and data); a resume names those that differ, and is
 * refused where the numbers depend on them, because it would neither be the old run nor say so.
 */
#ifndef COLLIMATE_STORE_CHECKPOINT_H
#define COLLIMATE_STORE_CHECKPOINT_H

#include "mpi/comm.h"
#include "train/optimizer.h"

enum fact_kind {
    FACT_FIXED,    /* another value is another run: refused */
    FACT_ROUNDING, /* the run goes on, to rounding: said */
    FACT_FREE,     /* the numbers do not depend on it: said */
};

struct fact {
    const char *name, *value;
    const char *fallback; /* what holds where a checkpoint does not say: a key's default; NULL: nothing */
    enum fact_kind kind;
};

/* What goes on from step to step beside the arenas. */
struct checkpoint_state {
    int64_t step;           /* updates done */
    int64_t total;          /* of the run that wrote it */
    double sequence_tokens; /* seen so far */
};

enum resume { RESUME_AUTO, RESUME_NEVER, RESUME_MUST }; /* as train.resume's words are in order */
struct checkpoint_options {
    const char *run;
    const struct fact *facts;
    int n_facts;
    int keep;
    enum resume resume;
};
/* Collective. Writes run/checkpoints/step-N.h5 and keeps the newest `keep`. Fails: ERR_WRITE. */
enum status checkpoint_save(struct comm *c, const struct checkpoint_options *o, struct optimizer *optimizer,
                            const struct checkpoint_state *state);
/* Collective. Loads the newest checkpoint of the run, if there is one, into the optimizer and its arena; with
 * RESUME_NEVER removes them. Fails: ERR_USAGE naming the fixed facts that differ, ERR_INPUT where there must
 * be one and is none, ERR_DATA for damage. */
enum status checkpoint_load(struct comm *c, const struct checkpoint_options *o, struct optimizer *optimizer,
                            struct checkpoint_state *state, bool *found);

/* Collective. A checkpoint's parameters alone, into a trained arena of the same layout. Fails: ERR_DATA for
 * damage and for another number of parameters. */
enum status checkpoint_load_parameters(struct comm *c, const char *path, struct arena *a);

#endif
