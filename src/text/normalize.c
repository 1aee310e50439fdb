#include <string.h>

#include <utf8proc.h>

#include "text/tokenizer_internal.h"
#include "util/mem.h"

/* What a normalizer works on. */
struct work {
    const struct tokenizer *t;
    const struct change *change;
    struct matcher *matcher;
    const struct view *v;
    bool weigh;
    struct view_buffer *b;
};

void change_free(struct change *c) {
    mem_free(c->from);
    mem_free(c->to);
    step_free(&c->cut);
    charsmap_close(c->map);
    *c = (struct change){0};
}

static enum status replace_all(const struct work *w, bool *changed) {
    const struct change *c = w->change;
    const struct view *v = w->v;
    size_t done = 0;
    size_t begin = 0;
    size_t end = 0;
    *changed = false;
    while (done < v->n) {
        TRY(cut_match(w->matcher, &c->cut, v->s, v->n, done, &begin, &end));
        if (begin == v->n) {
            break;
        }
        if (!*changed) {
            view_buffer_clear(w->b);
        }
        *changed = true;
        TRY(view_copy(w->b, v, done, begin - done, w->weigh));
        int64_t weight = w->weigh ? view_count(v, begin, end - begin) : 0;
        TRY(view_append(w->b, c->to, c->to_n, weight, w->weigh));
        done = end;
    }
    return *changed ? view_copy(w->b, v, done, v->n - done, w->weigh) : OK;
}

static enum status prepend(const struct work *w, bool *changed) {
    *changed = w->v->n > 0 && !w->v->open;
    if (!*changed) {
        return OK;
    }
    view_buffer_clear(w->b);
    TRY(view_append(w->b, w->change->to, w->change->to_n, 0, w->weigh));
    return view_copy(w->b, w->v, 0, w->v->n, w->weigh);
}

/* Replaces bytes [at, at + taken) of the text; none or only some of the bytes put in may be left. */
static enum status put(const struct work *w, size_t at, size_t taken, const char *s, size_t n) {
    return view_append(w->b, s, n, w->weigh ? view_count(w->v, at, taken) : 0, w->weigh);
}

/* Each code point by itself, as the package does it: no final sigma. */
static enum status lowercase(const struct work *w) {
    const struct view *v = w->v;
    for (size_t at = 0; at < v->n;) {
        int length;
        uint32_t point = utf8_point(v->s + at, &length);
        char lower[4];
        if (point == 0x130) { /* the one letter that becomes two */
            TRY(put(w, at, (size_t)length, "i\xcc\x87", 3));
        } else {
            int n = utf8_put((uint32_t)utf8proc_tolower((utf8proc_int32_t)point), lower);
            TRY(put(w, at, (size_t)length, lower, (size_t)n));
        }
        at += (size_t)length;
    }
    return OK;
}

static bool is_white(const struct tokenizer *t, const char *s) {
    int length;
    return t->classes[utf8_point(s, &length)] & CLASS_SPACE;
}

static enum status strip(const struct work *w) {
    const struct view *v = w->v;
    size_t from = 0;
    size_t to = v->n;
    while (w->change->left && from < to && is_white(w->t, v->s + from)) {
        from += (size_t)utf8_length((unsigned char)v->s[from]);
    }
    while (w->change->right && to > from) {
        size_t last = to - 1;
        while (last > from && utf8_continues(v->s[last])) {
            last--;
        }
        if (!is_white(w->t, v->s + last)) {
            break;
        }
        to = last;
    }
    TRY(put(w, 0, from, "", 0));
    TRY(view_copy(w->b, v, from, to - from, w->weigh));
    return put(w, to, v->n - to, "", 0);
}

/* End of the grapheme cluster that begins at `at`. */
static size_t cluster_end(const struct view *v, size_t at) {
    utf8proc_int32_t state = 0;
    int length;
    uint32_t before = utf8_point(v->s + at, &length);
    for (at += (size_t)length; at < v->n; at += (size_t)length) {
        uint32_t point = utf8_point(v->s + at, &length);
        if (utf8proc_grapheme_break_stateful((utf8proc_int32_t)before, (utf8proc_int32_t)point, &state)) {
            break;
        }
        before = point;
    }
    return at;
}

/* The package looks a short grapheme cluster up in one piece, else its code points, and takes the shortest
 * beginning that the map has for the whole of it. */
static enum status precompiled(const struct work *w) {
    enum { CLUSTER = 6 }; /* bytes from which a cluster is not looked up */
    const struct view *v = w->v;
    for (size_t at = 0; at < v->n;) {
        size_t end = cluster_end(v, at);
        size_t n = end - at;
        struct replacement whole = {0};
        if (n < CLUSTER) {
            whole = charsmap_find(w->change->map, v->s + at, n, false);
        }
        if (whole.taken > 0) {
            TRY(put(w, at, n, whole.text, whole.n));
            at = end;
            continue;
        }
        for (size_t length; at < end; at += length) {
            length = (size_t)utf8_length((unsigned char)v->s[at]);
            struct replacement one = charsmap_find(w->change->map, v->s + at, length, false);
            TRY(put(w, at, length, one.taken > 0 ? one.text : v->s + at, one.taken > 0 ? one.n : length));
        }
    }
    return OK;
}

