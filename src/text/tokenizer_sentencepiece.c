/* Reading tokenizer.model, a SentencePiece model (sentencepiece_model.proto), BPE or Unigram.
 *
 * Alone it is what the `sentencepiece` package makes of it: control symbols are not looked for in the text.
 * With a tokenizer_config.json beside it is what transformers makes of both: control symbols and added tokens
 * cut the text first, then tokenizer_class says the rest: LlamaTokenizer and GemmaTokenizer have rules of
 * their own, the general one applies SentencePiece's to each part.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "io/file.h"
#include "text/protobuf.h"
#include "text/tokenizer_internal.h"
#include "util/hash.h"
#include "util/mem.h"

enum piece_type { PIECE_NORMAL = 1, PIECE_UNKNOWN, PIECE_CONTROL, PIECE_USER, PIECE_UNUSED, PIECE_BYTE };
enum { MODEL_UNIGRAM = 1, MODEL_BPE = 2, PIECE_LONGEST = 8000 };

struct spm_piece {
    const char *s;
    size_t n;
    float score;
    int64_t type;
};

/* What the file says; strings are borrowed from it. */
struct spm {
    struct spm_piece *pieces;
    int64_t n, capacity;
    int64_t model_type, begin, end, unknown;
    bool byte_fallback, suffix;
    bool dummy, extra, escape;
    const char *map;
    size_t map_n;
    bool denormalizes;
};

/* Whose rules apply to text and added tokens. */
enum spm_style { STYLE_ALONE, STYLE_PARTS, STYLE_LLAMA, STYLE_GEMMA };

static enum status read_piece(const struct protobuf *p, const struct protobuf_field *field, struct spm *m) {
    struct protobuf message;
    struct protobuf_field f;
    struct spm_piece piece = {.type = PIECE_NORMAL};
    bool more;
    TRY(protobuf_message(p, field, &message));
    TRY(protobuf_next(&message, &f, &more));
    while (more) {
        if (f.number == 1) {
            struct protobuf text;
            TRY(protobuf_message(p, &f, &text));
            piece.s = text.at;
            piece.n = f.n;
        } else if (f.number == 2) {
            TRY(protobuf_float(p, &f, &piece.score));
        } else if (f.number == 3) {
            TRY(protobuf_integer(p, &f, &piece.type));
        }
        TRY(protobuf_next(&message, &f, &more));
    }
    bool text = piece.n > 0 && piece.n < PIECE_LONGEST && !memchr(piece.s, '\0', piece.n) &&
                utf8_valid(piece.s, piece.n) == piece.n;
    if (!text || !isfinite(piece.score) || piece.type < PIECE_NORMAL || piece.type > PIECE_BYTE) {
        return fail(ERR_DATA, "%s: damaged: piece %lld is no text, or has no score or type", p->where,
                    (long long)m->n);
    }
    TRY(GROW_ARRAY(m->pieces, m->capacity, m->n + 1));
    m->pieces[m->n++] = piece;
    return OK;
}

static enum status read_trainer(const struct protobuf *p, const struct protobuf_field *field, struct spm *m) {
    struct protobuf message;
    struct protobuf_field f;
    bool more;
    TRY(protobuf_message(p, field, &message));
    TRY(protobuf_next(&message, &f, &more));
    while (more) {
        int64_t *number = f.number == 3    ? &m->model_type
                          : f.number == 41 ? &m->begin
                          : f.number == 42 ? &m->end
                                           : NULL;
        bool *flag = f.number == 24 ? &m->suffix : f.number == 35 ? &m->byte_fallback : NULL;
        TRY(number ? protobuf_integer(p, &f, number) : OK);
        TRY(flag ? protobuf_bool(p, &f, flag) : OK);
        TRY(protobuf_next(&message, &f, &more));
    }
    return OK;
}

