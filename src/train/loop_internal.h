/* The loop's own state, shared by its files: loop.c takes the steps and resumes, loop_evaluate.c evaluates
 * between steps, loop_report.c writes a step's line. */
#ifndef COLLIMATE_TRAIN_LOOP_INTERNAL_H
#define COLLIMATE_TRAIN_LOOP_INTERNAL_H

#include "evaluate/metrics.h"
#include "mpi/watchdog.h"
#include "train/loop.h"
#include "train/stop.h"
#include "train/straggler.h"
#include "util/log.h"

/* Seconds of a step, on this rank. */
enum span { SPAN_FORWARD, SPAN_BACKWARD, SPAN_WAIT, SPAN_DATA, SPAN_COUNT };

/* What a rank may take in silence while nothing has been measured, seconds. */
#define FIRST_ALLOWANCE_S 1800.0

struct loop {
    const struct training *t;
    struct comm *comm;
    struct model *model;
    struct scorer scorer;
    struct gradient_sum gradient;
    struct batch batch, next;
    struct sums_tree sums;
    struct metrics_file metrics; /* rank 0 */
    enum status late_status;     /* of what this rank did since the last closing: rides in the next */
    struct progress progress;
    struct checkpoint_state state;
    int64_t n_slots, n_squares, start_step, saved_step;
    struct shard_map shares; /* who sums which squares of the gradient, and hashes which parameters */
    double spans[SPAN_COUNT], step_began_s, optimizer_s, gather_s;
    uint64_t parameters_hash;                 /* after this step; in deterministic mode */
    double allowance_s, saved_s, evaluated_s; /* what the last checkpoint and evaluation took */
    double *row_gradient;                     /* of a forest's samples */
    int64_t cap_row_gradient;
    double *closing;  /* what the closing reduction carries */
    double arrival_s; /* from the last collective to the wait for the gradients */
    struct stragglers stragglers;
};

/* What all ranks know after the closing. */
struct verdict {
    struct sums sums;
    double grad_norm, learning_rate, step_s, next_tokens;
    double spans[SPAN_COUNT]; /* mean over ranks */
    double closing_s;         /* of the closing reduction, on this rank */
    struct straggler straggler;
    enum stop stop;
    bool want_evaluate, want_checkpoint;
};

/* Local: rank 0 writes the step's line; a failure is reported by the next closing. */
void loop_report(struct loop *l, const struct verdict *v);

/* Collective. Evaluates on t->eval_data, writes its line. */
enum status loop_evaluate(struct loop *l);

#endif
