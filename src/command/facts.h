/* What the numbers of a training run depend on: written into its checkpoints, compared when it goes on. */
#ifndef COLLIMATE_COMMAND_FACTS_H
#define COLLIMATE_COMMAND_FACTS_H

#include "command/trainer.h"
#include "util/text.h"

struct facts {
    struct fact *list;
    struct text *values; /* of the facts that own theirs */
    int64_t n, capacity, n_values, cap_values;
};

/* Local. Every key that the command takes, the contents of model, data, rows and reference, and what the sums
 * are rounded by: device and ranks. A key is FACT_FIXED unless its row says otherwise (enum
 * option_resume). */
enum status facts_collect(const struct trainer *t, struct facts *out);
/* Local. The same of a few-shot model, whose data have this hash. */
enum status facts_few_shot(const struct run *run, uint64_t data, int threads, struct facts *out);
/* Collective. A warning where hosts run different kernels: their bits differ, so which rank has which host
 * would matter. */
enum status facts_check_hosts(const struct trainer *t, const struct facts *f);
void facts_free(struct facts *f);

#endif
