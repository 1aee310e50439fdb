/* Cases and classes of characters, white space and lines, as Python's str has them. */
#include <string.h>

#include <utf8proc.h>

#include "text/template_internal.h"
#include "text/unicode.h"

bool jinja_is_blank(uint32_t point) {
    return (point >= 9 && point <= 13) || (point >= 28 && point <= 32) || point == 0x85 || point == 0xA0 ||
           point == 0x1680 || (point >= 0x2000 && point <= 0x200A) || point == 0x2028 || point == 0x2029 ||
           point == 0x202F || point == 0x205F || point == 0x3000;
}

bool jinja_is_line_end(uint32_t point) {
    return (point >= 10 && point <= 13) || (point >= 28 && point <= 30) || point == 0x85 || point == 0x2028 ||
           point == 0x2029;
}

static utf8proc_category_t category_of(uint32_t point) {
    return utf8proc_category((utf8proc_int32_t)point);
}

static bool is_letter(uint32_t point) {
    utf8proc_category_t c = category_of(point);
    return c == UTF8PROC_CATEGORY_LU || c == UTF8PROC_CATEGORY_LL || c == UTF8PROC_CATEGORY_LT ||
           c == UTF8PROC_CATEGORY_LM || c == UTF8PROC_CATEGORY_LO;
}

static uint32_t simple(uint32_t point, enum letter_case to) {
    utf8proc_int32_t p = (utf8proc_int32_t)point;
    return (uint32_t)(to == CASE_LOWER   ? utf8proc_tolower(p)
                      : to == CASE_UPPER ? utf8proc_toupper(p)
                                         : utf8proc_totitle(p));
}

/* What counts as lower or upper case, or as a digit, without being of the general category (Unicode's
 * Other_Lowercase, Other_Uppercase, Numeric_Type=Digit). */
struct points {
    uint32_t first, last;
};
static const struct points other_lower[] = {
    {0xAA, 0xAA},       {0xBA, 0xBA},       {0x2B0, 0x2B8},     {0x2C0, 0x2C1},     {0x2E0, 0x2E4},
    {0x345, 0x345},     {0x37A, 0x37A},     {0x1D2C, 0x1D6A},   {0x1D78, 0x1D78},   {0x1D9B, 0x1DBF},
    {0x2071, 0x2071},   {0x207F, 0x207F},   {0x2090, 0x209C},   {0x2170, 0x217F},   {0x24D0, 0x24E9},
    {0x2C7C, 0x2C7D},   {0xA69C, 0xA69D},   {0xA770, 0xA770},   {0xA7F8, 0xA7F9},   {0xAB5C, 0xAB5F},
    {0x10780, 0x10780}, {0x10783, 0x10785}, {0x10787, 0x107B0}, {0x107B2, 0x107BA},
};
static const struct points other_upper[] = {
    {0x2160, 0x216F}, {0x24B6, 0x24CF}, {0x1F130, 0x1F149}, {0x1F150, 0x1F169}, {0x1F170, 0x1F189}};
static const struct points other_digits[] = {
    {0xB2, 0xB3},     {0xB9, 0xB9},       {0x1369, 0x1371},   {0x19DA, 0x19DA},   {0x2070, 0x2070},
    {0x2074, 0x2079}, {0x2080, 0x2089},   {0x2460, 0x2468},   {0x2474, 0x247C},   {0x2488, 0x2490},
    {0x24EA, 0x24EA}, {0x24F5, 0x24FD},   {0x24FF, 0x24FF},   {0x2776, 0x277E},   {0x2780, 0x2788},
    {0x278A, 0x2792}, {0x10A40, 0x10A43}, {0x10E60, 0x10E68}, {0x11052, 0x1105A}, {0x1F100, 0x1F10A},
};
static bool is_among(uint32_t point, const struct points *ranges, int n) {
    for (int i = 0; i < n && ranges[i].first <= point; i++) {
        if (point <= ranges[i].last) {
            return true;
        }
    }
    return false;
}

static bool is_lower(uint32_t point) {
    return category_of(point) == UTF8PROC_CATEGORY_LL || is_among(point, other_lower, COUNT_OF(other_lower));
}

static bool is_upper(uint32_t point) {
    return category_of(point) == UTF8PROC_CATEGORY_LU || is_among(point, other_upper, COUNT_OF(other_upper));
}

static bool is_cased(uint32_t point) {
    return is_lower(point) || is_upper(point) || category_of(point) == UTF8PROC_CATEGORY_LT;
}

static bool is_passed_over(uint32_t point) {
    utf8proc_category_t c = category_of(point);
    return c == UTF8PROC_CATEGORY_MN || c == UTF8PROC_CATEGORY_ME || c == UTF8PROC_CATEGORY_CF ||
           c == UTF8PROC_CATEGORY_LM || c == UTF8PROC_CATEGORY_SK ||
           (point < 0x80 && point && strchr("'.:^`", (int)point)) || point == 0xB7 || point == 0x2018 ||
           point == 0x2019 || point == 0x2024 || point == 0x2027;
}

