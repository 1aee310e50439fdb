/* Conversations as text: through a chat template where the record's chat_format has one, else as HH
 * transcripts. Private to src/text/.
 *
 * The prompt is what the template makes of the messages before the response with the assistant's turn opened;
 * the response is what the whole has behind it. All of a chat's assistant turns are what {% generation %}
 * blocks wrote, or where the template has none, between the renderings that end before and after each turn;
 * a turn that the whole has otherwise (templates leave reasoning out of earlier turns) is not trained and is
 * counted.
 */
#ifndef COLLIMATE_TEXT_CHAT_H
#define COLLIMATE_TEXT_CHAT_H

#include "text/messages.h"
#include "text/records.h"

/* The template for this record; NULL: a transcript. */
const struct template *chat_template(const struct record_text *r, const json_t *record);

/* All of them may drop the record; `record` gives tools, documents and chat_template_kwargs.
 * Fills the prompt with turns [0, n) and the assistant's turn opened; left open, where the last is his. */
enum status chat_prompt(struct record_text *r, const json_t *record, const struct conversation *c, int64_t n);
/* Fills response `place` with turns [n, count), which the prompt of turns [0, n) is filled for. */
enum status chat_response(struct record_text *r, const json_t *record, const struct conversation *c,
                          int64_t n, int place);
/* Fills prompt and response 0 so that every assistant turn but the first message is trained. */
enum status chat_all_turns(struct record_text *r, const json_t *record, const struct conversation *c);
/* Whether the last turn is the assistant's and there is something before it; drops the record otherwise. */
bool chat_ends(struct record_text *r, const struct conversation *c);

#endif
