/* What a thread makes of a block of records, and how the blocks become a part of a file. */
#ifndef COLLIMATE_DATA_PREPARE_INTERNAL_H
#define COLLIMATE_DATA_PREPARE_INTERNAL_H

#include "data/prepare_records.h"

struct prompt_row {
    int64_t end, record; /* end of its ids in the block */
    int32_t subset;
};

struct response_row {
    int64_t end, prompt;
    float score, worth;
    int32_t length_chars;
    int8_t desirable;
};

struct pair_row {
    int64_t chosen, rejected, source;
    float margin;
    int8_t label;
};

/* Rows and ids of a block of records; indices count from the block's start. */
struct block {
    struct ids prompt_ids, response_ids;
    struct text chars;
    struct text trained; /* a byte for each response id, where chats may train some only */
    struct prompt_row *prompts;
    struct response_row *responses;
    struct pair_row *pairs;
    int64_t n_prompts, n_responses, n_pairs;
    int64_t prompts_capacity, responses_capacity, pairs_capacity;
    float *scores; /* (n_responses, objectives) */
    int64_t n_scores, scores_capacity;
    struct judged_pair *judged; /* a, b from the block's start */
    int64_t n_judged, judged_capacity;
    struct text keys;
    int64_t *key_ends;
    int64_t n_keys, keys_capacity;
    int64_t scored[RECORD_OBJECTIVES_MAX];
    char names_seen[256];
    struct prepare_drops drops;
    struct subsets subsets;
    int64_t counts[PREPARE_COUNTS];
    struct ignored ignored;
    int64_t first[PREPARE_FIRSTS]; /* + 1; 0: none */
    char refusal[256];
    enum status st;
    struct message message;
};

void prepare_block_free(struct block *b);
/* Whether responses say whether they are desirable. */
bool prepare_labels(const struct prepare_job *job);
/* Whether responses say which of their tokens are trained. */
bool prepare_trains_some(const struct prepare_job *job);
/* Local. A record that ended with st, which is no failure of it alone unless it is ERR_DATA: dropped with
 * what its message says behind `where`, and OK; st where the job is strict. */
enum status prepare_bad(const struct prepare_job *job, struct prepare_drops *d, enum status st,
                        const char *where, struct prepare_place place);
/* Local. A record that gives nothing: dropped, or, where the job is strict, ERR_DATA. */
enum status prepare_empty(const struct prepare_job *job, struct prepare_drops *d, const char *reason,
                          const char *where, struct prepare_place place);
/* Local. What the prompt's judgments give, whose responses are the block's from first on; the others are
 * counted. */
enum status prepare_judged(const struct prepare_job *job, struct block *b, const struct record_text *text,
                           int64_t first, int64_t source, struct prepare_place place);

/* Local. Lays the blocks end to end and frees them; the first that failed gives its message. */
enum status prepare_join(const struct prepare_job *job, struct block *blocks, int n_blocks,
                         struct prepared *out);

#endif