/* Whether the sigma at `at` ends a word: cased letters before it and none behind. */
static bool is_final_sigma(const struct string *s, size_t at) {
    bool before = false;
    int length;
    for (size_t i = 0; i < at; i += (size_t)length) {
        uint32_t point = utf8_point(s->s + i, &length);
        before = is_passed_over(point) ? before : is_cased(point);
    }
    for (size_t i = at + 2; before && i < s->n; i += (size_t)length) {
        uint32_t point = utf8_point(s->s + i, &length);
        if (!is_passed_over(point)) {
            return !is_cased(point);
        }
    }
    return before;
}

/* What a letter that becomes several (a sharp s, ligatures) folds to; 0: it does not. (In titles nine letters
 * of ancient Greek, with an iota under an accent, come out with a full iota.) */
static int several(uint32_t point, enum letter_case to, utf8proc_int32_t folded[4]) {
    enum { SHARP_S = 0xDF };
    int boundary = 0;
    utf8proc_category_t c = category_of(point);
    bool has_title = c == UTF8PROC_CATEGORY_LT || (simple(point, CASE_TITLE) != point && point != SHARP_S);
    if (to == CASE_LOWER || point < 0x80 || c == UTF8PROC_CATEGORY_LU || (to == CASE_TITLE && has_title)) {
        return 0;
    }
    utf8proc_ssize_t n =
        utf8proc_decompose_char((utf8proc_int32_t)point, folded, 4, UTF8PROC_CASEFOLD, &boundary);
    return n > 1 && n <= 4 ? (int)n : 0;
}

static enum status put_point(struct builder *b, uint32_t point, uint8_t marks) {
    char utf8[4];
    return builder_put(b, utf8, (size_t)utf8_put(point, utf8), marks);
}

/* The code point at byte `at` of s in another case. */
static enum status put_cased(struct render *r, const struct string *s, size_t at, enum letter_case to,
                             uint8_t marks, struct builder *b, int *length) {
    utf8proc_int32_t folded[4];
    uint32_t point = utf8_point(s->s + at, length);
    int n = several(point, to, folded);
    bool begun = false; /* of a title, the first letter that has cases is the capital */
    for (int i = 0; i < n; i++) {
        uint32_t part = (uint32_t)folded[i];
        TRY(put_point(b, simple(part, to == CASE_TITLE && begun ? CASE_LOWER : to), marks));
        begun = begun || is_cased(part);
    }
    if (n > 0) {
        return OK;
    }
    if (to == CASE_LOWER && point == 0x3A3) {
        TRY(jinja_spend(r, (int64_t)s->n / 8));
        return put_point(b, is_final_sigma(s, at) ? 0x3C2 : 0x3C3, marks);
    }
    if (to == CASE_LOWER && point == 0x130) { /* a dotted I becomes an i and its dot */
        return builder_put(b, "i\xcc\x87", 3, marks);
    }
    return put_point(b, simple(point, to), marks);
}

enum status jinja_cased(struct render *r, const struct string *s, enum letter_case to, struct value *out) {
    struct builder b = {.pool = &r->pool};
    uint8_t marks = string_marks(s);
    int length;
    TRY(jinja_spend(r, (int64_t)s->n / 4));
    for (size_t at = 0; at < s->n; at += (size_t)length) {
        enum letter_case here = to == CASE_TITLE && at > 0 ? CASE_LOWER : to;
        TRY(put_cased(r, s, at, here, marks, &b, &length));
    }
    return builder_done(&b, out);
}

/* title(): of the method, each letter after none is a capital; of the filter, what follows white space or one
 * of - ( { [ <. */
enum status jinja_titled(struct render *r, const struct string *s, bool filter, struct value *out) {
    struct builder b = {.pool = &r->pool};
    uint8_t marks = string_marks(s);
    bool begins = true;
    int length;
    TRY(jinja_spend(r, (int64_t)s->n / 4));
    for (size_t at = 0; at < s->n; at += (size_t)length) {
        uint32_t point = utf8_point(s->s + at, &length);
        enum letter_case to = !begins ? CASE_LOWER : filter ? CASE_UPPER : CASE_TITLE;
        TRY(put_cased(r, s, at, to, marks, &b, &length));
        bool opens = jinja_is_blank(point) || (point && point < 0x80 && strchr("-({[<", (int)point));
        begins = filter ? opens : !is_cased(point);
    }
    return builder_done(&b, out);
}

static bool is_of_class(uint32_t point, enum char_class class) {
    utf8proc_category_t c = category_of(point);
    switch (class) {
    case CHAR_SPACE:
        return jinja_is_blank(point);
    case CHAR_ALPHA:
        return is_letter(point);
    case CHAR_DIGIT:
        return c == UTF8PROC_CATEGORY_ND || is_among(point, other_digits, COUNT_OF(other_digits));
    case CHAR_ALNUM:
        return is_letter(point) || c == UTF8PROC_CATEGORY_ND || c == UTF8PROC_CATEGORY_NL ||
               c == UTF8PROC_CATEGORY_NO;
    case CHAR_UPPER:
        return is_upper(point);
    default:
        return is_lower(point);
    }
}