/* SentencePiece (normalizer.cc): what the beginning of the rest of a text becomes. */
static struct replacement next_prefix(const struct work *w, size_t at) {
    const struct change *c = w->change;
    const struct view *v = w->v;
    size_t end;
    int32_t id;
    if (finder_here(&w->t->symbols, v->s, v->n, at, &end, &id)) {
        return (struct replacement){end - at, v->s + at, end - at};
    }
    struct replacement r = {0};
    if (c->map) {
        r = charsmap_find(c->map, v->s + at, v->n - at, true);
    }
    if (r.taken == 0) {
        size_t length = (size_t)utf8_length((unsigned char)v->s[at]);
        r = (struct replacement){length, v->s + at, length};
    }
    return r;
}

/* Puts a piece with its spaces as the model has them. */
static enum status put_escaped(const struct work *w, size_t at, size_t taken, const char *s, size_t n) {
    struct text escaped = {0};
    enum status st = OK;
    if (!w->change->escape || !memchr(s, ' ', n)) {
        return put(w, at, taken, s, n);
    }
    for (size_t i = 0; i < n && st == OK; i++) {
        st = s[i] == ' ' ? text_puts(&escaped, SPACE_MARK) : text_append(&escaped, s + i, 1);
    }
    st = st == OK ? put(w, at, taken, escaped.data, escaped.len) : st;
    text_free(&escaped);
    return st;
}

static void drop_trailing(const struct work *w, const char *space, size_t n) {
    struct text *bytes = &w->b->bytes;
    struct text *weights = &w->b->weights;
    while (bytes->len >= n && memcmp(bytes->data + bytes->len - n, space, n) == 0) {
        bytes->len -= n;
        for (size_t i = 0; i < n && w->weigh; i++) {
            w->b->owed += (unsigned char)weights->data[--weights->len];
        }
    }
}

static bool begins_spaced(const struct work *w) {
    struct replacement r = next_prefix(w, 0);
    size_t n = strlen(SPACE_MARK);
    return r.n > 0 && (r.text[0] == ' ' || (r.n >= n && memcmp(r.text, SPACE_MARK, n) == 0));
}

static enum status sentencepiece(const struct work *w) {
    const struct change *c = w->change;
    const struct view *v = w->v;
    size_t at = 0;
    while (c->extra && !v->open && at < v->n) {
        struct replacement r = next_prefix(w, at);
        if (r.n != 1 || r.text[0] != ' ') {
            break;
        }
        TRY(put(w, at, r.taken, "", 0));
        at += r.taken;
    }
    if (at == v->n) {
        return OK;
    }
    const char *space = c->escape ? SPACE_MARK : " ";
    if (c->dummy && !v->open && (!c->once || (v->first && at == 0 && !begins_spaced(w)))) {
        int64_t owed = w->b->owed; /* the dummy stands for nothing of the text */
        w->b->owed = 0;
        TRY(view_append(w->b, space, strlen(space), 0, w->weigh));
        w->b->owed = owed;
    }
    bool after_space = c->extra && !v->open;
    while (at < v->n) {
        struct replacement r = next_prefix(w, at);
        size_t skip = 0;
        while (after_space && skip < r.n && r.text[skip] == ' ') {
            skip++;
        }
        if (skip < r.n) {
            after_space = c->extra && r.text[r.n - 1] == ' ';
        }
        TRY(put_escaped(w, at, r.taken, r.text + skip, r.n - skip));
        at += r.taken;
    }
    if (c->extra) {
        drop_trailing(w, space, strlen(space));
    }
    return OK;
}

static enum status apply(const struct work *w, bool *changed) {
    switch (w->change->kind) {
    case CHANGE_FORM:
        return normal_form(w->t->classes, w->change->form, w->v, w->weigh, w->b, changed);
    case CHANGE_PREPEND:
        return prepend(w, changed);
    case CHANGE_REPLACE:
        return replace_all(w, changed);
    default:
        break;
    }
    *changed = true;
    view_buffer_clear(w->b);
    switch (w->change->kind) {
    case CHANGE_LOWERCASE:
        return lowercase(w);
    case CHANGE_STRIP:
        return strip(w);
    case CHANGE_PRECOMPILED:
        return precompiled(w);
    case CHANGE_SENTENCEPIECE:
        return sentencepiece(w);
    default:
        return fail(ERR_INTERNAL, "unknown normalizer %d", (int)w->change->kind);
    }
}

enum status normalize(const struct tokenizer *t, struct matcher *matcher, const struct view *v, bool weigh,
                      struct view_buffer *buffers, struct view *out) {
    *out = *v;
    for (int i = 0; i < t->n_changes; i++) {
        struct view_buffer *b = &buffers[i];
        struct view in = *out;
        struct work w = {t, &t->changes[i], matcher, &in, weigh, b};
        bool changed = false;
        b->owed = 0;
        TRY(apply(&w, &changed));
        if (changed) {
            out->s = b->bytes.data ? b->bytes.data : "";
            out->n = b->bytes.len;
            out->weights = weigh && b->weights.data ? (const uint8_t *)b->weights.data : NULL;
        }
    }
    return OK;
}
