/* A template's text as tokens: text between tags with its white space trimmed as asked, and what is in tags.
 */
#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "text/template_internal.h"
#include "text/unicode.h"

struct lexer {
    struct template *t;
    const char *s;
    size_t n, at;
    int line;
    bool line_begins; /* what was read last ended with a line */
    struct lexeme *tokens;
    int64_t count, capacity;
    struct text brackets; /* open in this tag */
};
#define bad_text(l, ...) \
    status_same((template_refuse((l)->t->title, (l)->line, ERR_DATA, __VA_ARGS__), ERR_DATA))

static enum status add(struct lexer *l, enum token_kind kind, const char *s, size_t n) {
    TRY(POOL_GROW(&l->t->pool, l->tokens, l->capacity, l->count + 1));
    l->tokens[l->count++] = (struct lexeme){.kind = kind, .line = l->line, .s = s, .n = n};
    return OK;
}

static char peek(const struct lexer *l, size_t ahead) {
    return l->at + ahead < l->n ? l->s[l->at + ahead] : '\0';
}

static bool looking_at(const struct lexer *l, const char *text) {
    size_t n = strlen(text);
    return l->n - l->at >= n && memcmp(l->s + l->at, text, n) == 0;
}

/* Goes to `end`, counting lines. */
static void advance(struct lexer *l, size_t end) {
    for (; l->at < end; l->at++) {
        l->line += l->s[l->at] == '\n';
    }
}

static size_t blank_length(const char *s, size_t n) {
    int length = 0;
    return n > 0 && jinja_is_blank(utf8_point(s, &length)) ? (size_t)length : 0;
}

static void skip_blanks(struct lexer *l) {
    size_t end = l->at;
    for (size_t length = 1; length > 0; end += length) {
        length = blank_length(l->s + end, l->n - end);
    }
    advance(l, end);
}

/* Length of s without the white space at its end. */
static size_t without_blanks(const char *s, size_t n) {
    size_t kept = 0;
    for (size_t at = 0; at < n; at += (size_t)utf8_length((unsigned char)s[at])) {
        if (!blank_length(s + at, n - at)) {
            kept = at + (size_t)utf8_length((unsigned char)s[at]);
        }
    }
    return kept;
}

/* lstrip_blocks: white space alone between a line's begin and a tag goes. */
static size_t without_indent(const struct lexer *l, const char *s, size_t n) {
    const char *newline = n > 0 ? memrchr(s, '\n', n) : NULL;
    size_t from = newline ? (size_t)(newline - s) + 1 : 0;
    if (!newline && !l->line_begins) {
        return n;
    }
    return without_blanks(s + from, n - from) == 0 ? from : n;
}

/* The text in front of a tag whose sign is - + or neither. */
static enum status add_text(struct lexer *l, size_t from, size_t to, char sign, bool is_print) {
    const char *s = l->s + from;
    size_t n = to - from;
    if (sign == '-') {
        n = without_blanks(s, n);
    } else if (sign != '+' && !is_print) {
        n = without_indent(l, s, n);
    }
    return n > 0 ? add(l, TOKEN_TEXT, s, n) : OK;
}

/* Past a tag's end, whose sign was - + or neither. */
static void end_tag(struct lexer *l, char sign, bool trims) {
    advance(l, l->at + 2);
    if (sign == '-') {
        skip_blanks(l);
    } else if (sign != '+' && trims && peek(l, 0) == '\n') {
        advance(l, l->at + 1);
    }
    l->line_begins = l->s[l->at - 1] == '\n';
}

static enum status skip_comment(struct lexer *l) {
    if (l->at == l->n) {
        return OK; /* jinja2 looks no further either */
    }
    const char *end = memmem(l->s + l->at, l->n - l->at, "#}", 2);
    if (!end) {
        return bad_text(l, "a comment {# is not closed");
    }
    size_t at = (size_t)(end - l->s);
    char sign = at > l->at ? l->s[at - 1] : '\0';
    advance(l, at);
    end_tag(l, sign, true);
    return OK;
}

static size_t skipped(const struct lexer *l, size_t at) {
    for (size_t length = 1; length > 0; at += length) {
        length = blank_length(l->s + at, l->n - at);
    }
    return at;
}

