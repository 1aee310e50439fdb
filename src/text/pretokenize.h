/* Cutting text into words: the rules of tokenizer.json's pre_tokenizer. Private to src/text/.
 *
 * The patterns of GPT-2, Llama 3 and Qwen are matched by hand-written code; every other goes to PCRE2.
 */
#ifndef COLLIMATE_TEXT_PRETOKENIZE_H
#define COLLIMATE_TEXT_PRETOKENIZE_H

#include "text/unicode.h"

extern const char PATTERN_GPT2[], PATTERN_LLAMA3[], PATTERN_QWEN[];

enum step_kind {
    STEP_GPT2,         /* cut by PATTERN_GPT2 */
    STEP_LLAMA3,       /* cut by PATTERN_LLAMA3: at most 3 digits */
    STEP_QWEN,         /* cut by PATTERN_QWEN: 1 digit */
    STEP_PATTERN,      /* cut by a PCRE2 pattern, matches and what is between them apart */
    STEP_STRING,       /* cut around a string */
    STEP_PREFIX_SPACE, /* put a space before what does not begin with one */
    STEP_METASPACE,    /* spaces become the mark, one is put first as `prepend` says */
    STEP_BEFORE_MARK,  /* cut before each mark */
    STEP_SYMBOLS,      /* cut around SentencePiece's user-defined symbols, which are tokens */
};
enum joins { JOIN_NONE, JOIN_PREVIOUS, JOIN_NEXT, JOIN_ALIKE };
enum prepend { PREPEND_ALWAYS, PREPEND_FIRST, PREPEND_NEVER };
struct step {
    enum step_kind kind;
    struct pattern *pattern; /* STEP_PATTERN */
    char *string;            /* STEP_STRING: to cut around; STEP_METASPACE, STEP_BEFORE_MARK: the mark */
    size_t string_n;
    enum prepend prepend;
    /* STEP_PATTERN, STEP_STRING */
    bool drop_matches, drop_others; /* behavior Removed, inverted or not */
    enum joins joins;               /* a match becomes one piece with what is before it, behind it, alike */
    bool inverted;                  /* `joins` takes what is between matches for the matches */
};
void step_free(struct step *s);
/* A cut by a regular expression: hand-written where it is one of the three and !plain. Fails: ERR_DATA for
 * what PCRE2 does not take or would read differently from Oniguruma, the package's engine. */
enum status step_pattern(const char *regex, bool plain, struct step *out);

/* What a thread needs to match. */
struct matcher;
enum status matcher_open(struct matcher **out);
void matcher_close(struct matcher *m);

/* Ends of the words from `at` (< n) on by one of the three hand-written rules, `most` (> 0) at most; returns
 * how many. */
int cut_pieces(enum step_kind kind, const uint8_t *classes, const char *s, size_t n, size_t at, size_t *ends,
               int most);
/* Next match at or after `at` of a STEP_PATTERN or STEP_STRING; *begin = n when there is none. Fails:
 * ERR_DATA where a pattern backtracks beyond its limit. */
enum status cut_match(struct matcher *m, const struct step *step, const char *s, size_t n, size_t at,
                      size_t *begin, size_t *end);

#endif