static enum status read_rules(const struct protobuf *p, const struct protobuf_field *field, struct spm *m) {
    struct protobuf message;
    struct protobuf_field f;
    bool more;
    TRY(protobuf_message(p, field, &message));
    TRY(protobuf_next(&message, &f, &more));
    while (more) {
        bool *flag = f.number == 3   ? &m->dummy
                     : f.number == 4 ? &m->extra
                     : f.number == 5 ? &m->escape
                                     : NULL;
        TRY(flag ? protobuf_bool(p, &f, flag) : OK);
        if (f.number == 2) {
            struct protobuf map;
            TRY(protobuf_message(p, &f, &map));
            m->map = map.at;
            m->map_n = f.n;
        }
        TRY(protobuf_next(&message, &f, &more));
    }
    return OK;
}

static enum status read_model_file(const char *data, size_t n, const char *where, struct spm *m) {
    struct protobuf p = {data, data + n, where};
    struct protobuf_field f;
    bool more;
    *m = (struct spm){
        .model_type = MODEL_UNIGRAM, .begin = 1, .end = 2, .dummy = true, .extra = true, .escape = true};
    TRY(protobuf_next(&p, &f, &more));
    while (more) {
        if (f.number == 1) {
            TRY(read_piece(&p, &f, m));
        } else if (f.number == 2) {
            TRY(read_trainer(&p, &f, m));
        } else if (f.number == 3) {
            TRY(read_rules(&p, &f, m));
        } else if (f.number == 5) {
            struct spm other = {0};
            TRY(read_rules(&p, &f, &other));
            m->denormalizes = other.map_n > 0;
        }
        TRY(protobuf_next(&p, &f, &more));
    }
    return OK;
}

static enum status check_model(struct spm *m, const char *where) {
    const char *what = m->model_type != MODEL_UNIGRAM && m->model_type != MODEL_BPE
                           ? "a model of words or characters"
                       : m->suffix       ? "treat_whitespace_as_suffix"
                       : m->denormalizes ? "a denormalizer"
                                         : NULL;
    if (what) {
        return fail(ERR_DATA, "%s: %s is not supported", where, what);
    }
    m->unknown = -1;
    for (int64_t i = 0; i < m->n; i++) {
        if (m->pieces[i].type == PIECE_UNKNOWN) {
            if (m->unknown >= 0) {
                return fail(ERR_DATA, "%s: damaged: two unknown pieces", where);
            }
            m->unknown = i;
        }
    }
    return m->unknown >= 0 ? OK : fail(ERR_DATA, "%s: damaged: no unknown piece", where);
}

static bool ordinary(const struct spm_piece *p) {
    return p->type == PIECE_NORMAL || p->type == PIECE_USER || p->type == PIECE_UNUSED;
}

static enum status take_pieces(struct tokenizer *t, const struct spm *m, enum spm_style style,
                               const char *where) {
    struct vocabulary *v = &t->bpe.vocabulary;
    bool all = style == STYLE_LLAMA || style == STYLE_GEMMA;
    for (int64_t i = 0; i < m->n; i++) {
        const struct spm_piece *p = &m->pieces[i];
        enum status st = vocabulary_add(v, p->s, p->n, i);
        if (st != OK) {
            return fail(st, "%s: %s", where, status_message()->text);
        }
        v->tokens[i].model = all || ordinary(p);
        v->tokens[i].special = p->type == PIECE_UNKNOWN || p->type == PIECE_CONTROL;
        v->tokens[i].unused = !all && p->type == PIECE_UNUSED;
        t->bpe.has_unused |= v->tokens[i].unused;
        if (!all && p->type == PIECE_USER) {
            TRY(finder_add(&t->symbols, p->s, p->n, (int32_t)i));
        }
    }
    return OK;
}

/* Merges: each cut of a piece into two others. */

struct ranked {
    float score;
    int32_t id;
};

/* Highest scores first. */
static int by_score(const void *a, const void *b) {
    const struct ranked *x = a;
    const struct ranked *y = b;
    return x->score > y->score ? -1 : x->score < y->score ? 1 : (x->id > y->id) - (x->id < y->id);
}

