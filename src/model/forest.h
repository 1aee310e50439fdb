/* The forest batch: trees of segments, packed without padding.
 *
 * A prompt is a root, its responses are its children; a token attends to its own segment before it and to its
 * ancestors; positions go on from the parent. SFT is a root with one child, DPO a root with two, list-wise
 * losses a root with n, embeddings of responses roots alone. The prompt is computed once for all its
 * responses.
 *
 * Two preference pairs, packed (tokens of one forest lie side by side; a letter is a token):
 *
 *     segment      0      1    2   3    4     5
 *     tokens     p p p p  c c  r r r  q q q  d d d d  s
 *     position   0 1 2 3  4 5  4 5 6  0 1 2  3 4 5 6  3
 *     parent       -1      0    0      -1     3       3
 *
 * Who sees whom (the attention map): c sees p and, causally, c; r sees p and r, never c; no one sees another
 * tree. A row of the map is a span, a run of queries, with the ranges of keys that they see:
 *
 *     span c: [p whole] [c causal]      span r: [p whole] [r causal]      span d: [q whole] [d causal]
 *
 * so nothing is padded and nothing masked: what is not seen is not computed. In backward the gradients of p
 * from c and from r add up, as they would from two copies of the prompt.
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
    int32_t position;  /* of its first token */
    int64_t row;       /* the caller's name for it (response id, pair row); not read by the model */
    int32_t condition; /* of struct condition's (film.h); -1: none. A child begins with its parent's */
    bool blind;        /* sees its ancestors only, not its own keys; set before forest_finish */
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
/* The same of the tokens whose trained[i] is not 0 alone; trained NULL: of all. */
enum status forest_score_trained(struct forest *f, int32_t segment, const uint8_t *trained,
                                 int32_t *unscored);
/* Reads out one row without a target, for the value of a score head: the last on the way from the root to the
 * segment's end whose token is not pad (-1: there is none, so the last), as …ForSequenceClassification reads
 * its row; the first where all of them are pad. Fails: ERR_DATA where there is no token at all. */
enum status forest_value(struct forest *f, int32_t segment, int32_t pad);
/* Checks tokens against the vocabulary (ERR_DATA names the segment's row and the id) and positions against
 * max_positions (0: no limit), and builds the attention map. */
enum status forest_finish(struct forest *f, int64_t vocabulary, int64_t max_positions);

#endif
