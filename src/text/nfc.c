/* Normalization forms (Unicode Standard Annex 15), cut into runs.
 *
 * For form C a "safe" code point is a starter that composition leaves alone and never joins to what is before
 * it; for the others it is one of ASCII. Text between two safe code points is normalized on its own, so
 * nearly all text is only looked at.
 */
#include <string.h>

#include <utf8proc.h>

#include "text/unicode.h"
#include "util/mem.h"

struct mark {
    utf8proc_int32_t point;
    int32_t class; /* canonical combining class */
};

/* Stable merge sort by combining class: runs of marks may be as long as a hostile text. */
static void sort_marks(struct mark *a, struct mark *spare, int64_t n) {
    for (int64_t width = 1; width < n; width *= 2) {
        for (int64_t low = 0; low < n; low += 2 * width) {
            int64_t middle = low + width < n ? low + width : n;
            int64_t high = middle + width < n ? middle + width : n;
            int64_t i = low;
            int64_t j = middle;
            for (int64_t k = low; k < high; k++) {
                bool left = i < middle && (j >= high || a[i].class <= a[j].class);
                spare[k] = left ? a[i++] : a[j++];
            }
        }
        memcpy(a, spare, (size_t)n * sizeof *a);
    }
}

static int combining_class(const uint8_t *classes, utf8proc_int32_t point) {
    return classes[point] & CLASS_UNSAFE ? utf8proc_get_property(point)->combining_class : 0;
}

/* Full decomposition of size bytes at s, in text order; *n code points at *marks (mem_free). */
static enum status decompose(const uint8_t *classes, enum normal_form form, const char *s, size_t size,
                             struct mark **marks, int64_t *n) {
    enum { LONGEST = 32 }; /* of one code point: 4 in Unicode */
    int options = UTF8PROC_DECOMPOSE | (form == FORM_KC || form == FORM_KD ? UTF8PROC_COMPAT : 0);
    int64_t capacity = 0;
    struct mark *out = NULL;
    int64_t count = 0;
    enum status st = OK;
    for (size_t at = 0; at < size;) {
        int length;
        utf8proc_int32_t point = (utf8proc_int32_t)utf8_point(s + at, &length);
        utf8proc_int32_t parts[LONGEST] = {point};
        utf8proc_ssize_t n_parts = 1;
        if (point >= 0x80) {
            int boundary = 0;
            n_parts = utf8proc_decompose_char(point, parts, LONGEST, (utf8proc_option_t)options, &boundary);
        }
        if (n_parts < 1 || n_parts > LONGEST) {
            st = fail(ERR_INTERNAL, "U+%04X does not decompose", (unsigned)point);
            goto done;
        }
        TRY_TO(done, GROW_ARRAY(out, capacity, count + n_parts));
        for (int i = 0; i < n_parts; i++) {
            out[count++] = (struct mark){parts[i], combining_class(classes, parts[i])};
        }
        at += (size_t)length;
    }
    *marks = out;
    *n = count;
    return OK;
done:
    mem_free(out);
    return st;
}

static enum status order(struct mark *marks, int64_t n) {
    struct mark *spare;
    TRY(NEW_ARRAY(spare, n));
    for (int64_t i = 0; i < n;) {
        int64_t j = i;
        while (j < n && marks[j].class != 0) {
            j++;
        }
        sort_marks(marks + i, spare, j - i);
        i = j + 1;
    }
    mem_free(spare);
    return OK;
}

/* Normalizes one run, which begins at a safe code point or with the text. */
static enum status normalize_run(const uint8_t *classes, enum normal_form form, const struct view *v,
                                 size_t from, size_t to, bool weigh, struct view_buffer *b) {
    struct mark *marks = NULL;
    utf8proc_int32_t *points = NULL;
    struct text bytes = {0};
    int64_t n = 0;
    TRY(decompose(classes, form, v->s + from, to - from, &marks, &n));
    enum status st = OK;
    TRY_TO(done, order(marks, n));
    TRY_TO(done, NEW_ARRAY(points, n + 1));
    for (int64_t i = 0; i < n; i++) {
        points[i] = marks[i].point;
    }
    utf8proc_ssize_t composed = n;
    if (form == FORM_C || form == FORM_KC) {
        composed = utf8proc_normalize_utf32(points, n, UTF8PROC_STABLE | UTF8PROC_COMPOSE);
    }
    if (composed < 0) {
        st = fail(ERR_INTERNAL, "canonical composition: %s", utf8proc_errmsg(composed));
        goto done;
    }
    for (utf8proc_ssize_t i = 0; i < composed; i++) {
        char unit[4];
        TRY_TO(done, text_append(&bytes, unit, (size_t)utf8_put((uint32_t)points[i], unit)));
    }
    st = view_append(b, bytes.data ? bytes.data : "", bytes.len, view_count(v, from, to - from), weigh);
done:
    mem_free(marks);
    mem_free(points);
    text_free(&bytes);
    return st;
}

static inline bool is_unsafe(const uint8_t *classes, enum normal_form form, uint32_t point) {
    return form == FORM_C ? classes[point] & CLASS_UNSAFE : point >= 0x80;
}

/* The first unsafe code point at or after `at`; *before is the code point before it (or at). v->n if none. */
static size_t find_unsafe(const uint8_t *classes, enum normal_form form, const struct view *v, size_t at,
                          size_t *before) {
    *before = at;
    while (at < v->n) {
        size_t ascii = utf8_ascii(v->s + at, v->n - at);
        if (ascii > 0) {
            *before = at + ascii - 1;
            at += ascii;
            continue;
        }
        int length;
        uint32_t point = utf8_point(v->s + at, &length);
        if (is_unsafe(classes, form, point)) {
            return at;
        }
        *before = at;
        at += (size_t)length;
    }
    return v->n;
}

enum status normal_form(const uint8_t *classes, enum normal_form form, const struct view *v, bool weigh,
                        struct view_buffer *b, bool *changed) {
    size_t before;
    size_t unsafe = find_unsafe(classes, form, v, 0, &before);
    *changed = unsafe < v->n;
    if (!*changed) {
        return OK;
    }
    view_buffer_clear(b);
    size_t done = 0;
    while (unsafe < v->n) {
        TRY(view_copy(b, v, done, before - done, weigh));
        size_t end = unsafe;
        while (end < v->n) {
            int length;
            if (!is_unsafe(classes, form, utf8_point(v->s + end, &length))) {
                break;
            }
            end += (size_t)length;
        }
        TRY(normalize_run(classes, form, v, before, end, weigh, b));
        done = end;
        unsafe = find_unsafe(classes, form, v, done, &before);
    }
    return view_copy(b, v, done, v->n - done, weigh);
}