static enum status add_cuts(struct bpe *b, const struct spm_piece *p, int32_t id, uint32_t *rank,
                            bool ranks_differ) {
    for (size_t i = 1; i < p->n; i++) {
        if (utf8_continues(p->s[i])) {
            continue;
        }
        int32_t left = vocabulary_find(&b->vocabulary, p->s, i);
        int32_t right = vocabulary_find(&b->vocabulary, p->s + i, p->n - i);
        if (left < 0 || right < 0 || !b->vocabulary.tokens[left].model ||
            !b->vocabulary.tokens[right].model) {
            continue;
        }
        uint64_t key = (uint64_t)(uint32_t)left << 32 | (uint32_t)right;
        TRY(pair_map_put(&b->merges, key, *rank, (uint32_t)id));
        *rank += ranks_differ;
    }
    return OK;
}

/* SentencePiece: the piece with the highest score, then the leftmost pair; transformers' conversion: the
 * piece with the lowest id, then the shortest left part. */
static enum status take_merges(struct bpe *b, const struct spm *m, enum spm_style style) {
    bool by_id = style == STYLE_LLAMA || style == STYLE_GEMMA;
    struct ranked *order;
    uint32_t rank = 0;
    enum status st = OK;
    TRY(NEW_ARRAY(order, m->n));
    for (int64_t i = 0; i < m->n; i++) {
        order[i] = (struct ranked){by_id ? 0 : m->pieces[i].score, (int32_t)i};
    }
    qsort(order, (size_t)m->n, sizeof *order, by_score);
    for (int64_t i = 0; i < m->n; i++) {
        const struct spm_piece *p = &m->pieces[order[i].id];
        rank += !by_id && i > 0 && order[i].score < order[i - 1].score;
        if (by_id || p->type == PIECE_NORMAL || p->type == PIECE_UNUSED) {
            TRY_TO(done, add_cuts(b, p, order[i].id, &rank, by_id));
        }
    }
done:
    mem_free(order);
    return st;
}

static enum status take_scores(struct tokenizer *t, const struct spm *m) {
    enum { PENALTY = 10 }; /* of an unknown code point */
    struct unigram *u;
    TRY(NEW_ARRAY(u, 1));
    t->unigram = u;
    u->single = true;
    TRY(finder_open(&u->tokens));
    TRY(NEW_ARRAY(u->scores, m->n));
    TRY(NEW_ARRAY(u->user, m->n));
    float least = 0;
    bool any = false;
    for (int64_t i = 0; i < m->n; i++) {
        const struct spm_piece *p = &m->pieces[i];
        u->scores[i] = p->score;
        u->user[i] = p->type == PIECE_USER;
        if (p->type == PIECE_NORMAL) {
            least = !any || p->score < least ? p->score : least;
            any = true;
        }
        if (ordinary(p) && p->type != PIECE_UNUSED) {
            TRY(finder_add(&u->tokens, p->s, p->n, (int32_t)i));
        }
    }
    u->unknown = (double)(least - (float)PENALTY);
    return OK;
}

static enum status add_decoder(struct tokenizer *t, enum decode_kind kind, const char *from, const char *to) {
    struct decode_step *d = &t->decoders[t->n_decoders++];
    *d = (struct decode_step){.kind = kind, .start = kind == DECODE_STRIP};
    d->from = from ? mem_strdup(from) : NULL;
    d->to = to ? mem_strdup(to) : NULL;
    return (from && !d->from) || (to && !d->to) ? ERR_SYSTEM : OK;
}

static enum status add_decoders(struct tokenizer *t, bool strip) {
    TRY(add_decoder(t, DECODE_REPLACE, SPACE_MARK, " "));
    TRY(add_decoder(t, DECODE_BYTE_FALLBACK, NULL, NULL));
    TRY(add_decoder(t, DECODE_FUSE, NULL, NULL));
    return strip ? add_decoder(t, DECODE_STRIP, " ", NULL) : OK;
}

