/* A text world whose preferences are known: row by row a function of the seed. The rules are at the top of
 * synth_text.c. */
#ifndef COLLIMATE_DATA_SYNTH_TEXT_H
#define COLLIMATE_DATA_SYNTH_TEXT_H

#include <stdint.h>

#include "util/text.h"

enum synth_rule { SYNTH_EARLY, SYNTH_LATE, SYNTH_STYLE };

struct synth_world {
    uint64_t seed;
    enum synth_rule rule;
    int responses; /* 2: a preference record; above: a scored list */
    int length;    /* words of a response, about */
    int marked;    /* of them decide, at most half; 0: a quarter */
    double noise, noise_similarity, noise_full_at;
};

/* What was written, for the report. */
struct synth_counts {
    int64_t rows, flipped; /* flipped: labels (pairs) or neighbors (lists) against the truth */
    double similarity;     /* sum over rows */
};

/* Local. Appends row's JSON line. */
enum status synth_text_row(const struct synth_world *w, int64_t row, struct text *out,
                           struct synth_counts *counts);

#endif