/* Whether from `at` comes `word` and a tag's end; *end is where that end's %} is, *sign what is before it. */
static bool is_word_tag(const struct lexer *l, size_t at, const char *word, size_t *end, char *sign) {
    at = skipped(l, at);
    size_t n = strlen(word);
    if (l->n - at < n || memcmp(l->s + at, word, n) != 0) {
        return false;
    }
    at = skipped(l, at + n);
    *sign = at < l->n && (l->s[at] == '-' || l->s[at] == '+') ? l->s[at] : '\0';
    at += *sign != '\0';
    *end = at;
    return l->n - at >= 2 && memcmp(l->s + at, "%}", 2) == 0;
}

/* After {% raw %}: its text up to {% endraw %}. */
static enum status add_raw(struct lexer *l) {
    size_t from = l->at;
    for (size_t at = from; l->n - at >= 2; at++) {
        const char *tag = memmem(l->s + at, l->n - at, "{%", 2);
        if (!tag) {
            break;
        }
        at = (size_t)(tag - l->s);
        char sign = at + 2 < l->n ? l->s[at + 2] : '\0';
        size_t end;
        char end_sign;
        size_t inside = at + 2 + (sign == '-' || sign == '+');
        if (is_word_tag(l, inside, "endraw", &end, &end_sign)) {
            TRY(add_text(l, from, at, sign, false));
            advance(l, end);
            end_tag(l, end_sign, true);
            return OK;
        }
    }
    return from == l->n ? OK : bad_text(l, "a block {%% raw %%} is not closed");
}

static bool is_word(char c) {
    return isalnum((unsigned char)c) || c == '_';
}

/* Digits of a base, with underscores between them. */
static size_t digits_end(const struct lexer *l, size_t at, const char *digits) {
    while (at < l->n && l->s[at] &&
           (strchr(digits, l->s[at]) ||
            (l->s[at] == '_' && at + 1 < l->n && l->s[at + 1] && strchr(digits, l->s[at + 1])))) {
        at++;
    }
    return at;
}

static bool is_digit_at(const struct lexer *l, size_t at) {
    return at < l->n && isdigit((unsigned char)l->s[at]);
}

/* The end of a fraction and an exponent after the digits before `at`; `at` itself if there is neither. */
static size_t float_end(const struct lexer *l, size_t at) {
    static const char decimal[] = "0123456789";
    if (at < l->n && l->s[at] == '.' && is_digit_at(l, at + 1)) {
        at = digits_end(l, at + 1, decimal);
    }
    if (at < l->n && (l->s[at] == 'e' || l->s[at] == 'E')) {
        size_t sign = at + 1 < l->n && (l->s[at + 1] == '+' || l->s[at + 1] == '-');
        if (is_digit_at(l, at + 1 + sign)) {
            at = digits_end(l, at + 1 + sign, decimal);
        }
    }
    return at;
}

static enum status integer_value(struct lexer *l, const char *digits, int base, struct value *out) {
    int64_t sum = 0;
    for (; *digits; digits++) {
        int digit =
            isdigit((unsigned char)*digits) ? *digits - '0' : tolower((unsigned char)*digits) - 'a' + 10;
        if (__builtin_mul_overflow(sum, base, &sum) || __builtin_add_overflow(sum, digit, &sum)) {
            return bad_text(l, "an integer beyond 64 bits is not supported");
        }
    }
    *out = value_int(sum);
    return OK;
}

static enum status add_number(struct lexer *l) {
    static const struct {
        char letter;
        int base;
        const char *digits;
    } bases[] = {{'x', 16, "0123456789abcdefABCDEF"}, {'o', 8, "01234567"}, {'b', 2, "01"}};
    size_t from = l->at;
    size_t end = digits_end(l, from, "0123456789");
    int base = 10;
    for (int i = 0; i < COUNT_OF(bases) && l->s[from] == '0'; i++) {
        if (tolower((unsigned char)peek(l, 1)) == bases[i].letter) {
            from += 2;
            base = bases[i].base;
            end = digits_end(l, from, bases[i].digits);
        }
    }
    bool after_point = l->at > 0 && l->s[l->at - 1] == '.';
    size_t whole = end;
    end = base == 10 && !after_point ? float_end(l, end) : end;
    char *digits;
    size_t n = 0;
    TRY(POOL_ARRAY(&l->t->pool, digits, (int64_t)(end - from) + 1));
    for (size_t i = from; i < end; i++) {
        digits[n] = l->s[i];
        n += l->s[i] != '_';
    }
    TRY(add(l, TOKEN_CONSTANT, l->s + l->at, end - l->at));
    digits[n] = '\0';
    struct value *value = &l->tokens[l->count - 1].value;
    l->at = end;
    if (end > whole) {
        *value = value_float(strtod(digits, NULL));
        return OK;
    }
    return n > 0 ? integer_value(l, digits, base, value) : bad_text(l, "a number has no digits");
}

