/* What several objectives, or users, say of the responses to one prompt.
 *
 * Scores: of each two responses, in their order, an objective prefers the one with the higher score. Choices:
 * a record of two responses is what one user prefers; responses with the same text are one, and a user who
 * prefers one in this record and the other in that one is torn.
 */
#ifndef COLLIMATE_TEXT_OBJECTIVES_H
#define COLLIMATE_TEXT_OBJECTIVES_H

#include "text/records.h"

/* Local. Adds a parsed record to a prompt that it is of. user: whose choices its pairs are; -1: its responses
 * have scores. *dropped: NULL, or why it gives nothing (static). */
enum status objectives_add(struct record_text *prompt, const struct record_text *record, int user,
                           const char **dropped);
/* Local. Fills judged from the scores. */
void objectives_judge(struct record_text *prompt);
/* Local. What pairs, or records, are told to be of the same prompt by: UltraFeedback's instruction, else the
 * prompt's text. Borrowed. */
void objectives_key(enum record_format format, const json_t *json, const struct record_text *record,
                    const char **s, size_t *n);
/* Local. Names that a record's scores have, for messages: "a, b, c", cut where it is long. */
void objectives_seen(enum record_format format, const json_t *json, char *out, size_t size);

#endif
