/* Reading tokenizer.json. */
#include <math.h>
#include <string.h>

#include "text/tokenizer_internal.h"
#include "util/hash.h"
#include "util/log.h"
#include "util/mem.h"

static enum status read_vocabulary(struct bpe *b, const json_t *vocab, const char *where) {
    if (!json_is_object(vocab) || json_object_size(vocab) == 0) {
        return fail(ERR_DATA, "%s: the vocabulary must be an object of tokens and ids", where);
    }
    /* The object is not const for Jansson's iterator with key lengths; it is not changed. */
    json_t *object = (json_t *)(uintptr_t)vocab;
    for (void *at = json_object_iter(object); at; at = json_object_iter_next(object, at)) {
        const char *key = json_object_iter_key(at);
        const json_t *id = json_object_iter_value(at);
        if (!json_is_integer(id)) {
            return fail(ERR_DATA, "%s: the id of token \"%.200s\" must be an integer", where, key);
        }
        enum status st = vocabulary_add(&b->vocabulary, key, strlen(key), json_integer_value(id));
        if (st != OK) {
            return fail(st, "%s: %s", where, status_message()->text);
        }
        b->vocabulary.tokens[json_integer_value(id)].model = 1;
    }
    return OK;
}

/* "left right" */
static enum status add_line(struct bpe *b, const char *line, size_t n, uint32_t rank, const char *where) {
    const char *space = memchr(line, ' ', n);
    size_t left = space ? (size_t)(space - line) : n;
    if (!space || memchr(space + 1, ' ', n - left - 1)) {
        return fail(ERR_DATA, "%s: merge %u \"%.*s\" is not two tokens", where, rank,
                    (int)(n < 200 ? n : 200), line);
    }
    enum status st = bpe_add_merge(b, line, left, space + 1, n - left - 1, rank);
    return st == OK ? OK : fail(st, "%s: %s", where, status_message()->text);
}

static enum status read_merges(struct bpe *b, const json_t *merges, const char *where) {
    if (!json_is_array(merges)) {
        return fail(ERR_DATA, "%s: \"merges\" must be an array", where);
    }
    TRY(pair_map_open(&b->merges, (int64_t)json_array_size(merges)));
    size_t i;
    const json_t *merge;
    json_array_foreach(merges, i, merge) {
        const json_t *left = json_array_get(merge, 0);
        const json_t *right = json_array_get(merge, 1);
        if (json_is_string(merge)) {
            TRY(add_line(b, json_string_value(merge), json_string_length(merge), (uint32_t)i, where));
        } else if (json_array_size(merge) == 2 && json_is_string(left) && json_is_string(right)) {
            enum status st = bpe_add_merge(b, json_string_value(left), json_string_length(left),
                                           json_string_value(right), json_string_length(right), (uint32_t)i);
            if (st != OK) {
                return fail(st, "%s: %s", where, status_message()->text);
            }
        } else {
            return fail(ERR_DATA, "%s: merge %zu is neither a string nor two strings", where, i);
        }
    }
    return OK;
}

/* Options of the model that change ids and that we do not have. */
static enum status refuse_options(const json_t *model, const char *where) {
    double dropout = 0;
    const char *prefix = NULL;
    const char *suffix = NULL;
    TRY(json_take_number(model, "dropout", where, &dropout));
    TRY(json_take_string(model, "continuing_subword_prefix", where, &prefix));
    TRY(json_take_string(model, "end_of_word_suffix", where, &suffix));
    const char *what = dropout != 0          ? "dropout"
                       : prefix && prefix[0] ? "continuing_subword_prefix"
                       : suffix && suffix[0] ? "end_of_word_suffix"
                                             : NULL;
    return what ? fail(ERR_DATA, "%s: model option \"%s\" is not supported", where, what) : OK;
}

static enum status read_bpe(struct bpe *b, const json_t *model, const char *where) {
    const char *unk = NULL;
    TRY(refuse_options(model, where));
    TRY(read_vocabulary(b, json_object_get(model, "vocab"), where));
    TRY(read_merges(b, json_object_get(model, "merges"), where));
    TRY(json_take_bool(model, "fuse_unk", where, &b->fuse_unk));
    TRY(json_take_bool(model, "byte_fallback", where, &b->byte_fallback));
    TRY(json_take_bool(model, "ignore_merges", where, &b->ignore_merges));
    TRY(json_take_string(model, "unk_token", where, &unk));
    b->unk = unk ? vocabulary_find(&b->vocabulary, unk, strlen(unk)) : -1;
    if (unk && b->unk < 0) {
        return fail(ERR_DATA, "%s: unk_token \"%.200s\" is not in the vocabulary", where, unk);
    }
    return OK;
}

