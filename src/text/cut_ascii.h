/* The hand-written cuts where text is ASCII. Private to src/text/. */
#ifndef COLLIMATE_TEXT_CUT_ASCII_H
#define COLLIMATE_TEXT_CUT_ASCII_H

#include "text/pretokenize.h"

/* As cut_pieces(), but it may return early, also with nothing: where bytes are not ASCII, a piece is longer
 * than a window, or a piece is one of the few that need more than a look at neighbours. */
int cut_ascii(enum step_kind kind, const char *s, size_t n, size_t at, size_t *ends, int most);

/* Bytes of 's 't 're 've 'm 'll 'd at s[at] (an apostrophe), 0 if none; fold: in either case. */
size_t cut_contraction(const char *s, size_t n, size_t at, bool fold);

#endif
