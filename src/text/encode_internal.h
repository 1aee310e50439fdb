/* What a thread works with when it makes ids of text. Private to src/text/. */
#ifndef COLLIMATE_TEXT_ENCODE_INTERNAL_H
#define COLLIMATE_TEXT_ENCODE_INTERNAL_H

#include "text/pieces.h"
#include "text/tokenizer_internal.h"

enum { PIECES_AT_ONCE = 64 };

struct encoder {
    const struct tokenizer *t;
    struct pieces pieces;
    struct matcher *matcher;
    struct bpe_scratch scratch;
    struct view_buffer changed[STEPS_MAX]; /* by normalizers */
    struct view_buffer stepped[STEPS_MAX]; /* by steps of the pre-tokenizer */
    /* what users wrote, and how many special tokens there were in it */
    const struct template_ranges *input;
    size_t input_offset;
    bool input_as_text;
    int64_t input_specials;
    /* of the call under way */
    struct ids *out;
    struct text *chars;
    int64_t carried; /* code points of bytes that gave no token, for the next token */
};

enum status put_ids(struct encoder *e, const int32_t *ids, int count);
/* The code points that the last id ends, and what was carried. */
enum status put_chars(struct encoder *e, int64_t count);
/* A word of the model, bytes [at, at + n) of v. */
enum status put_word(struct encoder *e, const struct view *v, size_t at, size_t n);
/* Words of a byte-level model that follow each other from `at` on, up to each of the ends;
 * 0 < count <= PIECES_AT_ONCE. */
enum status put_pieces(struct encoder *e, const struct view *v, size_t at, const size_t *ends, int count);

#endif