/* SentencePiece's own rules. */
static enum status own_rules(struct tokenizer *t, const struct spm *m, bool once, const char *where) {
    struct change *c = &t->changes[t->n_changes++];
    *c = (struct change){.kind = CHANGE_SENTENCEPIECE,
                         .dummy = m->dummy,
                         .extra = m->extra,
                         .escape = m->escape,
                         .once = once};
    TRY(m->map_n > 0 ? charsmap_open(m->map, m->map_n, where, &c->map) : OK);
    if (t->symbols.nodes > 1 && !t->unigram) {
        t->steps[t->n_steps++].kind = STEP_SYMBOLS;
    }
    return add_decoders(t, m->dummy || m->extra);
}

static enum status llama_rules(struct tokenizer *t, const json_t *config, const char *where) {
    bool prefix = true;
    bool legacy = false;
    TRY(json_take_bool(config, "add_prefix_space", where, &prefix));
    TRY(json_take_bool(config, "legacy", where, &legacy));
    struct step *step = &t->steps[t->n_steps++];
    *step = (struct step){.kind = STEP_METASPACE,
                          .string = mem_strdup(SPACE_MARK),
                          .string_n = strlen(SPACE_MARK),
                          .prepend = !prefix  ? PREPEND_NEVER
                                     : legacy ? PREPEND_ALWAYS
                                              : PREPEND_FIRST};
    TRY(mem_ok(step->string));
    return add_decoders(t, prefix);
}

static enum status gemma_rules(struct tokenizer *t) {
    struct change *c = &t->changes[t->n_changes++];
    *c = (struct change){.kind = CHANGE_REPLACE,
                         .cut = {.kind = STEP_STRING, .string = mem_strdup(" "), .string_n = 1},
                         .to = mem_strdup(SPACE_MARK),
                         .to_n = strlen(SPACE_MARK)};
    TRY(mem_ok(c->cut.string));
    TRY(mem_ok(c->to));
    return add_decoders(t, false);
}

static enum status take_rules(struct tokenizer *t, const struct spm *m, enum spm_style style,
                              const json_t *config, const char *where) {
    bool legacy = true;
    switch (style) {
    case STYLE_LLAMA:
        return llama_rules(t, config, where);
    case STYLE_GEMMA:
        return gemma_rules(t);
    case STYLE_ALONE:
        break;
    case STYLE_PARTS:
        TRY(json_take_bool(config, "legacy", where, &legacy));
        break;
    }
    return own_rules(t, m, !legacy, where);
}

/* Control symbols, and where transformers does it user-defined ones, are found before anything else. */
static enum status take_added(struct tokenizer *t, const struct spm *m, enum spm_style style,
                              const char *where) {
    for (int64_t i = 0; i < m->n; i++) {
        const struct spm_piece *p = &m->pieces[i];
        bool special = p->type == PIECE_CONTROL || p->type == PIECE_UNKNOWN;
        if (special || (style != STYLE_PARTS && p->type == PIECE_USER)) {
            struct added_token token = {
                .content = (char *)(uintptr_t)p->s, .n = p->n, .id = i, .special = special};
            TRY(added_put(t, &token, where));
        }
    }
    TRY(read_added_beside(t, true));
    for (int64_t i = 0; i < t->n_added && style == STYLE_PARTS && m->dummy; i++) {
        t->added[i].normalized = false; /* each part has its own dummy */
    }
    return OK;
}

