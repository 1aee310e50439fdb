/* UTF-8 and the code point classes that tokenizers cut by. Private to src/text/.
 *
 * The classes are a committed table and not the system library's: \p{L}, \p{N} and \s must be those of the
 * `tokenizers` package (Unicode 16 in its regular expressions, about Unicode 9 in its normalizer), or ids
 * differ.
 */
#ifndef COLLIMATE_TEXT_UNICODE_H
#define COLLIMATE_TEXT_UNICODE_H

#include <stdint.h>

#include "util/text.h"
#include "util/utf8.h"

enum {
    CLASS_LETTER = 1,
    CLASS_NUMBER = 2,
    CLASS_SPACE = 4,
    CLASS_UNSAFE = 8, /* canonical composition may change it, move it, or join it to what is before */
};
struct code_range {
    uint32_t first, last;
    uint8_t classes;
};
extern const struct code_range code_ranges[];
extern const int n_code_ranges;

enum { CODE_POINTS = 0x110000 };
/* Local. One byte of classes per code point; mem_free. */
enum status unicode_classes(uint8_t **out);

/* Decodes the code point at s (valid UTF-8). */
static inline uint32_t utf8_point(const char *s, int *length) {
    const unsigned char *u = (const unsigned char *)s;
    *length = utf8_length(u[0]);
    switch (*length) {
    case 1:
        return u[0];
    case 2:
        return (u[0] & 0x1Fu) << 6 | (u[1] & 0x3Fu);
    case 3:
        return (u[0] & 0x0Fu) << 12 | (u[1] & 0x3Fu) << 6 | (u[2] & 0x3Fu);
    default:
        return (u[0] & 0x07u) << 18 | (u[1] & 0x3Fu) << 12 | (u[2] & 0x3Fu) << 6 | (u[3] & 0x3Fu);
    }
}

/* Appends s with U+FFFD for each maximal ill-formed part, as Rust's from_utf8_lossy does. */
enum status utf8_lossy(struct text *out, const char *s, size_t n);

/* Whether the code point at s is a word character (\w of Unicode TR 18). */
bool utf8_is_word(const uint8_t *classes, const char *s);

/* Text on its way to ids: bytes, and how many code points of the original each of them ends. */
struct view {
    const char *s;
    size_t n;
    const uint8_t *weights; /* per byte; NULL: the text's own code points */
    bool first;             /* begins where the original text begins */
    bool open;              /* goes on with what stands before it: nothing is put in front */
};
/* A view's own storage. */
struct view_buffer {
    struct text bytes, weights;
    int64_t owed; /* code points of what gave no bytes, for the next bytes */
};
void view_buffer_free(struct view_buffer *b);
void view_buffer_clear(struct view_buffer *b);
/* Code points of the original that bytes [at, at + n) of v end. */
int64_t view_count(const struct view *v, size_t at, size_t n);
/* Appends n bytes that stand for bytes [at, at + taken) of v; weights are kept where `weigh`. */
enum status view_append(struct view_buffer *b, const char *bytes, size_t n, int64_t weight, bool weigh);
/* Appends bytes [at, at + n) of v as they are. */
enum status view_copy(struct view_buffer *b, const struct view *v, size_t at, size_t n, bool weigh);

/* Normalization forms of Unicode Standard Annex 15. */
enum normal_form { FORM_C, FORM_D, FORM_KC, FORM_KD };
/* Local. v in that form into b, unless nothing in it can change (then *changed is false and b is not
 * touched). */
enum status normal_form(const uint8_t *classes, enum normal_form form, const struct view *v, bool weigh,
                        struct view_buffer *b, bool *changed);

#endif
