/* Ids to text: the decoder section of tokenizer.json, applied step by step to a list of strings. */
#include <string.h>

#include "text/tokenizer_internal.h"
#include "util/mem.h"

/* Strings end to end. */
struct parts {
    struct text bytes;
    int64_t *ends;
    int64_t n, capacity;
};

static void parts_free(struct parts *p) {
    text_free(&p->bytes);
    mem_free(p->ends);
    *p = (struct parts){0};
}

static enum status parts_end(struct parts *p) {
    TRY(GROW_ARRAY(p->ends, p->capacity, p->n + 1));
    p->ends[p->n++] = (int64_t)p->bytes.len;
    return OK;
}

static const char *part_at(const struct parts *p, int64_t i, size_t *n) {
    size_t begin = i > 0 ? (size_t)p->ends[i - 1] : 0;
    *n = (size_t)p->ends[i] - begin;
    return p->bytes.data + begin;
}

/* A token's characters as bytes; as it is where one of them stands for no byte. */
static enum status append_byte_level(struct text *out, const char *s, size_t n) {
    size_t from = out->len;
    for (size_t at = 0; at < n;) {
        int length;
        int byte = bpe_point_to_byte(utf8_point(s + at, &length));
        if (byte < 0) {
            out->len = from;
            return text_append(out, s, n);
        }
        char c = (char)byte;
        TRY(text_append(out, &c, 1));
        at += (size_t)length;
    }
    return OK;
}

static enum status decode_byte_level(const struct parts *in, struct parts *out) {
    struct text raw = {0};
    enum status st = OK;
    for (int64_t i = 0; i < in->n && st == OK; i++) {
        size_t n;
        const char *s = part_at(in, i, &n);
        st = append_byte_level(&raw, s, n);
    }
    st = st == OK ? utf8_lossy(&out->bytes, raw.data ? raw.data : "", raw.len) : st;
    text_free(&raw);
    return st == OK ? parts_end(out) : st;
}

static enum status decode_replace(const struct decode_step *d, const struct parts *in, bool goes_on,
                                  struct parts *out) {
    size_t from_n = strlen(d->from);
    for (int64_t i = 0; i < in->n; i++) {
        size_t n;
        const char *s = part_at(in, i, &n);
        bool skip = d->first_only && i == 0 && !goes_on;
        for (size_t at = 0; at < n;) {
            if (n - at < from_n || memcmp(s + at, d->from, from_n) != 0) {
                TRY(text_append(&out->bytes, s + at, 1));
                at++;
                continue;
            }
            /* Metaspace: the mark that encoding put first. */
            TRY(skip && at == 0 ? OK : text_puts(&out->bytes, d->to));
            at += from_n;
        }
        TRY(parts_end(out));
    }
    return OK;
}

static int hex_digit(char c) {
    return c >= '0' && c <= '9'   ? c - '0'
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
                                  : -1;
}

/* The byte of a token <0xXX>, -1 for any other. */
static int fallback_byte(const char *s, size_t n) {
    if (n != 6 || memcmp(s, "<0x", 3) != 0 || s[5] != '>') {
        return -1;
    }
    int high = hex_digit(s[3]);
    int low = hex_digit(s[4]);
    return high < 0 || low < 0 ? -1 : 16 * high + low;
}

/* Bytes in a row that are UTF-8 together are that text; otherwise each is U+FFFD. */
static enum status flush_bytes(struct text *bytes, struct parts *out) {
    if (bytes->len == 0) {
        return OK;
    }
    if (utf8_valid(bytes->data, bytes->len) == bytes->len) {
        TRY(text_append(&out->bytes, bytes->data, bytes->len));
        TRY(parts_end(out));
    } else {
        for (size_t i = 0; i < bytes->len; i++) {
            TRY(text_puts(&out->bytes, "\xef\xbf\xbd"));
            TRY(parts_end(out));
        }
    }
    text_clear(bytes);
    return OK;
}

static enum status decode_byte_fallback(const struct parts *in, struct parts *out) {
    struct text bytes = {0};
    enum status st = OK;
    for (int64_t i = 0; i < in->n; i++) {
        size_t n;
        const char *s = part_at(in, i, &n);
        int byte = fallback_byte(s, n);
        if (byte >= 0) {
            char c = (char)byte;
            TRY_TO(done, text_append(&bytes, &c, 1));
            continue;
        }
        TRY_TO(done, flush_bytes(&bytes, out));
        TRY_TO(done, text_append(&out->bytes, s, n));
        TRY_TO(done, parts_end(out));
    }
    st = flush_bytes(&bytes, out);
done:
    text_free(&bytes);
    return st;
}

