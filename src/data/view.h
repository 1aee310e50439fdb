/* Truncation as a view: what a row's tokens become under the length options, without copying the data.
 *
 * A response is its content and, where the file's policy says so, an end token. Per response on its own:
 * 1. the content is cut to a share of its tokens or characters (rounded down, at least one token), the whole
 * to at most max_response tokens;
 * 2. if prompt + response exceed max_length, the prompt is cut to max_prompt, from its start or its end: all
 * or nothing, as the DPO reference does;
 * 3. if they still do, the response is cut to max_length - prompt.
 * An end token that a cut removed is put back if end_after_cut: on top of a share, within the two limits.
 * By LENGTH_CUTS_ROW steps 2 and 3 are TRL's truncation_mode=keep_start instead: the response is cut to
 * max_length - prompt, without an end token, and rows whose prompt leaves no room are left out; by
 * LENGTH_DROPS_ROW rows with a longer prompt + response are left out, as TRL's reward trainer does.
 *
 * Pairs share their prompt, and a response may stand in several pairs: for rows of more than one response the
 * prompt is cut if any of the prompt's responses in the file asks for it, so that a response has the same
 * tokens, and the same reference score, in all its pairs.
 */
#ifndef COLLIMATE_DATA_VIEW_H
#define COLLIMATE_DATA_VIEW_H

#include "data/dataset.h"
#include "data/sample.h"

enum cut_unit { CUT_TOKENS, CUT_CHARS };
enum cut_length { LENGTH_CUTS_PROMPT, LENGTH_CUTS_ROW, LENGTH_DROPS_ROW };

struct truncation {
    enum cut_length how;   /* what max_length does */
    int32_t max_length;    /* prompt + response tokens, 0: no limit */
    int32_t max_prompt;    /* what an over-long row's prompt is cut to, 0: max_length / 2 */
    bool keep_start;       /* of the prompt; otherwise keep its end */
    double response_ratio; /* (0, 1]; 1: whole */
    enum cut_unit unit;    /* what the ratio counts */
    int32_t max_response;  /* fixed number of tokens, 0: no limit */
    bool end_after_cut;    /* put the end token back after a cut */
};

/* Counts for the report: every row read is in `rows`. */
struct cut_counts {
    int64_t rows, prompts_cut;
    int64_t responses_cut;  /* two a pair */
    int64_t without_end;    /* responses that end without the end token of the file's policy */
    int64_t empty_dropped;  /* responses that have no token in the file; they stay rows */
    int64_t pairs, margins; /* pairs of the rows, and those of them that have a margin */
    int64_t alike;          /* pairs whose sides have the same tokens, */
    int64_t alike_cut;      /* and those of them of which a side is cut */
    int64_t against;        /* labeled pairs whose rejected side has the higher score, */
    int64_t level;          /* and the same one */
};

/* Rows of training, scoring and evaluation.
 * ROWS_PAIRS: pairs. ROWS_CHOSEN: the chosen side of each pair; all responses where the file has no pairs.
 * ROWS_LABELED, ROWS_PREFERRED: the same of those pairs that have a label, with an index of 8 bytes for each
 * where some have none; what trains and evaluates reads these.
 * ROWS_RESPONSES: every response; of a split (dataset_keep_split) those that stand in its pairs.
 * ROWS_COMPARED: prompts with the labeled pairs of their responses, in the order of prompts, and the
 * responses that stand in one. ROWS_PROMPTS: the same prompts with all of their responses; all prompts where
 * the file has no pairs. These two hold an index of 16 bytes for each pair. ROWS_BARE: every prompt, of a
 * split those of its pairs, without responses: these are still to be drawn, truncation.max_response tokens
 * each at most, for which max_length leaves room. ROWS_UNPAIRED: responses that are desirable or not; of
 * labeled pairs as TRL unpairs them (unpaired.h). In a file of labelled responses ROWS_CHOSEN and
 * ROWS_PREFERRED are the desirable ones, with an index of 8 bytes for each. */
enum row_kind {
    ROWS_PAIRS,
    ROWS_CHOSEN,
    ROWS_RESPONSES,
    ROWS_COMPARED,
    ROWS_PROMPTS,
    ROWS_LABELED,
    ROWS_PREFERRED,
    ROWS_UNPAIRED,
    ROWS_BARE
};

struct view;
/* Local. d is borrowed. Fails: ERR_USAGE for limits that contradict each other or when characters are counted
 * and the file has no token_chars, ERR_DATA when the kind needs pairs, or labels, and there are none. */
enum status view_open(struct dataset *d, enum row_kind kind, const struct truncation *t, struct view **out);
void view_close(struct view *v);
/* Local. Unpaired rows get a second response: that of the row before, of every `block` rows of the view, and
 * the first one that of the last. A row's prompt is cut where either needs it. To be called before rows are
 * read. */
void view_mismatch(struct view *v, int64_t block);
/* Ids of responses in samples are below this: so many rows does a side-car have. */
int64_t view_ids(const struct view *v);
int64_t view_rows(const struct view *v);
/* The place in the view of a row of the file; -1: it is left out. */
int64_t view_place(const struct view *v, int64_t row);
/* The file's number of a row of the view: of a pair, prompt or response. */
int64_t view_row_in_file(const struct view *v, int64_t row);
bool view_is_of_prompts(const struct view *v); /* ROWS_COMPARED, ROWS_PROMPTS */
/* Pairs of the file that are left out because they have no label; 0 for kinds that take them. */
int64_t view_unlabeled(const struct view *v);
/* Rows that max_length left out; samples name rows by their place in the file. */
int64_t view_left_out(const struct view *v);
/* Rows as they will be, without their tokens: what deals them needs all rows of an update, what reads them
 * its own alone, and neither looks twice. */
struct view_plan;
/* Local. v is borrowed. */
enum status view_plan_open(struct view *v, const int64_t *rows, int64_t n, struct view_plan **out);
void view_plan_close(struct view_plan *plan);
/* Local. Tokens of the i-th row after truncation (prompt once), as the slots are dealt by. */
enum status view_plan_cost(const struct view_plan *plan, int64_t i, int32_t *out);
/* Local. Samples of n of its rows, by their places in it; as view_read. */
enum status view_plan_read(const struct view_plan *plan, const int64_t *index, int64_t n, struct sample **out,
                           struct cut_counts *counts);
/* Local. Samples of the rows, all in one allocation that ends with samples_free. counts (may be NULL) is
 * added to. Fails: ERR_DATA for damage, and for a pair whose responses have different prompts. */
enum status view_read(struct view *v, const int64_t *rows, int64_t n, struct sample **out,
                      struct cut_counts *counts);
/* Local. The same of rows next to each other. */
enum status view_read_range(struct view *v, struct range rows, struct sample **out,
                            struct cut_counts *counts);
void samples_free(struct sample *samples);
/* Hash of everything that changes a response's tokens: truncation and, where a prompt can be cut, row kind.
 * Part of side-cars' keys. */
uint64_t view_hash(const struct view *v);

#endif