/* ["token", score] */
static enum status read_scored(struct tokenizer *t, const json_t *entry, int64_t id, const char *where) {
    const json_t *token = json_array_get(entry, 0);
    const json_t *score = json_array_get(entry, 1);
    if (json_array_size(entry) != 2 || !json_is_string(token) || !json_is_number(score) ||
        !isfinite(json_number_value(score))) {
        return fail(ERR_DATA, "%s: entry %lld of the vocabulary is not a token and its score", where,
                    (long long)id);
    }
    struct vocabulary *v = &t->bpe.vocabulary;
    size_t n = json_string_length(token);
    enum status st = vocabulary_add(v, json_string_value(token), n, id);
    if (st != OK) {
        return fail(st, "%s: %s", where, status_message()->text);
    }
    v->tokens[id].model = 1;
    t->unigram->scores[id] = json_number_value(score);
    return finder_add(&t->unigram->tokens, json_string_value(token), n, (int32_t)id);
}

static enum status read_unigram(struct tokenizer *t, const json_t *model, const char *where) {
    enum { PENALTY = 10 }; /* of an unknown code point */
    const json_t *vocab = json_object_get(model, "vocab");
    int64_t unk = -1;
    double least = INFINITY;
    if (json_array_size(vocab) == 0) {
        return fail(ERR_DATA, "%s: the vocabulary must be an array of tokens and scores", where);
    }
    TRY(NEW_ARRAY(t->unigram, 1));
    TRY(finder_open(&t->unigram->tokens));
    TRY(NEW_ARRAY(t->unigram->scores, (int64_t)json_array_size(vocab)));
    TRY(pair_map_open(&t->bpe.merges, 0));
    size_t i;
    const json_t *entry;
    json_array_foreach(vocab, i, entry) {
        TRY(read_scored(t, entry, (int64_t)i, where));
        least = fmin(least, t->unigram->scores[i]);
    }
    t->unigram->unknown = least - PENALTY;
    TRY(json_take_bool(model, "byte_fallback", where, &t->bpe.byte_fallback));
    TRY(json_take_int(model, "unk_id", where, &unk));
    if (unk < -1 || unk >= (int64_t)json_array_size(vocab)) {
        return fail(ERR_DATA, "%s: unk_id %lld is not in the vocabulary", where, (long long)unk);
    }
    t->bpe.unk = (int32_t)unk;
    return OK;
}

static enum status read_model(struct tokenizer *t, const json_t *model, const char *where) {
    const char *type = json_is_array(json_object_get(model, "vocab")) && !json_object_get(model, "merges")
                           ? "Unigram"
                           : "BPE"; /* files of old versions have no type */
    if (!json_is_object(model)) {
        return fail(ERR_DATA, "%s: there is no \"model\"", where);
    }
    TRY(json_take_string(model, "type", where, &type));
    if (strcmp(type, "Unigram") == 0) {
        return read_unigram(t, model, where);
    }
    if (strcmp(type, "BPE") != 0) {
        return fail(ERR_DATA, "%s: model \"%s\" is not supported, only BPE and Unigram", where, type);
    }
    return read_bpe(&t->bpe, model, where);
}

/* Left behind by whoever called the tokenizer last; they are options of a call. */
static void note_if_set(const json_t *root, const char *key, const char *where) {
    const json_t *value = json_object_get(root, key);
    if (value && !json_is_null(value)) {
        log_root(LOG_WARN,
                 "%s: \"%s\" is set and is not used (prepare and training cut by their own options)", where,
                 key);
    }
}

/* The special token that a single text's template begins with. */
static enum status read_post_processor(struct tokenizer *t, const json_t *section, const char *where) {
    if (!section || json_is_null(section)) {
        return OK;
    }
    const char *type = NULL;
    const char *name = NULL;
    TRY(json_take_string(section, "type", where, &type));
    if (!type) {
        return fail(ERR_DATA, "%s: post_processor has no \"type\"", where);
    }
    if (strcmp(type, "Sequence") == 0) {
        size_t i;
        const json_t *part;
        json_array_foreach(json_object_get(section, "processors"), i, part) {
            TRY(read_post_processor(t, part, where));
        }
        return OK;
    }
    if (strcmp(type, "ByteLevel") == 0) {
        return OK;
    }
    if (strcmp(type, "TemplateProcessing") != 0) {
        return fail(ERR_DATA, "%s: post_processor \"%s\" is not supported", where, type);
    }
    const json_t *single = json_object_get(section, "single");
    const json_t *first = json_object_get(json_array_get(single, 0), "SpecialToken");
    if (!first) {
        return OK;
    }
    if (json_object_get(json_array_get(single, 1), "SpecialToken")) {
        return fail(ERR_DATA, "%s: a post_processor with two special tokens before the text is not supported",
                    where);
    }
    TRY(json_take_string(first, "id", where, &name));
    t->begin = name ? vocabulary_find(&t->bpe.vocabulary, name, strlen(name)) : -1;
    t->adds_begin = true;
    return t->begin >= 0 ? OK
                         : fail(ERR_DATA, "%s: the post_processor's token is not in the vocabulary", where);
}

