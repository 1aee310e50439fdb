/* Answers of annotators, and the view of labeled pairs that they become.
 *
 * A line: {"id": of the question (data/question.h), "preference": "a", "b" or "tie", "annotator": a name or
 * number}; other members are not read, so the export's lines with an answer added will do. Lines without an
 * annotator are each another one's. A pair gets the label that more of its answers give than any other; where
 * that is a tie, or there is none, it stands in the view without a label, as asked. An annotator who answers
 * a question twice is counted once, by the last answer. What cannot be used is counted, by its reason, with
 * its first line.
 *
 * Agreement, over pairs with two answers or more: the share of the other answers to the same pair that are
 * like an answer, averaged over the answers; and Krippendorff's alpha (nominal, of a, b and tie), which is
 * that share put between chance (0) and all the same (1).
 */
#ifndef COLLIMATE_SELECT_ANSWERS_H
#define COLLIMATE_SELECT_ANSWERS_H

#include "mpi/comm.h"

/* All is borrowed. */
struct answers_options {
    struct comm *comm;
    const char *data;
    const char *answers; /* files, comma separated */
    const char *output;  /* the view; "": only reported */
    const char *report;  /* JSON; "": beside the output */
    const char *command; /* for the view's provenance */
    bool trust_data;
};
/* Collective. Fails: ERR_DATA where no answer gives a label. */
enum status answers_run(const struct answers_options *options);

#endif
