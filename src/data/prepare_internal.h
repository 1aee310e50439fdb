/* What a thread makes of a batch of records, and how that becomes rows of a file. */
#ifndef COLLIMATE_DATA_PREPARE_INTERNAL_H
#define COLLIMATE_DATA_PREPARE_INTERNAL_H

#include "data/prepare_records.h"
#include "io/record_blocks.h"

/* Records that a thread takes at once. Zero-initialised, reused, prepare_batch_free at the end. */
struct prepare_batch {
    int64_t number;               /* of the batch, from 0, in the order of the records */
    int64_t n;                    /* records, or groups of them */
    const struct record *records; /* what they point to stays until the next call */
    const int64_t *first;         /* n + 1: each group's records; NULL: there are no groups */
    struct record_block block;
    struct group_batch groups;
};
void prepare_batch_free(struct prepare_batch *b);

/* The batches of a job in order, for several threads. */
struct prepare_batches;
enum status prepare_batches_open(const struct prepare_job *job, struct prepare_batches **out);
void prepare_batches_close(struct prepare_batches *b); /* NULL is fine */
/* Local. *more false: there is none. Fails: as record_reader_next. */
enum status prepare_batches_next(struct prepare_batches *b, struct prepare_batch *batch, bool *more);

struct prompt_row {
    int64_t end; /* of its ids in the block */
    struct prepare_place place;
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

/* Rows and ids of a batch of records; indices count from the block's start. */
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
    struct prepare_place first[PREPARE_FIRSTS]; /* line 0: none */
    char refusal[256];
    int file; /* of its records, where there are no groups; -1: there are */
    int64_t n_records;
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

/* What a thread works with. */
struct worker;
enum status prepare_worker_open(const struct prepare_job *job, struct worker **out);
void prepare_worker_close(struct worker *w); /* NULL is fine */
/* Local. Record or group i of a batch goes into the block. */
enum status prepare_add(struct worker *w, struct block *b, const struct prepare_batch *batch, int64_t i);

/* Local. Puts what the block has behind what is there. */
enum status prepare_join(const struct prepare_job *job, struct block *b, struct prepared *out);

#endif
