/* Checkpoints of a run: named arrays, a state, and the facts that the numbers depend on.
 *
 * Whatever trains says which arrays it goes on from: an arena's values, an optimizer's shares, doubles of the
 * host. A checkpoint holds arrays, not ranks' parts, so another rank count goes on from it. Facts are names
 * with values (keys of the configuration, hashes of model and data); a resume names those that differ, and is
 * refused where the numbers depend on them, because it would neither be the old run nor say so.
 */
#ifndef COLLIMATE_STORE_CHECKPOINT_H
#define COLLIMATE_STORE_CHECKPOINT_H

#include <jansson.h>

#include "backend/backend.h"
#include "io/lease.h"
#include "mpi/shard.h"
#include "util/text.h"

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

enum resume { RESUME_AUTO, RESUME_NEVER, RESUME_MUST }; /* as train.resume's words are in order */
struct checkpoint_options {
    const char *run;
    const struct lease *lease; /* of the run's folder, on rank 0; NULL: none */
    const struct fact *facts;
    int n_facts;
    int keep;
    enum resume resume;
};

/* An array and where it lives: in a back end's memory, or as doubles on the host. */
struct named {
    const char *name;
    int64_t elements; /* of the whole array */
    struct backend *backend;
    struct tensor tensor;           /* 1 x elements, or this rank's packed shares; fp32 in files where bf16 */
    double *host;                   /* in the place of a tensor */
    const struct shard_map *shards; /* of the tensor; NULL: every rank holds all of it */
};

struct checkpoint_contents {
    int64_t step;
    struct text state;          /* members of a JSON object, which the facts join */
    const struct named *arrays; /* at most CHECKPOINT_ARRAYS, the same on every rank */
    int n_arrays;
};
/* Collective. Writes run/checkpoints/step-N.h5 and keeps the newest o->keep; nothing of that where a rank's
 * `made`, the making of its contents, is not OK, or the lease is lost. Fails: that, ERR_LOST, ERR_WRITE. */
enum status checkpoint_save(struct comm *c, const struct checkpoint_options *o,
                            const struct checkpoint_contents *contents, enum status made);

struct checkpoint_found {
    char *path; /* NULL: the run begins anew, as it should */
    int64_t step;
    json_t *state;
};
/* Collective. Loads the newest checkpoint of the run, if there is one, into the arrays; with RESUME_NEVER
 * removes them all. *out is the caller's to close unless this fails. Fails: ERR_USAGE naming the fixed facts
 * that differ, ERR_INPUT where there must be one and is none, ERR_DATA for damage and for arrays of other
 * names or lengths. */
enum status checkpoint_load(struct comm *c, const struct checkpoint_options *o, const struct named *arrays,
                            int n, struct checkpoint_found *out);
void checkpoint_found_close(struct checkpoint_found *f);

/* Collective. These arrays of one file. Fails: ERR_DATA as checkpoint_load() does. */
enum status checkpoint_read(struct comm *c, const char *path, const struct named *arrays, int n);

#endif
