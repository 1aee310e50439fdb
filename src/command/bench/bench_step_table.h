/* What bench.kind=step prints and writes. */
#ifndef COLLIMATE_COMMAND_BENCH_STEP_TABLE_H
#define COLLIMATE_COMMAND_BENCH_STEP_TABLE_H

#include "command/bench/bench.h"

enum { BENCH_STEP_WARM_UP = 3 };

struct bench_step_result {
    int64_t parameters, pairs_in_forest;
    double first_s, loss, flops; /* of the first step; of the last one, over all ranks */
    double waited_s;             /* by this rank for gradients, a step */
    struct times times;          /* of a step, the slowest rank's */
};

/* Collective. Rank 0 prints a header and a row, and adds them to the CSV. */
enum status bench_step_table(struct bench *b, struct bench_step_result *r);

#endif