bool jinja_all_of_class(const struct string *s, enum char_class class) {
    bool any = false;
    int length;
    for (size_t at = 0; at < s->n; at += (size_t)length) {
        uint32_t point = utf8_point(s->s + at, &length);
        bool in = is_of_class(point, class);
        bool other = (class == CHAR_UPPER || class == CHAR_LOWER) ? is_cased(point) && !in : !in;
        if (other) {
            return false;
        }
        any = any || in;
    }
    return any;
}

enum status jinja_escaped(struct render *r, struct value v, struct value *out) {
    static const char special[] = "&<>'\"";
    static const char *const entities[] = {"&amp;", "&lt;", "&gt;", "&#39;", "&#34;"};
    struct builder b = {.pool = &r->pool};
    struct string *string;
    TRY(jinja_text_of(r, v, &v));
    const struct string *s = v.string;
    TRY(jinja_spend(r, (int64_t)s->n / 8));
    for (size_t at = 0; at < s->n && !s->markup; at++) {
        const char *known = s->s[at] ? strchr(special, s->s[at]) : NULL;
        if (known) {
            const char *entity = entities[known - special];
            TRY(builder_put(&b, entity, strlen(entity), string_marks(s)));
        } else {
            TRY(builder_cut(&b, s, at, 1));
        }
    }
    if (!s->markup) {
        TRY(builder_done(&b, &v));
    }
    TRY(POOL_ARRAY(&r->pool, string, 1));
    *string = *v.string;
    string->markup = true;
    *out = value_of(string);
    return OK;
}

static bool is_stripped(const char *s, int length, const struct string *chars) {
    int n;
    if (!chars) {
        return jinja_is_blank(utf8_point(s, &n));
    }
    return memmem(chars->s, chars->n, s, (size_t)length) != NULL;
}

enum status jinja_stripped(struct render *r, const struct string *s, const struct string *chars, int sides,
                           struct value *out) {
    size_t from = 0;
    size_t to = s->n;
    TRY(jinja_spend(r, (int64_t)s->n / 64 + (chars ? (int64_t)chars->n / 8 : 0)));
    while ((sides & 1) && from < to) {
        int length = utf8_length((unsigned char)s->s[from]);
        if (!is_stripped(s->s + from, length, chars)) {
            break;
        }
        from += (size_t)length;
    }
    while ((sides & 2) && from < to) {
        size_t last = to - 1;
        while (last > from && utf8_continues(s->s[last])) {
            last--;
        }
        if (!is_stripped(s->s + last, (int)(to - last), chars)) {
            break;
        }
        to = last;
    }
    return string_cut(&r->pool, s, from, to - from, out);
}

enum status jinja_split_lines(struct render *r, const struct string *s, bool ends, struct value *out) {
    size_t from = 0;
    int length;
    TRY(jinja_spend(r, (int64_t)s->n / 16));
    TRY(sequence_new(&r->pool, VALUE_LIST, 0, out));
    for (size_t at = 0; at < s->n; at += (size_t)length) {
        if (!jinja_is_line_end(utf8_point(s->s + at, &length))) {
            continue;
        }
        struct value line;
        if (s->s[at] == '\r' && at + 1 < s->n && s->s[at + 1] == '\n') {
            length = 2;
        }
        TRY(string_cut(&r->pool, s, from, at - from + (ends ? (size_t)length : 0), &line));
        TRY(sequence_add(&r->pool, *out, line));
        from = at + (size_t)length;
    }
    if (from < s->n) {
        struct value line;
        TRY(string_cut(&r->pool, s, from, s->n - from, &line));
        TRY(sequence_add(&r->pool, *out, line));
    }
    return OK;
}

/* replace() of the empty string: `to` before each character and at the end. */
static enum status interleaved(const struct string *s, const struct string *to, int64_t most,
                               struct builder *b) {
    size_t at = 0;
    for (int64_t i = 0; i != most && at <= s->n; i++) {
        TRY(builder_string(b, to));
        if (at == s->n) {
            return OK;
        }
        size_t length = (size_t)utf8_length((unsigned char)s->s[at]);
        TRY(builder_cut(b, s, at, length));
        at += length;
    }
    return builder_cut(b, s, at, s->n - at);
}

enum status jinja_replaced(struct render *r, const struct string *s, const struct string *from,
                           const struct string *to, int64_t most, struct value *out) {
    struct builder b = {.pool = &r->pool};
    size_t at = 0;
    TRY(jinja_spend(r, (int64_t)s->n / 16));
    if (from->n == 0) {
        TRY(jinja_spend(r, (int64_t)s->n));
        TRY(interleaved(s, to, most, &b));
        return builder_done(&b, out);
    }
    for (int64_t i = 0; i != most; i++) {
        const char *hit = memmem(s->s + at, s->n - at, from->s, from->n);
        if (!hit) {
            break;
        }
        TRY(builder_cut(&b, s, at, (size_t)(hit - s->s) - at));
        TRY(builder_string(&b, to));
        at = (size_t)(hit - s->s) + from->n;
    }
    TRY(builder_cut(&b, s, at, s->n - at));
    return builder_done(&b, out);
}
