/* A reader of JSON that builds Jansson's values.
 *
 * Jansson takes a text byte by byte, through a function call for each. Here a string, which is most of a
 * record, goes by several bytes at a time up to what needs a look: its end, an escape, a control character
 * (refused), or a byte of a longer character, which is checked. Nothing is accepted that Jansson refuses, so
 * whoever gets NULL asks Jansson, whose messages have line and column.
 */
#include "util/json_quick.h"

#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#ifdef __SSE2__
#include <emmintrin.h>
#endif

#include "util/mem.h"
#include "util/text.h"
#include "util/utf8.h"

enum { DEPTH_MOST = 100, INTEGER_DIGITS = 18, REAL_BYTES = 64 };

struct quick {
    const char *at, *end;
    size_t room;     /* of plain: for the whole text */
    char *plain;     /* a string without its escapes; NULL: there was none yet */
    struct text key; /* of an object, with the NUL that Jansson wants */
    int depth;
    enum status st; /* of memory */
};

/* A string's bytes: of the text itself, or of q->plain. */
struct piece {
    const char *s;
    size_t n;
};

static json_t *read_value(struct quick *q);

static bool skip_blanks(struct quick *q) {
    while (q->at < q->end && (*q->at == ' ' || *q->at == '\n' || *q->at == '\t' || *q->at == '\r')) {
        q->at++;
    }
    return q->at < q->end;
}

/* Takes this character, behind blanks. */
static bool take(struct quick *q, char c) {
    bool is_there = skip_blanks(q) && *q->at == c;
    q->at += is_there;
    return is_there;
}

static bool is_plain(char c) {
    return (unsigned char)c >= 0x20 && (unsigned char)c < 0x80 && c != '"' && c != '\\';
}

/* Where printable ASCII without quotes and backslashes ends. */
static const char *plain_end(const char *at, const char *end) {
#ifdef __SSE2__
    while (end - at >= 16) {
        __m128i bytes = _mm_loadu_si128((const __m128i *)(const void *)at);
        __m128i low = _mm_cmplt_epi8(bytes, _mm_set1_epi8(0x20)); /* as signed: those of 0x80 and more too */
        __m128i quote = _mm_cmpeq_epi8(bytes, _mm_set1_epi8('"'));
        __m128i slash = _mm_cmpeq_epi8(bytes, _mm_set1_epi8('\\'));
        unsigned found = (unsigned)_mm_movemask_epi8(_mm_or_si128(low, _mm_or_si128(quote, slash)));
        if (found) {
            return at + __builtin_ctz(found);
        }
        at += 16;
    }
#endif
    const uint64_t ones = UINT64_MAX / 255; /* 0x01 in each byte */
    while (end - at >= 8) {
        uint64_t w;
        memcpy(&w, at, sizeof w);
        uint64_t quote = w ^ ones * '"';
        uint64_t slash = w ^ ones * '\\';
        /* A byte's top bit is set where the byte is not plain (and perhaps in bytes above such a one). */
        if ((w | (w - ones * 0x20) | (quote - ones) | (slash - ones)) & ones * 0x80) {
            break;
        }
        at += sizeof w;
    }
    while (at < end && is_plain(*at)) {
        at++;
    }
    return at;
}

static int hex_digit(char c) {
    return c >= '0' && c <= '9'   ? c - '0'
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                  : -1;
}

/* The four digits behind \u; -1: there are none. */
static int read_unit(struct quick *q) {
    int unit = 0;
    if (q->end - q->at < 4) {
        return -1;
    }
    for (int i = 0; i < 4; i++) {
        int digit = hex_digit(*q->at++);
        if (digit < 0) {
            return -1;
        }
        unit = unit * 16 + digit;
    }
    return unit;
}

