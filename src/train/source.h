/* Where updates come from: a view of a file, made-up rows of a benchmark, or a policy's own samples. */
#ifndef COLLIMATE_TRAIN_SOURCE_H
#define COLLIMATE_TRAIN_SOURCE_H

#include "data/batch.h"
#include "util/text.h"

struct verdict;
struct source {
    void *context; /* borrowed */
    /* This rank's rows of step `step` (from 0). Local where `ahead`, else Collective. b is freed first. Fails
     * with whatever reading fails with. */
    enum status (*read)(void *context, int64_t step, struct batch *b);
    bool ahead; /* step + 1 may be read before step's update is done: while its buckets are under way */
    struct batch_plan plan; /* how rows are dealt to slots: slots, deterministic and rows are read */
    /* Of a source that makes its rows with models. */
    bool computes; /* read does: the step's pass gives the workspace back for as long */
    int64_t span;  /* updates of the same rows, between which no checkpoint falls; 0: 1 */
    /* Local, rank 0: appends to the step's line. NULL: nothing. Its failure is the next step's. */
    enum status (*report)(void *context, const struct verdict *v, struct text *line);
    double *memory; /* what it goes on from: checkpoints hold it */
    int n_memory;
};

#endif