/* The code point of \x, \u, \U and octal escapes; *used: bytes after the backslash. False: not one. */
static bool coded_escape(const char *s, size_t n, size_t *used, uint32_t *point) {
    int base = s[0] == 'x' || s[0] == 'u' || s[0] == 'U' ? 16 : 8;
    size_t want = s[0] == 'x' ? 2 : s[0] == 'u' ? 4 : s[0] == 'U' ? 8 : 3;
    size_t from = base == 16;
    size_t got = 0;
    *point = 0;
    while (got < want && from + got < n) {
        char c = s[from + got];
        if (base == 16 ? !isxdigit((unsigned char)c) : c < '0' || c > '7') {
            break;
        }
        int digit = isdigit((unsigned char)c) ? c - '0' : tolower((unsigned char)c) - 'a' + 10;
        *point = *point * (uint32_t)base + (uint32_t)digit;
        got++;
    }
    *used = from + got;
    return base == 16 ? got == want : got > 0;
}

/* One escape after a backslash at s: appends what it stands for. */
static enum status put_escape(struct lexer *l, const char *s, size_t n, struct builder *b, size_t *used) {
    static const char letters[] = "abfnrtv\\'\"";
    static const char bytes[] = "\a\b\f\n\r\t\v\\'\"";
    const char *known = s[0] ? strchr(letters, s[0]) : NULL;
    uint32_t point;
    *used = 1;
    if (known) {
        return builder_put(b, &bytes[known - letters], 1, 0);
    }
    if (s[0] == '\n') {
        return OK;
    }
    if (coded_escape(s, n, used, &point)) {
        char utf8[4];
        int length = point >= 0xD800 && point < 0xE000 ? 0 : utf8_put(point, utf8);
        return length ? builder_put(b, utf8, (size_t)length, 0)
                      : bad_text(l, "a string has an escape that is no character");
    }
    if (strchr("xuUN", s[0]) && s[0]) {
        return bad_text(l, "a string has an escape \\%c that is broken or not supported", s[0]);
    }
    *used = 0; /* the backslash stays */
    return builder_put(b, "\\", 1, 0);
}

static enum status add_string(struct lexer *l) {
    struct builder b = {.pool = &l->t->pool};
    char quote = l->s[l->at];
    size_t at = l->at + 1;
    while (at < l->n && l->s[at] != quote) {
        size_t used = 1;
        if (l->s[at] == '\\' && at + 1 < l->n) {
            TRY(put_escape(l, l->s + at + 1, l->n - at - 1, &b, &used));
            used++;
        } else {
            TRY(builder_put(&b, l->s + at, 1, 0));
        }
        at += used;
    }
    if (at >= l->n) {
        return bad_text(l, "a string is not closed");
    }
    TRY(add(l, TOKEN_CONSTANT, l->s + l->at, at + 1 - l->at));
    advance(l, at + 1);
    return builder_done(&b, &l->tokens[l->count - 1].value);
}

/* Brackets must match, and what looks like a tag's end inside them is none. */
static enum status balance(struct lexer *l, char c) {
    static const char opening[] = "([{";
    static const char closing[] = ")]}";
    const char *opens = strchr(opening, c);
    const char *closes = strchr(closing, c);
    if (opens) {
        return text_append(&l->brackets, &closing[opens - opening], 1);
    }
    if (closes) {
        if (l->brackets.len == 0 || l->brackets.data[l->brackets.len - 1] != c) {
            return bad_text(l, "unexpected '%c'", c);
        }
        l->brackets.len--;
    }
    return OK;
}

static enum status add_operator(struct lexer *l) {
    static const char *const pairs[] = {"==", "!=", ">=", "<=", "//", "**"};
    char c = l->s[l->at];
    size_t n = 1;
    for (int i = 0; i < COUNT_OF(pairs); i++) {
        n = looking_at(l, pairs[i]) ? 2 : n;
    }
    if (n == 1 && (!c || !strchr("+-*/%~[](){}<>=.:|,;", c))) {
        return bad_text(l, "a character 0x%02x does not belong into a tag", (unsigned char)c);
    }
    TRY(balance(l, n == 1 ? c : ' '));
    TRY(add(l, TOKEN_OPERATOR, l->s + l->at, n));
    l->at += n;
    return OK;
}