static enum status hash_section(const json_t *root, const char *key, uint64_t *hash) {
    const json_t *section = json_object_get(root, key);
    if (!section) {
        return OK;
    }
    size_t flags = JSON_COMPACT | JSON_SORT_KEYS | JSON_ENCODE_ANY;
    size_t n = json_dumpb(section, NULL, 0, flags);
    char *text;
    TRY(NEW_ARRAY(text, (int64_t)n + 1));
    *hash = hash_join(*hash, hash_bytes(text, json_dumpb(section, text, n, flags), 0));
    mem_free(text);
    return OK;
}

uint64_t hash_model(const struct tokenizer *t) {
    const struct vocabulary *v = &t->bpe.vocabulary;
    uint64_t hash = hash_bytes("bpe", 3, (uint64_t)v->size);
    for (int32_t id = 0; id < v->size; id++) {
        size_t n;
        const char *s = vocabulary_string(v, id, &n);
        hash = hash_join(hash, v->tokens[id].present ? hash_bytes(s, n, v->tokens[id].special) : 0);
    }
    uint64_t merges = 0;
    for (uint64_t i = 0; i <= t->bpe.merges.mask; i++) {
        const struct pair_slot *slot = &t->bpe.merges.slots[i];
        if (slot->key != UINT64_MAX) {
            merges += hash_bytes(slot, sizeof *slot, 1); /* the same sum in any order */
        }
    }
    for (int32_t id = 0; t->unigram && id < v->size; id++) {
        if (v->tokens[id].model) {
            hash = hash_join(hash, hash_bytes(&t->unigram->scores[id], sizeof *t->unigram->scores, 2));
        }
    }
    uint64_t flags = t->bpe.byte_level | t->bpe.byte_fallback << 1 | t->bpe.fuse_unk << 2 |
                     t->bpe.ignore_merges << 3 | (uint64_t)(t->bpe.unk + 1) << 8;
    return hash_join(hash_join(hash, merges), flags);
}

static enum status hash_tokenizer(struct tokenizer *t, const json_t *root) {
    uint64_t hash = hash_model(t);
    TRY(hash_section(root, "normalizer", &hash));
    TRY(hash_section(root, "pre_tokenizer", &hash));
    TRY(hash_section(root, "added_tokens", &hash));
    t->hash = t->beside_hash ? hash_join(hash, t->beside_hash) : hash;
    return OK;
}

enum status tokenizer_begin_fill(struct tokenizer *t) {
    TRY(unicode_classes(&t->classes));
    TRY(finder_open(&t->raw));
    return finder_open(&t->normalized);
}

enum status tokenizer_from_json(struct tokenizer *t, const json_t *root, const char *where) {
    if (!json_is_object(root)) {
        return fail(ERR_DATA, "%s: not a tokenizer (an object is expected)", where);
    }
    TRY(tokenizer_begin_fill(t));
    note_if_set(root, "truncation", where);
    note_if_set(root, "padding", where);
    TRY(read_model(t, json_object_get(root, "model"), where));
    TRY(read_normalizer(t, json_object_get(root, "normalizer"), where));
    TRY(read_pre_tokenizer(t, json_object_get(root, "pre_tokenizer"), where));
    TRY(read_decoder(t, json_object_get(root, "decoder"), where));
    if (t->unigram && t->bpe.byte_level) {
        return fail(ERR_DATA, "%s: a Unigram model behind ByteLevel is not supported", where);
    }
    bpe_finish(&t->bpe);
    t->bpe.splits_at_mark &= !t->unigram;
    TRY(read_added_tokens(t, json_object_get(root, "added_tokens"), where));
    TRY(read_added_beside(t, t->slow));
    TRY(added_finish(t));
    TRY(read_post_processor(t, json_object_get(root, "post_processor"), where));
    return hash_tokenizer(t, root);
}
