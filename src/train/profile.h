/* train.profile: where the time of the steps goes, by operation and by collective.
 *
 * Counted at the back end's front door and where collectives begin and end, added up over ranks here. What is
 * missing from the whole is the host's own work between them (reading batches, objectives, checkpoints). The
 * sums of gradients run beside the computation ("buckets"), so they are no part of it.
 */
#ifndef COLLIMATE_TRAIN_PROFILE_H
#define COLLIMATE_TRAIN_PROFILE_H

#include "backend/backend.h"
#include "evaluate/metrics.h"
#include "mpi/comm.h"

/* Collective. Counts from here on; before the bucket sums are opened. Not where nobody asked: then no clock
 * is read. *began: the moment. */
enum status profile_start(struct comm *c, struct backend *b, double *began);
/* Collective. Rank 0 logs a table and writes a line behind the steps: {"step": …, "profile": {…}}. */
enum status profile_report(struct comm *c, struct backend *b, double began, int64_t step,
                           struct metrics_file *metrics);

#endif
