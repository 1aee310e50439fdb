/* Made-up pairs for bench.kind=step. */
#ifndef COLLIMATE_COMMAND_BENCH_SAMPLES_H
#define COLLIMATE_COMMAND_BENCH_SAMPLES_H

#include "train/source.h"

struct bench_samples {
    struct batch_plan plan;
    int64_t pair_tokens, vocabulary;
    int64_t pairs_in_forest; /* as many as micro_tokens holds, one at least */
    int rank, size;
    /* This rank's pairs of an update. */
    struct batch batch;
    struct sample_response *responses; /* two a sample */
    int32_t *tokens;
};

/* Local. This rank's share of plan.batch pairs of pair_tokens random tokens: half of them the prompt, which
 * is computed once, a quarter each response; random by pair, whichever rank owns it. Every update sees the
 * same. */
enum status bench_samples_open(struct bench_samples *s);
void bench_samples_close(struct bench_samples *s);

#endif
