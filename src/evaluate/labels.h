/* Label agreement: in how many labeled pairs the chosen response is also the better one by another measure.
 *
 *   labels/agree_with_scores  the responses' scores in the file say so
 *   labels/agree_with_truth   what the responses are really worth says so, where the data know it (`synth`)
 * Pairs that a measure does not order (no number, or equal ones) do not count. Intervals resample prompts,
 * because the pairs of a prompt share responses. What a reward model says of the labels is its accuracy.
 */
#ifndef COLLIMATE_EVALUATE_LABELS_H
#define COLLIMATE_EVALUATE_LABELS_H

#include "data/dataset.h"
#include "evaluate/ratios.h"

enum { LABELS_SCORES, LABELS_TRUTH, LABELS_MEASURES };
extern const char *const label_names[LABELS_MEASURES];

/* Whether a measure orders the two responses of a pair. */
bool label_is_ordered(float chosen, float rejected);
/* Counts a labeled pair in the ratios first + LABELS_SCORES and first + LABELS_TRUTH. */
struct label_pair {
    float chosen[LABELS_MEASURES], rejected[LABELS_MEASURES]; /* score, worth; NaN: unknown */
};
void labels_count(struct ratios *r, int first, const struct label_pair *p);

/* Collective. The agreement of the labels of the first `rows` pairs (0: all), without a model: appends one
 * object. Fails: ERR_USAGE where the data have neither scores nor truth. */
enum status labels_evaluate(struct comm *c, struct dataset *data, int64_t rows,
                            const struct interval_options *intervals, struct text *out);

#endif
