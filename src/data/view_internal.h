/* Rows as they are planned, before a token is read. Private to src/data/view*.c. */
#ifndef COLLIMATE_DATA_VIEW_INTERNAL_H
#define COLLIMATE_DATA_VIEW_INTERNAL_H

#include "data/comparisons.h"
#include "data/unpaired.h"
#include "data/view.h"

struct view {
    struct dataset *d;
    enum row_kind kind; /* ROWS_CHOSEN without pairs becomes ROWS_RESPONSES; ROWS_LABELED ROWS_PAIRS */
    struct truncation t;
    int32_t end_id;
    int64_t rows;
    int64_t *kept; /* the file's rows that are not left out; NULL: all */
    int64_t left_out, unlabeled;
    struct unpaired unpaired; /* of ROWS_UNPAIRED */
    int64_t block;            /* of view_mismatch, 0: no second response */
    uint64_t hash;
    struct comparisons comparisons; /* where rows are prompts */
    uint8_t *chars;                 /* scratch: characters of a response's tokens */
    int64_t chars_capacity;
};

/* What stays of a response: `keep` tokens of its content from the start, then the end token if `end`. */
struct cut {
    int64_t content; /* tokens before the end token */
    int64_t keep;
    bool has_end, end; /* in the file, after the cut */
};

/* Rows as they will be read: lists that all of them share. */
struct planned_response {
    struct response response;
    struct cut cut;
};
struct row_plans {
    struct planned_response *responses;
    struct sample_pair *pairs;
    int64_t n_responses, n_pairs, response_capacity, pair_capacity;
};
/* One of them: its responses and pairs are ranges of the lists. */
struct row_plan {
    int64_t row;
    int64_t first_response, first_pair;
    int32_t n_responses, n_pairs;
    int64_t prompt_first, prompt_count; /* after the cut; tokens from prompt_first on */
    int64_t prompt_whole;
    int64_t place; /* of the row in the view */
    bool is_desirable;
};

static inline int64_t row_in_file(const struct view *v, int64_t row) {
    return v->kept ? v->kept[row] : row;
}

static inline int64_t cut_tokens(const struct cut *c) {
    return c->keep + c->end;
}

static inline bool is_cut(const struct cut *c) {
    return c->keep < c->content || (c->has_end && !c->end);
}

/* A list of rows, planned. */
struct view_plan {
    struct view *view;
    struct row_plans all;
    struct row_plan *rows;
    int64_t n;
};
/* Local. rows NULL: the n from `first` on. */
enum status view_plan_rows(struct view *v, const int64_t *rows, int64_t first, int64_t n,
                           struct view_plan **out);
/* Tokens of a row: its prompt once. Local. */
int64_t view_plan_tokens(const struct view_plan *plan, const struct row_plan *p);
/* Local. Takes the rows that max_length leaves out from v->rows and v->kept. */
enum status plan_leave_out(struct view *v);

#endif
