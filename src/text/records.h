/* Record formats of preference data: JSON in, prompt and responses as text out.
 *
 * Strings are taken as they are; a prompt and a response are the text's two parts and nothing is put between
 * them. Messages are rendered as a plain HH transcript: the system text first, "\n\nHuman: …" and
 * "\n\nAssistant: …" for each turn, "\n\nAssistant:" at the prompt's end, and the response with the space
 * that follows it. SHP and UltraFeedback, whose fields are a question and its answers, are rendered the same
 * way. Where the caller has chat templates, messages go through them instead, with all their fields and the
 * record's tools, documents and chat_template_kwargs (text/chat.h); strings stay as they are.
 *
 * Prompt and response part at message or turn markers, never mid-word: transcripts at the last
 * "\n\nAssistant:" of chosen, which rejected must share; other strings without a prompt where they part, as
 * TRL's extract_prompt, but before a word; message lists where they part, before a turn of the assistant on
 * both sides: what follows it is the response, all its turns (as TRL). What gives
 * nothing has a reason in `dropped`, for the caller to count. A response of white space only is empty.
 * What responses are really worth, which only worlds that were made know, is "worth": of each response in a
 * list, [chosen's, rejected's] in a pair. Labels and scores never come from it. Where objectives are asked
 * for
 * (`objectives`), each of a list's responses has a score for each of them: "scores": {name: value}, or
 * UltraFeedback's ratings, of which all four must be there.
 * Formats: DPO (Rafailov et al.), TRL (dataset_formats), SHP (Ethayarajh et al.), UltraFeedback (Cui et al.).
 */
#ifndef COLLIMATE_TEXT_RECORDS_H
#define COLLIMATE_TEXT_RECORDS_H

#include <stdint.h>

#include "text/template_folder.h"
#include "util/json.h"
#include "util/text.h"

enum record_format {
    FORMAT_AUTO,              /* by the keys of most records */
    FORMAT_HH,                /* chosen, rejected: transcripts (optional chosen_score, rejected_score) */
    FORMAT_PREFERENCE,        /* (prompt,) chosen, rejected: strings or messages; optional margin, scores */
    FORMAT_PROMPT_COMPLETION, /* prompt, completion or response (label: false is dropped); or messages, the
                                 last the response */
    FORMAT_PROMPT,            /* prompt */
    FORMAT_RESPONSES,     /* prompt, responses: [{text, score}] or strings, or response_0, response_1, …;
                             pairs of different scores, or by better_response_id */
    FORMAT_SHP,           /* history, human_ref_A, human_ref_B, labels (1: A), score_A, score_B */
    FORMAT_ULTRAFEEDBACK, /* instruction, completions: score is the mean of the four ratings */
    FORMAT_ALPACA, /* instruction (input, system, history), output; or output: [chosen, rejected], or chosen,
                      rejected: messages of user and assistant */
    FORMAT_TEXT,   /* text: a response to nothing */
    FORMAT_UNPAIRED,     /* prompt, completion, label: whether it is desirable (true, false, 1, 0) */
    FORMAT_CHOICES,      /* prompt, choices: […], answer: number or text of a choice, or a list of them */
    FORMAT_CHOSEN_LISTS, /* prompt, chosen: […], rejected: […]: RewardBench 2's */
    FORMAT_LAST = FORMAT_CHOSEN_LISTS
};
const char *record_format_name(enum record_format format);

enum { RECORD_RESPONSES_MAX = 64, RECORD_OBJECTIVES_MAX = 16 };

/* Why a record that is not bad gives nothing. */
#define RECORD_UNWANTED "label is false"

/* How conversations become text. */
struct chat_format {
    const struct template_folder *templates; /* NULL: HH transcripts */
    const char *date;                        /* of templates that ask for it (text/template.h) */
    bool strings;   /* with templates: transcripts, prompts and responses as strings are turns too */
    bool all_turns; /* of "messages": every assistant turn is trained, not only the last message */
};

/* Bytes of a text. */
struct text_marks {
    struct template_ranges input;   /* what users wrote */
    struct template_ranges trained; /* of a response; none: all of it */
};

/* Two responses of a prompt, a before b, and which objective prefers which: bit i is of objective i. */
struct judgment {
    int a, b;
    uint32_t has;        /* says which is better, or that neither is */
    uint32_t high;       /* prefers b */
    uint32_t tied, torn; /* neither; both, one time and the other */
};

/* One record as text. Zero-initialised; reused from record to record (record_text_free at the end). */
struct record_text {
    const struct chat_format *chat; /* borrowed, set by the caller; NULL: transcripts, last turns */
    const struct names *objectives; /* likewise; NULL: scores have no names */
    struct text prompt;
    struct text subset; /* "subset" of a benchmark's record; empty: none */
    int n_responses;
    struct text responses[RECORD_RESPONSES_MAX];
    double scores[RECORD_RESPONSES_MAX]; /* NaN: none */
    double worths[RECORD_RESPONSES_MAX]; /* what the responses are really worth; NaN: not known */
    double named[RECORD_RESPONSES_MAX][RECORD_OBJECTIVES_MAX]; /* of `objectives`; NaN: none */
    int desirable;                                             /* of FORMAT_UNPAIRED: 1 or 0 */
    int n_pairs;
    struct {
        int chosen, rejected; /* responses */
        double margin;        /* NaN: none */
        bool labeled;
        int line; /* of a post's records (text/shp.h), from 0 */
    } pairs[RECORD_RESPONSES_MAX * (RECORD_RESPONSES_MAX - 1) / 2];
    int n_judged; /* text/objectives.h */
    struct judgment judged[RECORD_RESPONSES_MAX * (RECORD_RESPONSES_MAX - 1) / 2];
    int n_skipped; /* responses of a list left out: empty, or without their ratings */
    int n_ties;    /* pairs of a list whose scores are equal */
    const char
        *dropped; /* NULL, or why this record gives nothing: "prompts differ", … (static, or `reason`) */
    bool found_prompt; /* it is what chosen and rejected have in common */
    char reason[48];
    char detail[256];    /* what the template said where it refused the record; else empty */
    int64_t n_untrained; /* assistant turns that the template renders otherwise in the whole chat */
    int64_t n_behind;    /* messages behind the last one of the assistant */
    struct text_marks prompt_marks, response_marks[RECORD_RESPONSES_MAX];
    struct template_output rendered[3]; /* scratch of text/chat.c: prompt, whole, a part */
    struct template_ranges turns;
};
void record_text_free(struct record_text *r);
/* No responses and pairs, an empty prompt; `chat` and what was allocated are kept. */
void record_text_clear(struct record_text *r);

/* Local. Decides `auto` by a record's keys. Fails: ERR_DATA naming the keys seen. */
enum status record_format_detect(const json_t *record, const char *where, enum record_format *out);
/* Whether records of both may stand in one file as one format: transcripts are pairs as others are. */
bool record_formats_join(enum record_format a, enum record_format b);
/* What the record's texts are; messages are what a chat template renders. */
enum record_texts { TEXTS_NONE, TEXTS_STRINGS, TEXTS_MESSAGES, TEXTS_COUNT };
enum record_texts record_texts(enum record_format format, const json_t *record);
bool record_is_chat(enum record_format format, const json_t *record);
/* Local. One record's prompt, responses and pairs (winner first; ties give none and are counted). Fails:
 * ERR_DATA with `where` for wrong types, missing keys, more than RECORD_RESPONSES_MAX responses. */
enum status record_parse(enum record_format format, const json_t *record, const char *where,
                         struct record_text *out);

#endif
