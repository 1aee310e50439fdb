/* A data file seen through the truncation options, and what a full look at it found. */
#ifndef COLLIMATE_DATA_ROWS_H
#define COLLIMATE_DATA_ROWS_H

#include "data/lengths.h"
#include "data/sidecar.h"
#include "data/view.h"

struct rows {
    struct dataset *data;
    struct view *view;
    struct sidecar *reference; /* NULL: none; closed with the rows */
    bool reads_tokens;         /* of the reference */
    uint64_t reference_model;  /* hash of the weights that the reference scores come from */
    struct cut_counts counts;
    int64_t n;              /* rows in use (evaluate.rows may take the first only) */
    int64_t tokens;         /* of all rows' forests, prompts once */
    int64_t scored;         /* response tokens */
    int64_t ordered;        /* rows with a labeled pair, or two scores: that say what is better */
    int64_t longest;        /* tokens of the longest row */
    struct lengths lengths; /* tokens of each row */
    int64_t largest_id;     /* of the tokens that occur, -1: none does */
    int64_t longest_path;   /* tokens of the longest prompt with one of its responses */
    int64_t longest_at;     /* the first row with such a one */
    double attention_pairs; /* of all rows */
};

struct rows_request {
    const char *path, *key; /* key: for messages */
    enum row_kind kind;
    enum data_split split;
    int64_t limit; /* first rows only, 0: all */
    struct truncation truncation;
    int64_t vocabulary;        /* of the model that will read the rows, 0: not checked */
    const char *user;          /* what needs the rows, for messages */
    bool trust;                /* the file is not compared with its hashes */
    struct dataset_seen *seen; /* by the job before; NULL */
    int64_t mismatch;          /* of unpaired rows: block of view_mismatch, 0: none */
    int64_t drawn; /* of bare rows: responses that are drawn to each, of truncation.max_response tokens at
                      most, which the counts hold as if they were there; */
    bool apart;    /* and whether each has a prompt of its own */
};
/* Collective. Opens a data file and reads it: its hashes, counts, longest row, token ids against the
 * vocabulary (a tokenizer may have more than the model; what counts is which of them occur); the report goes
 * to the log. out is closed with rows_close after a failure too. Fails: as dataset_open, view_open and
 * view_read; ERR_DATA where there are no rows, or prompts of which none is ordered. */
enum status rows_open(struct comm *c, const struct rows_request *request, struct rows *out);
void rows_close(struct rows *r);
/* Tokens at most of a forest that is cut out of n rows, by micro_tokens. */
int64_t rows_forest_tokens(const struct rows *r, int64_t n, int64_t micro_tokens);
/* Local. Fails: ERR_DATA where a token id lies outside a vocabulary of n. */
enum status rows_check_vocabulary(const struct rows *r, int64_t n);
/* Collective. ROWS_PAIRS where the file has pairs, else `other`. */
enum status rows_kind(struct comm *c, const char *path, enum row_kind other, enum row_kind *out);

#endif