/* Whether a tag ends here, with what sign. */
static bool tag_ends(const struct lexer *l, bool is_print, char *sign) {
    char c = peek(l, 0);
    *sign = c == '-' || (c == '+' && !is_print) ? c : '\0';
    size_t skip = *sign != '\0';
    return l->brackets.len == 0 && peek(l, skip) == (is_print ? '}' : '%') && peek(l, skip + 1) == '}';
}

/* The inside of a tag, to its end. */
static enum status add_tag(struct lexer *l, bool is_print) {
    l->brackets.len = 0;
    TRY(add(l, is_print ? TOKEN_PRINT : TOKEN_BLOCK, l->s + l->at, 0));
    for (;;) {
        char sign;
        skip_blanks(l);
        if (l->at >= l->n) {
            return bad_text(l, "a tag is not closed");
        }
        if (tag_ends(l, is_print, &sign)) {
            TRY(add(l, TOKEN_END, l->s + l->at, 0));
            l->at += sign != '\0';
            end_tag(l, sign, !is_print);
            return OK;
        }
        char c = l->s[l->at];
        if (isdigit((unsigned char)c)) {
            TRY(add_number(l));
        } else if (is_word(c)) {
            size_t from = l->at;
            while (is_word(peek(l, 0))) {
                l->at++;
            }
            TRY(add(l, TOKEN_NAME, l->s + from, l->at - from));
        } else if (c == '\'' || c == '"') {
            TRY(add_string(l));
        } else {
            TRY(add_operator(l));
        }
    }
}

/* From one tag's begin at `tag` (after text from `from`) to behind its end. */
static enum status add_next(struct lexer *l, size_t from, size_t tag) {
    char kind = l->s[tag + 1];
    char sign = tag + 2 < l->n ? l->s[tag + 2] : '\0';
    size_t inside = tag + 2 + (sign == '-' || sign == '+');
    size_t end;
    char end_sign;
    TRY(add_text(l, from, tag, sign, kind == '{'));
    advance(l, inside);
    l->line_begins = false;
    if (kind == '#') {
        return skip_comment(l);
    }
    if (kind == '%' && is_word_tag(l, inside, "raw", &end, &end_sign) && end_sign != '+') {
        advance(l, end);
        end_tag(l, end_sign, false);
        return add_raw(l);
    }
    return add_tag(l, kind == '{');
}

static enum status cut(struct lexer *l) {
    while (l->at < l->n) {
        size_t from = l->at;
        size_t tag = from;
        while (tag + 1 < l->n && !(l->s[tag] == '{' && strchr("%{#", l->s[tag + 1]) && l->s[tag + 1])) {
            tag++;
        }
        if (tag + 1 >= l->n) {
            TRY(add(l, TOKEN_TEXT, l->s + from, l->n - from));
            advance(l, l->n);
            break;
        }
        advance(l, from);
        TRY(add_next(l, from, tag));
    }
    return add(l, TOKEN_LAST, l->s + l->n, 0);
}

/* Line ends become \n; one at the end goes. */
static enum status normal_lines(struct template *t, const char *text, size_t n, char **out, size_t *out_n) {
    char *s;
    size_t used = 0;
    TRY(POOL_ARRAY(&t->pool, s, (int64_t)n + 1));
    for (size_t i = 0; i < n; i++) {
        bool pair = text[i] == '\r' && i + 1 < n && text[i + 1] == '\n';
        s[used++] = text[i] == '\r' ? '\n' : text[i];
        i += pair;
    }
    *out = s;
    *out_n = used > 0 && s[used - 1] == '\n' ? used - 1 : used;
    return OK;
}

enum status template_tokens(struct template *t, const char *text, size_t n, struct lexeme **out) {
    char *s;
    struct lexer l = {.t = t, .line = 1, .line_begins = true};
    TRY(normal_lines(t, text, n, &s, &l.n));
    l.s = s;
    enum status st = cut(&l);
    text_free(&l.brackets);
    *out = l.tokens;
    return st;
}
