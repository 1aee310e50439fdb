/* The forest batch: trees of segments, packed without padding.
 *
 * A prompt is a root, its responses are its children; a token attends to its own segment before it and to its
 * ancestors; positions go on from the parent. SFT is a root with one child, DPO a root with two, list-wise
 * losses a root with n, embeddings of responses roots alone. The prompt is computed once for all its
 * responses.
 *
 * A readout is a hidden row, mostly with a target: the log-probability of the target as the row's next token.
 * The prompt's last row predicts the first token of each of its responses, so a row may be read out more than
 * once.
 */
#ifndef COLLIMATE_MODEL_FOREST_H
#define COLLIMATE_MODEL_FOREST_H

#include "backend/backend.h"

struct segment {
    int32_t parent; /* segment; -1: a root */
    int32_t first, count;
    int32_t position; /* of its first token */
    int64_t row;      /* the caller's name for it (response id, pair row); not read by the model */
    bool blind;       /* sees its ancestors only, not its own keys; set before forest_finish */
};

struct forest {
    int32_t n_tokens, n_segments, n_readouts;
    int32_t *tokens, *positions; /* n_tokens */
    struct segment *segments;
    int32_t *readout_at;      /* hidden row */
    int32_t *readout_target;  /* token id; -1: none */
    int32_t *readout_segment; /* segment whose token is the target */
    struct attention_map map; /* made by forest_finish */
    struct query_span *spans;
    struct key_range *ranges;
    int64_t attention_pairs; /* query-key pairs seen, for FLOP counts */
    int64_t cap_tokens, cap_segments, cap_readouts, cap_ranges, cap_spans;
};

/* Local, all of them. A forest is reused: clear, add, finish. */
void forest_clear(struct forest *f);
void forest_free(struct forest *f);
/* Appends a segment under parent (-1: a root) and gives its index. An empty segment is allowed only for a
 * root (no prompt). */
enum status forest_add(struct forest *f, int32_t parent, const int32_t *tokens, int32_t count, int64_t row,
                       int32_t *segment);
/* Asks for the log-probability of every token of a segment; the first is predicted by the parent's last row
 * and is left out (*unscored, which may be NULL, goes up by one) where there is none. */
enum status forest_score(struct forest *f, int32_t segment, int32_t *unscored);
/* Reads out the last row of a segment without a target, for the value of a score head: by length, whatever
 * the token there is. Fails: ERR_DATA where the segment is empty. */
enum status forest_value(struct forest *f, int32_t segment);
/* Checks tokens against the vocabulary (ERR_DATA names the segment's row and the id) and positions against
 * max_positions (0: no limit), and builds the attention map. */
enum status forest_finish(struct forest *f, int64_t vocabulary, int64_t max_positions);

#endif
