/* What the formats' parsers share. Private to src/text/. */
#ifndef COLLIMATE_TEXT_RECORDS_INTERNAL_H
#define COLLIMATE_TEXT_RECORDS_INTERNAL_H

#include "text/messages.h"
#include "text/records.h"

/* A key that is there and not null. */
bool record_has(const json_t *record, const char *key);
/* What stands before chosen and rejected; NULL: nothing. Borrowed. */
const json_t *record_context(const json_t *record);
/* The record gives nothing; reason is static. OK. */
enum status record_drop(struct record_text *r, const char *reason);
/* A key's string; null is an empty one. Borrowed. Fails: ERR_DATA. */
enum status record_string(const json_t *record, const char *key, const char *where, const char **s,
                          size_t *n);
enum status record_append(struct text *out, const json_t *record, const char *key, const char *where);

/* The next response's place; it counts once record_add_response() says so. */
enum status record_next(struct record_text *r, const char *where, struct text **out);
/* An empty one is skipped. */
void record_add_response(struct record_text *r, double score);
void record_add_pair(struct record_text *r, int chosen, int rejected, double margin);
/* All pairs of different scores, winner first. */
void record_add_scored_pairs(struct record_text *r);
/* A prompt alone: a string, or messages with the assistant's turn opened (or left open, if it has begun). */
enum status record_take_prompt(const json_t *record, const char *where, struct record_text *r);

/* record_pairs.c: chosen and rejected. Where a transcript's response begins: behind its last
 * "\n\nAssistant:"; 0 if there is none. */
size_t record_response_at(const char *s, size_t n);
enum status record_parse_pair(const json_t *record, const char *where, struct record_text *r);

/* record_lists.c: response n_responses, which counts later, is a text behind the prompt that the record has;
 * c: NULL for one that is a string. */
enum status record_take_listed(const json_t *record, const json_t *text, const struct conversation *c,
                               struct record_text *r);
enum status record_parse_responses(const json_t *record, const char *where, struct record_text *r);
enum status record_parse_shp(const json_t *record, const char *where, struct record_text *r);
enum status record_parse_ultrafeedback(const json_t *record, const char *where, struct record_text *r);

/* record_choices.c */
enum status record_parse_choices(const json_t *record, const char *where, struct record_text *r);

/* record_turns.c: a record whose strings are turns as the same record with messages, and other names of the
 * same fields under the names that the parsers read. *out: a new reference, or NULL where the record stays as
 * it is. `format` becomes that of *out. */
enum status record_to_turns(const struct chat_format *chat, const json_t *record, const char *where,
                            enum record_format *format, json_t **out);

#endif
