/* Cuts of ASCII by bits: a window of 64 bytes becomes a word of bits for each class, beginnings of pieces are
 * expressions of these words, and nothing is asked for byte after byte. What the expressions do not have
 * (bytes that are no ASCII, pieces longer than a window, and of the newer patterns line ends and long
 * numbers) is left to pretokenize.c.
 */
#include "text/cut_ascii.h"

#include <string.h>
#ifdef __SSE2__
#include <emmintrin.h>

enum { WINDOW = 64, SSE_BYTES = 16 };

/* Bit i is byte i's, the lowest first. */
struct window {
    uint64_t letter, number, space, other; /* exactly one of them */
    uint64_t blank, newline, quote;        /* ' '; \r, \n; ' */
    uint64_t beyond;                       /* no ASCII */
};

static inline uint64_t bits_of(__m128i truth, int at) {
    return (uint64_t)(unsigned)_mm_movemask_epi8(truth) << at;
}

/* Bytes from `first` to `last`. */
static inline __m128i among(__m128i bytes, char first, char last) {
    __m128i place = _mm_sub_epi8(bytes, _mm_set1_epi8(first));
    return _mm_cmpeq_epi8(_mm_min_epu8(place, _mm_set1_epi8((char)(last - first))), place);
}

static inline void look(const char *s, struct window *out) {
    struct window w = {0};
    for (int at = 0; at < WINDOW; at += SSE_BYTES) {
        __m128i bytes = _mm_loadu_si128((const __m128i *)(const void *)(s + at));
        __m128i blank = _mm_cmpeq_epi8(bytes, _mm_set1_epi8(' '));
        __m128i newline = _mm_or_si128(_mm_cmpeq_epi8(bytes, _mm_set1_epi8('\n')),
                                       _mm_cmpeq_epi8(bytes, _mm_set1_epi8('\r')));
        w.letter |= bits_of(among(_mm_or_si128(bytes, _mm_set1_epi8(0x20)), 'a', 'z'), at);
        w.number |= bits_of(among(bytes, '0', '9'), at);
        w.space |= bits_of(_mm_or_si128(blank, among(bytes, '\t', '\r')), at);
        w.blank |= bits_of(blank, at);
        w.newline |= bits_of(newline, at);
        w.quote |= bits_of(_mm_cmpeq_epi8(bytes, _mm_set1_epi8('\'')), at);
        w.beyond |= bits_of(bytes, at);
    }
    w.other = ~(w.letter | w.number | w.space);
    *out = w;
}

/* Bits [0, n), n <= 64. */
static inline uint64_t below(int n) {
    return n < WINDOW ? ((uint64_t)1 << n) - 1 : ~(uint64_t)0;
}

static inline int lowest(uint64_t bits) {
    return bits ? __builtin_ctzll(bits) : WINDOW;
}

/* White space begins a piece where it begins, and its last one does, which goes to what follows. */
static inline uint64_t space_begins(const struct window *w) {
    return w->space & ((~w->space >> 1) | ~(w->space << 1));
}

/* 's|…| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+ : a run of a class, with a blank in front. */
static inline uint64_t gpt2_begins(const struct window *w) {
    uint64_t goes_on =
        (w->letter & w->letter << 1) | (w->number & w->number << 1) | (w->other & w->other << 1);
    return space_begins(w) | (~w->space & ~goes_on & ~(w->blank << 1));
}

/* As above, but that letters take anything in front of them that is neither letter, number nor line end, if
 * it begins a piece itself, and numbers nothing. */
static inline uint64_t llama3_begins(const struct window *w, int digits) {
    uint64_t other = w->other & ~(w->other << 1) & ~(w->blank << 1);
    uint64_t letter = w->letter & ~((w->letter | w->space | other) << 1);
    uint64_t number = digits == 1 ? w->number : w->number & ~(w->number << 1);
    return space_begins(w) | other | letter | number;
}

/* How far llama3_begins() holds: to the line of punctuation and space that has a line end in it, and to the
 * first number of more digits than a piece has. */
static inline int llama3_limit(const struct window *w, int digits, int limit) {
    if (w->newline) {
        uint64_t before = (w->letter | w->number) & below(lowest(w->newline));
        int begin = before ? WINDOW - __builtin_clzll(before) : 0;
        limit = begin < limit ? begin : limit;
    }
    if (digits > 1) {
        uint64_t run = w->number;
        for (int i = 0; i < digits; i++) {
            run &= w->number << (i + 1);
        }
        int begin = lowest(run) - digits;
        limit = begin < limit ? begin : limit;
    }
    return limit;
}

/* A contraction that begins at a quote that begins a piece: it ends where the next piece begins. Beginnings
 * after *limit mean nothing. */
static inline uint64_t put_contractions(const struct window *w, const char *s, size_t n, bool fold,
                                        uint64_t begins, int *limit) {
    uint64_t quotes = begins & w->quote;
    while (quotes) {
        int at = lowest(quotes);
        if (at > *limit) {
            break;
        }
        int length = (int)cut_contraction(s, n, (size_t)at, fold);
        if (length > 0 && at + length > *limit) {
            *limit = at;
            break;
        }
        if (length > 0) {
            begins = (begins & ~(below(length) << at)) | (uint64_t)1 << at | (uint64_t)1 << (at + length);
        }
        quotes = begins & w->quote & ~below(at + 1);
    }
    return begins;
}

/* Ends of the pieces that begin at s, up to where a window or what is known of it ends. */
static int cut_window(enum step_kind kind, const char *s, size_t n, size_t at, size_t *ends, int most) {
    char tail[WINDOW];
    struct window w;
    bool is_last = n - at < WINDOW;
    const char *from = s + at;
    if (is_last) { /* as if white space went on, of which the text's own is then one piece */
        memset(tail, '\t', sizeof tail);
        memcpy(tail, from, n - at);
        from = tail;
    }
    look(from, &w);
    int known = lowest(w.beyond), length = is_last ? (int)(n - at) : WINDOW;
    bool is_whole = is_last && known == WINDOW;
    /* A beginning depends on the byte behind it. */
    int limit = is_whole ? length : known - 2;
    uint64_t begins;
    if (kind == STEP_GPT2) {
        begins = gpt2_begins(&w);
    } else {
        int digits = kind == STEP_LLAMA3 ? 3 : 1;
        begins = llama3_begins(&w, digits);
        limit = llama3_limit(&w, digits, limit);
    }
    if (limit <= 0) {
        return 0;
    }
    if (is_whole) { /* the last piece ends with the text */
        begins = (begins & below(length)) | (uint64_t)1 << length;
    }
    begins = put_contractions(&w, s + at, n - at, kind != STEP_GPT2, begins, &limit);
    begins &= below(limit + 1) & ~(uint64_t)1;
    int count = 0;
    for (; begins && count < most; begins &= begins - 1) {
        ends[count++] = at + (size_t)lowest(begins);
    }
    return count;
}

int cut_ascii(enum step_kind kind, const char *s, size_t n, size_t at, size_t *ends, int most) {
    int count = 0;
    while (at < n && count < most) {
        int more = cut_window(kind, s, n, at, ends + count, most - count);
        if (more == 0) {
            break;
        }
        count += more;
        at = ends[count - 1];
    }
    return count;
}
#else
int cut_ascii(enum step_kind kind, const char *s, size_t n, size_t at, size_t *ends, int most) {
    (void)kind, (void)s, (void)n, (void)at, (void)ends, (void)most;
    return 0;
}
#endif
