/* Record formats of preference data: JSON in, prompt and responses as text out.
 *
 * Prompt and response part at message or turn markers, never mid-word: HH transcripts at the last
 * "\n\nAssistant:" that both sides share; message lists at a message; strings with an implicit prompt only at
 * a marker (else dropped and counted).
 */
#ifndef COLLIMATE_TEXT_RECORDS_H
#define COLLIMATE_TEXT_RECORDS_H

#include "util/json.h"
#include "util/text.h"

enum record_format {
    FORMAT_AUTO,              /* by the keys of the first record */
    FORMAT_HH,                /* chosen, rejected: transcripts */
    FORMAT_PREFERENCE,        /* (prompt,) chosen, rejected: strings or messages; optional margin */
    FORMAT_PROMPT_COMPLETION, /* prompt, completion */
    FORMAT_PROMPT,            /* prompt */
    FORMAT_RESPONSES,         /* prompt, responses: [{text, score}] */
    FORMAT_SHP,               /* history, human_ref_A, human_ref_B, labels, score_A, score_B */
    FORMAT_ULTRAFEEDBACK,     /* instruction, completions */
};
enum status record_format_parse(const char *name, enum record_format *out);
const char *record_format_name(enum record_format format);

enum { RECORD_RESPONSES_MAX = 64 };

/* One record as text. Zero-initialised; reused from record to record (record_text_free at the end). */
struct record_text {
    struct text prompt;
    int n_responses;
    struct text responses[RECORD_RESPONSES_MAX];
    double scores[RECORD_RESPONSES_MAX]; /* NaN: none */
    int n_pairs;
    struct {
        int chosen, rejected; /* responses */
        double margin;        /* NaN: none */
        bool labeled;
    } pairs[RECORD_RESPONSES_MAX * (RECORD_RESPONSES_MAX - 1) / 2];
    const char
        *dropped; /* NULL, or why this record gives nothing: "prompts differ", "empty response", … (static) */
};
void record_text_free(struct record_text *r);

/* Local. Decides `auto` by a record's keys. Fails: ERR_DATA naming the keys seen. */
enum status record_format_detect(const json_t *record, const char *where, enum record_format *out);
/* Local. Messages are rendered with the plain HH transcript ("\n\nHuman: …\n\nAssistant:") where the
 * tokenizer has no chat template of ours. Fails: ERR_DATA with `where` for wrong types or missing keys. */
enum status record_parse(enum record_format format, const json_t *record, const char *where,
                         struct record_text *out);

#endif
