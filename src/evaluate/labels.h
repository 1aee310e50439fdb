/* Label agreement: in how many labeled pairs the chosen response is also the better one by another measure.
 *
 *   labels/agree_with_scores  the responses' scores in the file say so
 *   labels/agree_with_truth   what the responses are really worth says so, where the data know it (`synth`)
 * Pairs that a measure does not order (no number, or equal ones) do not count. Intervals resample prompts,
 * because the pairs of a prompt share responses. What a reward model says of the labels is its accuracy.
 */
#ifndef COLLIMATE_EVALUATE_LABELS_H
#define COLLIMATE_EVALUATE_LABELS_H

#include "command/session.h"

enum { LABELS_SCORES, LABELS_TRUTH, LABELS_MEASURES };
extern const char *const label_names[LABELS_MEASURES];

/* Local. By scores or worths: whether the measure orders the two, and if so whether it agrees. */
bool label_is_ordered(float chosen, float rejected);
bool label_agrees(float chosen, float rejected);

/* Collective. The agreement of settings->data's labels, without a model: appends one object. Fails: ERR_USAGE
 * where the data have neither scores nor truth. */
enum status labels_evaluate(struct session *s, struct text *out);

#endif
