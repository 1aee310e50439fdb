/* The loop's own state, shared by its files: loop.c takes the steps and resumes, loop_evaluate.c evaluates
 * between steps, loop_report.c writes a step's line. */
#ifndef COLLIMATE_TRAIN_LOOP_INTERNAL_H
#define COLLIMATE_TRAIN_LOOP_INTERNAL_H

#include "evaluate/metrics.h"
#include "mpi/watchdog.h"
#include "train/loop.h"
#include "train/stop.h"
#include "train/training_state.h"
#include "util/log.h"

struct loop {
    const struct training *t;
    struct comm *comm;
    struct step step;
    struct batch batch, next;
    struct metrics_file metrics; /* rank 0 */
    enum status late_status;     /* of what this rank did since the last closing: rides in the next */
    struct progress progress;
    struct training_state state;
    int64_t start_step, saved_step;
    double learning_rate;        /* of the last update */
    double began_s, rows;        /* of this start: when it began, how many rows its steps had */
    double saved_s, evaluated_s; /* what the last checkpoint and evaluation took */
    double span_began_s;         /* when the rows of the steps before the next checkpoint began to be made */
};

/* Local: rank 0 writes the step's line; a failure is reported by the next closing. */
void loop_report(struct loop *l, const struct verdict *v);

/* Local: rank 0 writes the line that closes the run. */
enum status loop_close(struct loop *l);
/* Epochs that are done after the state's last step: rows seen over rows. */
double loop_epoch(const struct loop *l);

/* Collective. Evaluates on t->eval_data, writes its line. */
enum status loop_evaluate(struct loop *l);

#endif
