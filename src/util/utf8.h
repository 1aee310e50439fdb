/* UTF-8: what is well-formed. */
#ifndef COLLIMATE_UTIL_UTF8_H
#define COLLIMATE_UTIL_UTF8_H

#include <stdbool.h>
#include <stddef.h>

/* Bytes of the code point that begins with this byte (valid UTF-8). */
static inline int utf8_length(unsigned char lead) {
    return lead < 0x80 ? 1 : lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
}

static inline bool utf8_continues(char c) {
    return ((unsigned char)c & 0xC0) == 0x80;
}

/* Bytes of ASCII at the beginning of s. */
size_t utf8_ascii(const char *s, size_t n);
/* Length of the well-formed sequence at s, or minus the length of its maximal ill-formed part (Unicode 3.9,
 * table 3-7: what one U+FFFD stands for). n > 0. */
int utf8_check(const char *s, size_t n);
/* Bytes of the valid beginning of s: n when all of it is. */
size_t utf8_valid(const char *s, size_t n);
/* Bytes (1 to 4, 0 above U+10FFFF) of a code point written to out. */
int utf8_put(unsigned point, char out[4]);

#endif
