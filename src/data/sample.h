/* A row as a model reads it: a prompt, responses to it, and pairs of them. */
#ifndef COLLIMATE_DATA_SAMPLE_H
#define COLLIMATE_DATA_SAMPLE_H

#include <stdbool.h>
#include <stdint.h>

/* A prompt and responses to it, as a forest wants them; all of it is in one buffer. */
struct sample {
    int64_t row;         /* pair, prompt, or response where there is no pair */
    int32_t n_responses; /* 1 or 2; any number for rows that are prompts */
    int32_t n_pairs;     /* 1 or 0; any number for rows that are prompts */
    int32_t target;      /* place of the response that SFT would raise: the chosen, or the best; -1: none */
    int32_t subset;      /* the prompt's, in dataset_facts; -1: none */
    int32_t user;        /* whose row it is, of the batch's users; not read where there are none */
    bool is_desirable, is_mismatched; /* of labelled rows: the first response, which is the row's own; whether
                                       * there is a second one, which belongs to another prompt */
    const int32_t *prompt;
    int32_t prompt_count;
    struct sample_response {
        int64_t id, first; /* first: of its tokens in the data file. Of labelled rows, whose responses stand
                            * behind other prompts as well: id is a place of the row's (view_ids) */
        const int32_t *tokens;
        const uint8_t *trained; /* of each token, 0: only read; NULL: all are trained and scored */
        int32_t count;
        float score, worth; /* the file's, NaN where there is none */
    } * responses;
    struct sample_pair {
        int64_t row, source;      /* in /pairs; record of the input, -1 where unknown */
        int32_t chosen, rejected; /* places in responses */
        float margin;             /* NaN where there is none */
        int8_t label;             /* 1: chosen preferred, 0: none */
    } * pairs;
};

/* Tokens of a response that are scored: those that are trained and have a predictor, which the first lacks
 * where the prompt is empty. */
int64_t sample_scored(const struct sample *s, int response);
/* Tokens of a sample's tree: prompt once. */
int64_t sample_tokens(const struct sample *s);
/* Query-key pairs that its attention sees, for FLOP counts. */
double sample_attention_pairs(const struct sample *s);
/* Hash of what the score of a response depends on: tokens, and which of them are scored. */
uint64_t sample_hash(const struct sample *s, int response);

#endif
