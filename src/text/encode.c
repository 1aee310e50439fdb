/* Text to ids: added tokens, normalization, the steps that cut it into words, which put_pieces.c puts. */
#include <string.h>

#include "text/encode_internal.h"
#include "util/mem.h"

void encoder_close(struct encoder *e) {
    if (!e) {
        return;
    }
    for (int i = 0; i < STEPS_MAX; i++) {
        view_buffer_free(&e->changed[i]);
        view_buffer_free(&e->stepped[i]);
    }
    bpe_scratch_free(&e->scratch);
    matcher_close(e->matcher);
    pieces_free(&e->pieces);
    mem_free(e);
}

enum status encoder_open(const struct tokenizer *t, struct encoder **out) {
    struct encoder *e;
    TRY(NEW_ARRAY(e, 1));
    e->t = t;
    enum status st = OK;
    if (!t->bytes) {
        TRY_TO(failed, pieces_open(&e->pieces));
        TRY_TO(failed, matcher_open(&e->matcher));
    }
    *out = e;
    return OK;
failed:
    encoder_close(e);
    return st;
}

void encoder_set_input(struct encoder *e, const struct template_ranges *input, size_t offset, bool as_text) {
    e->input = input;
    e->input_offset = offset;
    e->input_as_text = as_text;
}

int64_t encoder_input_specials(const struct encoder *e) {
    return e->input_specials;
}

void ids_free(struct ids *ids) {
    mem_free(ids->data);
    *ids = (struct ids){0};
}

/* The model's own words: all of v, or its parts at marks where no merge reaches over one. */
static enum status put_words(struct encoder *e, const struct view *v) {
    static const char mark[] = "\xe2\x96\x81";
    size_t from = 0;
    const char *hit = e->t->bpe.splits_at_mark ? memmem(v->s, v->n, mark, 3) : NULL;
    while (hit) {
        size_t at = (size_t)(hit - v->s);
        if (at > from && (at < 3 || memcmp(hit - 3, mark, 3) != 0)) {
            TRY(put_word(e, v, from, at - from));
            from = at;
        }
        hit = memmem(hit + 3, v->n - at - 3, mark, 3);
    }
    return v->n > from ? put_word(e, v, from, v->n - from) : OK;
}

static enum status run_step(struct encoder *e, int i, const struct view *v);

/* Bytes [at, at + n) of v, cut out by step i, through the steps after it. */
static inline enum status piece(struct encoder *e, int i, const struct view *v, size_t at, size_t n) {
    if (i + 1 == e->t->n_steps && e->t->bpe.byte_level) {
        return put_word(e, v, at, n);
    }
    struct view part = {v->s + at, n, v->weights ? v->weights + at : NULL, v->first && at == 0,
                        v->open && at == 0};
    return run_step(e, i + 1, &part);
}

static enum status cut_known(struct encoder *e, int i, const struct view *v) {
    enum step_kind kind = e->t->steps[i].kind;
    bool words = i + 1 == e->t->n_steps && e->t->bpe.byte_level;
    size_t ends[PIECES_AT_ONCE];
    for (size_t at = 0; at < v->n;) {
        int count = cut_pieces(kind, e->t->classes, v->s, v->n, at, ends, PIECES_AT_ONCE);
        if (words) {
            TRY(put_pieces(e, v, at, ends, count));
        }
        for (int k = 0; k < count && !words; k++) {
            TRY(piece(e, i, v, k > 0 ? ends[k - 1] : at, ends[k] - (k > 0 ? ends[k - 1] : at)));
        }
        at = ends[count - 1];
    }
    return OK;
}

/* A piece of a cut that is waiting for its neighbour. */
struct waiting {
    size_t begin, end;
    bool match, any;
};

static enum status let_go(struct encoder *e, int i, const struct view *v, struct waiting *w) {
    bool any = w->any;
    w->any = false;
    return any ? piece(e, i, v, w->begin, w->end - w->begin) : OK;
}

/* One match, or what is between two, joined to its neighbour as the step's behavior says. */
static enum status take_piece(struct encoder *e, int i, const struct view *v, struct waiting *w,
                              const struct waiting *new) {
    const struct step *step = &e->t->steps[i];
    if (new->begin == new->end) {
        return OK;
    }
    if (new->match ? step->drop_matches : step->drop_others) {
        TRY(let_go(e, i, v, w));
        e->carried += e->chars ? view_count(v, new->begin, new->end - new->begin) : 0;
        return OK;
    }
    bool previous = w->match != step->inverted;
    bool match = new->match != step->inverted;
    bool joins = (step->joins == JOIN_PREVIOUS && match && !previous) ||
                 (step->joins == JOIN_NEXT && !match && previous) ||
                 (step->joins == JOIN_ALIKE && match == previous);
    if (w->any && joins) {
        w->end = new->end;
        w->match = new->match;
        return OK;
    }
    TRY(let_go(e, i, v, w));
    *w = *new;
    w->any = true;
    return OK;
}

