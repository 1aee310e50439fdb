/* Words to ids: from the cache where they were met before, else by the model. */
#include "text/encode_internal.h"
#include "util/mem.h"

enum status pieces_open(struct pieces *p) {
    enum { LINE = 2 };
    const int64_t places = (int64_t)PIECE_LINES * LINE;
    _Static_assert(sizeof(struct piece) * LINE == 64, "two pieces to a cache line");
    p->lines = mem_aligned(places, sizeof *p->lines);
    TRY(mem_ok(p->lines));
    memset(p->lines, 0, (size_t)places * sizeof *p->lines);
    return OK;
}

void pieces_free(struct pieces *p) {
    mem_free(p->lines);
    p->lines = NULL;
}

enum status put_chars(struct encoder *e, int64_t count) {
    count += e->carried;
    e->carried = 0;
    char byte = (char)(uint8_t)(count > UINT8_MAX ? UINT8_MAX : count);
    return text_append(e->chars, &byte, 1);
}

enum status put_ids(struct encoder *e, const int32_t *ids, int count) {
    struct ids *out = e->out;
    if (out->count + count > out->capacity) {
        TRY(GROW_ARRAY(out->data, out->capacity, out->count + count));
    }
    for (int i = 0; i < count; i++) {
        out->data[out->count + i] = ids[i];
    }
    out->count += count;
    return OK;
}

static inline size_t token_bytes(const struct encoder *e, int32_t id) {
    return e->t->bpe.vocabulary.tokens[id].span;
}

/* The symbols of the scratch, which are those of n bytes at s. */
static void keep(struct encoder *e, struct piece_key key, const char *s, size_t n) {
    const struct bpe_scratch *symbols = &e->scratch;
    const struct view own = {.s = s, .n = n}; /* a piece's ends are those of code points */
    struct piece *place = pieces_place(pieces_line(&e->pieces, key));
    struct piece piece = {.key = key, .shape = (uint8_t)((size_t)symbols->count << 5 | n)};
    size_t at = 0;
    for (int64_t i = 0; i < symbols->count; i++) {
        const struct symbol *symbol = &symbols->symbols[i];
        piece.ids[i] = symbol->id;
        piece.points[i] = (uint8_t)view_count(&own, at, symbol->len);
        at += symbol->len;
    }
    *place = piece;
}

/* Puts the symbols of the scratch; regular (may be cached): each stands for its own bytes and none was lost.
 */
static enum status put_symbols(struct encoder *e, const struct view *v, size_t at, size_t n, bool *regular) {
    const struct bpe_scratch *s = &e->scratch;
    size_t end = at;
    *regular = true;
    for (int64_t i = 0; i < s->count; i++) {
        const struct symbol *symbol = &s->symbols[i];
        TRY(put_ids(e, &symbol->id, 1));
        if (e->chars) {
            TRY(put_chars(e, view_count(v, end, symbol->len)));
        }
        end += symbol->len;
        *regular = *regular && token_bytes(e, symbol->id) == symbol->len;
    }
    *regular = *regular && end == at + n;
    if (e->chars && end < at + n) {
        e->carried += view_count(v, end, at + n - end);
    }
    return OK;
}

static enum status put_found(struct encoder *e, const struct piece *p, const struct view *v, size_t at) {
    int count = piece_ids(p);
    TRY(put_ids(e, p->ids, count));
    for (int i = 0; i < count && e->chars; i++) {
        size_t take = token_bytes(e, p->ids[i]);
        TRY(put_chars(e, v->weights ? view_count(v, at, take) : p->points[i]));
        at += take;
    }
    return OK;
}

enum status put_word(struct encoder *e, const struct view *v, size_t at, size_t n) {
    struct piece_key key = {0, 0};
    if (n <= PIECE_BYTES) {
        key = piece_key(v->s + at, n, v->n - at);
        const struct piece *found = pieces_find(pieces_line(&e->pieces, key), key, n);
        if (found) {
            return put_found(e, found, v, at);
        }
    }
    const struct tokenizer *t = e->t;
    TRY(t->unigram ? unigram_word(t->unigram, &t->bpe, &e->scratch, v->s + at, n)
                   : bpe_word(&t->bpe, &e->scratch, v->s + at, n));
    bool regular;
    TRY(put_symbols(e, v, at, n, &regular));
    if (regular && n <= PIECE_BYTES && e->scratch.count <= PIECE_IDS) {
        keep(e, key, v->s + at, n);
    }
    return OK;
}

/* Room for the ids of so many bytes, which are no more than they, and for what put_known writes beyond them.
 */
static enum status make_room(struct encoder *e, size_t bytes) {
    int64_t most = (int64_t)bytes + PIECE_IDS + 1;
    TRY(GROW_ARRAY(e->out->data, e->out->capacity, e->out->count + most));
    return e->chars ? GROW_ARRAY(e->chars->data, e->chars->capacity, (int64_t)e->chars->len + most) : OK;
}

/* A piece on its way. */
struct probe {
    size_t at, n;
    struct piece_key key;
    struct piece *line; /* NULL: too long for the cache */
};

/* Their lines are asked for at once, since memory answers late. */
static void look_up(const struct encoder *e, const struct view *v, size_t at, const size_t *ends, int count,
                    struct probe *probes) {
    for (int i = 0; i < count; i++) {
        struct probe *p = &probes[i];
        p->at = at;
        p->n = ends[i] - at;
        p->line = NULL;
        if (p->n <= PIECE_BYTES) {
            p->key = piece_key(v->s + at, p->n, v->n - at);
            p->line = pieces_line(&e->pieces, p->key);
            __builtin_prefetch(p->line);
        }
        at = ends[i];
    }
}

/* Pieces from the i-th on that are in the cache, into arrays with room; returns the first that is not. */
static int put_known(struct encoder *e, const struct probe *probes, int i, int count) {
    int32_t *ids = e->out->data + e->out->count;
    char *points = e->chars ? e->chars->data + e->chars->len : NULL;
    int64_t put = 0;
    for (; i < count; i++) {
        const struct probe *p = &probes[i];
        const struct piece *found = p->line ? pieces_find(p->line, p->key, p->n) : NULL;
        if (!found) {
            break;
        }
        memcpy(ids + put, found->ids, sizeof found->ids);
        if (points) {
            memcpy(points + put, found->points, sizeof found->points);
        }
        put += piece_ids(found);
    }
    e->out->count += put;
    if (points) {
        e->chars->len += (size_t)put;
        points[put] = '\0';
    }
    return i;
}

enum status put_pieces(struct encoder *e, const struct view *v, size_t at, const size_t *ends, int count) {
    struct probe probes[PIECES_AT_ONCE];
    TRY(make_room(e, ends[count - 1] - at));
    look_up(e, v, at, ends, count, probes);
    for (int i = 0; i < count; i++) {
        if (e->carried == 0 && !v->weights) {
            i = put_known(e, probes, i, count);
        }
        if (i < count) {
            TRY(put_word(e, v, probes[i].at, probes[i].n));
        }
    }
    return OK;
}
