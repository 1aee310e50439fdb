/* A reference that follows the policy: a second model, whose scores of a batch are computed when the batch is
 * read, since what a side-car holds would be those of another reference. */
#ifndef COLLIMATE_SCORE_LIVE_REFERENCE_H
#define COLLIMATE_SCORE_LIVE_REFERENCE_H

#include "data/batch.h"
#include "score/scorer.h"

/* Zero-initialised; live_reference_close at the end. */
struct live_reference {
    struct model *model;         /* owned */
    struct workspace *workspace; /* borrowed; for passes over the largest forest; NULL: whoever has it scored
                                    opens the scorer for as long */
    enum pass_keep keep;         /* of its passes: KEEP_INPUTS where its divergence is read */
    bool tokens;                 /* scores token by token as well */
    double mixup;                /* alpha of an update */
    int64_t every;               /* steps between updates, 0: it stands still */
    struct scorer scorer;
    struct tensor scratch;
};
/* Local. Takes the model, after a failure too. Fails: ERR_USAGE where its parameters are not the policy's. */
enum status live_reference_open(struct live_reference *r, struct model *reference,
                                const struct model *policy);
void live_reference_close(struct live_reference *r);
/* Local. As batch_source.score_reference: a struct live_reference as context. */
enum status live_reference_score(void *reference, struct batch *b);
/* Local. After update number `step` (from 1): where it is due, every parameter becomes (1 - alpha) of itself
 * + alpha of the policy's (Gorbatovski et al. 2024, TR-DPO, eq. 3; alpha 1: a copy). */
enum status live_reference_follow(struct live_reference *r, const struct arena *policy, int64_t step);

#endif
