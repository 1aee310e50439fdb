/* SentencePiece's precompiled map of characters: strings to be replaced, in a double-array trie, and by what.
 * Private to src/text/.
 *
 * Layout (sentencepiece, normalizer.cc; darts-clone): the trie's bytes as 32 little-endian bits, its units of
 * 32 bits each, then the replacements, each ended by a zero byte. The reader takes hostile maps.
 */
#ifndef COLLIMATE_TEXT_CHARSMAP_H
#define COLLIMATE_TEXT_CHARSMAP_H

#include <stddef.h>
#include <stdint.h>

#include "util/status.h"

struct charsmap;
/* Fails: ERR_DATA for sizes that do not fit together. The blob is copied. */
enum status charsmap_open(const char *blob, size_t n, const char *where, struct charsmap **out);
void charsmap_close(struct charsmap *m);

struct replacement {
    size_t taken; /* bytes of the text; 0: there is none */
    const char *text;
    size_t n;
};
/* What the longest (the shortest) beginning of s[0, n) that the map has is replaced by. */
struct replacement charsmap_find(const struct charsmap *m, const char *s, size_t n, bool longest);

#endif
