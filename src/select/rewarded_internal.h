/* What rewards a selection goes by. Private to src/select/. */
#ifndef COLLIMATE_SELECT_REWARDED_INTERNAL_H
#define COLLIMATE_SELECT_REWARDED_INTERNAL_H

#include "select/rewarded.h"

/* On every rank, -inf: none. */
struct rewards {
    double *of;   /* by response of the data */
    double *best; /* by prompt: the highest of its samples */
};
/* Collective. Freed by the caller in any case. */
enum status rewards_read(const struct rewarded_options *o, struct dataset *d, struct rewards *out);
void rewards_free(struct rewards *r);

#endif