static enum status decode_strip(const struct decode_step *d, const struct parts *in, bool goes_on,
                                struct parts *out) {
    size_t unit = strlen(d->from);
    for (int64_t i = 0; i < in->n; i++) {
        size_t n;
        const char *s = part_at(in, i, &n);
        int64_t start = i == 0 && goes_on ? 0 : d->start;
        for (int64_t k = 0; k < start && n >= unit && memcmp(s, d->from, unit) == 0; k++) {
            s += unit;
            n -= unit;
        }
        for (int64_t k = 0; k < d->stop && n >= unit && memcmp(s + n - unit, d->from, unit) == 0; k++) {
            n -= unit;
        }
        TRY(text_append(&out->bytes, s, n));
        TRY(parts_end(out));
    }
    return OK;
}

/* goes_on: the text has one before it, whose decoding took off what encoding puts in front. */
static enum status apply(const struct decode_step *d, const struct parts *in, bool goes_on,
                         struct parts *out) {
    switch (d->kind) {
    case DECODE_BYTE_LEVEL:
        return decode_byte_level(in, out);
    case DECODE_REPLACE:
        return decode_replace(d, in, goes_on, out);
    case DECODE_BYTE_FALLBACK:
        return decode_byte_fallback(in, out);
    case DECODE_FUSE:
        TRY(text_append(&out->bytes, in->bytes.data ? in->bytes.data : "", in->bytes.len));
        return parts_end(out);
    case DECODE_STRIP:
        return decode_strip(d, in, goes_on, out);
    }
    return fail(ERR_INTERNAL, "unknown decoder %d", (int)d->kind);
}

static enum status gather(const struct tokenizer *t, const int32_t *ids, int64_t n, bool skip_special,
                          struct parts *out) {
    const struct vocabulary *v = &t->bpe.vocabulary;
    for (int64_t i = 0; i < n; i++) {
        if (ids[i] < 0) {
            return fail(ERR_DATA, "id %d is none of a vocabulary", ids[i]);
        }
        bool padding = ids[i] >= v->size || !v->tokens[ids[i]].present;
        if (padding || (skip_special && v->tokens[ids[i]].special)) {
            continue;
        }
        if (out->n > 0 && t->n_decoders == 0) {
            TRY(text_puts(&out->bytes, " ")); /* without a decoder, tokens are words */
        }
        size_t len;
        const char *s = vocabulary_string(v, ids[i], &len);
        for (int64_t k = 0; k < t->n_rules && v->tokens[ids[i]].added; k++) {
            if (t->rules[k].id == ids[i] && t->rules[k].shown) {
                s = t->rules[k].shown;
                len = strlen(s);
            }
        }
        TRY(text_append(&out->bytes, s, len));
        TRY(parts_end(out));
    }
    return OK;
}

static enum status decode_bytes(const int32_t *ids, int64_t n, bool skip_special, struct text *out) {
    for (int64_t i = 0; i < n; i++) {
        if (ids[i] < 0) {
            return fail(ERR_DATA, "id %d is none of a vocabulary", ids[i]);
        }
        char c = (char)ids[i];
        if (ids[i] < 256) {
            TRY(text_append(out, &c, 1));
        } else if (!skip_special && ids[i] < BYTES_SIZE) {
            TRY(text_puts(out, ids[i] == BYTES_BEGIN ? "<|begin|>" : "<|end|>"));
        }
    }
    return OK;
}

static enum status decode_ids(const struct tokenizer *t, const int32_t *ids, int64_t n, bool skip_special,
                              bool goes_on, struct text *out) {
    if (t->bytes) {
        return decode_bytes(ids, n, skip_special, out);
    }
    struct parts now = {0};
    struct parts next = {0};
    enum status st = OK;
    TRY_TO(done, gather(t, ids, n, skip_special, &now));
    for (int i = 0; i < t->n_decoders && now.n > 0; i++) {
        text_clear(&next.bytes);
        next.n = 0;
        TRY_TO(done, apply(&t->decoders[i], &now, goes_on, &next));
        struct parts old = now;
        now = next;
        next = old;
    }
    st = text_append(out, now.bytes.data ? now.bytes.data : "", now.bytes.len);
done:
    parts_free(&now);
    parts_free(&next);
    return st;
}

enum status tokenizer_decode(const struct tokenizer *t, const int32_t *ids, int64_t n, bool skip_special,
                             struct text *out) {
    return decode_ids(t, ids, n, skip_special, false, out);
}

enum status tokenizer_decode_after(const struct tokenizer *t, const int32_t *ids, int64_t n,
                                   bool skip_special, struct text *out) {
    return decode_ids(t, ids, n, skip_special, true, out);
}