static enum status choose_style(const json_t *config, const struct spm *m, const char *where,
                                enum spm_style *out) {
    static const struct {
        const char *name;
        enum spm_style style;
    } classes[] = {{"LlamaTokenizer", STYLE_LLAMA},
                   {"GemmaTokenizer", STYLE_GEMMA},
                   {"MistralTokenizer", STYLE_PARTS},
                   {"PreTrainedTokenizer", STYLE_PARTS},
                   {"TokenizersBackend", STYLE_PARTS}};
    const char *class = "PreTrainedTokenizer";
    *out = STYLE_ALONE;
    if (!config) {
        return OK;
    }
    TRY(json_take_string(config, "tokenizer_class", where, &class));
    size_t n = strlen(class) - (text_ends(class, "Fast") ? 4 : 0);
    for (int i = 0; i < COUNT_OF(classes); i++) {
        if (strlen(classes[i].name) == n && memcmp(classes[i].name, class, n) == 0) {
            *out = classes[i].style;
            bool bpe = *out == STYLE_PARTS || m->model_type == MODEL_BPE;
            return bpe ? OK
                       : fail(ERR_DATA,
                              "%s: tokenizer_class \"%s\" needs a BPE model, tokenizer.model is Unigram",
                              where, class);
        }
    }
    return fail(ERR_DATA,
                "%s: tokenizer_class \"%.80s\" with tokenizer.model is not supported; save it as "
                "tokenizer.json with transformers",
                where, class);
}

static uint64_t hash_rules(const struct tokenizer *t, const struct spm *m, enum spm_style style) {
    uint64_t flags =
        (uint64_t)style | (uint64_t)m->dummy << 3 | (uint64_t)m->extra << 4 | (uint64_t)m->escape << 5;
    const struct change *c = t->n_changes > 0 ? &t->changes[0] : NULL;
    const struct step *s = t->n_steps > 0 ? &t->steps[0] : NULL;
    flags |= (uint64_t)(c && c->once) << 6 | (uint64_t)(s ? s->prepend : 0) << 7;
    uint64_t hash = hash_join(hash_model(t), hash_bytes(m->map, m->map_n, flags));
    return t->beside_hash ? hash_join(hash, t->beside_hash) : hash;
}

static enum status fill(struct tokenizer *t, struct spm *m, const json_t *config, const char *where) {
    enum spm_style style;
    TRY(check_model(m, where));
    TRY(choose_style(config, m, where, &style));
    TRY(tokenizer_begin_fill(t));
    TRY(finder_open(&t->symbols));
    TRY(pair_map_open(&t->bpe.merges, m->n));
    TRY(take_pieces(t, m, style, where));
    TRY(m->model_type == MODEL_BPE ? take_merges(&t->bpe, m, style) : take_scores(t, m));
    TRY(take_rules(t, m, style, config, where));
    t->slow = true;
    t->bpe.fuse_unk = true;
    t->bpe.byte_fallback = style == STYLE_LLAMA || style == STYLE_GEMMA || m->byte_fallback;
    t->bpe.unk = style == STYLE_LLAMA ? -1 : (int32_t)m->unknown;
    bpe_finish(&t->bpe);
    t->bpe.splits_at_mark &= !t->unigram && !t->bpe.has_unused; /* SentencePiece sees the whole text */
    t->begin = m->begin >= 0 && m->begin < m->n ? (int32_t)m->begin : -1;
    t->end = m->end >= 0 && m->end < m->n ? (int32_t)m->end : -1;
    TRY(config ? take_added(t, m, style, where) : OK);
    TRY(added_finish(t));
    t->hash = hash_rules(t, m, style);
    return OK;
}

enum status tokenizer_from_sentencepiece(struct tokenizer *t, const char *path) {
    struct spm m = {0};
    struct text beside = {0};
    json_t *config = NULL;
    char *data = NULL;
    size_t n;
    enum status st = OK;
    TRY_TO(done, file_read(path, &data, &n));
    if (n == 0 || data[0] != '\n') { /* the key of the first piece */
        st = fail(ERR_DATA, "%s: not a SentencePiece model; save it as tokenizer.json with transformers",
                  path);
        goto done;
    }
    TRY_TO(done, read_model_file(data, n, path, &m));
    TRY_TO(done, folder_json(t->folder, "tokenizer_config.json", &beside, &config));
    st = fill(t, &m, config, path);
done:
    mem_free(m.pieces);
    mem_free(data);
    json_decref(config);
    text_free(&beside);
    return st;
}
