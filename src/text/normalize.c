#include <string.h>

#include "text/tokenizer_internal.h"

static enum status replace_all(const struct change *c, const struct view *v, bool weigh,
                               struct view_buffer *b, bool *changed) {
    const char *hit = memmem(v->s, v->n, c->from, c->from_n);
    *changed = hit != NULL;
    text_clear(&b->bytes);
    text_clear(&b->weights);
    size_t done = 0;
    while (hit) {
        size_t at = (size_t)(hit - v->s);
        TRY(view_copy(b, v, done, at - done, weigh));
        TRY(view_append(b, c->to, c->to_n, weigh ? view_count(v, at, c->from_n) : 0, weigh));
        done = at + c->from_n;
        hit = memmem(v->s + done, v->n - done, c->from, c->from_n);
    }
    return *changed ? view_copy(b, v, done, v->n - done, weigh) : OK;
}

static enum status apply(const struct tokenizer *t, const struct change *c, const struct view *v, bool weigh,
                         struct view_buffer *b, bool *changed) {
    switch (c->kind) {
    case CHANGE_NFC:
        return nfc(t->classes, v, weigh, b, changed);
    case CHANGE_PREPEND:
        *changed = v->n > 0;
        if (!*changed) {
            return OK;
        }
        text_clear(&b->bytes);
        text_clear(&b->weights);
        TRY(view_append(b, c->to, c->to_n, 0, weigh));
        return view_copy(b, v, 0, v->n, weigh);
    case CHANGE_REPLACE:
        return replace_all(c, v, weigh, b, changed);
    }
    return fail(ERR_INTERNAL, "unknown normalizer %d", (int)c->kind);
}

enum status normalize(const struct tokenizer *t, const struct view *v, bool weigh,
                      struct view_buffer *buffers, struct view *out) {
    *out = *v;
    for (int i = 0; i < t->n_changes; i++) {
        bool changed = false;
        TRY(apply(t, &t->changes[i], out, weigh, &buffers[i], &changed));
        if (changed) {
            struct view_buffer *b = &buffers[i];
            out->s = b->bytes.data ? b->bytes.data : "";
            out->n = b->bytes.len;
            out->weights = weigh ? (const uint8_t *)b->weights.data : NULL;
        }
    }
    return OK;
}
