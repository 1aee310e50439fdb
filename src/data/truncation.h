/* How rows are cut to a length, as options. */
#ifndef COLLIMATE_DATA_TRUNCATION_H
#define COLLIMATE_DATA_TRUNCATION_H

#include "data/dataset.h"

enum cut_unit { CUT_TOKENS, CUT_CHARS };

struct truncation {
    int32_t max_length;    /* prompt + response tokens, 0: no limit */
    int32_t max_prompt;    /* what an over-long row's prompt is cut to, 0: max_length / 2 */
    bool keep_start;       /* of the prompt; otherwise keep its end */
    double response_ratio; /* (0, 1]; 1: whole */
    enum cut_unit unit;    /* what the ratio counts */
    int32_t max_response;  /* fixed number of tokens, 0: no limit */
    bool end_after_cut;    /* put the end token back after a cut */
};

/* Local. Fails: ERR_USAGE for limits that contradict each other, or where characters are counted and the file
 * has no token_chars. */
enum status truncation_check(const struct dataset *d, const struct truncation *t);
/* Of what changes tokens, kind being a number for how rows of a kind are cut; options without effect are left
 * out, so that they do not make side-cars stale. */
uint64_t truncation_hash(const struct truncation *t, int64_t kind);

#endif