/* A code point behind \u, of one unit or of two; -1: none. */
static int read_point(struct quick *q) {
    int unit = read_unit(q);
    if (unit < 0xD800 || unit > 0xDFFF) {
        return unit;
    }
    if (unit > 0xDBFF || q->end - q->at < 6 || q->at[0] != '\\' || q->at[1] != 'u') {
        return -1;
    }
    q->at += 2;
    int low = read_unit(q);
    return low >= 0xDC00 && low <= 0xDFFF ? 0x10000 + ((unit - 0xD800) << 10) + (low - 0xDC00) : -1;
}

/* What an escape of one letter stands for; 0: no such escape. */
static char meaning(char letter) {
    switch (letter) {
    case 'n':
        return '\n';
    case '"':
    case '\\':
    case '/':
        return letter;
    case 't':
        return '\t';
    case 'r':
        return '\r';
    case 'b':
        return '\b';
    case 'f':
        return '\f';
    default:
        return '\0';
    }
}

/* What stands behind a backslash, as 1 to 4 bytes of out; 0: no escape. */
static int read_escape(struct quick *q, char out[4]) {
    if (q->at == q->end) {
        return 0;
    }
    char c = *q->at++;
    if (c == 'u') {
        int point = read_point(q);
        return point < 0 ? 0 : utf8_put((unsigned)point, out);
    }
    out[0] = meaning(c);
    return out[0] != '\0';
}

static bool open_plain(struct quick *q) {
    q->plain = q->plain ? q->plain : mem_aligned((int64_t)q->room, 1);
    q->st = mem_ok(q->plain);
    return q->st == OK;
}

/* The bytes [from, q->at) and the escape whose backslash is at q->at, behind q->plain's first `used`. */
static bool unescape(struct quick *q, const char *from, size_t *used) {
    if (!open_plain(q)) {
        return false;
    }
    size_t run = (size_t)(q->at - from);
    if (*used + run + 4 > q->room) { /* cannot be: no escape is shorter than what it stands for */
        return false;
    }
    memcpy(q->plain + *used, from, run);
    q->at++;
    int length = read_escape(q, q->plain + *used + run);
    *used += run + (size_t)length;
    return length > 0;
}

/* Behind the opening quote. */
static bool read_string(struct quick *q, struct piece *out) {
    const char *from = q->at;
    size_t used = 0;
    bool escaped = false;
    for (;;) {
        q->at = plain_end(q->at, q->end);
        if (q->at == q->end) {
            return false;
        }
        if (*q->at == '"') {
            break;
        }
        if (*q->at == '\\') {
            if (!unescape(q, from, &used)) {
                return false;
            }
            escaped = true;
            from = q->at;
            continue;
        }
        int length = utf8_check(q->at, (size_t)(q->end - q->at));
        if (length < 2) { /* a control character, or no character */
            return false;
        }
        q->at += length;
    }
    size_t run = (size_t)(q->at++ - from);
    *out = (struct piece){from, run};
    if (escaped) {
        memcpy(q->plain + used, from, run);
        *out = (struct piece){q->plain, used + run};
    }
    return true;
}

static bool is_digit(const struct quick *q) {
    return q->at < q->end && *q->at >= '0' && *q->at <= '9';
}

/* Digits, at least one; how many. */
static int skip_digits(struct quick *q) {
    const char *from = q->at;
    while (is_digit(q)) {
        q->at++;
    }
    return q->at - from > REAL_BYTES ? REAL_BYTES : (int)(q->at - from);
}

static json_t *read_real(struct quick *q, const char *from) {
    char number[REAL_BYTES];
    if (*q->at == '.') {
        q->at++;
        if (skip_digits(q) == 0) {
            return NULL;
        }
    }
    if (q->at < q->end && (*q->at == 'e' || *q->at == 'E')) {
        q->at++;
        q->at += q->at < q->end && (*q->at == '+' || *q->at == '-');
        if (skip_digits(q) == 0) {
            return NULL;
        }
    }
    size_t n = (size_t)(q->at - from);
    if (n >= sizeof number) {
        return NULL;
    }
    memcpy(number, from, n);
    number[n] = '\0';
    double value = strtod(number, NULL);
    return isfinite(value) ? json_real(value) : NULL;
}

