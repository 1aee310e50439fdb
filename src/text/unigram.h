/* The Unigram model: the cut of a word into tokens whose scores add up highest. Private to src/text/.
 *
 * Kudo 2018 (arXiv:1804.10959), by Viterbi; ties go to the token that begins first. Scores are added as the
 * package that wrote the file adds them: in double (`tokenizers`), or rounded to float after each token
 * (SentencePiece, unigram_model.cc, EncodeOptimized).
 */
#ifndef COLLIMATE_TEXT_UNIGRAM_H
#define COLLIMATE_TEXT_UNIGRAM_H

#include "text/bpe.h"

struct unigram {
    struct finder tokens; /* what may be found in a word */
    double *scores;       /* by id */
    double unknown;       /* score of a code point without a token */
    bool single;          /* SentencePiece's sums */
    uint8_t *user;        /* its user-defined tokens, which score by length, by id; NULL: none */
};
void unigram_free(struct unigram *u);
/* The word's symbols into s. Unknown code points in a row are one unknown token, or their bytes' tokens.
 * Fails: ERR_DATA for an unknown code point where the model has no unknown token; a word above 1 GiB. */
enum status unigram_word(const struct unigram *u, const struct bpe *b, struct bpe_scratch *s,
                         const char *word, size_t n);

#endif
