/* Rows as text, for people: special tokens stand in ‹›, what is trained in ⟦⟧, and a line that a newline ends
 * shows it. */
#ifndef COLLIMATE_DATA_SHOW_ROW_H
#define COLLIMATE_DATA_SHOW_ROW_H

#include "data/dataset.h"
#include "text/tokenizer.h"

#define SHOW_LEGEND "special tokens in ‹›, newlines as ↵, what is trained in ⟦⟧"
/* For show_ids: all ids are trained. */
extern const uint8_t SHOW_ALL_TRAINED[1];

/* Local. Appends "NAME, n tokens:" and the ids' text, indented. trained: a 1 or 0 for each, NULL: none is. */
enum status show_ids(const struct tokenizer *t, const char *name, const int32_t *ids, int64_t n,
                     const uint8_t *trained, struct text *out);
/* Local. Row `row` of a file: a pair, or a prompt with its responses where there are no pairs. */
enum status show_row(struct dataset *d, const struct tokenizer *t, int64_t row, struct text *out);

#endif