static json_t *read_number(struct quick *q) {
    const char *from = q->at;
    bool negative = *q->at == '-';
    q->at += negative;
    const char *digits = q->at;
    int n = skip_digits(q);
    if (n == 0 || n > INTEGER_DIGITS || (*digits == '0' && n > 1)) {
        return NULL;
    }
    if (q->at < q->end && (*q->at == '.' || *q->at == 'e' || *q->at == 'E')) {
        return read_real(q, from);
    }
    json_int_t value = 0;
    for (int i = 0; i < n; i++) {
        value = value * 10 + (digits[i] - '0');
    }
    return json_integer(negative ? -value : value);
}

static json_t *read_word(struct quick *q, const char *word, json_t *value) {
    size_t n = strlen(word);
    if ((size_t)(q->end - q->at) < n || memcmp(q->at, word, n) != 0) {
        return NULL;
    }
    q->at += n;
    bool goes_on = q->at < q->end && ((*q->at >= 'a' && *q->at <= 'z') || (*q->at >= 'A' && *q->at <= 'Z'));
    return goes_on ? NULL : value;
}

/* A key, its colon and its value into the object. */
static bool read_member(struct quick *q, json_t *object) {
    struct piece key;
    if (!take(q, '"') || !read_string(q, &key) || memchr(key.s, '\0', key.n)) {
        return false;
    }
    text_clear(&q->key);
    q->st = text_append(&q->key, key.s, key.n);
    if (q->st != OK || !take(q, ':')) {
        return false;
    }
    /* The value may be an object too, and take q->key. */
    struct text own = q->key;
    q->key = (struct text){0};
    json_t *value = read_value(q);
    bool done = value && json_object_set_new_nocheck(object, own.data, value) == 0;
    text_free(&q->key);
    q->key = own;
    return done;
}

static bool read_members(struct quick *q, json_t *object) {
    do {
        if (!read_member(q, object)) {
            return false;
        }
    } while (take(q, ','));
    return take(q, '}');
}

static bool read_items(struct quick *q, json_t *array) {
    do {
        json_t *value = read_value(q);
        if (!value || json_array_append_new(array, value) != 0) {
            return false;
        }
    } while (take(q, ','));
    return take(q, ']');
}

/* Behind the opening bracket. */
static json_t *read_container(struct quick *q, bool is_object) {
    json_t *whole = is_object ? json_object() : json_array();
    if (!whole || q->depth == DEPTH_MOST) {
        json_decref(whole);
        return NULL;
    }
    q->depth++;
    bool done = take(q, is_object ? '}' : ']') || (is_object ? read_members(q, whole) : read_items(q, whole));
    q->depth--;
    if (!done) {
        json_decref(whole);
        return NULL;
    }
    return whole;
}

static json_t *read_value(struct quick *q) {
    struct piece string;
    if (!skip_blanks(q)) {
        return NULL;
    }
    switch (*q->at) {
    case '"':
        q->at++;
        return read_string(q, &string) ? json_stringn_nocheck(string.s, string.n) : NULL;
    case '{':
    case '[':
        q->at++;
        return read_container(q, q->at[-1] == '{');
    case 't':
        return read_word(q, "true", json_true());
    case 'f':
        return read_word(q, "false", json_false());
    case 'n':
        return read_word(q, "null", json_null());
    default:
        return *q->at == '-' || is_digit(q) ? read_number(q) : NULL;
    }
}

enum status json_quick(const char *data, size_t n, json_t **out) {
    struct quick q = {.at = data, .end = data + n, .room = n + 4};
    *out = read_value(&q);
    if (*out && skip_blanks(&q)) { /* something behind it */
        json_decref(*out);
        *out = NULL;
    }
    mem_free(q.plain);
    text_free(&q.key);
    return q.st;
}
