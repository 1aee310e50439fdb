#include "text/unicode.h"

#include <string.h>

#include <utf8proc.h>

#include "util/mem.h"

enum status unicode_classes(uint8_t **out) {
    uint8_t *classes;
    TRY(NEW_ARRAY(classes, CODE_POINTS));
    for (int i = 0; i < n_code_ranges; i++) {
        const struct code_range *r = &code_ranges[i];
        memset(classes + r->first, r->classes, r->last - r->first + 1);
    }
    *out = classes;
    return OK;
}

enum status utf8_lossy(struct text *out, const char *s, size_t n) {
    size_t at = 0;
    while (at < n) {
        size_t good = utf8_valid(s + at, n - at);
        TRY(text_append(out, s + at, good));
        at += good;
        if (at < n) {
            TRY(text_puts(out, "\xef\xbf\xbd"));
            at += (size_t)-utf8_check(s + at, n - at);
        }
    }
    return OK;
}

bool utf8_is_word(const uint8_t *classes, const char *s) {
    int length;
    uint32_t point = utf8_point(s, &length);
    utf8proc_category_t category = utf8proc_category((utf8proc_int32_t)point);
    return classes[point] & CLASS_LETTER || category == UTF8PROC_CATEGORY_MN ||
           category == UTF8PROC_CATEGORY_MC || category == UTF8PROC_CATEGORY_ME ||
           category == UTF8PROC_CATEGORY_ND || category == UTF8PROC_CATEGORY_NL ||
           category == UTF8PROC_CATEGORY_PC || point == 0x200C || point == 0x200D;
}

void view_buffer_free(struct view_buffer *b) {
    text_free(&b->bytes);
    text_free(&b->weights);
    b->owed = 0;
}

void view_buffer_clear(struct view_buffer *b) {
    text_clear(&b->bytes);
    text_clear(&b->weights);
    b->owed = 0;
}

int64_t view_count(const struct view *v, size_t at, size_t n) {
    int64_t count = 0;
    if (v->weights) {
        for (size_t i = at; i < at + n; i++) {
            count += v->weights[i];
        }
        return count;
    }
    /* A code point ends where the next byte begins another. */
    for (size_t i = at + 1; i < at + n; i++) {
        count += !utf8_continues(v->s[i]);
    }
    return count + (n > 0 && (at + n >= v->n || !utf8_continues(v->s[at + n])));
}

enum status view_append(struct view_buffer *b, const char *bytes, size_t n, int64_t weight, bool weigh) {
    size_t from = b->bytes.len;
    weight += b->owed;
    b->owed = n > 0 ? 0 : weight;
    TRY(text_append(&b->bytes, bytes, n));
    if (!weigh) {
        return OK;
    }
    /* One for each code point while they last; the rest to the last one. */
    for (size_t at = from; at < from + n; at++) {
        bool last = at + 1 == from + n;
        bool ends = last || !utf8_continues(b->bytes.data[at + 1]);
        int64_t share = !ends ? 0 : last ? weight : weight > 0;
        char byte = (char)(uint8_t)(share > UINT8_MAX ? UINT8_MAX : share);
        TRY(text_append(&b->weights, &byte, 1));
        weight -= share;
    }
    return OK;
}

enum status view_copy(struct view_buffer *b, const struct view *v, size_t at, size_t n, bool weigh) {
    if (b->owed > 0 && n > 0) { /* the first code point pays */
        size_t first = (size_t)utf8_length((unsigned char)v->s[at]);
        first = first < n ? first : n;
        TRY(view_append(b, v->s + at, first, view_count(v, at, first), weigh));
        return view_copy(b, v, at + first, n - first, weigh);
    }
    size_t from = b->bytes.len;
    TRY(text_append(&b->bytes, v->s + at, n));
    if (!weigh) {
        return OK;
    }
    if (v->weights) {
        return text_append(&b->weights, (const char *)v->weights + at, n);
    }
    for (size_t i = from; i < from + n; i++) {
        char byte = i + 1 == from + n || !utf8_continues(b->bytes.data[i + 1]);
        TRY(text_append(&b->weights, &byte, 1));
    }
    return OK;
}
