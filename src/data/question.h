/* A pair of responses as annotators are asked about it, and what its id says when an answer comes back.
 *
 * A line of JSON: {"id": "1f2e3d4c-12-15", "prompt": …, "response_a": …, "response_b": …, "similarity": 0.31,
 * "cluster": 4}. The id names the data (the first digits of its hash) and the responses a and b, so that an
 * answer ({"id", "preference": "a", "b" or "tie"}) needs no other file to be understood. Which response is a
 * is drawn, by the seed, so that neither side is the better one more often. Texts are those of the ids
 * without special tokens.
 */
#ifndef COLLIMATE_DATA_QUESTION_H
#define COLLIMATE_DATA_QUESTION_H

#include "data/dataset.h"
#include "text/tokenizer.h"
#include "util/json.h"

struct question {
    int64_t a, b; /* responses */
};
/* Local. Two responses in the order that the seed draws for them, whatever the order they are given in. */
struct question question_draw(uint64_t seed, int64_t response, int64_t other);
/* Local. Replaces *out by a prompt's text, without special tokens; of an HH transcript with one human turn
 * alone what the human says. */
enum status question_prompt(struct dataset *d, const struct tokenizer *t, int64_t prompt, struct text *out);
/* Local. Appends the line. similarity NaN, cluster -1: null. */
enum status question_print(struct dataset *d, const struct tokenizer *t, struct question q, double similarity,
                           int32_t cluster, struct text *out);

/* What came back as an id. */
enum question_fault {
    QUESTION_FINE,
    QUESTION_NO_ID,      /* not of this form */
    QUESTION_OTHER_DATA, /* of other data, */
    QUESTION_UNKNOWN,    /* or of responses that are none, or not of one prompt */
};
/* Local. What an id asked about. *fault says whether q was filled. Fails: as dataset_response. */
enum status question_parse(struct dataset *d, const char *id, struct question *q, enum question_fault *fault);
/* Local. The id of a line that was read: a string or NULL. Borrowed. */
const char *question_id(const json_t *line);

#endif
