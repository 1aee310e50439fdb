/* Whether a run has to end at this step boundary, and whether a checkpoint fits before that.
 *
 * Every rank votes with what it knows (its signals, its clock, what it measured); the highest vote counts for
 * all. USR1: checkpoint and end. TERM: 2 s after mpirun was told to end it kills, so a checkpoint is written
 * only if the last one took less than what is left of them (its ranks hear of it after one of the two; srun's
 * at once); otherwise that last one stays. A time limit: the run ends while one more step and a checkpoint,
 * at twice what they took, would just fit.
 */
#ifndef COLLIMATE_TRAIN_STOP_H
#define COLLIMATE_TRAIN_STOP_H

#include <stddef.h>
#include <stdint.h>

#include "util/status.h"

enum stop { STOP_NO, STOP_LIMIT, STOP_USR1, STOP_TERM, STOP_TERM_TIGHT, STOP_COUNT };

/* What a rank knows at a step boundary, seconds. */
struct stop_facts {
    int signal;                        /* comm_signal() */
    double signal_age_s;               /* comm_signal_age() */
    double now, stop_at;               /* since the epoch; stop_at 0: no limit */
    double step_s, save_s, evaluate_s; /* measured; 0: not yet, or not due */
};
/* Local. */
enum stop stop_vote(const struct stop_facts *f);
/* Local. With a limit, half of whose time is over, and no checkpoint measured: one is due, to measure it. */
bool stop_wants_measure(const struct stop_facts *f, double began);
/* Local. What the log says. saved: step of the newest checkpoint, -1: none. */
void stop_describe(enum stop why, int64_t step, int64_t saved, char *out, size_t size);

/* Local. A time: "2026-11-21T08:00:00Z" (UTC with the Z, else the local zone), or a duration from `began`:
 * "90" or "90s", "45m", "2h30m", "1d". Empty: *out 0. Fails: ERR_USAGE, for a
 * time that is past too. */
enum status stop_parse(const char *text, double began, double *out);

#endif
