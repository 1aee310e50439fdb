/* metrics.jsonl: one JSON object per line and event, TRL's names; the first line has the schema version.
 * Rank 0 writes; a resumed run first drops the lines after the step that it goes on from, and the line that
 * closed it ("train_runtime"). Where it is asked for the lines' numbers go to an event file in the run's
 * tensorboard/ as well, under the names that transformers gives them there: eval/loss for eval_loss,
 * train/loss for loss.
 */
#ifndef COLLIMATE_EVALUATE_METRICS_H
#define COLLIMATE_EVALUATE_METRICS_H

#include <stdio.h>

#include "io/event_file.h"
#include "objective/objective.h"
#include "util/text.h"

enum { METRICS_SCHEMA = 1 };

struct metrics_file {
    FILE *file;
    char *path;
    struct event_file events; /* not open: none are written */
};
/* Local. Opens metrics.jsonl in a run folder, keeping its lines up to step `keep_to` (-1: none, a new file,
 * and the event files of an earlier run go); warns of damaged lines, which go, and where the last are not
 * there. tensorboard: begins an event file. Fails: ERR_WRITE. */
enum status metrics_open(const char *run, int64_t keep_to, bool tensorboard, struct metrics_file *out);
/* Local. Appends one line (an object without its end) and flushes. Fails: ERR_WRITE. */
enum status metrics_write(struct metrics_file *m, const struct text *line);
/* Local. The sum of a number, times another (NULL: 1), over the lines that have it, and how many do: of the
 * file's own lines, so that a run that was resumed counts them all. */
enum status metrics_sum(const char *path, const char *key, const char *times, double *sum, int64_t *count);
/* Local. Waits for the disk: before a checkpoint, whose steps are not taken again after a loss of power.
 * Fails: ERR_WRITE. */
enum status metrics_sync(struct metrics_file *m);
void metrics_close(struct metrics_file *m);

/* Appends `, "prefixname": value` (or opens the object where the text is empty). Not finite: null. */
enum status metrics_put(struct text *line, const char *prefix, const char *name, double value);
/* Appends what terms show of sums: loss, rewards, logps, logits, entropy, accuracy. */
enum status metrics_put_sums(struct text *line, const char *prefix, const struct terms *t,
                             const struct sums *sums);

#endif
