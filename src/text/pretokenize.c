#include "text/pretokenize.h"

#include <string.h>
#ifdef __SSE2__
#include <emmintrin.h>
#endif

#include "text/cut_ascii.h"
#include "util/mem.h"

const char PATTERN_GPT2[] =
    "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+";
const char PATTERN_LLAMA3[] =
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|"
    "\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";
const char PATTERN_QWEN[] =
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|"
    "\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";

enum { LETTER = CLASS_LETTER, NUMBER = CLASS_NUMBER, SPACE = CLASS_SPACE, KNOWN = LETTER | NUMBER | SPACE };

/* Classes of the code point at s[at]; *length its bytes. */
static inline int class_at(const uint8_t *classes, const char *s, size_t at, int *length) {
    unsigned char c = (unsigned char)s[at];
    if (c < 0x80) {
        *length = 1;
        return classes[c] & KNOWN;
    }
    return classes[utf8_point(s + at, length)] & KNOWN;
}

/* End of the run of code points whose classes, under `mask`, are `wanted`. */
static inline size_t run_end(const uint8_t *classes, const char *s, size_t n, size_t at, int wanted) {
    while (at < n) {
        int length;
        if (class_at(classes, s, at, &length) != wanted) {
            break;
        }
        at += (size_t)length;
    }
    return at;
}

/* The same for letters, which most text is: of ASCII sixteen at a time, where the processor compares so many.
 */
static inline size_t letters_end(const uint8_t *classes, const char *s, size_t n, size_t at) {
#ifdef __SSE2__
    while (n - at >= 16) {
        __m128i bytes = _mm_loadu_si128((const __m128i *)(const void *)(s + at));
        __m128i place = _mm_sub_epi8(_mm_or_si128(bytes, _mm_set1_epi8(0x20)), _mm_set1_epi8('a'));
        __m128i letter = _mm_cmpeq_epi8(_mm_min_epu8(place, _mm_set1_epi8(25)), place);
        unsigned others = (unsigned)_mm_movemask_epi8(letter) ^ 0xFFFFu;
        if (others) {
            at += (size_t)__builtin_ctz(others);
            if ((unsigned char)s[at] < 0x80) {
                return at;
            }
            break;
        }
        at += 16;
    }
#endif
    return run_end(classes, s, n, at, LETTER);
}

/* \s+(?!\S)|\s+ : white space but for its last code point, which goes to what follows; all of it at the end.
 */
static size_t cut_space(const uint8_t *classes, const char *s, size_t n, size_t at) {
    size_t last = at;
    size_t end = at;
    while (end < n) {
        int length;
        if (class_at(classes, s, end, &length) != SPACE) {
            break;
        }
        last = end;
        end += (size_t)length;
    }
    return end < n && last > at ? last : end;
}

size_t cut_contraction(const char *s, size_t n, size_t at, bool fold) {
    char a = at + 1 < n ? s[at + 1] : '\0';
    char b = at + 2 < n ? s[at + 2] : '\0';
    if (fold) {
        if (a == '\xc5' && b == '\xbf') {
            return 3; /* U+017F, the long s, folds to s */
        }
        a = a >= 'A' && a <= 'Z' ? (char)(a + 32) : a;
        b = b >= 'A' && b <= 'Z' ? (char)(b + 32) : b;
    }
    if (a == 's' || a == 't' || a == 'm' || a == 'd') {
        return 2;
    }
    return (a == 'r' && b == 'e') || (a == 'v' && b == 'e') || (a == 'l' && b == 'l') ? 3 : 0;
}

static inline size_t gpt2_end(const uint8_t *classes, const char *s, size_t n, size_t at) {
    if (s[at] == '\'') {
        size_t length = cut_contraction(s, n, at, false);
        if (length > 0) {
            return at + length;
        }
    }
    int length;
    size_t body = at + (s[at] == ' ' && at + 1 < n);
    int class = class_at(classes, s, body, &length);
    if (class == LETTER) {
        return letters_end(classes, s, n, body + (size_t)length);
    }
    if (class != SPACE) {
        return run_end(classes, s, n, body + (size_t)length, class);
    }
    return cut_space(classes, s, n, at);
}

static inline bool is_newline(char c) {
    return c == '\r' || c == '\n';
}

/* White space in front: \s*[\r\n]+ up to the last line end of the run, else as GPT-2. */
static size_t cut_lines(const uint8_t *classes, const char *s, size_t n, size_t at) {
    size_t newline = at;
    size_t end = at;
    while (end < n) {
        int length;
        if (class_at(classes, s, end, &length) != SPACE) {
            break;
        }
        end += (size_t)length;
        newline = is_newline(s[end - 1]) ? end : newline;
    }
    return newline > at ? newline : cut_space(classes, s, n, at);
}

static inline size_t llama3_end(const uint8_t *classes, const char *s, size_t n, size_t at, int digits) {
    if (s[at] == '\'') {
        size_t length = cut_contraction(s, n, at, true);
        if (length > 0) {
            return at + length;
        }
    }
    int length;
    int class = class_at(classes, s, at, &length);
    size_t next = at + (size_t)length;
    if (class == LETTER) {
        return letters_end(classes, s, n, next);
    }
    if (class == NUMBER) {
        for (int i = 1; i < digits && next < n && class_at(classes, s, next, &length) == NUMBER; i++) {
            next += (size_t)length;
        }
        return next;
    }
    int next_class = next < n ? class_at(classes, s, next, &length) : SPACE;
    if (next_class == LETTER && !is_newline(s[at])) {
        return letters_end(classes, s, n, next);
    }
    if (class == 0 || (s[at] == ' ' && next_class == 0)) {
        size_t end = run_end(classes, s, n, next, 0);
        while (end < n && is_newline(s[end])) {
            end++;
        }
        return end;
    }
    return cut_lines(classes, s, n, at);
}

static size_t piece_end(enum step_kind kind, const uint8_t *classes, const char *s, size_t n, size_t at) {
    return kind == STEP_GPT2 ? gpt2_end(classes, s, n, at)
                             : llama3_end(classes, s, n, at, kind == STEP_LLAMA3 ? 3 : 1);
}

int cut_pieces(enum step_kind kind, const uint8_t *classes, const char *s, size_t n, size_t at, size_t *ends,
               int most) {
    int count = 0;
    while (at < n && count < most) {
        bool is_ascii = (unsigned char)s[at] < 0x80 && (at + 1 == n || (unsigned char)s[at + 1] < 0x80);
        int more = is_ascii ? cut_ascii(kind, s, n, at, ends + count, most - count) : 0;
        if (more == 0) {
            ends[count++] = at = piece_end(kind, classes, s, n, at);
        } else {
            count += more;
            at = ends[count - 1];
        }
    }
    return count;
}