static enum status cut_matches(struct encoder *e, int i, const struct view *v) {
    const struct step *step = &e->t->steps[i];
    struct waiting waiting = {0};
    for (size_t at = 0; at < v->n;) {
        struct waiting between = {.begin = at};
        struct waiting found = {.match = true};
        TRY(cut_match(e->matcher, step, v->s, v->n, at, &found.begin, &found.end));
        between.end = found.begin;
        TRY(take_piece(e, i, v, &waiting, &between));
        TRY(take_piece(e, i, v, &waiting, &found));
        at = found.end;
    }
    return let_go(e, i, v, &waiting);
}

static enum status cut_before_marks(struct encoder *e, int i, const struct view *v) {
    const struct step *step = &e->t->steps[i];
    size_t from = 0;
    while (from < v->n) {
        const char *hit = memmem(v->s + from + 1, v->n - from - 1, step->string, step->string_n);
        size_t end = hit ? (size_t)(hit - v->s) : v->n;
        TRY(piece(e, i, v, from, end - from));
        from = end;
    }
    return OK;
}

static enum status cut_symbols(struct encoder *e, int i, const struct view *v) {
    size_t done = 0;
    size_t begin;
    size_t end;
    int32_t id;
    while (finder_next(&e->t->symbols, v->s, v->n, done, &begin, &end, &id)) {
        TRY(begin > done ? piece(e, i, v, done, begin - done) : OK);
        TRY(put_ids(e, &id, 1));
        TRY(e->chars ? put_chars(e, view_count(v, begin, end - begin)) : OK);
        done = end;
    }
    return done < v->n ? piece(e, i, v, done, v->n - done) : OK;
}

/* Steps that change the text: a space put first, or spaces as marks. */
static enum status change_text(struct encoder *e, int i, const struct view *v) {
    const struct step *step = &e->t->steps[i];
    struct view_buffer *b = &e->stepped[i];
    bool weigh = e->chars != NULL;
    bool spaces = step->kind == STEP_PREFIX_SPACE;
    const char *mark = spaces ? " " : step->string;
    size_t mark_n = spaces ? 1 : step->string_n;
    bool has = v->n >= mark_n && memcmp(v->s, mark, mark_n) == 0;
    bool prepend = spaces || step->prepend == PREPEND_ALWAYS || (step->prepend == PREPEND_FIRST && v->first);
    view_buffer_clear(b);
    if (prepend && !v->open && !has && !(!spaces && v->s[0] == ' ')) {
        TRY(view_append(b, mark, mark_n, 0, weigh));
    }
    size_t done = 0;
    for (size_t at = 0; at < v->n && !spaces; at++) {
        if (v->s[at] == ' ') {
            TRY(view_copy(b, v, done, at - done, weigh));
            TRY(view_append(b, mark, mark_n, weigh ? view_count(v, at, 1) : 0, weigh));
            done = at + 1;
        }
    }
    TRY(view_copy(b, v, done, v->n - done, weigh));
    struct view changed = {b->bytes.data, b->bytes.len, weigh ? (const uint8_t *)b->weights.data : NULL,
                           v->first, v->open};
    return run_step(e, i + 1, &changed);
}

static enum status run_step(struct encoder *e, int i, const struct view *v) {
    if (v->n == 0) {
        return OK;
    }
    if (i == e->t->n_steps) {
        return put_words(e, v);
    }
    switch (e->t->steps[i].kind) {
    case STEP_GPT2:
    case STEP_LLAMA3:
    case STEP_QWEN:
        return cut_known(e, i, v);
    case STEP_PATTERN:
    case STEP_STRING:
        return cut_matches(e, i, v);
    case STEP_BEFORE_MARK:
        return cut_before_marks(e, i, v);
    case STEP_SYMBOLS:
        return cut_symbols(e, i, v);
    case STEP_PREFIX_SPACE:
    case STEP_METASPACE:
        return change_text(e, i, v);
    }
    return fail(ERR_INTERNAL, "unknown step %d", (int)e->t->steps[i].kind);
}

static bool is_space(const struct tokenizer *t, const char *s) {
    int length;
    return t->classes[utf8_point(s, &length)] & CLASS_SPACE;
}

/* Widens the place of an added token by its rule; false where the rule says it is none. */
static bool place_of(const struct tokenizer *t, int32_t id, const struct view *v, size_t *begin,
                     size_t *end) {
    for (int64_t i = 0; i < t->n_rules; i++) {
        const struct added_rule *rule = &t->rules[i];
        if (rule->id != id) {
            continue;
        }
        size_t before = *begin;
        while (before > 0 && utf8_continues(v->s[--before])) {
        }
        if (rule->word && ((*begin > 0 && utf8_is_word(t->classes, v->s + before)) ||
                           (*end < v->n && utf8_is_word(t->classes, v->s + *end)))) {
            return false;
        }
        while (rule->left && *begin > 0) {
            for (before = *begin - 1; before > 0 && utf8_continues(v->s[before]); before--) {
            }
            if (!is_space(t, v->s + before)) {
                break;
            }
            *begin = before;
        }
        while (rule->right && *end < v->n && is_space(t, v->s + *end)) {
            *end += (size_t)utf8_length((unsigned char)v->s[*end]);
        }
        return true;
    }
    return true;
}

