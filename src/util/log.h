/* The log: stderr, rank 0 speaks. Results go to stdout and never through here.
 * log_init() is called once by main with this process's rank; before that the process counts as rank 0.
 */
#ifndef COLLIMATE_UTIL_LOG_H
#define COLLIMATE_UTIL_LOG_H

#include <stdio.h>

#include "util/status.h"

enum log_level { LOG_ERROR, LOG_WARN, LOG_INFO, LOG_DEBUG };

void log_init(int rank, int size, enum log_level level);
/* Copies every line that rank 0 logs into file as well (a run's log.txt), information also where the level
 * does not show it; NULL ends that. Not owned. */
void log_tee(FILE *file);
/* Rank 0 only: "collimate: text". Warnings are counted for the environment record. */
void log_root(enum log_level level, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* Any rank: "collimate: [rank r] text". */
void log_any(enum log_level level, const char *format, ...) __attribute__((format(printf, 2, 3)));
int log_warnings(void);
int log_rank(void);

/* Progress of long work, on rank 0: a line that renews itself on a terminal, a plain line at most every
 * `interval` seconds (default 30) otherwise. unit: "rows", "steps", … */
struct progress {
    const char *label;
    const char *unit;
    double start_s;
    double last_s;
    double last_done;
    double total;
};
void progress_start(struct progress *p, const char *label, const char *unit, double total);
/* done in units; extra (may be NULL) is appended, e.g. "loss 0.6931". */
void progress_update(struct progress *p, double done, const char *extra);
void progress_end(struct progress *p, double done);

#endif