static enum status normalized_part(struct encoder *e, const struct view *v);

/* Whether an added token at [begin, end) of the text is to be passed over, since a user wrote it. */
static bool is_written(struct encoder *e, int32_t id, size_t begin, size_t end) {
    if (!e->input || !e->t->bpe.vocabulary.tokens[id].special ||
        !template_ranges_touch(e->input, begin + e->input_offset, end + e->input_offset)) {
        return false;
    }
    e->input_specials++;
    return e->input_as_text;
}

/* Added tokens of one finder out of v, what is between them on: from the raw text to the normalizers, from
 * the normalized one to the steps. */
static enum status split_added(struct encoder *e, bool raw, const struct view *v) {
    const struct finder *f = raw ? &e->t->raw : &e->t->normalized;
    size_t done = 0;
    size_t at = 0;
    for (bool more = true; more;) {
        size_t begin = v->n;
        size_t end = v->n;
        int32_t id = -1;
        more = finder_next(f, v->s, v->n, at, &begin, &end, &id);
        at = end;
        if (more && raw && is_written(e, id, begin, end)) {
            at = begin + (size_t)utf8_length((unsigned char)v->s[begin]);
            continue;
        }
        if (more && !place_of(e->t, id, v, &begin, &end)) {
            continue;
        }
        begin = begin > done ? begin : done;
        if (begin > done) {
            struct view part = {v->s + done, begin - done, v->weights ? v->weights + done : NULL,
                                v->first && done == 0, v->open && done == 0};
            TRY(raw ? normalized_part(e, &part) : run_step(e, 0, &part));
        }
        if (more) {
            TRY(put_ids(e, &id, 1));
            if (e->chars) {
                TRY(put_chars(e, end > begin ? view_count(v, begin, end - begin) : 0));
            }
        }
        done = end > done ? end : done;
    }
    return OK;
}

static enum status normalized_part(struct encoder *e, const struct view *v) {
    struct view changed;
    TRY(normalize(e->t, e->matcher, v, e->chars != NULL, e->changed, &changed));
    TRY(split_added(e, false, &changed));
    for (int i = 0; i < e->t->n_changes && e->chars; i++) {
        e->carried += e->changed[i].owed;
    }
    return OK;
}

static enum status encode_bytes(struct encoder *e, const char *text, size_t len) {
    struct ids *out = e->out;
    TRY(GROW_ARRAY(out->data, out->capacity, out->count + (int64_t)len));
    for (size_t i = 0; i < len; i++) {
        out->data[out->count++] = (unsigned char)text[i];
        if (e->chars) {
            TRY(put_chars(e, i + 1 == len || !utf8_continues(text[i + 1])));
        }
    }
    return OK;
}

/* Whether a text ends with an added token that is found before normalization. */
static bool ends_with_added(const struct tokenizer *t, const char *text, size_t len) {
    struct view whole = {text, len, NULL, true, false};
    size_t begin = 0;
    size_t end = 0;
    size_t last = 0;
    int32_t id = -1;
    if (len == 0 || (!t->takes_right && !finder_may_end(&t->raw, text[len - 1]))) {
        return false;
    }
    for (size_t at = 0; finder_next(&t->raw, text, len, at, &begin, &end, &id);) {
        at = end;
        last = place_of(t, id, &whole, &begin, &end) ? end : last;
    }
    return last == len;
}

static enum status encode_text(struct encoder *e, const char *before, size_t before_len, const char *text,
                               size_t len) {
    if (e->t->bytes) {
        return encode_bytes(e, text, len);
    }
    size_t good = utf8_valid(text, len);
    if (good < len) {
        return fail(ERR_DATA, "text is not valid UTF-8 at its byte %zu", good);
    }
    struct view whole = {text, len, NULL, before_len == 0, false};
    whole.open = !whole.first && !ends_with_added(e->t, before, before_len);
    size_t first = e->chars ? e->chars->len : 0;
    TRY(split_added(e, true, &whole));
    if (e->chars && e->carried > 0 && e->chars->len > first) {
        unsigned char *last = (unsigned char *)e->chars->data + e->chars->len - 1;
        int64_t count = *last + e->carried;
        *last = (unsigned char)(count > UINT8_MAX ? UINT8_MAX : count);
    }
    return OK;
}

enum status tokenizer_encode(struct encoder *e, const char *text, size_t len, struct ids *out,
                             struct text *chars) {
    return tokenizer_encode_after(e, "", 0, text, len, out, chars);
}

enum status tokenizer_encode_after(struct encoder *e, const char *before, size_t before_len, const char *text,
                                   size_t len, struct ids *out, struct text *chars) {
    int64_t count = out->count;
    size_t chars_len = chars ? chars->len : 0;
    e->out = out;
    e->chars = chars;
    e->carried = 0;
    enum status st = encode_text(e, before, before_len, text, len);
    if (st != OK) {
        out->count = count;
        if (chars) {
            chars->len = chars_len;
        }
    }
    return st;
}
